# SPDX-License-Identifier: Apache-2.0
"""Policies of modes: thresholds nest, and the knapsack is exact."""

import itertools

from hypothesis import given, settings
from hypothesis import strategies as st
import numpy as np
import pytest

from jaxttc.allocators import step_modes

_SCORES = st.lists(st.floats(0, 1), min_size=1, max_size=12).map(np.array)


@given(_SCORES, st.floats(0, 1), st.floats(0, 1))
def test_thresholds_nest(scores, a, b):
  low, high = sorted((a, b))
  more = step_modes.threshold(low).modes(scores)
  fewer = step_modes.threshold(high).modes(scores)
  assert not (fewer & ~more).any()


@given(_SCORES)
def test_the_ends(scores):
  assert not step_modes.threshold(1.0).modes(scores).any()
  assert step_modes.threshold(0.89).modes(scores)[-1]
  assert step_modes.always(True).modes(scores).all()
  assert not step_modes.always(False).modes(scores).any()


@given(_SCORES, st.floats(0, 1))
def test_stepwise_policies_need_no_later_step(scores, tau):
  policy = step_modes.threshold(tau, 0.0)
  whole = policy.modes(scores)
  for at in range(1, len(scores)):
    assert policy.modes(scores[:at], complete=False)[-1] == whole[at - 1]


@given(_SCORES, st.integers(0, 12), st.integers(0, 99))
def test_random_has_so_many(scores, count, seed):
  policy = step_modes.at_random(count, np.random.default_rng(seed))
  assert policy.modes(scores).sum() == min(count, len(scores))
  with pytest.raises(ValueError, match="needs the difficulties of all"):
    policy.modes(scores, complete=False)


@settings(deadline=None, max_examples=30)
@given(st.integers(1, 8), st.integers(1, 80), st.integers(0, 10_000))
def test_best_modes_equal_brute_force(steps, budget, seed):
  rng = np.random.default_rng(seed)
  rates = rng.uniform(0.05, 1, (steps, 2))
  tokens = rng.integers(0, 20, (steps, 2))
  found = step_modes.best_modes(rates, tokens, budget)
  at = np.arange(steps)

  def value(modes):
    spent = tokens[at, modes].sum()
    return np.log(rates[at, modes]).sum() if spent <= budget else -np.inf

  sets = itertools.product((0, 1), repeat=steps)
  best = max(value(np.array(modes)) for modes in sets)
  if tokens[:, 0].sum() > budget:
    assert not found.any()
  else:
    assert value(found.astype(int)) == pytest.approx(best, abs=1e-5)


def test_threshold_is_the_knapsack_where_gain_rises_with_difficulty():
  scores = np.array([0.1, 0.9, 0.4, 0.7])
  rates = np.stack([1 - 0.9 * scores, np.full(4, 0.99)], axis=1)
  tokens = np.tile([5, 20], (4, 1))
  policy = step_modes.budgeted(lambda _: rates, lambda _: tokens, 50)
  np.testing.assert_array_equal(
    policy.modes(scores), step_modes.threshold(0.5, 0.0).modes(scores)
  )


@pytest.mark.parametrize(
  ("call", "said"),
  [
    (lambda: step_modes.threshold(1.2), "tau is 1.2"),
    (lambda: step_modes.threshold(0.5, -1.0), "last_step_floor is -1"),
    (lambda: step_modes.at_random(-1, np.random.default_rng()), "count is -1"),
    (lambda: step_modes.budgeted(len, len, 0), "budget is 0"),
    (lambda: step_modes.always(True).modes(np.array([])), "shape"),
    (
      lambda: step_modes.always(True).modes(np.array([0.5, np.nan])),
      "difficulty of step 2 is nan",
    ),
    (
      lambda: step_modes.best_modes(np.zeros((2, 2)), np.ones((2, 2), int), 9),
      "rates must be in",
    ),
    (
      lambda: step_modes.best_modes(np.ones((2, 2)), -np.ones((2, 2), int), 9),
      "tokens must not be negative",
    ),
  ],
)
def test_refused(call, said):
  with pytest.raises(ValueError, match=said):
    call()
