# SPDX-License-Identifier: Apache-2.0
import pytest

from jaxttc.tasks import verification_files as files

_SOLUTIONS = [
  files.SolutionFile(
    id=number,
    prompt="Solve: 1/2 + 1/2.\n",
    question="1/2 + 1/2?",
    samples=("It is 1: halves \u00bd.\n", "no idea"),
    gt_answer="1",
  )
  for number in (0, 2, 10)
]
_VERIFICATIONS = [
  files.VerificationFile(
    problem=problem,
    solution=solution,
    prompt="Is it?",
    verifications=(
      files.Verification(text="Yes: fine", yes=0.0, no=None),
      files.Verification(text="", yes=None, no=1.0),
    ),
  )
  for problem in (0, 10)
  for solution in (0, 1)
]


def test_solutions_come_back_as_written(tmp_path):
  files.write_solutions(tmp_path, _SOLUTIONS[::-1])
  assert files.read_solutions(tmp_path) == _SOLUTIONS


def test_verifications_come_back_as_written(tmp_path):
  files.write_verifications(tmp_path, _VERIFICATIONS)
  assert files.read_verifications(tmp_path) == _VERIFICATIONS


def test_a_file_of_the_published_layout_is_read(tmp_path):
  (tmp_path / "7.yaml").write_text(
    "prompt: |\n  Problem: 1+1\nquestion: 1+1\nsamples:\n- |\n  two\n"
    "- The final answer is 2.\ngt_answer: 2\n"
  )
  (found,) = files.read_solutions(tmp_path)
  assert (found.id, found.gt_answer) == (7, "2")
  assert found.samples == ("two\n", "The final answer is 2.")
  folder = tmp_path / "problem_7"
  folder.mkdir()
  (folder / "solution_1.yaml").write_text(
    "prompt: check\nverifications:\n"
    "- p(yes): 0.0\n  p(no): -1\n  verification: 'Is it correct (Yes/No)? No'\n"
  )
  (found,) = files.read_verifications(tmp_path)
  assert (found.problem, found.solution) == (7, 1)
  assert found.verifications[0].yes == 0.0
  assert found.verifications[0].no is None


@pytest.mark.parametrize(
  ("text", "words"),
  [
    ("prompt: a\nquestion: b\nsamples: [c]\n", "no gt_answer; keys found"),
    ("prompt: a\nquestion: b\nsamples: []\ngt_answer: 1\n", "at least one"),
    ("prompt: a\nquestion: b\nsamples: [1]\ngt_answer: 1\n", r"samples\[0\]"),
    ("prompt: a\nquestion: b\nsamples: [c]\ngt_answer:\n", "gt_answer is None"),
    ("- a\n", "expected a mapping"),
    ("a: [\n", "cannot be read as YAML"),
  ],
)
def test_bad_solutions_are_refused(tmp_path, text, words):
  (tmp_path / "3.yaml").write_text(text)
  with pytest.raises(ValueError, match=f"3.yaml: .*{words}"):
    files.read_solutions(tmp_path)


@pytest.mark.parametrize(
  ("text", "words"),
  [
    ("prompt: a\n", "no verifications"),
    ("prompt: a\nverifications: []\n", "at least one"),
    ("prompt: a\nverifications: [1]\n", r"verifications\[0\] must hold"),
    (
      "prompt: a\nverifications:\n- {p(yes): 2, verification: x}\n",
      r"p\(yes\) is 2, expected 0..1 or -1",
    ),
    (
      "prompt: a\nverifications:\n- {p(no): x, verification: x}\n",
      r"p\(no\) is 'x'",
    ),
  ],
)
def test_bad_verifications_are_refused(tmp_path, text, words):
  folder = tmp_path / "problem_1"
  folder.mkdir()
  (folder / "solution_0.yaml").write_text(text)
  with pytest.raises(ValueError, match=f"solution_0.yaml: .*{words}"):
    files.read_verifications(tmp_path)


def test_missing_and_double_files_are_refused(tmp_path):
  with pytest.raises(ValueError, match="holds no <i>.yaml"):
    files.read_solutions(tmp_path)
  with pytest.raises(ValueError, match="no such folder"):
    files.read_solutions(tmp_path / "nowhere")
  files.write_solutions(tmp_path, _SOLUTIONS[:1])
  (tmp_path / "00.yaml").write_text((tmp_path / "0.yaml").read_text())
  with pytest.raises(ValueError, match="problem 0 has another file"):
    files.read_solutions(tmp_path)
  with pytest.raises(ValueError, match="problem 0 occurs twice"):
    files.write_solutions(tmp_path, _SOLUTIONS[:1] * 2)
  with pytest.raises(ValueError, match="solution 0 occurs twice"):
    files.write_verifications(tmp_path, _VERIFICATIONS[:1] * 2)
