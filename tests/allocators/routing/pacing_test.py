# SPDX-License-Identifier: Apache-2.0
import jax.numpy as jnp
import numpy as np
import pytest

from jaxttc.allocators import routing
from jaxttc.predictors import routing as predictors


def _stream(rows=2000, seed=0):
  rng = np.random.default_rng(seed)
  quality = np.sort(rng.random((rows, 3)), 1)
  cost = np.tile([1.0, 4.0, 16.0], (rows, 1))
  return (jnp.asarray(a, jnp.float32) for a in (quality, cost))


@pytest.mark.parametrize("budget", [2000.0, 2500.0, 6000.0, 20000.0])
def test_the_budget_is_never_exceeded(budget):
  quality, cost = _stream()
  paced = routing.pace(quality, cost, budget)
  spent = cost[jnp.arange(2000), paced.choices].sum()
  np.testing.assert_allclose(paced.spent, spent, rtol=1e-5)
  assert spent <= budget * (1 + 1e-5)


def test_a_stream_scores_nearly_what_hindsight_scores():
  quality, cost = _stream()
  budget = 8000.0
  forecast = predictors.Forecast(quality, cost)
  best = routing.price_for_budget(forecast, budget / 2000)
  rows = jnp.arange(2000)
  hindsight = quality[rows, routing.choose(quality, cost, best.low)].mean()
  paced = routing.pace(quality, cost, budget)
  reached = quality[rows, paced.choices].mean()
  assert paced.spent > 0.95 * budget
  assert reached > hindsight - 0.01


def test_a_budget_below_the_least_is_refused():
  with pytest.raises(ValueError, match="that costs 2000"):
    routing.pace(*_stream(), 1999.0)
