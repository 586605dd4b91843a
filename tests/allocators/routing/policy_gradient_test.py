# SPDX-License-Identifier: Apache-2.0
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxttc.allocators.routing import cascades, policy_gradient


def _world(rows=1500, seed=0):
  """The small model solves one kind of question; its judge does not err."""
  rng = np.random.default_rng(seed)
  easy = rng.random(rows) < 0.5
  small = (rng.random(rows) < np.where(easy, 0.9, 0.1)).astype(float)
  scores = np.stack([small, np.full(rows, 0.95)], 1)
  costs = np.tile([1.0, 5.0], (rows, 1))
  x = np.stack([easy, ~easy], 1).astype(np.float32)
  return jnp.asarray(x), cascades.log(scores, costs, scores)


def _worth(served, price):
  return float((served.score - price * served.cost).mean())


def test_a_trained_policy_beats_every_fixed_one():
  x, logged = _world()
  price = 0.05
  policy = policy_gradient.fit(
    x, logged, price, jax.random.key(0), steps=200, batch=128
  )
  asked, test = _world(seed=1)
  reached = _worth(policy_gradient.serve(policy, asked, test), price)
  small = float(test.scores[:, 0].mean()) - price * 1
  large = 0.95 - price * 5
  cascade = cascades.run(test, np.array([0.5, -np.inf], np.float32))
  assert reached > max(small, large) + 0.05
  assert reached > _worth(cascade, price) - 0.01


def test_models_are_asked_once_and_one_at_least():
  x, logged = _world(rows=200)
  policy = policy_gradient.Policy(jnp.zeros((2 + 6, 3)), jnp.zeros(3))
  served = policy_gradient.serve(policy, x, logged, jax.random.key(0))
  assert set(np.unique(served.asked)) == {1, 2}
  expected = np.where(np.asarray(served.asked) == 2, 6.0, served.cost)
  np.testing.assert_allclose(served.cost, expected)
  # One of two models, then one more or stop: all steps count.
  assert (np.asarray(served.log_probability) <= np.log(0.5) + 1e-6).all()


def test_bad_settings_are_refused():
  x, logged = _world(rows=10)
  with pytest.raises(ValueError, match="price >= 0"):
    policy_gradient.fit(x, logged, -1.0, jax.random.key(0))
