# SPDX-License-Identifier: Apache-2.0
import dataclasses

import hypothesis
from hypothesis import strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxttc.cost import transformer_flops
from jaxttc.models import config as config_lib
from jaxttc.models import (
  int8_weights,
  nested_transformer,
  reward_model,
  transformer,
)

_CONFIG = config_lib.TransformerConfig(
  vocab_size=31,
  width=16,
  layers=2,
  heads=8,
  kv_heads=4,
  head_dim=4,
  mlp_width=24,
  qkv_bias=True,
  qk_norm=True,
)


def _params(config=_CONFIG, seed=0):
  params = transformer.init(
    jax.random.key(seed), transformer.Transformer(config)
  )
  keys = iter(jax.random.split(jax.random.key(seed + 1), 99))
  # Biases and norms begin as constants, which would hide what they do.
  return jax.tree.map(
    lambda x: x + 0.3 * jax.random.normal(next(keys), x.shape), params
  )


def _logits(config, params, tokens=(3, 1, 4, 1, 5, 9)):
  tokens = jnp.array([tokens])
  return transformer.forward(
    transformer.Transformer(config),
    params,
    tokens,
    jnp.ones_like(tokens),
    jnp.arange(tokens.size)[None],
  )


def _blinded(params, small):
  """The whole model with what lies outside the prefixes set to zero."""

  def of(path, x):
    name = path[-1].key
    if name == "down":  # hidden units that nobody reads
      return x.at[small.mlp_width :].set(0.0)
    if name == "out":  # heads that nobody reads
      return x.at[small.heads :].set(0.0)
    return x

  return jax.tree_util.tree_map_with_path(of, params)


@pytest.mark.parametrize(
  ("width", "kv_heads", "units"),
  [(0.25, 1, 6), (0.3, 2, 8), (0.5, 2, 12), (0.75, 3, 18), (1.0, 4, 24)],
)
def test_sizes_of_a_width(width, kv_heads, units):
  small = nested_transformer.narrowed(_CONFIG, width)
  assert (small.kv_heads, small.heads) == (kv_heads, 2 * kv_heads)
  assert small.mlp_width == units
  small.validate()


@pytest.mark.parametrize("width", [0.25, 0.5, 0.75, 1.0])
def test_a_narrow_model_is_the_whole_one_with_the_rest_unread(width):
  params = _params()
  small = nested_transformer.narrowed(_CONFIG, width)
  found = _logits(small, nested_transformer.narrow(params, _CONFIG, small))
  expected = _logits(_CONFIG, _blinded(params, small))
  np.testing.assert_allclose(found, expected, rtol=2e-5, atol=2e-5)


def test_narrow_parameters_are_those_of_a_model_of_that_size():
  small = nested_transformer.narrowed(_CONFIG, 0.3)
  found = nested_transformer.narrow(_params(), _CONFIG, small)
  shapes = jax.tree.map(jnp.shape, found)
  assert shapes == jax.tree.map(jnp.shape, _params(small))
  assert transformer_flops.token_flops(
    small.shape()
  ) < transformer_flops.token_flops(_CONFIG.shape())


def test_int8_weights_take_their_scales_along():
  quantised = jax.tree.map(
    jnp.asarray, int8_weights.quantised(_params(), jnp.float32)
  )
  small = nested_transformer.narrowed(_CONFIG, 0.5)
  floats = int8_weights.dequantised(quantised)
  expected = nested_transformer.narrow(floats, _CONFIG, small)
  found = nested_transformer.narrow(quantised, _CONFIG, small)
  np.testing.assert_allclose(
    _logits(small, found), _logits(small, expected), rtol=1e-4, atol=1e-4
  )


def test_full_width_is_the_model_itself():
  params = _params()
  small = nested_transformer.narrowed(_CONFIG, 1)
  assert small == _CONFIG
  jax.tree.map(
    np.testing.assert_array_equal,
    nested_transformer.narrow(params, _CONFIG, small),
    params,
  )


def test_narrowing_twice_is_narrowing_once():
  params = _params()
  half = nested_transformer.narrowed(_CONFIG, 0.5)
  quarter = nested_transformer.narrowed(_CONFIG, 0.25)
  assert nested_transformer.narrowed(half, 0.5) == quarter
  halved = nested_transformer.narrow(params, _CONFIG, half)
  jax.tree.map(
    np.testing.assert_array_equal,
    nested_transformer.narrow(halved, half, quarter),
    nested_transformer.narrow(params, _CONFIG, quarter),
  )


