# SPDX-License-Identifier: Apache-2.0
"""Decoders at full width against plain flax layers."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxttc.models.slimmable import heads, layers, norms, widths

_NORM = norms.NormChoice("group", 4, (0.5, 1.0))
_RNG = np.random.default_rng(0)
_MAP = jnp.asarray(_RNG.normal(size=(2, 3, 4, 6)), jnp.float32)


def _drawn(head, x):
  shapes = jax.eval_shape(
    lambda key: head.init(key, layers.whole(x), head.hidden), jax.random.key(0)
  )["params"]
  return jax.tree.map(
    lambda s: jnp.asarray(_RNG.normal(0.1, 0.4, s.shape), jnp.float32), shapes
  )


def _norm(params, x):
  layer = nn.GroupNorm(num_groups=x.shape[-1] // 4, epsilon=1e-5)
  return layer.apply({"params": params}, x)


def _conv(params, x):
  size, _, _, features = params["kernel"].shape
  return nn.Conv(features, (size, size)).apply({"params": params}, x)


def _dense(params, x):
  return x @ params["kernel"] + params["bias"][None]


def _plain_dense_head(head, params, x):
  x = nn.relu(_norm(params["Norm_0"], _conv(params["Conv_0"], x)))
  batch, high, wide, channels = x.shape
  shape = (batch, high * head.scale, wide * head.scale, channels)
  x = jax.image.resize(x, shape, "bilinear")
  x = nn.relu(_norm(params["Norm_1"], _conv(params["Conv_1"], x)))
  return _conv(params["Conv_2"], x)


def _plain_vector_head(head, params, x):
  del head
  x = x.reshape(x.shape[0], -1, x.shape[-1]).mean(1)
  x = nn.gelu(_norm(params["Norm_0"], _dense(params["Dense_0"], x)))
  return _dense(params["Dense_1"], x)


def _plain_map_head(head, params, x):
  """A kernel of places, channels and outputs is one of a window over all."""
  conv = nn.Conv(head.hidden, (3, 3), strides=2)
  x = conv.apply({"params": params["Conv_0"]}, x)
  x = nn.relu(_norm(params["Norm_0"], x))
  last = params["MapDense_0"]
  kernel = last["kernel"].reshape(*x.shape[1:], head.outputs)
  window = nn.Conv(head.outputs, x.shape[1:3], padding="VALID")
  return window.apply({"params": last | {"kernel": kernel}}, x)[:, 0, 0]


@pytest.mark.parametrize(
  ("head", "plain", "x", "shape"),
  [
    (
      heads.VectorHead(5, 8, _NORM, 4),
      _plain_vector_head,
      _MAP[:, 0, 0],
      (2, 5),
    ),
    (heads.VectorHead(5, 8, _NORM, 4), _plain_vector_head, _MAP, (2, 5)),
    (heads.MapHead(5, 8, _NORM, 4), _plain_map_head, _MAP, (2, 5)),
    (heads.DenseHead(3, 8, 1, _NORM, 4), _plain_dense_head, _MAP, (2, 3, 4, 3)),
    (heads.DenseHead(1, 8, 2, _NORM, 4), _plain_dense_head, _MAP, (2, 6, 8, 1)),
  ],
  ids=["vectors", "pooled", "placed", "dense", "enlarged"],
)
def test_full_width_is_the_plain_head(head, plain, x, shape):
  @jax.jit
  def both(params, x):
    found = head.apply({"params": params}, layers.whole(x), 8)
    return found, plain(head, params, x)

  found, expected = both(_drawn(head, x), x)
  assert found.shape == shape
  assert np.std(expected) > 1e-2
  np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


def test_predictions_are_never_slimmed():
  x = layers.whole(_MAP)
  for head in (
    heads.VectorHead(5, 8, _NORM, 4),
    heads.MapHead(5, 8),
    heads.DenseHead(5, 8, 2),
  ):
    params = _drawn(head, _MAP)
    found = jax.eval_shape(
      lambda params, head=head: head.apply({"params": params}, x, 8), params
    )
    assert found.shape[-1] == 5


def test_a_head_has_one_width_group_named_by_its_task():
  for head in (heads.VectorHead(5, 16, quantum=4), heads.DenseHead(5, 16, 1)):
    group = head.group("depth")
    assert group == widths.WidthGroup("decoder depth", 16, head.quantum)
