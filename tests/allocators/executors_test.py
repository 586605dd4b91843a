# SPDX-License-Identifier: Apache-2.0
"""Executors hold every decode to its cap and keep the books."""

import numpy as np
import pytest

from jaxttc.allocators import executors, plans

_PLAN = plans.Plan(
  steps=("Add.", "Divide."),
  credits=(40.0, 60.0),
  hints=("carefully", ""),
  tokens=25,
)


def _decode(needs):
  left = iter(needs)

  def decode(request):
    need = next(left)
    spent = min(need, request.cap)
    return executors.StepOutcome(f"{spent} spent", spent, need <= request.cap)

  return decode


def test_sequential_rolls_over_what_is_left():
  asked = []

  def decode(request):
    asked.append(request)
    return executors.StepOutcome(f"part {request.step}", 10, True)

  found = executors.carry_out(
    executors.sequential("Why?", _PLAN, [40, 60], "next"), decode
  )
  assert [request.cap for request in asked] == [40, 90]
  assert "Hint: carefully" in asked[0].prompt
  assert "1. Add.\npart 0\n2. Divide." in asked[1].prompt
  assert found.tokens == (10, 10) and found.all_in == 45
  assert found.texts == ("part 0", "part 1")


@pytest.mark.parametrize(
  ("roll_over", "finished"),
  [("none", (True, False)), ("next", (True, True)), ("pool", (True, True))],
)
def test_roll_over_decides_who_finishes(roll_over, finished):
  run = executors.sequential("Why?", _PLAN, [40, 60], roll_over)
  found = executors.carry_out(run, _decode([10, 80]))
  assert found.finished == finished
  assert sum(found.tokens) <= 100


@pytest.mark.parametrize(
  ("variant", "told", "shares", "planner_tokens"),
  [
    ("vanilla", (False, False, False), [], 0),
    ("planned", (True, False, False), [], 25),
    ("global_budget", (False, False, True), [], 0),
    ("planned_global", (True, False, True), [], 25),
    ("planned_local_uniform", (True, True, False), [50, 50], 25),
    ("planned_local_weighted", (True, True, False), [74, 27], 25),
  ],
)
def test_variants_tell_what_they_say(variant, told, shares, planner_tokens):
  prompts = []

  def decode(request):
    prompts.append(request.prompt)
    assert request.cap == 500 and request.step == -1
    return executors.StepOutcome("42", 99, True)

  found = executors.carry_out(
    executors.prompt_hint("Why?", _PLAN, 101, 500, variant), decode
  )
  (prompt,) = prompts
  assert ("1. Add." in prompt, "use up to" in prompt, "101" in prompt) == told
  assert found.planner_tokens == planner_tokens
  given = executors.shares_of(variant, _PLAN, 101)
  assert given.tolist() == shares
  for share in shares:
    assert f"up to {share} words" in prompt


def test_tokens_buy_whole_samples():
  found = executors.vote_samples([100, 59, 3], [20, 20, 20])
  assert found.tolist() == [5, 2, 0]


def test_who_overspends_is_named():
  over = lambda request: executors.StepOutcome("", request.cap + 1, True)  # noqa: E731
  with pytest.raises(ValueError, match="step 1 spent 41 tokens of a cap of 40"):
    executors.carry_out(executors.sequential("?", _PLAN, [40, 60]), over)
  with pytest.raises(ValueError, match="the question spent 10"):
    executors.carry_out(executors.prompt_hint("?", _PLAN, 5, 9), over)


@pytest.mark.parametrize(
  ("shares", "roll_over", "message"),
  [
    ([1], "next", "1 shares for 2 steps"),
    ([1, -1], "next", "expected whole tokens"),
    ([1, 0.5], "next", "expected whole tokens"),
    ([1, 1], "later", "roll-over 'later'"),
  ],
)
def test_what_cannot_be_carried_out_is_refused(shares, roll_over, message):
  run = executors.sequential("?", _PLAN, np.array(shares), roll_over)
  with pytest.raises(ValueError, match=message):
    next(run)


def test_other_bad_input_is_refused():
  with pytest.raises(ValueError, match="variant 'plan'"):
    executors.shares_of("plan", _PLAN, 10)
  with pytest.raises(ValueError, match="costs 0 tokens"):
    executors.vote_samples([10], [0])
  with pytest.raises(ValueError, match="2 prices for 1"):
    executors.vote_samples([10], [1, 1])
