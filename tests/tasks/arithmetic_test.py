# SPDX-License-Identifier: Apache-2.0
"""Tests of the registry, the splits and the training text."""

import collections
import dataclasses
import re
import subprocess
import sys

import pytest

from jaxttc.tasks import arithmetic
from jaxttc.tasks import problems as problems_lib
from jaxttc.tasks import tokenizer as tokenizer_lib

_ALL_STEPS = range(arithmetic.MIN_STEPS, arithmetic.MAX_STEPS + 1)
_STYLES = problems_lib.SOLUTION_STYLES
_families = pytest.mark.parametrize("family", sorted(arithmetic.FAMILIES))


@_families
@pytest.mark.parametrize("style", _STYLES)
def test_gold_solutions_pass_their_own_check(family, style):
  for steps in _ALL_STEPS:
    for problem in arithmetic.problems(
      20, family=family, steps=steps, split="train"
    ):
      text = arithmetic.solution(problem, style)
      lines = 1 if style == "direct" else steps + 1
      assert arithmetic.check_steps(problem, text) == [True] * lines
      assert arithmetic.is_correct(problem, text)


def _plus_one(match):
  return f"{match[1]}{int(match[2]) + 1}"


def _corruptions(line):
  """Versions of a right line that are surely wrong."""
  if line.startswith("####") and not line[-1].isdigit():
    return [f"{line} +", line[:-2], f"{line[:-1]}/"]
  changed = [re.sub(r"(^\D*)(\d+)", _plus_one, line, count=1)]
  if "=" in line:
    changed.append(re.sub(r"(=)(\d+)", _plus_one, line, count=1))
  if "take" not in line:  # Taking another of the choices may be right.
    changed.append(re.sub(r"(\D)(\d+)$", _plus_one, line))
  return [*changed, f"{line} ", ""]


@_families
@pytest.mark.parametrize("style", _STYLES)
def test_a_corrupted_line_and_all_later_ones_are_wrong(family, style):
  for problem in arithmetic.problems(20, family=family, steps=6, split="test"):
    gold = problems_lib.split_lines(arithmetic.solution(problem, style))
    for row, line in enumerate(gold):
      for wrong in _corruptions(line):
        lines = [*gold[:row], wrong, *gold[row + 1 :]]
        flags = arithmetic.check_steps(problem, "\n".join(lines) + "\n")
        assert flags == [k < row for k in range(len(gold))], lines


@_families
def test_a_dropped_or_repeated_line_is_noticed(family):
  problem = arithmetic.problem(1, family=family, steps=5, split="train")
  gold = problems_lib.split_lines(arithmetic.solution(problem, "verbose"))
  repeated = "\n".join([*gold, gold[-1]])
  assert arithmetic.check_steps(problem, repeated) == [True] * 6 + [False]
  early = "\n".join([*gold[:4], gold[-1]])
  assert arithmetic.check_steps(problem, early) == [True] * 4 + [False]
  assert arithmetic.is_correct(problem, early)


@_families
def test_an_unfinished_line_is_judged_as_it_stands(family):
  problem = arithmetic.problem(0, family=family, steps=3, split="train")
  text = arithmetic.solution(problem, "terse")
  first, second, *_ = text.split("\n")
  assert arithmetic.check_steps(problem, f"{first}\n{second}") == [True, True]
  assert arithmetic.check_steps(problem, f"{first}\n{second[:3]}") == [
    True,
    False,
  ]
  assert arithmetic.check_steps(problem, "") == []


def test_problem_is_a_pure_function_of_its_arguments():
  one = arithmetic.problems(30, split="test", seed=5)
  two = [
    arithmetic.problem(i, split="test", seed=5) for i in reversed(range(30))
  ]
  assert one == two[::-1]
  assert one[10:] == arithmetic.problems(20, start=10, split="test", seed=5)
  assert one != arithmetic.problems(30, split="test", seed=6)


def test_this_problem_never_changes():
  """Published figures depend on these draws."""
  problem = arithmetic.problem(0, family="modular", steps=3, split="test")
  assert (problem.id, problem.text, problem.answer) == (
    "test-0-modular-3-0",
    "Modulo 31: start at 27, minus 26, times 3, times 5.",
    "15",
  )


def test_ids():
  assert arithmetic.problem(17, split="test").id == "test-0-17"
  drawn = arithmetic.problem(
    17, family="stories", steps=4, split="train", seed=2
  )
  assert drawn.id == "train-2-stories-4-17"
  assert (drawn.family, drawn.steps) == ("stories", 4)


def test_families_and_steps_are_drawn_about_uniformly():
  drawn = arithmetic.problems(3300, split="train")
  families = collections.Counter(p.family for p in drawn)
  assert set(families) == set(arithmetic.FAMILIES)
  assert all(1000 < n < 1200 for n in families.values())
  steps = collections.Counter(p.steps for p in drawn)
  assert set(steps) == set(_ALL_STEPS)
  assert all(230 < n < 370 for n in steps.values())


