# SPDX-License-Identifier: Apache-2.0
"""Tests of the target game, against brute force over all operators."""

import itertools
import random

import hypothesis
import hypothesis.strategies as st
import pytest

from jaxttc.tasks import countdown
from jaxttc.tasks import problems as problems_lib


def _problem(numbers, target, answer=None):
  return problems_lib.Problem(
    id="e",
    text="Use them.",
    answer=answer,
    family="countdown",
    steps=len(numbers) - 1,
    meta={"numbers": numbers, "target": target},
  )


def _run(value, numbers, ops):
  """Plain evaluation; None once a value leaves 0..99."""
  for op, n in zip(ops, numbers, strict=True):
    value = {"+": value + n, "-": value - n, "*": value * n}[op]
    if not 0 <= value <= 99:
      return None
  return value


def _can_reach(value, numbers, target):
  return any(
    _run(value, numbers, ops) == target
    for ops in itertools.product("+-*", repeat=len(numbers))
  )


@hypothesis.settings(deadline=None, max_examples=30)
@hypothesis.given(
  numbers=st.lists(st.integers(1, 12), min_size=1, max_size=4),
  target=st.integers(0, 99),
)
def test_reachable_sets_equal_brute_force(numbers, target):
  sets = countdown.reachable(tuple(numbers), target)
  assert len(sets) == len(numbers)
  for k, mask in enumerate(sets):
    expected = [_can_reach(v, numbers[k + 1 :], target) for v in range(100)]
    assert [bool(mask >> v & 1) for v in range(100)] == expected
    assert mask >> 100 == 0


@pytest.mark.parametrize("steps", [5, 6])
def test_reachable_from_the_start_equals_brute_force(steps):
  rng = random.Random(steps)
  found = set()
  for _ in range(12):
    numbers = tuple(rng.randint(1, 12) for _ in range(steps + 1))
    reached = {
      _run(numbers[0], numbers[1:], ops)
      for ops in itertools.product("+-*", repeat=steps)
    }
    for target in range(0, 100, 3):
      bit = countdown.reachable(numbers, target)[0] >> numbers[0] & 1
      assert bool(bit) == (target in reached)
      found.add(bool(bit))
  assert found == {True, False}


def test_check_marks_the_line_that_loses_the_target():
  """Compares every terse walk of small games with brute force."""
  rng = random.Random(0)
  lost = 0
  for _ in range(10):
    numbers = tuple(rng.randint(1, 12) for _ in range(5))
    for target in range(0, 40, 5):
      problem = _problem(numbers, target)
      for ops in itertools.product("+-*", repeat=4):
        lines, value, expected = [], numbers[0], []
        for k, op in enumerate(ops):
          after = _run(value, numbers[k + 1 : k + 2], [op])
          if after is None:
            break
          lines.append(f"{value}{op}{numbers[k + 1]}={after}")
          value = after
          fine = _can_reach(value, numbers[k + 2 :], target)
          expected.append(fine and all(expected))
          lost += not fine
        assert countdown.check(problem, lines) == expected
  assert lost


def test_lines_of_an_example():
  problem = _problem((6, 4, 3, 8), 13, "* - -")
  assert countdown.solution(problem, "terse") == (
    "6*4=24\n24-3=21\n21-8=13\n#### * - -\n"
  )
  assert countdown.solution(problem, "verbose") == (
    "6+4=10 6-4=2 6*4=24, take 24\n"
    "24+3=27 24-3=21 24*3=72, take 21\n"
    "21+8=29 21-8=13, take 13\n"
    "#### * - -\n"
  )
  assert countdown.solution(problem, "direct") == "#### * - -\n"


@pytest.mark.parametrize(
  "line",
  [
    "6*4=25",  # A false fact.
    "6*3=18",  # The wrong number.
    "6+4=10 6*4=24, take 24",  # A choice left out.
    "6-4=2 6+4=10 6*4=24, take 24",  # The wrong order.
    "6+4=10 6-4=2 6*4=24, take 12",  # No such choice.
    "6+4=10",  # Cannot reach 13 any more.
    "6+4=10 6-4=2 6*4=24, take 10",
  ],
)
def test_wrong_first_lines(line):
  problem = _problem((6, 4, 3, 8), 13, "* - -")
  lines = [line, "24-3=21", "21-8=13", "#### * - -"]
  assert countdown.check(problem, lines) == [False] * 4
  lines[0] = "6*4=24"
  assert countdown.check(problem, lines) == [True] * 4


def test_any_operators_that_reach_the_target_are_right():
  problem = _problem((2, 2, 1), 4, "+ *")
  assert countdown.is_correct(problem, "#### + *\n")
  assert countdown.is_correct(problem, "#### * *\n")
  assert not countdown.is_correct(problem, "#### + +\n")
  assert not countdown.is_correct(problem, "2+2=4\n")


@pytest.mark.parametrize("operators", ["", "+", "+ * +", "+ /", "+*", "- - -"])
def test_invalid_operators_have_no_value(operators):
  assert countdown.evaluate((2, 2, 1), operators) is None


def test_values_may_not_leave_the_range_on_the_way():
  assert countdown.evaluate((12, 12, 12), "* -") is None
  assert countdown.evaluate((1, 2, 3), "- +") is None
  assert countdown.evaluate((1, 2, 3), "+ *") == 9


def test_generated_targets_are_reached_within_range():
  rng = random.Random(3)
  for steps in (1, 2, 7, 12):
    for _ in range(100):
      problem = countdown.generate(rng, steps)
      numbers, target = problem.meta["numbers"], problem.meta["target"]
      assert len(numbers) == steps + 1
      assert all(1 <= n <= 12 for n in numbers)
      assert _run(numbers[0], numbers[1:], problem.answer.split()) == target
      assert problem.text == (
        f"Use {' '.join(map(str, numbers))} in order with + - * to reach"
        f" {target}."
      )


def test_bad_input():
  with pytest.raises(ValueError, match="steps is 0"):
    countdown.generate(random.Random(0), 0)
  with pytest.raises(ValueError, match="target 100"):
    countdown.reachable((1, 2), 100)
  with pytest.raises(ValueError, match="numbers >= 1"):
    countdown.reachable((1, 0), 5)
  with pytest.raises(ValueError, match="'free'"):
    countdown.solution(_problem((1, 1), 2, "+"), "free")
  with pytest.raises(ValueError, match="no gold answer"):
    countdown.solution(_problem((1, 1), 2), "terse")
