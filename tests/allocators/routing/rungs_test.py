# SPDX-License-Identifier: Apache-2.0
import itertools

import jax.numpy as jnp
import numpy as np
import pytest

from jaxttc.allocators import routing
from jaxttc.allocators.routing import rungs as rungs_lib


def _forecast(seed, rows=12, arms=5):
  rng = np.random.default_rng(seed)
  return rng.random((rows, arms)), rng.uniform(1, 50, (rows, arms))


def test_rungs_are_the_concave_hull_from_nothing():
  score = np.array([[0.2, 0.5, 0.35, 0.9, 0.1]])
  cost = np.array([[10.0, 20.0, 15.0, 60.0, 30.0]])
  rungs = rungs_lib.hull_rungs(score, cost)
  assert [(r.below, r.arm) for r in rungs] == [(-1, 1), (1, 3)]
  np.testing.assert_allclose([r.worth for r in rungs], [0.025, 0.01])
  allowed = np.array([True, False, True, False, True])
  (rung,) = rungs_lib.hull_rungs(score, cost, allowed)
  assert (rung.below, rung.arm) == (-1, 2)


def test_an_arm_that_scores_nothing_is_never_bought():
  rungs = rungs_lib.hull_rungs(np.zeros((3, 2)), np.ones((3, 2)))
  assert rungs == []


@pytest.mark.parametrize("price", [0.003, 0.01, 0.05])
def test_a_plan_is_the_choice_at_one_price(price):
  score, cost = _forecast(0, rows=40)
  rungs = rungs_lib.hull_rungs(score, cost)
  bought = [r.cost for r in rungs if r.worth > price]
  planned = rungs_lib.plan(rungs, np.ones(40, bool), sum(bought) + 1e-6)
  none = np.zeros((40, 1))
  # The last column is no arm at all.
  chosen = np.asarray(
    routing.choose(
      *(jnp.asarray(np.concatenate([a, none], 1)) for a in (score, cost)), price
    )
  )
  expected = np.where(chosen == 5, rungs_lib.NONE, chosen)
  differs = planned.arms != expected
  # Small change after the last rung at this price may buy one more.
  assert differs.sum() <= 1
  assert planned.price <= price


@pytest.mark.parametrize("seed", range(5))
def test_a_plan_is_as_good_as_the_best_of_all_plans_but_for_one_rung(seed):
  score, cost = _forecast(seed, rows=4, arms=3)
  rungs = rungs_lib.hull_rungs(score, cost)
  amount = 60.0
  planned = rungs_lib.plan(rungs, np.ones(4, bool), amount)

  def total(arms):
    pairs = [(q, a) for q, a in enumerate(arms) if a >= 0]
    return (
      sum(score[pair] for pair in pairs),
      sum(cost[pair] for pair in pairs),
    )

  reached, spent = total(planned.arms)
  assert spent <= amount + 1e-9
  best = max(
    value
    for value, price in map(total, itertools.product(range(-1, 3), repeat=4))
    if price <= amount
  )
  assert reached <= best + 1e-9
  assert reached >= best - max(rung.gain for rung in rungs)