def test_splits_are_disjoint_by_text():
  train = {p.text for p in arithmetic.problems(16000, split="train")}
  test = {p.text for p in arithmetic.problems(4000, split="test", seed=1)}
  # The shortest problems are few enough to be drawn again and again.
  train |= {
    p.text for p in arithmetic.problems(2000, steps=2, split="train", seed=9)
  }
  test |= {p.text for p in arithmetic.problems(2000, steps=2, split="test")}
  assert not train & test
  assert len(train) > 16000 and len(test) > 4000


def test_a_tenth_of_all_texts_is_test():
  share = sum(arithmetic.split_of(f"text {i}") == "test" for i in range(5000))
  assert 420 < share < 580


@_families
def test_no_number_is_above_99(family):
  tokenizer = tokenizer_lib.WordTokenizer()
  first, last = tokenizer_lib.NUMBER_OFFSET, tokenizer_lib.WORD_OFFSET
  for problem in arithmetic.problems(300, family=family, split="train"):
    for style in _STYLES:
      text = problem.text + "\n" + arithmetic.solution(problem, style)
      ids = tokenizer.encode(text)
      # Adjacent number tokens would be the digits of a larger number, unless
      # the second begins with a space.
      for left, right in zip(ids, ids[1:], strict=False):
        unspaced = first <= right < tokenizer_lib.SPACED_NUMBER_OFFSET
        assert not (first <= left < last and unspaced), text


@_families
def test_verbose_is_about_twice_as_long_as_terse(family):
  tokenizer = tokenizer_lib.WordTokenizer()
  lengths = collections.Counter()
  for problem in arithmetic.problems(300, family=family, split="train"):
    for style in _STYLES:
      text = arithmetic.solution(problem, style)
      lengths[style] += len(tokenizer.encode(text))
  assert 1.7 < lengths["verbose"] / lengths["terse"] < 3.5
  assert lengths["direct"] < 0.25 * lengths["terse"]


def test_training_examples_follow_the_mix():
  count = 2000
  styles = collections.Counter()
  for i in range(count):
    prompt, completion = arithmetic.training_example(i, seed=3)
    text, _, request = prompt[:-1].partition("\n")
    assert arithmetic.split_of(text) == "train"
    assert completion.split("\n")[-2].startswith("#### ")
    styles[request] += 1
  shares = [
    styles[x] / count
    for x in ("Solve tersely.", "Solve verbosely.", "Answer only.", "")
  ]
  expected = [0.6 * 0.45, 0.6 * 0.35, 0.6 * 0.2, 0.4]
  assert shares == pytest.approx(expected, abs=0.04)
  assert arithmetic.training_example(4) == arithmetic.training_example(4)
  assert arithmetic.training_example(4) != arithmetic.training_example(5)


def test_training_mix_is_obeyed():
  weights = (1.0,) + (0.0,) * 10
  mix = arithmetic.TrainingMix(
    terse=0, direct=0, asked=1, families=("countdown",), steps=weights
  )
  for i in range(50):
    prompt, completion = arithmetic.training_example(i, mix=mix)
    assert prompt.startswith("Use ")
    assert prompt.endswith(".\nSolve verbosely.\n")
    assert completion.count("take") == 2


@pytest.mark.parametrize(
  ("fields", "message"),
  [
    ({"terse": -1.0}, "style weights"),
    ({"terse": 0, "verbose": 0, "direct": 0}, "style weights"),
    ({"steps": (0.0,) * 11}, "steps weights"),
    ({"steps": (1.0,)}, "1 steps weights, expected 11"),
    ({"asked": 1.5}, "asked is 1.5"),
    ({"families": ()}, "families is empty"),
    ({"families": ("story",)}, "Did you mean 'stories'"),
  ],
)
def test_bad_mix(fields, message):
  with pytest.raises(ValueError, match=message):
    arithmetic.TrainingMix(**fields).validate()


@pytest.mark.parametrize(
  ("fields", "message"),
  [
    ({"family": "modula"}, "Unknown family 'modula'.*Did you mean 'modular'"),
    ({"split": "tests"}, "Unknown split 'tests'.*'test'"),
    ({"steps": 13}, "steps is 13, expected 2..12"),
    ({"index": -1}, "index is -1"),
  ],
)
def test_bad_problem_arguments(fields, message):
  arguments = {"index": 0, "split": "test", **fields}
  with pytest.raises(ValueError, match=message):
    arithmetic.problem(arguments.pop("index"), **arguments)


def test_bad_counts_and_families():
  with pytest.raises(ValueError, match="count is -1"):
    arithmetic.problems(-1, split="test")
  with pytest.raises(ValueError, match="index is -2"):
    arithmetic.training_example(-2)
  problem = arithmetic.problem(0, split="test")
  stray = dataclasses.replace(problem, family="poetry")
  for call in (arithmetic.check_steps, arithmetic.is_correct):
    with pytest.raises(ValueError, match="Unknown family 'poetry'"):
      call(stray, "#### 1\n")


def test_tasks_do_not_import_jax():
  code = "import sys, jaxttc.tasks; sys.exit('jax' in sys.modules)"
  assert (
    subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
  )
