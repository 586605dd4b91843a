# SPDX-License-Identifier: Apache-2.0
import itertools

from hypothesis import given, settings
from hypothesis import strategies as st
import jax.numpy as jnp
import numpy as np
import pytest

from jaxttc.allocators import routing as allocation
from jaxttc.evaluation import routing_curves as curves
from jaxttc.tasks import routing as tasks

_POINTS = st.lists(
  st.tuples(st.integers(0, 20), st.integers(0, 20)), min_size=1, max_size=12
)


@settings(deadline=None, max_examples=100)
@given(_POINTS)
def test_the_hull_is_the_best_mixture_of_two_points(points):
  cost, score = np.array(points, float).T
  front = curves.hull(cost, score)
  assert (np.diff(front.cost) > 0).all() and (np.diff(front.score) > 0).all()
  slopes = np.diff(front.score) / np.diff(front.cost)
  assert (np.diff(slopes) < 1e-12).all()
  assert (front.at(cost) >= score - 1e-9).all()
  again = curves.hull(*front)
  np.testing.assert_array_equal(again.cost, front.cost)
  for budget in np.linspace(cost.min(), cost.max() + 1, 5):
    best = -np.inf
    for (c, s), (d, t) in itertools.product(points, points):
      if c <= budget:
        best = max(best, s)
      if c <= budget < d:
        best = max(best, s + (t - s) * (budget - c) / (d - c))
    np.testing.assert_allclose(front.at(budget), best)


def test_cost_of_a_score_inverts_the_hull():
  front = curves.hull([1, 3, 10, 4], [0.2, 0.6, 0.8, 0.1])
  np.testing.assert_allclose(front.cost_of(0.4), 2)
  np.testing.assert_allclose(front.cost_of(0.7), 6.5)
  assert front.cost_of(0.1) == 1 and front.cost_of(0.9) == np.inf
  assert front.at(0.5) == -np.inf


def test_aiq():
  flat = curves.hull([1.0], [0.4])
  np.testing.assert_allclose(curves.aiq(flat, 1, 9), 0.4)
  np.testing.assert_allclose(curves.aiq(flat, 0, 2), 0.2)  # nothing below 1
  ramp = curves.hull([0.0, 2.0], [0.0, 1.0])
  np.testing.assert_allclose(curves.aiq(ramp, 0, 4), 0.75)
  assert curves.aiq(flat, 0.0, 0.5) == 0
  with pytest.raises(ValueError, match="low < high"):
    curves.aiq(flat, 2, 2)


def _world(rows=400):
  table, chance = tasks.LatentSkill().draw(rows, seed=0)
  return table.scores, table.costs, chance


def test_oracle_is_above_bayes_is_above_the_zero_router():
  scores, costs, chance = _world(20000)
  prices = curves.prices(costs)
  oracle = curves.evaluate(curves.oracle(scores, costs), scores, costs, prices)
  bayes = curves.evaluate(curves.oracle(chance, costs), scores, costs, prices)
  zero = curves.zero_router(scores, costs)
  grid = np.linspace(1, 100, 50)
  top = curves.hull(oracle.cost, oracle.score).at(grid)
  middle = curves.hull(bayes.cost, bayes.score).at(grid)
  assert (top >= middle - 1e-9).all() and (middle > zero.at(grid) - 0.01).all()
  assert (np.diff(bayes.cost) <= 1e-9).all()
  assert bayes.shares.sum(1) == pytest.approx(1)


def test_the_zero_router_touches_every_vertex_of_single_models():
  scores, costs, _ = _world()
  zero = curves.zero_router(scores, costs)
  for cost, score in zip(*zero, strict=True):
    match = np.isclose(costs.mean(0), cost) & np.isclose(scores.mean(0), score)
    assert match.any()


def test_a_dominated_model_lowers_neither_oracle_nor_zero():
  scores, costs, _ = _world()
  more_scores = np.concatenate([scores, np.zeros((400, 1))], 1)
  more_costs = np.concatenate([costs, np.full((400, 1), 200.0)], 1)
  grid = np.linspace(1, 100, 30)
  before, after = (
    curves.zero_router(scores, costs),
    curves.zero_router(more_scores, more_costs),
  )
  np.testing.assert_allclose(before.at(grid), after.at(grid))
  prices = curves.prices(costs)
  plain = curves.evaluate(curves.oracle(scores, costs), scores, costs, prices)
  more = curves.evaluate(
    curves.oracle(more_scores, more_costs), more_scores, more_costs, prices
  )
  assert (
    curves.hull(more.cost, more.score).at(grid)
    >= curves.hull(plain.cost, plain.score).at(grid) - 1e-9
  ).all()


def test_regret_is_zero_for_the_oracle_and_positive_for_others():
  scores, costs, chance = _world()
  at = np.array([0.0, 0.01, 0.1])
  oracle = curves.regret(curves.oracle(scores, costs), scores, costs, at)
  np.testing.assert_allclose(oracle, 0, atol=1e-7)
  assert (
    curves.regret(curves.oracle(chance, costs), scores, costs, at) > 0
  ).all()


def test_resampled_curves_are_those_of_repeated_rows():
  scores, costs, chance = _world(60)
  prices = curves.prices(costs, 16)
  choices = allocation.sweep(curves.oracle(chance, costs), prices)
  rng = np.random.default_rng(0)
  groups = np.arange(60) // 3
  weights = curves.group_weights(groups, 5, rng)
  assert (weights.reshape(5, 20, 3).std(2) == 0).all()
  found = curves.resampled(choices, scores, costs, weights)
  for counts, front in zip(weights.astype(int), found, strict=True):
    rows = np.repeat(np.arange(60), counts)
    part = curves.curve(
      np.asarray(choices)[:, rows], scores[rows], costs[rows], prices
    )
    expected = curves.hull(part.cost, part.score)
    grid = np.linspace(expected.cost[0] + 0.01, 100, 9)
    np.testing.assert_allclose(front.at(grid), expected.at(grid), atol=1e-3)


def test_calibration_error():
  rng = np.random.default_rng(0)
  chance = rng.random((20000, 2))
  scores = (rng.random(chance.shape) < chance).astype(float)
  assert curves.calibration_error(chance, scores) < 0.02
  np.testing.assert_allclose(
    curves.calibration_error(chance * 0 + 0.9, scores), 0.4, atol=0.02
  )


def test_prices_reach_from_the_best_to_the_cheapest():
  scores, costs, chance = _world()
  prices = curves.prices(costs, 50)
  assert prices[0] == 0 and prices[-1] == np.inf and len(prices) == 50
  chosen = np.asarray(allocation.sweep(curves.oracle(chance, costs), prices))
  assert (chosen[-2] == 0).all()
  assert len(curves.prices(np.ones((3, 2)))) == 3
  with pytest.raises(ValueError, match="at least 3"):
    curves.prices(costs, 2)


def test_bad_input_is_refused():
  scores, costs, _ = _world()
  with pytest.raises(ValueError, match="at least one"):
    curves.hull([], [])
  with pytest.raises(ValueError, match="finite"):
    curves.hull([1.0], [np.nan])
  with pytest.raises(ValueError, match="score of every model"):
    curves.curve(jnp.zeros((1, 400), int), scores * np.nan, costs, np.zeros(1))
  assert curves.best_single(np.array([[0.0, 1], [np.nan, 1]])) == 1


def test_mean_curves_are_empty_where_one_has_no_point():
  found = curves.mean_curve(
    [curves.hull([1, 3], [0, 1]), curves.hull([2], [0.5])], np.array([1.0, 3])
  )
  assert np.isnan(found[0]) and found[1] == 0.75
