# SPDX-License-Identifier: Apache-2.0
import json

import numpy as np
import pytest

from jaxttc.runtime import search
from jaxttc.solving import problem_sets
from jaxttc.tasks import arithmetic, countdown
from jaxttc.tasks import problems as problems_lib


def source(**changes):
  return problem_sets.ProblemSource(**{"count": 4, **changes})


def write(path, rows):
  path.write_text("".join(json.dumps(row) + "\n" for row in rows))
  return str(path)


def test_generated_problems_take_their_steps_in_turn():
  problems = source(steps=(2, 5), family="modular").load()
  assert [p.steps for p in problems] == [2, 5, 2, 5]
  assert {p.family for p in problems} == {"modular"}
  later = source(steps=(2, 5), family="modular", start=1, count=2).load()
  assert later == problems[1:3]


def test_a_part_of_a_file(tmp_path):
  rows = [{"question": f"What is {i}?", "answer": i} for i in range(6)]
  path = write(tmp_path / "q.jsonl", rows)
  problems = source(path=path, start=2, count=3).load()
  assert [p.answer for p in problems] == ["2", "3", "4"]
  assert len(source(path=path, count=0).load()) == 6


def test_countdown_accepts_every_right_answer():
  problem = next(
    p
    for p in source(family="countdown", steps=(2,), count=200).load()
    if p.meta["numbers"][1] == 1  # times one, or once more: both may do
  )
  numbers, target = problem.meta["numbers"], problem.meta["target"]
  for first in "+-*":
    for second in "+-*":
      answer = f"{first} {second}"
      want = countdown.evaluate(numbers, answer) == target
      assert problem_sets.is_right(problem, f"#### {answer}\n") == want


@pytest.mark.parametrize(
  ("answer", "completion", "want"),
  [
    ("0.5", r"so it is \boxed{\frac{1}{2}}", True),
    ("0.5", r"so it is \boxed{\frac{1}{3}}", False),
    ("0.5", None, False),
    ("0.5", "no answer here", False),
    (None, r"\boxed{1}", None),
  ],
)
def test_grades_of_problems_without_a_family(answer, completion, want):
  problem = problems_lib.Problem(id="a", text="Q?", answer=answer)
  assert problem_sets.is_right(problem, completion) is want


def test_step_labels_follow_the_path():
  problem = arithmetic.problem(0, family="modular", steps=3, split="test")
  lines = arithmetic.solution(problem, "terse").splitlines(keepends=True)
  wrong = lines[0].replace("\n", "1\n")
  record = search.TreeRecord(
    parent=np.array([-1, 0, 0, 1, 2]),
    reward=np.ones(5),
    status=np.ones(5),
    answer=np.full(5, -1),
    expanded_at=np.full(5, -1),
    weight=np.zeros(5),
    text=["", lines[0], wrong, lines[1], lines[1]],
    chosen=-1,
  )
  labels = problem_sets.step_labels(problem, record)
  assert labels == [(1, True), (2, False), (3, True), (4, False)]


@pytest.mark.parametrize(
  ("changes", "message"),
  [
    ({"family": "moduler"}, "Did you mean 'modular'"),
    ({"split": "tset"}, "Did you mean 'test'"),
    ({"style": "verbos"}, "Did you mean 'verbose'"),
    ({"steps": (40,)}, "steps is 40"),
    ({"count": 0}, "none are left"),
    ({"start": -1}, "must be >= 0"),
    ({"path": "missing.jsonl"}, "no such file"),
  ],
)
def test_impossible_sources_are_refused(changes, message):
  with pytest.raises(ValueError, match=message):
    source(**changes).load()


def test_bad_line_is_named(tmp_path):
  path = tmp_path / "q.jsonl"
  path.write_text('{"question": "1?", "answer": "1"}\n{"question": "2?"')
  with pytest.raises(ValueError, match="q.jsonl, line 2: not valid JSON"):
    source(path=str(path)).load()


def test_sums_of_digits_are_generated_and_graded():
  problems = source(family="digit_sums", count=6).load()
  assert [p.steps for p in problems] == [2, 3, 4, 2, 3, 4]
  assert len({p.id for p in problems}) == 6
  later = source(family="digit_sums", start=3, count=3).load()
  assert later == problems[3:]
  first = problems[0]
  assert problem_sets.answer_of(first, f"#### {first.answer}\n") == first.answer
  assert problem_sets.is_right(first, f"#### {first.answer}\n")
  wrong = (int(first.answer) + 1) % 10
  assert not problem_sets.is_right(first, f"#### {wrong}\n")
  assert problem_sets.answer_of(first, None) is None