def test_gradient_of_a_narrow_model_is_zero_outside_its_prefix():
  small = nested_transformer.narrowed(_CONFIG, 0.5)

  def loss(params):
    narrow = nested_transformer.narrow(params, _CONFIG, small)
    return jnp.square(_logits(small, narrow)).mean()

  grads = jax.grad(loss)(_params())
  inside = nested_transformer.narrow(grads, _CONFIG, small)
  for (path, whole), prefix in zip(
    jax.tree_util.tree_leaves_with_path(grads),
    jax.tree.leaves(inside),
    strict=True,
  ):
    name = jax.tree_util.keystr(path)
    assert np.abs(prefix).max() > 0, name
    np.testing.assert_allclose(
      np.square(whole).sum(), np.square(prefix).sum(), rtol=1e-5, err_msg=name
    )


def test_order_of_importance_does_not_change_the_model():
  params = _params()
  ordered = nested_transformer.by_importance(params, _CONFIG)
  np.testing.assert_allclose(
    _logits(_CONFIG, ordered), _logits(_CONFIG, params), rtol=1e-4, atol=1e-4
  )
  moved = ordered["mlp_0"]["down"] != params["mlp_0"]["down"]
  assert np.asarray(moved).any()


def test_units_that_do_nothing_come_last():
  params = _params()
  for layer in range(_CONFIG.layers):
    mlp, attention = params[f"mlp_{layer}"], params[f"attention_{layer}"]
    mlp["down"] = mlp["down"].at[:12].set(0.0)
    attention["out"] = attention["out"].at[:4].set(0.0)
  ordered = nested_transformer.by_importance(params, _CONFIG)
  half = nested_transformer.narrowed(_CONFIG, 0.5)
  narrow = nested_transformer.narrow(ordered, _CONFIG, half)
  np.testing.assert_allclose(
    _logits(half, narrow), _logits(_CONFIG, params), rtol=1e-4, atol=1e-4
  )


def test_reward_models_have_widths_too():
  config = dataclasses.replace(_CONFIG, reading_layers=1)
  model = reward_model.ProcessRewardModel(config)
  params = transformer.init(jax.random.key(0), model)
  small = nested_transformer.narrowed(config, 0.5)
  narrow = nested_transformer.narrow(params, config, small)
  fresh = transformer.init(
    jax.random.key(0), reward_model.ProcessRewardModel(small)
  )
  assert jax.tree.map(jnp.shape, narrow) == jax.tree.map(jnp.shape, fresh)
  found = _logits_of_reward(small, narrow)
  assert found.shape == (1, 3) and np.isfinite(found).all()
  ordered = nested_transformer.by_importance(params, config)
  np.testing.assert_allclose(
    _logits_of_reward(config, ordered),
    _logits_of_reward(config, params),
    rtol=1e-4,
    atol=1e-4,
  )


def _logits_of_reward(config, params):
  tokens = jnp.array([[3, 1, 4]])
  return transformer.forward(
    reward_model.ProcessRewardModel(config),
    params,
    tokens,
    jnp.ones_like(tokens),
    jnp.arange(3)[None],
  )


@hypothesis.given(
  st.integers(1, 9), st.integers(1, 400), st.integers(1, 20), st.data()
)
def test_every_share_leaves_enough_and_no_more(kv_heads, units, parts, data):
  config = dataclasses.replace(
    _CONFIG, kv_heads=kv_heads, heads=2 * kv_heads, mlp_width=units
  )
  width = data.draw(st.integers(1, parts)) / parts
  small = nested_transformer.narrowed(config, width)
  for now, before in (
    (small.kv_heads, kv_heads),
    (small.mlp_width, units),
    (small.heads, 2 * kv_heads),
  ):
    assert 1 <= now <= before
  assert small.heads == 2 * small.kv_heads
  assert 0 <= small.mlp_width - width * units + 1e-6 < 1 + 1e-6


@pytest.mark.parametrize("width", [0.0, -0.5, 1.5, float("nan")])
def test_refuses_widths_out_of_range(width):
  with pytest.raises(ValueError, match="width must be in"):
    nested_transformer.narrowed(_CONFIG, width)


@pytest.mark.parametrize(
  "widths",
  [(), (1.0,), (0.5, 0.75), (0.5, 0.25, 1.0), (0.0, 1.0), (0.5, "1"), (True,)],
)
def test_refuses_menus_that_cannot_be(widths):
  with pytest.raises(ValueError, match="must rise from above 0 to 1"):
    nested_transformer.check_widths(widths)


@pytest.mark.parametrize(
  ("changes", "message"),
  [
    ({"layers": 1}, "differs in mlp_width, kv_heads and heads only"),
    ({"heads": 4}, "whole key-value groups"),
    ({"mlp_width": 25}, "no more of anything"),
  ],
)
def test_refuses_what_is_no_narrower_form(changes, message):
  other = dataclasses.replace(_CONFIG, **changes)
  with pytest.raises(ValueError, match=message):
    nested_transformer.narrow(_params(), _CONFIG, other)
