# SPDX-License-Identifier: Apache-2.0
"""Encoders at full width against the same networks in plain flax layers."""

from collections.abc import Iterator
import itertools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxttc.models.slimmable import encoders, layers, norms, widths

_NORM = norms.NormChoice("group", 4, (0.5, 1.0))


def _each(params: dict, prefix: str) -> Iterator[dict]:
  """Parameters of layers of one class, in the order of their making."""
  return (params[f"{prefix}_{i}"] for i in itertools.count())


def _conv(params, x, stride=1, groups=1):
  size, _, _, features = params["kernel"].shape
  layer = nn.Conv(
    features, (size, size), (stride, stride), feature_group_count=groups
  )
  return layer.apply({"params": params}, x)


def _dense(params, x):
  return nn.Dense(params["bias"].size).apply({"params": params}, x)


def _norm(params, x):
  layer = nn.GroupNorm(num_groups=x.shape[-1] // 4, epsilon=1e-5)
  return layer.apply({"params": params}, x)


def _layer_norm(params, x):
  return nn.LayerNorm(epsilon=1e-5).apply({"params": params}, x)


def _plain_mlp(encoder, params, x):
  for i in range(len(encoder.hidden)):
    x = _norm(params[f"Norm_{i}"], _dense(params[f"Dense_{i}"], x))
    x = nn.gelu(x)
  return x


def _plain_residual(encoder, params, x):
  conv, norm = _each(params, "Conv"), _each(params, "Norm")
  x = nn.relu(_norm(next(norm), _conv(next(conv), x, encoder.stem_stride)))
  for i, (_, blocks, first) in enumerate(encoder.stages):
    for block in range(blocks):
      stride = first if block == 0 else 1
      y = nn.relu(_norm(next(norm), _conv(next(conv), x, stride)))
      y = _norm(next(norm), _conv(next(conv), y))
      if block == 0 and i > 0:
        x = _norm(next(norm), _conv(next(conv), x, stride))
      x = nn.relu(x + y)
  return x


def _plain_mobilenet(encoder, params, x):
  conv, norm = _each(params, "Conv"), _each(params, "Norm")
  depthwise = _each(params, "DepthwiseConv")
  x = nn.relu6(_norm(next(norm), _conv(next(conv), x, encoder.stem_stride)))
  for times, _, blocks, first in encoder.stages:
    for block in range(blocks):
      y = x
      if times > 1:
        y = nn.relu6(_norm(next(norm), _conv(next(conv), y)))
      stride = first if block == 0 else 1
      y = _conv(next(depthwise), y, stride, groups=y.shape[-1])
      y = nn.relu6(_norm(next(norm), y))
      y = _norm(next(norm), _conv(next(conv), y))
      x = x + y if block > 0 else y
  return nn.relu6(_norm(next(norm), _conv(next(conv), x)))


def _attention(params, x):
  q, k, v = jnp.moveaxis(params["qkv"], 1, 0)
  named = {"query": q, "key": k, "value": v, "out": params["out"]}
  _, heads, size = q.shape
  layer = nn.MultiHeadDotProductAttention(
    heads, qkv_features=heads * size, use_bias=False
  )
  return layer.apply(
    {"params": {name: {"kernel": value} for name, value in named.items()}}, x
  )


def _plain_transformer(encoder, params, x):
  patches = params["Conv_0"]
  x = nn.Conv(
    encoder.width, (encoder.patch,) * 2, (encoder.patch,) * 2, "VALID"
  ).apply({"params": patches}, x)
  shape, norm = x.shape, _each(params, "Norm")
  x = x.reshape(shape[0], -1, shape[-1]) + params["places"][None]
  for i in range(sum(depth for depth, _, _ in encoder.segments)):
    x = x + _attention(params[f"Attention_{i}"], _layer_norm(next(norm), x))
    mlp = params[f"MLP_{i}"]
    h = nn.gelu(_dense(mlp["up"], _layer_norm(next(norm), x)))
    x = x + _dense(mlp["down"], h)
  return _layer_norm(next(norm), x).reshape(shape)


_ENCODERS = {
  "mlp": (encoders.MLPEncoder((16, 8), _NORM, 4), _plain_mlp, (5,), (8,)),
  "residual": (
    encoders.ResidualEncoder(((8, 2, 1), (12, 1, 2)), 2, _NORM, 4),
    _plain_residual,
    (8, 8, 3),
    (2, 2, 12),
  ),
  "mobilenet_v2": (
    encoders.MobileNetV2Encoder(
      ((1, 8, 1, 1), (2, 12, 2, 2)), 8, 2, 16, _NORM, 4
    ),
    _plain_mobilenet,
    (8, 8, 3),
    (2, 2, 16),
  ),
  "vision_transformer": (
    encoders.VisionTransformerEncoder(2, 8, ((1, 2, 8), (1, 4, 12)), 4, 4),
    _plain_transformer,
    (4, 6, 3),
    (2, 3, 8),
  ),
}


@pytest.mark.parametrize("name", _ENCODERS)
def test_full_width_is_the_plain_network(name):
  encoder, plain, shape, features = _ENCODERS[name]
  rng = np.random.default_rng(0)
  x = jnp.asarray(rng.normal(size=(2, *shape)), jnp.float32)
  counts = tuple(group.channels for group in encoder.groups())
  shapes = jax.eval_shape(
    lambda key: encoder.init(key, layers.whole(x), counts), jax.random.key(0)
  )["params"]
  params = jax.tree.map(
    lambda s: jnp.asarray(rng.normal(0.1, 0.4, s.shape), jnp.float32), shapes
  )

  @jax.jit
  def both(params, x):
    found = encoder.apply({"params": params}, layers.whole(x), counts)
    assert found.count == features[-1]
    return found.values, plain(encoder, params, x)

  found, expected = both(params, x)
  assert found.shape == (2, *features)
  assert np.std(expected) > 1e-3
  np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", _ENCODERS)
def test_resized_encoders_have_the_counts_as_their_groups(name):
  encoder = _ENCODERS[name][0]
  counts = tuple(group.count(0.5) for group in encoder.groups())
  resized = encoder.resized(counts)
  assert type(resized) is type(encoder)
  assert tuple(group.channels for group in resized.groups()) == counts
  full = tuple(group.channels for group in encoder.groups())
  assert resized.resized(full) == encoder


@pytest.mark.parametrize("name", ["mlp", "residual"])
def test_the_parts_of_a_split_encoder_fit_one_behind_another(name):
  encoder, _, shape, features = _ENCODERS[name]
  parts = encoder.split()
  groups = [group for part in parts for group in part.groups()]
  assert [g.channels for g in groups] == [g.channels for g in encoder.groups()]

  def run(key):
    x = layers.whole(jnp.zeros((2, *shape)))
    for part, group in zip(parts, groups, strict=True):
      x, _ = part.init_with_output(key, x, (group.channels,))
    return x.values

  assert jax.eval_shape(run, jax.random.key(0)).shape == (2, *features)


@pytest.mark.parametrize("name", ["mlp", "residual"])
def test_necks_are_as_wide_at_every_width(name):
  encoder, _, shape, features = _ENCODERS[name]
  assert not encoder.ends_whole()
  encoder = encoder.clone(neck=20)
  assert encoder.ends_whole()
  x = layers.whole(jnp.ones((2, *shape)))
  full = tuple(group.channels for group in encoder.groups())
  params = jax.eval_shape(
    lambda key: encoder.init(key, x, full), jax.random.key(0)
  )
  for ratio in (0.5, 1.0):
    counts = tuple(group.count(ratio) for group in encoder.groups())
    found = jax.eval_shape(
      lambda params, counts=counts: encoder.apply(params, x, counts).values,
      params,
    )
    assert found.shape == (2, *features[:-1], 20)
  necks = [part.neck for part in encoder.split()]
  assert necks[-1] == 20 and not any(necks[:-1])


def test_groups_are_named_for_messages():
  names = {
    name: [group.name for group in encoder.groups()]
    for name, (encoder, *_) in _ENCODERS.items()
  }
  assert names == {
    "mlp": ["encoder0", "encoder1"],
    "residual": ["stage0", "stage1"],
    "mobilenet_v2": ["stem", "stage0", "stage1"],
    "vision_transformer": ["heads0", "mlp0", "heads1", "mlp1"],
  }


def test_images_that_cannot_be_cut_into_patches_are_refused():
  encoder = _ENCODERS["vision_transformer"][0]
  x = layers.whole(jnp.zeros((1, 4, 5, 3)))
  with pytest.raises(ValueError, match="4 x 5 pixels .* patches of 2 x 2"):
    encoder.init(jax.random.key(0), x, (2, 8, 4, 12))


def test_mobilenet_v2_is_as_large_as_published():
  """3.4 M parameters and 300 M multiply-adds, of which a classifier 1.28 M.

  Sandler et al. 2018, table 4. Convolutions have biases here.
  """
  encoder = encoders.MobileNetV2Encoder(norm=norms.NormChoice("layer"))
  counts = tuple(group.channels for group in encoder.groups())
  totals = {"macs": 0, "parameters": 0, "activations": 0}

  def run(key):
    x = layers.whole(jnp.zeros((1, 224, 224, 3)))
    y, found = encoder.init_with_output(
      key, x, counts, mutable=["cost", "params"]
    )
    for path, value in jax.tree_util.tree_leaves_with_path(found["cost"]):
      totals[path[-1].key] += value
    return y.values, found["params"]

  values, params = jax.eval_shape(run, jax.random.key(0))
  assert values.shape == (1, 7, 7, 1280)
  sizes = sum(leaf.size for leaf in jax.tree.leaves(params))
  assert totals["parameters"] == sizes
  np.testing.assert_allclose(totals["macs"] + 1.28e6, 300e6, rtol=0.01)
  np.testing.assert_allclose(sizes + 1.28e6, 3.4e6, rtol=0.04)


def test_the_menu_of_mobilenet_tells_all_its_widths_apart():
  encoder = encoders.MobileNetV2Encoder()
  space = widths.WidthSpace(encoder.groups(), ())
  assert space.table()[:3].tolist() == [
    [8, 16, 24, 32],
    [4, 8, 12, 16],
    [8, 12, 20, 24],
  ]
