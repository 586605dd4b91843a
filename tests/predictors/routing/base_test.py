# SPDX-License-Identifier: Apache-2.0
import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxttc import checkpoints
from jaxttc.predictors import routing
from jaxttc.tasks import routing as tasks


def _fitted(text="ridge", **changes):
  table, chance = tasks.LatentSkill().draw(300, seed=0)
  table = dataclasses.replace(table, **changes)
  x = table.embeddings
  return routing.fit(routing.head(text), table, x, jax.random.key(0)), x, chance


def test_a_forecast_has_a_score_and_a_cost_for_every_model():
  router, x, chance = _fitted()
  forecast = jax.jit(lambda r, v: r.forecast(v))(router, jnp.asarray(x))
  assert forecast.quality.shape == forecast.cost.shape == (300, 5)
  np.testing.assert_array_equal(forecast.cost[0], tasks.latent_skill.PRICES)
  assert np.corrcoef(forecast.quality.ravel(), chance.ravel())[0, 1] > 0.8
  known = forecast.quality.clip(0, 1)
  np.testing.assert_allclose(forecast.spread**2, known * (1 - known), atol=1e-6)


def test_costs_that_vary_are_predicted_and_stay_above_the_least():
  table, _ = tasks.LatentSkill().draw(300, seed=0)
  costs = table.costs * (3 + table.embeddings[:, -1:]).clip(0.5)
  router, x, _ = _fitted(costs=costs)
  cost = np.asarray(router.forecast(jnp.asarray(x)).cost)
  assert (cost >= costs.min(0) * 0.999).all()
  assert np.corrcoef(cost[:, 2], costs[:, 2])[0, 1] > 0.95


def test_a_router_is_saved_and_restored(tmp_path):
  router, x, _ = _fitted("knn(k=5)")
  checkpoints.save(tmp_path, 0, router)
  restored = checkpoints.restore_latest(tmp_path, router)
  assert restored is not None
  again = restored.state
  assert again.models == router.models
  for a, b in zip(
    router.forecast(jnp.asarray(x)), again.forecast(jnp.asarray(x)), strict=True
  ):
    np.testing.assert_array_equal(a, b)


def test_vectors_that_do_not_fit_are_refused():
  router, x, _ = _fitted()
  with pytest.raises(ValueError, match="vectors of width 9, got shape"):
    router.forecast(jnp.ones((3, 4)))
  table, _ = tasks.LatentSkill().draw(10, seed=0)
  with pytest.raises(ValueError, match=r"finite vectors \[10, D\]"):
    routing.fit(routing.head("ridge"), table, x, jax.random.key(0))


def test_predict_pads_and_cuts():
  head = routing.Constant(jnp.array([1.0, 2.0]))
  found = routing.predict(head, np.zeros((3, 4), np.float32))
  np.testing.assert_array_equal(found, [[1, 2]] * 3)


def test_the_best_single_model_is_a_router():
  router, x, _ = _fitted("means")
  table, _ = tasks.LatentSkill().draw(300, seed=0)
  quality = router.forecast(jnp.asarray(x)).quality
  np.testing.assert_allclose(quality[0], table.scores.mean(0), atol=1e-6)
