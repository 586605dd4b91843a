# SPDX-License-Identifier: Apache-2.0
"""Tests of gradients of a batch, taken in parts."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxttc.training import accumulation

_KEY = jax.random.key(0)
_PARAMS = {"w": jnp.float32(2.0), "b": jnp.float32([1.0, -1.0])}


def _batch(rows=12):
  rng = np.random.default_rng(0)
  x = rng.normal(size=(rows, 2)).astype(np.float32)
  return {"x": x, "mask": (rng.random(rows) < 0.6).astype(np.float32)}


def _loss(params, batch, key):
  """A mean over rows that count, of which parts have unlike numbers."""
  del key
  error = (jnp.tanh(batch["x"] * params["w"] + params["b"][None]) ** 2).sum(-1)
  count = batch["mask"].sum()
  mean = (error * batch["mask"]).sum() / jnp.maximum(count, 1e-6)
  return mean, {"loss": mean, "squared": mean**2, "weight": count}


@pytest.mark.parametrize("parts", [2, 3, 12])
def test_parts_give_the_gradient_of_the_whole(parts):
  whole, metrics = accumulation.gradients(_loss)(_PARAMS, _batch(), _KEY)
  split = jax.jit(accumulation.gradients(_loss, parts))
  found, means = split(_PARAMS, _batch(), _KEY)
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-7),
    found,
    whole,
  )
  assert means.keys() == metrics.keys() == {"loss", "squared"}
  np.testing.assert_allclose(means["loss"], metrics["loss"], rtol=1e-6)
  # A mean of parts is not the whole's for what is no mean itself.
  assert means["squared"] > metrics["squared"]


def test_unweighted_means_of_parts_would_be_another_gradient():
  batch = _batch()
  parts = [jax.tree.map(lambda x, i=i: x[i::2], batch) for i in range(2)]
  means = [accumulation.gradients(_loss)(_PARAMS, p, _KEY)[0] for p in parts]
  whole, _ = accumulation.gradients(_loss)(_PARAMS, batch, _KEY)
  mean = (means[0]["w"] + means[1]["w"]) / 2
  assert abs(mean - whole["w"]) > 1e-3


def test_nothing_to_learn_from_gives_no_gradient():
  batch = _batch() | {"mask": np.zeros(12, np.float32)}
  found, means = accumulation.gradients(_loss, 3)(_PARAMS, batch, _KEY)
  assert all(not np.any(x) for x in jax.tree.leaves((found, means)))


def test_parts_have_their_own_keys_and_one_part_the_key_itself():
  def loss(params, batch, key):
    noise = jax.random.normal(key)
    return params["w"] * noise, {"noise": noise, "weight": jnp.float32(1)}

  found, _ = accumulation.gradients(loss)(_PARAMS, _batch(), _KEY)
  assert found["w"] == jax.random.normal(_KEY)
  found, _ = accumulation.gradients(loss, 2)(_PARAMS, _batch(), _KEY)
  each = [jax.random.normal(jax.random.fold_in(_KEY, i)) for i in range(2)]
  np.testing.assert_allclose(found["w"], np.mean(each), rtol=1e-6)


def test_rows_that_do_not_split_and_missing_weights_are_refused():
  with pytest.raises(ValueError, match="12 rows cannot be split.*late=5"):
    accumulation.gradients(_loss, 5)(_PARAMS, _batch(), _KEY)
  bare = lambda p, b, k: (_loss(p, b, k)[0], {})  # noqa: E731
  with pytest.raises(ValueError, match="accumulate=2: .*have no 'weight'"):
    accumulation.gradients(bare, 2)(_PARAMS, _batch(), _KEY)
  assert accumulation.gradients(bare)(_PARAMS, _batch(), _KEY)[1] == {}
