# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest

from jaxttc.allocators import solve_or_verify
from jaxttc.evaluation import verification_curves as curves
from jaxttc.evaluation import verification_scaling as scaling

_COSTS = solve_or_verify.SplitCosts.of_ratio(1.0)
_S, _V = 2 ** np.arange(11), 2 ** np.arange(8)
_BUDGETS = 2.0 ** np.arange(4, 9)


def _surface(power, noise=0.0, problems=8):
  """A ridge at S = C^power / 2 along every line of cost C."""
  s, v = np.meshgrid(_S, _V, indexing="ij")
  cost = s * (1.0 + v)
  off = np.log(s) - power * np.log(cost) + np.log(2)
  mean = 0.8 - 0.02 * off**2
  rng = np.random.default_rng(0)
  values = mean + noise * rng.normal(size=(problems, *mean.shape))
  return curves.Surface(_S, _V, values)


@pytest.mark.parametrize("power", [0.6, 0.7])
def test_a_planted_power_is_found(power):
  optima = scaling.optimal_splits(_surface(power), _COSTS, _BUDGETS)
  cost = _COSTS.solutions_worth(optima.solutions, optima.verifications)
  np.testing.assert_allclose(cost, _BUDGETS[None])
  law = scaling.fit_scaling(optima, drop_edges=True)
  assert law.on_edge == 0
  assert law.solutions.value == pytest.approx(power, abs=0.06)
  # S (1 + V) = C: at large V the powers add up to one.
  assert law.solutions.value + law.verifications.value == pytest.approx(
    1.0, abs=0.15
  )


def test_the_law_predicts_larger_budgets():
  surface = _surface(0.65)
  small = scaling.optimal_splits(surface, _COSTS, 2.0 ** np.arange(3, 7))
  law = scaling.fit_scaling(small)
  found = law.split(512, _COSTS, 1024, 128)
  assert _COSTS.solutions_worth(*found) <= 512
  best = 512**0.65 / 2
  assert 0.6 * best < found.solutions < 1.6 * best
  assert found.verifications == 512 // found.solutions - 1
  assert law.split(1, _COSTS, 1024, 128) == (1, 0)


def test_intervals_come_from_problems():
  optima = scaling.optimal_splits(
    _surface(0.65, noise=0.03), _COSTS, _BUDGETS, resamples=100
  )
  assert optima.solutions.shape == (101, 5)
  law = scaling.fit_scaling(optima)
  for interval in (law.solutions, law.verifications, law.difference):
    assert interval.low <= interval.value <= interval.high
    assert interval.high > interval.low
  alone = scaling.fit_scaling(
    scaling.optimal_splits(_surface(0.65), _COSTS, _BUDGETS)
  )
  assert alone.solutions.low == alone.solutions.value == alone.solutions.high


def test_optima_at_the_end_of_the_line_are_reported_and_dropped():
  # More solutions are always better: V = 1 is the end.
  s, _ = np.meshgrid(_S, _V, indexing="ij")
  always = curves.Surface(_S, _V, np.log(s)[None] / 100)
  optima = scaling.optimal_splits(always, _COSTS, _BUDGETS)
  assert optima.on_edge.all()
  np.testing.assert_allclose(optima.verifications, 1.0)
  law = scaling.fit_scaling(optima)
  assert (law.points, law.on_edge) == (5, 5)
  assert law.solutions.value == pytest.approx(1.0)
  with pytest.raises(ValueError, match="0 of 5 budgets"):
    scaling.fit_scaling(optima, drop_edges=True)


def test_budgets_beyond_the_grid_are_refused():
  surface = _surface(0.6)
  for budget in (2.0, 1e6):
    with pytest.raises(ValueError, match="splits on the grid"):
      scaling.optimal_splits(surface, _COSTS, np.array([budget]))
