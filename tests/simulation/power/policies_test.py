# SPDX-License-Identifier: Apache-2.0
"""Policies as pure functions of what they read."""

import hypothesis
from hypothesis import strategies
import numpy as np
import pytest

from jaxttc.simulation.power import plans, policies
from jaxttc.testing import row_reference

# One length, so that each policy is compiled once.
SHARES = strategies.lists(
  strategies.floats(0.5, 1.2), min_size=64, max_size=64
).map(np.array)


def _in_python(decide, state, shares):
  levels, level = [], 0
  for share in np.asarray(shares, np.float32).tolist():
    level, _, state = decide(share, level, False, state)
    levels.append(level)
  return levels


@hypothesis.settings(max_examples=40)
@hypothesis.given(shares=SHARES)
def test_levels_follow_from_readings_alone(shares):
  # Thresholds that float32 holds exactly, as it must share them with Python.
  dual = policies.dual_threshold(0.75, 0.875, 0.0625)
  replayed = policies.replay(dual, shares)
  np.testing.assert_array_equal(replayed, policies.replay(dual, shares))
  expected = _in_python(*row_reference.dual(0.75, 0.875, 0.0625), shares)
  np.testing.assert_array_equal(replayed, expected)
  single = policies.single_threshold("all", 0.875, 0.0625)
  np.testing.assert_array_equal(
    policies.replay(single, shares),
    _in_python(*row_reference.single(0.875, 0.0625), shares),
  )


@pytest.mark.parametrize("start", [0.7, 0.95])
@pytest.mark.parametrize("share", np.linspace(0.751, 0.889, 8))
def test_a_constant_reading_moves_the_level_once_at_most(start, share):
  shares = np.full(64, share)
  shares[:8] = start
  levels = policies.replay(policies.dual_threshold(), shares)[8:]
  assert np.count_nonzero(np.diff(levels)) <= 1


def test_dual_threshold_escalates_and_lets_go_in_order():
  shares = np.full(64, 0.7)
  for at, share in enumerate((0.82, 0.9, 0.9, 0.9, 0.86, 0.83, 0.79, 0.74)):
    shares[8 + at] = share
  levels = policies.replay(policies.dual_threshold(), shares)
  assert levels[8:16].tolist() == [1, 2, 3, 3, 3, 1, 1, 0]


def test_dual_threshold_waits_for_its_command():
  policy = policies.dual_threshold()
  state = policy.state
  for level, expected in ((0, 2), (0, 2), (2, 3)):
    reading = policies.Reading(
      np.float32(0.95), np.int32(level), np.bool_(False), np.zeros(4)
    )
    decision, state = policy.decide(0.0, reading, state)
    assert int(decision.level) == expected
    assert not decision.brake


def test_holding_through_brakes_does_not_loosen():
  plain = policies.dual_threshold()
  held = policies.hold_through_brakes(plain)
  assert held.decide is policies.hold_through_brakes(plain).decide
  for braking, expected in ((True, 2), (False, 0)):
    state = held.state
    for share, level, brake in ((0.95, 0, False), (0.4, 2, braking)):
      reading = policies.Reading(
        np.float32(share), np.int32(level), np.bool_(brake), np.zeros(4)
      )
      decision, state = held.decide(0.0, reading, state)
    assert int(decision.level) == expected


def test_proportional_holds_within_its_plan():
  policy = policies.proportional(0.85)
  top = len(policy.plan.levels) - 1
  shares = np.concatenate([np.full(32, 1.1), np.full(32, 0.6)])
  levels = policies.replay(policy, shares)
  assert levels[31] == top and levels[-1] == 0
  assert levels.min() >= 0 and levels.max() <= top
  # It does not wind up: the way back takes no longer than the way there.
  assert np.argmax(levels[32:] == 0) <= np.argmax(levels == top) + 8


def test_oracle_takes_the_least_level_that_fits():
  policy = policies.oracle(0.98)
  for forced, expected in (
    ([0.9, 0.8, 0.7, 0.6], 0),
    ([1.1, 1.0, 0.97, 0.9], 2),
    ([1.4, 1.3, 1.2, 1.1], 3),
  ):
    reading = policies.Reading(
      np.float32(1), np.int32(0), np.bool_(False), np.array(forced)
    )
    decision, _ = policy.decide(0.0, reading, policy.state)
    assert int(decision.level) == expected


@pytest.mark.parametrize(
  "make, message",
  [
    (lambda: policies.dual_threshold(0.9, 0.8), "the first below the second"),
    (lambda: policies.dual_threshold(0.8, 1.1), r"a threshold of 1.1"),
    (lambda: policies.dual_threshold(0.0, 0.8), r"a threshold of 0"),
    (lambda: policies.dual_threshold(0.8, 0.9, -0.1), "a hysteresis of -0.1"),
    (
      lambda: policies.dual_threshold(plan=plans.ALL),
      "a plan of 2 levels; this policy commands 4",
    ),
    (lambda: policies.single_threshold("some"), "target is 'some'"),
    (lambda: policies.single_threshold("all", float("nan")), "nan"),
    (lambda: policies.proportional(gain=-1.0), "gain is -1.0"),
    (lambda: policies.oracle(2.0), "a threshold of 2"),
    (
      lambda: policies.replay(policies.oracle(), np.ones(3)),
      "cannot be replayed",
    ),
    (
      lambda: policies.replay(policies.no_cap(), np.array([1.0, np.nan])),
      "reading 1 is nan",
    ),
  ],
)
def test_refuses_what_cannot_be(make, message):
  with pytest.raises(ValueError, match=message):
    make()
