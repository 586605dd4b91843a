# SPDX-License-Identifier: Apache-2.0
import pytest

from jaxttc.tasks import arithmetic, modular, verifications
from jaxttc.tasks import problems as problems_lib
from jaxttc.tasks import tokenizer as tokenizer_lib


@pytest.fixture(name="problem")
def _problem():
  return arithmetic.problem(3, family="modular", steps=4, split="train")


def _corrupted(problem, row, style="terse"):
  lines = modular.solution(problem, style).splitlines()
  head, value = lines[row].rsplit("=", 1)
  lines[row] = f"{head}={(int(value) + 1) % 11}"
  return "\n".join(lines) + "\n"


@pytest.mark.parametrize("style", ["terse", "verbose"])
@pytest.mark.parametrize("check", verifications.STYLES)
def test_right_solutions_are_accepted(problem, style, check):
  found = verifications.write(problem, modular.solution(problem, style), check)
  assert verifications.verdict(found) is True
  lines = found.splitlines()
  assert len(lines) == (1 if check == "direct" else problem.steps + 2)
  assert all(line.endswith(" right") for line in lines[:-1])


@pytest.mark.parametrize("row", [0, 2, 3])
def test_the_first_wrong_step_ends_a_verification(problem, row):
  found = verifications.write(problem, _corrupted(problem, row), "terse")
  lines = found.splitlines()
  assert verifications.verdict(found) is False
  assert len(lines) == row + 2
  assert lines[row].endswith(" wrong") and lines[-1] == "#### no"
  # What the line should have been, not what it was.
  gold = modular.solution(problem, "terse").splitlines()[row]
  assert lines[row] == f"{gold} wrong"


def test_the_verdict_is_the_checkers(problem):
  """Whole and wrong in any way: as the task's own step checker says."""
  gold = modular.solution(problem, "terse")
  lines = gold.splitlines()
  for text in (
    gold,
    "",
    lines[0],
    "\n".join(lines[:-1]),
    "\n".join(lines[:2] + lines[-1:]),
    gold + "1+1=2\n",
    gold.replace("####", "###"),
    *(_corrupted(problem, row) for row in range(4)),
  ):
    flags = arithmetic.check_steps(problem, text)
    right = len(flags) == problem.steps + 1 and all(flags)
    found = verifications.write(problem, text, "verbose")
    assert verifications.verdict(found) is right, text


def test_verifications_are_in_the_embedded_vocabulary(problem):
  tokenizer = tokenizer_lib.WordTokenizer()
  solved = problems_lib.prompt(problem, "terse")
  text = modular.solution(problem, "terse")
  for style in verifications.STYLES:
    whole = verifications.prompt(solved, text, style) + verifications.write(
      problem, text, style
    )
    ids = tokenizer.encode(whole)
    assert min(ids) >= tokenizer_lib.NUMBER_OFFSET, "spelled in bytes"
  for word in (verifications.YES, verifications.NO):
    assert tokenizer.id_of(word)


def test_a_missing_newline_is_added():
  found = verifications.prompt("ask\n", "#### 3", "terse")
  assert found == "ask\n#### 3\nCheck tersely.\n"


@pytest.mark.parametrize("text", ["", "1+1=2 right\n", "#### maybe\n", "####"])
def test_what_does_not_conclude_is_missing(text):
  assert verifications.verdict(text) is None


def test_bad_requests_are_refused(problem):
  with pytest.raises(ValueError, match="Did you mean 'verbose'"):
    verifications.write(problem, "", "verbos")
  with pytest.raises(ValueError, match="verification style 'long'"):
    verifications.prompt("a", "b", "long")
  story = arithmetic.problem(0, family="stories", split="train")
  with pytest.raises(ValueError, match="is of family 'stories'"):
    verifications.write(story, "", "terse")
