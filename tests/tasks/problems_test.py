# SPDX-License-Identifier: Apache-2.0
"""Tests of problems, prompts and the walk over a solution's lines."""

import pytest

from jaxttc.tasks import problems as problems_lib


def _problem(**fields):
  return problems_lib.Problem(
    **{"id": "p", "text": "One?", "answer": "1", **fields}
  )


@pytest.mark.parametrize(
  ("style", "expected"),
  [
    ("free", "One?\n"),
    ("terse", "One?\nSolve tersely.\n"),
    ("verbose", "One?\nSolve verbosely.\n"),
    ("direct", "One?\nAnswer only.\n"),
  ],
)
def test_prompt(style, expected):
  assert problems_lib.prompt(_problem(), style) == expected


def test_unknown_style_names_the_nearest():
  with pytest.raises(ValueError, match="'ters'.*Did you mean 'terse'"):
    problems_lib.prompt(_problem(), "ters")


@pytest.mark.parametrize(
  ("fields", "message"),
  [({"text": ""}, "text is empty"), ({"steps": -1}, "steps is -1")],
)
def test_bad_problem(fields, message):
  with pytest.raises(ValueError, match=message):
    _problem(**fields)


def test_gold_of_unlabelled():
  assert problems_lib.gold(_problem()) == "1"
  with pytest.raises(ValueError, match="'p' has no gold answer"):
    problems_lib.gold(_problem(answer=None))


def test_missing_meta():
  problem = _problem(family="modular", meta={"prime": 7})
  assert problems_lib.require_meta(problem, "prime") == (7,)
  with pytest.raises(ValueError, match="meta has no 'ops'"):
    problems_lib.require_meta(problem, "prime", "ops")


def test_split_lines_inverts_write_solution():
  text = problems_lib.write_solution(["a", "b"], "7")
  assert text == "a\nb\n#### 7\n"
  assert problems_lib.split_lines(text) == ["a", "b", "#### 7"]
  assert problems_lib.split_lines("a\nb") == ["a", "b"]
  assert problems_lib.split_lines("a\n\n") == ["a", ""]
  assert problems_lib.split_lines("") == []


@pytest.mark.parametrize(
  ("completion", "expected"),
  [
    ("", None),
    ("4+3=7\n", None),
    ("4+3=7\n#### 7\n", "7"),
    ("#### 7", "7"),
    ("#### 7\nWait\n#### 8\n", "8"),
    ("so #### 7\n", None),
  ],
)
def test_find_answer(completion, expected):
  assert problems_lib.find_answer(completion) == expected


def _walk(*lines):
  """Counts 1, 2, 3; the answer is 3."""
  return problems_lib.check_lines(
    lines,
    steps=3,
    start=0,
    follow=lambda state, k: {str(state + 1): state + 1},
    accept=lambda answer: answer == "3",
  )


@pytest.mark.parametrize(
  ("lines", "right"),
  [
    ((), 0),
    (("1", "2", "3", "#### 3"), 4),
    (("1", "2", "3", "#### 4"), 3),
    (("1", "2", "3", "4"), 3),  # A step too many.
    (("1", "3", "3", "#### 3"), 1),
    (("1", "2", "#### 3"), 2),  # Neither direct nor complete.
    (("#### 3",), 1),
    (("####3",), 0),
    (("#### 3", "1"), 1),  # Nothing may follow the answer.
    (("1", "", "2"), 1),
  ],
)
def test_check_lines(lines, right):
  assert _walk(*lines) == [row < right for row in range(len(lines))]
