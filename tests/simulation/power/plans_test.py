# SPDX-License-Identifier: Apache-2.0
"""Plans: locks, caps, ladders and what they refuse."""

import math

import numpy as np
import pytest

from jaxttc.simulation.power import model, plans

CLOCK = model.Clock()
POWER = model.constant(0.28, 0.70, 1.0)


def test_paces_follow_the_clock():
  paces = plans.POLCA.paces(CLOCK)
  assert paces.shape == (4, 2, 4)
  np.testing.assert_array_equal(paces[0], np.ones((2, 4)))
  share = 1275 / 1410
  np.testing.assert_allclose(
    paces[1, 0], [share, share**0.25, share**1.6, share**1.2]
  )
  np.testing.assert_array_equal(paces[1, 1], np.ones(4))
  assert (np.diff(paces[:, 0], axis=0) <= 0).all()


def test_stretch_is_the_inverse_of_speed():
  prompt, token = plans.POLCA.stretch(2, "low", CLOCK)
  assert prompt == pytest.approx(1410 / 1110)
  assert token == pytest.approx((1410 / 1110) ** 0.25)
  assert plans.POLCA.stretch(2, "high", CLOCK) == (1.0, 1.0)


def test_a_cap_slows_only_what_would_draw_more():
  assert plans.capped_stretch(1.0, POWER, 1.0, 0.7) == (1.0, 1.0)
  prompt, token = plans.capped_stretch(0.6, POWER, 1.0, 0.7)
  # At the clock that the cap forces, the phase draws the cap.
  clock = prompt ** (-1 / CLOCK.prompt_time)
  assert 0.28 + 0.72 * clock**CLOCK.prompt_power == pytest.approx(0.6)
  assert 1 < token < prompt
  still = model.constant(0.28, 0.7, 1.0, model.Clock(prompt_power=0.0))
  with pytest.raises(ValueError, match="cannot be kept"):
    plans.capped_stretch(0.6, still, 1.0, 0.7)


def test_ladder_takes_low_priority_down_first():
  made = plans.ladder((1300.0, 1200.0), (1350.0,))
  assert [level.low_mhz for level in made.levels] == [None, 1300, 1200, 1200]
  assert [level.high_mhz for level in made.levels] == [None, None, None, 1350]


def test_priorities():
  assert plans.high(["low", "high"]).tolist() == [False, True]
  with pytest.raises(ValueError, match="server 1 has priority 'urgent'"):
    plans.high(["low", "urgent"])


@pytest.mark.parametrize(
  "make, message",
  [
    (lambda: plans.FrequencyPlan(()), "at least one level"),
    (
      lambda: plans.FrequencyPlan((plans.Level("x", low_mhz=-1.0),)),
      "level 'x': low_mhz is -1.0",
    ),
    (lambda: plans.ladder((), ()), "at least one lock"),
    (lambda: plans.ladder((1100.0, 1200.0), ()), "descending"),
    (lambda: plans.POLCA.stretch(4, "low", CLOCK), "level 4; expected 0 to 3"),
    (lambda: plans.POLCA.stretch(1, "mid", CLOCK), "priority 'mid'"),
    (
      lambda: plans.FrequencyPlan((plans.Level("x", low_cap_w=1.0),)).stretch(
        0, "low", CLOCK
      ),
      "caps watts",
    ),
    (lambda: plans.capped_stretch(0.2, POWER, 1.0, 0.7), "even idle"),
    (lambda: CLOCK.pace(1500.0), "a lock at 1500 MHz"),
    (lambda: model.Clock(brake_mhz=2000.0), "above max_mhz"),
    (lambda: model.Clock(token_time=-1.0), "token_time is -1.0"),
    (lambda: model.constant(0.8, 0.7, 1.0), "expected idle <= token"),
    (lambda: model.constant(0.0, 0.7, 1.0), "idle_w is 0.0"),
    (lambda: model.constant(0.2, 0.7, math.inf), "expected idle <= token"),
  ],
)
def test_refuses_what_cannot_be(make, message):
  with pytest.raises(ValueError, match=message):
    make()


def test_any_function_can_give_watts():
  power = model.PowerModel(
    100.0, lambda tokens, batch: (300.0 + tokens, 200.0 + batch)
  )
  prompt, token = power.phases(np.array([10, 20]), np.array([1, 2]))
  assert prompt.tolist() == [310, 320] and token.tolist() == [201, 202]
  wrong = model.PowerModel(
    100.0, lambda tokens, batch: (300.0 - tokens, 200.0 + batch)
  )
  with pytest.raises(ValueError, match="request 1 .150 prompt tokens.: idle"):
    wrong.phases(np.array([10, 150]))
