# SPDX-License-Identifier: Apache-2.0
import collections
import math

import jax.numpy as jnp
import numpy as np
import pytest

from jaxttc.allocators import routing as allocation


def _texts(count):
  return [f"{(n % 7) / 7:.3f} question {n}" for n in range(count)]


def test_a_price_picks_as_the_router_does(router, embed):
  texts = _texts(13)
  x = jnp.asarray(embed(texts))
  for price in (0.0, 0.02, 0.08, math.inf):
    found = allocation.Dispatcher(router, embed, price=price).decide(texts)
    places = allocation.route(router, x, price)
    assert [d.choice for d in found] == [router.models[k] for k in places]
    assert {d.propensity for d in found} == {1.0}
  # The row holds what the choice was made by.
  last = found[-1]
  forecast = router.forecast(x)
  np.testing.assert_allclose(last.scores, forecast.quality[-1], rtol=1e-6)
  assert last.costs == (1.0, 10.0, 4.0) and last.unit == "FLOPs"
  assert last.question == allocation.decision_log.digest(texts[-1])
  assert last.features == allocation.decision_log.digest(np.asarray(x[-1]))


def test_exploring_asks_every_model_as_often_as_it_says(router, embed):
  texts = _texts(4000)
  dispatcher = allocation.Dispatcher(router, embed, explore=0.3, seed=1)
  found = dispatcher.decide(texts)
  best = allocation.route(router, jnp.asarray(embed(texts)))
  count: collections.Counter[str] = collections.Counter()
  for decision, place in zip(found, np.asarray(best), strict=True):
    picked = decision.choice == decision.models[place]
    assert decision.propensity == pytest.approx(0.8 if picked else 0.1)
    count["best" if picked else decision.choice] += 1
  # Each estimates 1 by inverse propensity: within four standard errors.
  assert abs(count["best"] / 4000 - 0.8) < 4 * math.sqrt(0.16 / 4000)
  weights = np.array([1 / decision.propensity for decision in found])
  assert weights.mean() == pytest.approx(3, abs=4 * weights.std() / 63)


def test_a_decision_depends_on_its_text_and_the_seed_alone(router, embed):
  texts = _texts(40)
  first = allocation.Dispatcher(router, embed, explore=0.9)
  together = first.decide(texts)
  assert together == [d for t in texts for d in first.decide([t])]
  other = allocation.Dispatcher(router, embed, explore=0.9, seed=1)
  assert other.decide(texts) != together


def test_a_budget_is_met_in_expectation(router, embed):
  texts = _texts(700)
  sample = router.forecast(jnp.asarray(embed(texts)))
  for budget in (1.0, 2.5, 5.0):
    found = allocation.Dispatcher(
      router, embed, budget=budget, sample=sample
    ).decide(texts)
    # The mean of what the other draw would have cost, too, is the budget.
    spent = np.mean([d.costs[d.models.index(d.choice)] for d in found])
    assert spent == pytest.approx(budget, abs=0.45)
    assert all(0 < d.propensity <= 1 for d in found)


@pytest.mark.parametrize(
  "options, message",
  [
    (dict(price=-1.0), "price must not be negative"),
    (dict(price=math.nan), "price must not be negative"),
    (dict(explore=1.5), "explore must be a probability"),
    (dict(budget=3.0), "needs a sample"),
    (dict(budget=3.0, price=1.0), "give one of them"),
  ],
)
def test_what_cannot_be_is_refused(router, embed, options, message):
  with pytest.raises(ValueError, match=message):
    allocation.Dispatcher(router, embed, **options)


def test_a_budget_below_the_cheapest_and_other_vectors_are_refused(
  router, embed
):
  sample = router.forecast(jnp.ones((4, 2)))
  with pytest.raises(ValueError, match="below that of the cheapest models, 1"):
    allocation.Dispatcher(router, embed, budget=0.5, sample=sample)
  wide = allocation.Dispatcher(router, lambda texts: np.ones((1, 5)))
  with pytest.raises(ValueError, match="expected vectors of width 2"):
    wide.decide(["1 text"])
