# SPDX-License-Identifier: Apache-2.0
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize

from jaxttc.allocators import routing
from jaxttc.predictors import routing as predictors


def _forecast(rows=40, models=3, seed=0):
  rng = np.random.default_rng(seed)
  quality = rng.random((rows, models)).astype(np.float32)
  cost = (rng.random((rows, models)) * np.arange(1, models + 1)).astype(
    np.float32
  )
  return predictors.Forecast(jnp.asarray(quality), jnp.asarray(cost))


@pytest.mark.parametrize("share", [0.0, 0.13, 0.5, 1.0])
def test_a_share_is_exact_even_with_ties(share):
  gains = np.repeat([0.1, 0.3, 0.3, 0.7, -0.2], 20)
  rule = routing.threshold_for_share(gains, share)
  above = (gains > rule.value).mean()
  equal = (gains == rule.value).mean()
  np.testing.assert_allclose(above + rule.ties * equal, share)
  drawn = np.mean(
    [rule.apply(gains, np.random.default_rng(s)).mean() for s in range(200)]
  )
  np.testing.assert_allclose(drawn, share, atol=0.02)


def test_a_budget_is_met_as_the_linear_programme_meets_it():
  forecast = _forecast()
  quality, cost = map(np.asarray, forecast)
  budget = float(0.6 * cost[np.arange(40), quality.argmax(1)].mean())
  mixture = routing.price_for_budget(forecast, budget)

  def mean(values, price):
    chosen = np.asarray(routing.choose(*forecast, price))
    return values[np.arange(40), chosen].mean()

  def mixed(values):
    return (1 - mixture.share) * mean(values, mixture.low) + (
      mixture.share * mean(values, mixture.high)
    )

  np.testing.assert_allclose(mixed(cost), budget, rtol=1e-5)
  # Fractional multiple-choice knapsack: the best that is possible.
  best = scipy.optimize.linprog(
    -quality.ravel() / 40,
    A_ub=cost.ravel()[None] / 40,
    b_ub=[budget],
    A_eq=np.kron(np.eye(40), np.ones(3)),
    b_eq=np.ones(40),
  )
  np.testing.assert_allclose(mixed(quality), -best.fun, rtol=1e-4)


def test_a_mixture_spends_the_budget_on_average():
  forecast = _forecast(rows=4000)
  mixture = routing.price_for_budget(forecast, 0.5)
  chosen = mixture.route(forecast, jax.random.key(0))
  spent = forecast.cost[jnp.arange(4000), chosen].mean()
  np.testing.assert_allclose(spent, 0.5, rtol=0.01)


def test_budgets_at_the_ends():
  forecast = _forecast()
  assert routing.price_for_budget(forecast, 100) == (0.0, 0.0, 0.0)
  least = float(forecast.cost.min(1).mean())
  with pytest.raises(ValueError, match="below that of the cheapest"):
    routing.price_for_budget(forecast, 0.9 * least)


def test_a_safe_price_keeps_its_target_on_new_questions():
  rng = np.random.default_rng(0)
  quality = np.stack([rng.random(6000), np.full(6000, 0.8)], 1)
  scores = (rng.random(quality.shape) < quality).astype(float)
  cost = np.tile([1.0, 10.0], (6000, 1))
  forecast = predictors.Forecast(
    *(jnp.asarray(a, jnp.float32) for a in (quality, cost))
  )
  half = predictors.Forecast(*(a[:3000] for a in forecast))
  prices = np.linspace(0, 0.1, 30)
  price = routing.safe_price(half, scores[:3000], prices, 0.75)
  assert price > 0
  chosen = np.asarray(routing.choose(*forecast, price))[3000:]
  assert quality[3000:][np.arange(3000), chosen].mean() >= 0.75
  # Less trust allows a higher price; an unreachable target the lowest one.
  assert (
    routing.safe_price(half, scores[:3000], prices, 0.75, confidence=0.5)
    >= price
  )
  assert routing.safe_price(half, scores[:3000], prices, 0.99) == 0
  with pytest.raises(ValueError, match="confidence"):
    routing.safe_price(half, scores[:3000], prices, 0.5, confidence=1.0)


def test_margins_cover_what_is_promised():
  rng = np.random.default_rng(1)
  truth = rng.random((4000, 2))
  scores = (rng.random(truth.shape) < truth).astype(float)
  promised = truth + np.array([0.0, 0.2])
  found = routing.margins(promised, scores)
  assert found[0] < 0.15 and 0.2 < found[1] < 0.35
  with pytest.raises(ValueError, match="at least 20 questions"):
    routing.margins(promised[:19], scores[:19])


@pytest.mark.parametrize(
  "gains, share", [([], 0.5), ([0.1, np.nan], 0.5), ([0.1], 1.5)]
)
def test_bad_shares_are_refused(gains, share):
  with pytest.raises(ValueError, match="threshold_for_share"):
    routing.threshold_for_share(np.array(gains), share)
