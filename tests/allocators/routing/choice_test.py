# SPDX-License-Identifier: Apache-2.0
from hypothesis import given, settings
from hypothesis import strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxttc.allocators import routing
from jaxttc.predictors import routing as predictors
from jaxttc.tasks import routing as tasks


def _forecast(rows=30, models=4, seed=0):
  rng = np.random.default_rng(seed)
  quality = rng.random((rows, models)).astype(np.float32)
  cost = np.tile(rng.random(models).astype(np.float32), (rows, 1))
  return predictors.Forecast(jnp.asarray(quality), jnp.asarray(cost))


def test_the_ends_of_the_sweep_are_the_best_and_the_cheapest():
  forecast = _forecast()
  best, cheapest = routing.sweep(forecast, np.array([0.0, np.inf]))
  np.testing.assert_array_equal(best, forecast.quality.argmax(1))
  np.testing.assert_array_equal(cheapest, forecast.cost.argmin(1))


def test_of_equals_the_cheapest_then_the_best():
  quality = jnp.array([[0.5, 0.5, 0.4]])
  assert routing.choose(quality, jnp.array([[2.0, 1.0, 1.0]]), 0.0)[0] == 1
  # Infinitely dear: two are equally cheap, the better one is taken.
  quality = jnp.array([[0.9, 0.2, 0.4]])
  assert routing.choose(quality, jnp.array([[2.0, 1.0, 1.0]]), np.inf)[0] == 2


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 1000))
def test_cost_falls_and_utility_is_greatest_at_every_price(seed):
  forecast = _forecast(seed=seed)
  prices = np.array([0.0, 0.1, 0.5, 1.0, 3.0, 30.0])
  chosen = np.asarray(routing.sweep(forecast, prices))
  rows = np.arange(30)
  cost = np.asarray(forecast.cost)[rows, chosen].mean(1)
  assert (np.diff(cost) <= 1e-7).all()
  worth = np.asarray(forecast.quality)[None] - prices[
    :, None, None
  ] * np.asarray(forecast.cost)
  reached = np.take_along_axis(worth, chosen[..., None], 2)[..., 0]
  np.testing.assert_allclose(reached, worth.max(2), atol=1e-5)


def test_permuting_models_permutes_choices():
  quality, cost = _forecast()
  order = np.array([2, 0, 3, 1])
  for price in (0.0, 0.3, np.inf):
    plain = np.asarray(routing.choose(quality, cost, price))
    moved = np.asarray(routing.choose(quality[:, order], cost[:, order], price))
    np.testing.assert_array_equal(order[moved], plain)


def test_scaling_costs_and_dividing_the_price_changes_nothing():
  quality, cost = _forecast()
  np.testing.assert_array_equal(
    routing.choose(quality, cost, 0.5),
    routing.choose(quality, 8 * cost, 0.0625),
  )


def test_a_masked_model_is_as_good_as_absent():
  quality, cost = _forecast()
  keep = np.array([0, 1, 3])
  mask = jnp.array([True, True, False, True])
  for price in (0.0, 0.3, np.inf):
    masked = routing.choose(quality, cost, price, mask)
    absent = routing.choose(quality[:, keep], cost[:, keep], price)
    np.testing.assert_array_equal(masked, keep[np.asarray(absent)])


def test_a_fitted_router_routes_and_a_sweep_compiles_once():
  table, _ = tasks.LatentSkill().draw(200, seed=0)
  router = predictors.fit(
    predictors.head("ridge"), table, table.embeddings, jax.random.key(0)
  )
  x = jnp.asarray(table.embeddings)
  cheap = routing.route(router, x, np.inf)
  np.testing.assert_array_equal(cheap, 0)
  traced = []

  @jax.jit
  def at(router, x, price):
    traced.append(1)
    quality, cost = router.forecast(x)
    return routing.choose(quality, cost, price)

  for price in (0.0, 0.01, 0.1):
    np.testing.assert_array_equal(
      at(router, x, price), routing.route(router, x, price)
    )
  assert len(traced) == 1
  many = jax.vmap(at, in_axes=(None, None, 0))(router, x, jnp.array([0.0, 0.1]))
  np.testing.assert_array_equal(many[1], routing.route(router, x, 0.1))


def test_cheapest_above_takes_what_suffices():
  quality = jnp.array([[0.9, 0.8, 0.3], [0.5, 0.4, 0.2]])
  cost = jnp.array([[3.0, 2.0, 1.0]] * 2)
  np.testing.assert_array_equal(
    routing.cheapest_above(quality, cost, 0.75), [1, 0]
  )
  margin = jnp.array([0.0, 0.1, 0.0])
  np.testing.assert_array_equal(
    routing.cheapest_above(quality, cost, 0.75, margin), [0, 0]
  )


def test_bad_prices_and_masks_are_refused():
  forecast = _forecast()
  with pytest.raises(ValueError, match="must not be negative"):
    routing.sweep(forecast, np.array([0.1, -1.0]))
  with pytest.raises(ValueError, match="must not be negative"):
    routing.sweep(forecast, np.array([np.nan]))
  with pytest.raises(ValueError, match="one of them true"):
    routing.sweep(forecast, np.array([0.1]), np.zeros(4, bool))
  with pytest.raises(ValueError, match="expected 4 truth values"):
    routing.sweep(forecast, np.array([0.1]), np.ones(3, bool))
