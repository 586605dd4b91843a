# SPDX-License-Identifier: Apache-2.0
"""Adapters: the model as it is at first, merged as trained, thin throughout."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxttc.models import transformer
from jaxttc.testing import tiny_models
from jaxttc.training import low_rank

Config = low_rank.LowRankConfig


@pytest.fixture(scope="module")
def policy():
  return tiny_models.tiny_bundles(0)[0]


def _logits(policy, params):
  tokens = jnp.array([[1, 300, 301, 302]])
  return transformer.forward(
    policy.model,
    params,
    tokens,
    jnp.ones_like(tokens),
    jnp.arange(4)[None],
  )


def test_fresh_adapters_change_nothing(policy):
  adapters = low_rank.init(jax.random.key(0), policy.params, Config(rank=2))
  merged = low_rank.merge(policy.params, adapters, Config(rank=2))
  jax.tree.map(np.testing.assert_array_equal, merged, policy.params)
  names = {path.split("/")[-1] for path in adapters}
  assert names == {"qkv", "out", "gate_up", "down"}


def test_merging_adds_the_scaled_product(policy):
  config = Config(rank=2, alpha=6.0, matrices=("qkv", "out"))
  adapters = low_rank.init(jax.random.key(0), policy.params, config)
  moved = jax.tree.map(
    lambda x: jax.random.normal(jax.random.key(x.size), x.shape), adapters
  )
  merged = low_rank.merge(policy.params, moved, config)
  for path, factors in moved.items():
    layer, name = path.split("/")
    a, b = (np.asarray(factors[k], np.float64) for k in "ab")
    flat = a.reshape(-1, 2) @ b.reshape(2, -1)
    assert np.linalg.matrix_rank(flat) == 2
    old = np.asarray(policy.params[layer][name], np.float64)
    np.testing.assert_allclose(
      merged[layer][name],
      old + 3.0 * flat.reshape(old.shape),
      rtol=1e-4,
      atol=1e-5,
    )
  assert {path.split("/")[-1] for path in adapters} == {"qkv", "out"}
  assert np.abs(_logits(policy, merged) - _logits(policy, policy.params)).max()


def test_training_moves_adapters_and_nothing_else(policy):
  config = Config(rank=2)
  adapters = low_rank.init(jax.random.key(0), policy.params, config)

  def loss(params, batch, key):
    del key
    value = -jax.nn.log_softmax(_logits(policy, params))[0, :, batch].mean()
    return value, {"loss": value}

  of_adapters = low_rank.objective(loss, policy.params, config)
  step = jax.jit(jax.value_and_grad(of_adapters, has_aux=True))
  (first, _), slopes = step(adapters, 7, None)
  # B is zero, so A has no slope at first; that is how LoRA starts.
  assert all(not np.any(s["a"]) and np.any(s["b"]) for s in slopes.values())
  for _ in range(3):
    (value, _), slopes = step(adapters, 7, None)
    adapters = jax.tree.map(lambda x, s: x - 0.1 * s, adapters, slopes)
  assert float(value) < float(first)


def test_gradients_of_a_model_become_those_of_its_adapters(policy):
  """The chain rule by hand is what differentiating through the merge gives."""
  config = Config(rank=2)
  adapters = low_rank.init(jax.random.key(0), policy.params, config)
  adapters = jax.tree.map(lambda x: x + 0.1, adapters)

  def loss(params, batch, key):
    del key
    value = -jax.nn.log_softmax(_logits(policy, params))[0, :, batch].mean()
    return value, {"loss": value}

  of_adapters = low_rank.objective(loss, policy.params, config)
  wanted = jax.jit(jax.grad(of_adapters, has_aux=True))(adapters, 7, None)
  found = jax.jit(
    low_rank.gradients(jax.grad(loss, has_aux=True), policy.params, config)
  )(adapters, 7, None)
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), found, wanted
  )


def test_bad_adapters_are_refused(policy):
  key = jax.random.key(0)
  with pytest.raises(ValueError, match="rank must be at least 1"):
    low_rank.init(key, policy.params, Config(rank=0))
  with pytest.raises(ValueError, match="alpha must be positive"):
    low_rank.init(key, policy.params, Config(alpha=0.0))
  with pytest.raises(
    ValueError, match="no matrix is named qvk; there are down"
  ):
    low_rank.init(key, policy.params, Config(matrices=("qvk",)))
  with pytest.raises(ValueError, match="there are no adapters"):
    low_rank.merge(policy.params, {}, Config())
  config = Config(rank=2, matrices=("down",))
  adapters = low_rank.init(key, policy.params, config)
  (path,) = adapters
  with pytest.raises(ValueError, match="no matrix mlp_9/down for an adapter"):
    low_rank.merge(policy.params, {"mlp_9/down": adapters[path]}, config)
  thin = {path: dict(adapters[path], b=adapters[path]["b"][:, 1:])}
  with pytest.raises(ValueError, match=f"the adapter of {path} makes"):
    low_rank.merge(policy.params, thin, config)
