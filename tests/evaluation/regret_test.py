# SPDX-License-Identifier: Apache-2.0
"""Regret: closed forms of simple curves, and what moves it."""

from hypothesis import given
from hypothesis import strategies as st
import numpy as np
import pytest

from jaxttc.evaluation import regret

_RATES = st.lists(st.floats(0, 1), min_size=1, max_size=8)


@given(st.floats(0, 1), st.floats(0.5, 50), st.floats(51, 500))
def test_constant_curve_but_for_its_ramp(accuracy, first, budget):
  found = regret.normalised_regret(
    np.array([first]), np.array([accuracy]), np.array([budget])
  )
  ramp = first * accuracy / (2 * budget)
  assert found[0] == pytest.approx(1 - accuracy + ramp)


def test_cut_inside_a_segment():
  tokens, accuracy = np.array([10.0, 30.0]), np.array([0.2, 1.0])
  dense = np.linspace(0, 20, 200_001)
  height = np.interp(dense, [0, 10, 30], [0, 0.2, 1.0])
  found = regret.normalised_regret(tokens, accuracy, np.array([20.0]))
  assert found[0] == pytest.approx(1 - np.trapezoid(height, dense) / 20)


def test_ends_early_goes_on_flat():
  tokens, accuracy = np.array([10.0]), np.array([0.5])
  found = regret.normalised_regret(
    tokens, accuracy, np.array([10.0, 110.0]), start=0.5
  )
  np.testing.assert_allclose(found, [0.5, 0.5])


@given(_RATES, st.integers(0, 7), st.floats(0, 1))
def test_falls_when_any_accuracy_rises(rates, at, share):
  accuracy = np.array(rates)
  at %= len(rates)
  higher = accuracy.copy()
  higher[at] += share * (1 - higher[at])
  tokens = np.arange(1.0, len(rates) + 1)
  budgets = np.array([len(rates) + 1.0])
  before = regret.normalised_regret(tokens, accuracy, budgets)[0]
  after = regret.normalised_regret(tokens, higher, budgets)[0]
  assert after <= before + 1e-12


def test_efficiency_and_reaching():
  x = np.array([1.0, 2.0, 3.0, 4.0])
  fast, slow = np.array([0.5, 1.0, 1.0, 1.0]), np.array([0.25, 0.5, 0.75, 1.0])
  assert regret.tokens_to_reach(x, fast, 0.75) == pytest.approx(1.5)
  assert regret.token_efficiency((x, fast), (x, slow), 0.75) == pytest.approx(2)
  assert regret.token_efficiency((x, fast), (x, slow / 2), 0.75) == np.inf
  with pytest.raises(ValueError, match="never reaches"):
    regret.token_efficiency((x, slow / 2), (x, fast), 0.75)
  with pytest.raises(ValueError, match="level is 0"):
    regret.token_efficiency((x, fast), (x, fast), 0.0)


def test_cumulative():
  assert regret.cumulative_regret(
    np.array([0.5, 0.5]), np.array([0.5, 1.0])
  ) == pytest.approx(0.5)
  with pytest.raises(ValueError, match="outside"):
    regret.cumulative_regret(np.array([2.0]), np.array([1.0]))


@pytest.mark.parametrize(
  ("tokens", "accuracy", "budgets", "said"),
  [
    ([], [], [1.0], "expected tokens"),
    ([2.0, 2.0], [0.5, 0.5], [1.0], "tokens must be positive and rising"),
    ([0.0, 2.0], [0.5, 0.5], [1.0], "tokens must be positive and rising"),
    ([1.0], [0.5], [2.0, 1.0], "budgets must be positive and rising"),
    ([1.0], [0.5], [-1.0], "budgets must be positive"),
    ([1.0], [1.5], [1.0], "accuracy is 1.5"),
  ],
)
def test_refused(tokens, accuracy, budgets, said):
  with pytest.raises(ValueError, match=said):
    regret.normalised_regret(*map(np.array, (tokens, accuracy, budgets)))


def test_traces_are_stopped_as_late_as_a_budget_allows():
  tokens = np.array([[3.0, 8.0, 13.0], [4.0, np.nan, np.nan]])
  accuracy = np.array([[0.2, 0.5, 1.0], [0.6, 0.0, 0.0]])
  found = regret.stopped_accuracy(
    tokens, accuracy, np.array([2.0, 3.0, 7.0, 8.0, 99.0])
  )
  np.testing.assert_allclose(found, [0.0, 0.1, 0.4, 0.55, 0.8])
  with pytest.raises(ValueError, match="outside"):
    regret.stopped_accuracy(tokens, accuracy + 1, np.array([1.0]))
