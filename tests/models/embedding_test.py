# SPDX-License-Identifier: Apache-2.0
"""Embedding and head against linen's, and as int8."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from jaxttc.models import embedding, int8_weights

_TOKENS = jnp.asarray([[0, 3], [6, 1]])
_HIDDEN = jax.random.normal(jax.random.key(1), (2, 5, 4))


def _int8(params):
  return int8_weights.quantised(params, np.float32)


def test_floats_are_those_of_linen():
  ours, theirs = embedding.Embedding(7, 4), nn.Embed(7, 4)
  params = ours.init(jax.random.key(0), _TOKENS)
  np.testing.assert_array_equal(
    ours.apply(params, _TOKENS), theirs.apply(params, _TOKENS)
  )
  np.testing.assert_array_equal(
    ours.apply(params, _HIDDEN, method="attend"),
    theirs.apply(params, _HIDDEN, method="attend"),
  )
  head, dense = embedding.Head(9), nn.Dense(9, use_bias=False)
  params = head.init(jax.random.key(0), _HIDDEN)
  jax.tree.map(
    np.testing.assert_array_equal,
    params,
    dense.init(jax.random.key(0), _HIDDEN),
  )
  np.testing.assert_array_equal(
    head.apply(params, _HIDDEN), dense.apply(params, _HIDDEN)
  )


def test_int8_rows_and_products_are_those_of_what_it_stands_for():
  model = embedding.Embedding(7, 4)
  table = np.random.default_rng(0).normal(size=(7, 4)).astype(np.float32)
  params = jax.tree.map(jnp.asarray, _int8({"embedding": table}))
  there = int8_weights.dequantised(params)["embedding"]
  steps = params["embedding_scale"][:, None] / 2
  assert (np.abs(there - table) <= steps * (1 + 1e-6)).all()
  variables = {"params": params}
  np.testing.assert_array_equal(model.apply(variables, _TOKENS), there[_TOKENS])
  np.testing.assert_allclose(
    model.apply(variables, _HIDDEN, method="attend"),
    _HIDDEN @ there.T,
    atol=1e-5,
  )


def test_an_int8_head():
  kernel = np.random.default_rng(0).normal(size=(4, 9)).astype(np.float32)
  params = jax.tree.map(jnp.asarray, _int8({"head": {"kernel": kernel}}))
  there = int8_weights.dequantised(params)["head"]["kernel"]
  np.testing.assert_allclose(
    embedding.Head(9).apply({"params": params["head"]}, _HIDDEN),
    _HIDDEN @ there,
    atol=1e-5,
  )
