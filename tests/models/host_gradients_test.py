# SPDX-License-Identifier: Apache-2.0
"""Tests of products and norms against JAX's and flax's, and their gradients."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxttc.models import config as config_lib
from jaxttc.models import host_gradients, int8_weights, transformer


def _draw(*shape, dtype=jnp.float32):
  rng = np.random.default_rng(sum(shape))
  return jnp.asarray(rng.normal(size=shape), dtype)


def _results(f, d_out, *inputs):
  @jax.jit
  def run(d_out, *inputs):
    out, back = jax.vjp(f, *inputs)
    return out, *back(d_out)

  return run(d_out, *inputs)


@pytest.mark.parametrize(("columns", "out"), [(3, 8), (8, 3), (1, 1)])
def test_products_are_products_whichever_side_is_wide(columns, out):
  x, weight, d_out = _draw(20, columns), _draw(columns, out), _draw(20, out)
  ours = _results(host_gradients.product, d_out, x, weight)
  for a, b in zip(ours, _results(jnp.matmul, d_out, x, weight), strict=True):
    np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)


def test_dense_takes_any_batch_and_int8():
  x, weight = _draw(2, 3, 4), _draw(4, 5)
  found = host_gradients.dense(x, weight, None, jnp.float32)
  np.testing.assert_allclose(found, x @ weight, rtol=1e-5, atol=1e-5)
  q, scale = int8_weights.quantise(np.asarray(weight), (0,), np.float32)
  found = host_gradients.dense(x, jnp.asarray(q), scale, jnp.float32)
  expected = x @ (q * scale).astype(np.float32)
  np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_norm_is_flaxs_with_its_parameter(dtype):
  x, d_out = _draw(2, 3, 16, dtype=dtype), _draw(2, 3, 16, dtype=dtype)
  params = {"params": {"scale": 1 + _draw(16)}}
  fields = {"epsilon": 1e-5, "dtype": jnp.dtype(dtype)}
  ours, theirs = (
    _results(lambda p, x, m=m: m.apply(p, x), d_out, params, x)
    for m in (host_gradients.RMSNorm(**fields), nn.RMSNorm(**fields))
  )
  near = 1e-5 if dtype == "float32" else 3e-2
  pairs = zip(*map(jax.tree.leaves, (ours, theirs)), strict=True)
  for a, b in pairs:
    assert a.dtype == b.dtype and a.shape == b.shape
    a, b = a.astype(jnp.float32), b.astype(jnp.float32)
    np.testing.assert_allclose(a, b, rtol=near, atol=near)


def test_a_models_form_changes_neither_parameters_nor_their_gradients():
  config = config_lib.TransformerConfig(
    vocab_size=19,
    width=12,
    layers=1,
    heads=2,
    kv_heads=1,
    head_dim=6,
    mlp_width=10,
    qkv_bias=True,
    qk_norm=True,
    tie_embeddings=False,
    activation="gelu_tanh",
  )
  tokens = jnp.asarray([[1, 2, 3, 4, 5, 6]])
  ones, places = jnp.ones_like(tokens), jnp.arange(6)[None]
  plain, apart = (
    transformer.Transformer(config, backend=name)
    for name in ("plain", "blocked")
  )
  init = jax.jit(transformer.init, static_argnums=1)
  params = init(jax.random.key(0), plain)
  again = init(jax.random.key(0), apart)
  jax.tree.map(np.testing.assert_array_equal, params, again)

  def loss(params, model):
    out = transformer.forward(model, params, tokens, ones, places)
    return jnp.square(out).mean()

  descend = jax.jit(jax.grad(loss), static_argnums=1)
  found = [descend(params, model) for model in (plain, apart)]
  for a, b in zip(*map(jax.tree.leaves, found), strict=True):
    np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5)
