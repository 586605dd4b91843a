# SPDX-License-Identifier: Apache-2.0
"""Every slimmable layer against the plain layer of flax of its narrow size."""

from collections.abc import Callable
import dataclasses
import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxttc.cost import jaxpr_flops
from jaxttc.models.slimmable import layers

_BATCH = 2


@dataclasses.dataclass(frozen=True)
class Case:
  """A layer between 8 channels, of which 6 are used.

  Attributes:
    layer: the slimmable layer.
    shape: of an example's input, without channels.
    count: narrow count that it is called with; None if it takes none.
    full: the count at full width.
    plain: count -> flax's layer.
    names: parameters, slimmable -> plain, of prefixes.
    cost: multiply-adds, parameters and activations when narrow, by hand.
  """

  layer: nn.Module
  shape: tuple[int, ...]
  count: int | None
  full: int
  plain: Callable[[int], nn.Module]
  names: Callable[[dict], dict]
  cost: tuple[int, int, int]


class PlainMLP(nn.Module):
  hidden: int
  features: int

  @nn.compact
  def __call__(self, x):
    h = nn.gelu(nn.Dense(self.hidden, name="up")(x))
    return nn.Dense(self.features, name="down")(h)


class PlainAttention(nn.Module):
  """Four channels a head, as many outputs as inputs."""

  heads: int

  @nn.compact
  def __call__(self, x):
    return nn.MultiHeadDotProductAttention(
      self.heads, qkv_features=4 * self.heads, use_bias=False, name="attend"
    )(x)


def _conv(features, size, stride=1, dilation=1, groups=1):
  return nn.Conv(
    features,
    (size, size),
    (stride, stride),
    kernel_dilation=(dilation, dilation),
    feature_group_count=groups,
  )


def _same(params):
  return params


def _heads(params):
  q, k, v = np.moveaxis(params["qkv"], 1, 0)
  named = {"query": q, "key": k, "value": v, "out": params["out"]}
  return {"attend": {name: {"kernel": value} for name, value in named.items()}}


# Costs: inputs times outputs; taps and places for windows; norms of nothing.
_CASES = {
  "dense": Case(layers.Dense(8), (), 4, 8, nn.Dense, _same, (6 * 4, 7 * 4, 4)),
  "dense at places": Case(
    layers.Dense(8), (3,), 4, 8, nn.Dense, _same, (72, 28, 12)
  ),
  "dense over places": Case(
    layers.MapDense(8),
    (3,),
    4,
    8,
    lambda count: nn.DenseGeneral(count, axis=(-2, -1)),
    _same,
    (3 * 6 * 4, (3 * 6 + 1) * 4, 4),
  ),
  "conv": Case(
    layers.Conv(8),
    (5, 5),
    4,
    8,
    functools.partial(_conv, size=3),
    _same,
    (9 * 25 * 6 * 4, (9 * 6 + 1) * 4, 25 * 4),
  ),
  "strided conv": Case(
    layers.Conv(8, 3, 2),
    (6, 6),
    4,
    8,
    functools.partial(_conv, size=3, stride=2),
    _same,
    (9 * 9 * 6 * 4, 220, 9 * 4),
  ),
  "dilated conv": Case(
    layers.Conv(8, 3, 1, 2),
    (5, 5),
    4,
    8,
    functools.partial(_conv, size=3, dilation=2),
    _same,
    (9 * 25 * 6 * 4, 220, 100),
  ),
  "1 x 1 conv": Case(
    layers.Conv(8, 1),
    (3, 3),
    4,
    8,
    functools.partial(_conv, size=1),
    _same,
    (9 * 6 * 4, 7 * 4, 9 * 4),
  ),
  "depthwise conv": Case(
    layers.DepthwiseConv(3, 2),
    (6, 6),
    None,
    8,
    lambda count: _conv(count, 3, 2, groups=count),
    _same,
    (9 * 9 * 6, 10 * 6, 9 * 6),
  ),
  "mlp": Case(
    layers.MLP(8),
    (3,),
    4,
    8,
    lambda count: PlainMLP(count, 6 if count < 8 else 8),
    _same,
    (3 * (6 * 4 + 4 * 6), 7 * 4 + 5 * 6, 3 * (4 + 6)),
  ),
  "attention": Case(
    layers.Attention(3, 4),
    (5,),
    2,
    3,
    PlainAttention,
    _heads,
    # q, k, v and out are 6 x 8 each; scores and mixtures 5 x 5 x 8.
    (4 * 5 * 48 + 2 * 25 * 8, 4 * 48, 5 * (4 * 8 + 6) + 25 * 2),
  ),
}
_EACH = pytest.mark.parametrize("case", _CASES.values(), ids=_CASES)


def _inputs(case):
  rng = np.random.default_rng(1)
  return jnp.asarray(rng.normal(size=(_BATCH, *case.shape, 8)), jnp.float32)


def _params(case, seed=2):
  rng = np.random.default_rng(seed)
  args = () if case.count is None else (case.full,)
  init = lambda key: case.layer.init(  # noqa: E731
    key, layers.whole(_inputs(case)), *args
  )
  shapes = jax.eval_shape(init, jax.random.key(0))
  return jax.tree.map(
    lambda x: jnp.asarray(rng.normal(0.2, 0.5, x.shape), jnp.float32),
    shapes["params"],
  )


def _run(case, params, prefix, count):
  args = () if case.count is None else (count,)
  return case.layer.apply({"params": params}, prefix, *args).values


def _masked(case, params, x, inputs, count):
  """`inputs` and `count` are traced."""
  prefix = layers.Prefix(layers.silenced(x, inputs), inputs, 8)
  return _run(case, params, prefix, count)


def _sliced(case, params, x, inputs, count):
  """`inputs` and `count` are ints."""
  return _run(case, params, layers.Prefix(x[..., :inputs], inputs, 8), count)


def _widths(case):
  """Counts of inputs and of the layer: narrow, then full."""
  return (6, case.count or 6), (8, case.full)


def _cut(case, params):
  """Parameters of the narrow layer."""
  shapes = jax.eval_shape(
    case.plain(case.count or 6).init,
    jax.random.key(0),
    jnp.zeros((_BATCH, *case.shape, 6)),
  )["params"]
  return jax.tree.map(
    lambda leaf, shape: leaf[tuple(slice(n) for n in shape.shape)],
    case.names(params),
    shapes,
  )


@_EACH
def test_both_modes_are_the_plain_layer_of_that_size(case):
  narrow, full = _widths(case)

  @jax.jit  # one program, since compiling takes the time of this test
  def run(params, x, counts):
    plain = {"params": case.names(params)}
    cut = {"params": _cut(case, params)}
    return [
      (
        case.plain(case.full).apply(plain, x),
        _sliced(case, params, x, *full),
        _masked(case, params, x, *counts[1]),
      ),
      (
        case.plain(narrow[1]).apply(cut, x[..., :6]),
        _sliced(case, params, x, *narrow),
        _masked(case, params, x, *counts[0]),
      ),
    ]

  for plain, sliced, masked in run(
    _params(case), _inputs(case), jnp.asarray([narrow, full])
  ):
    channels = plain.shape[-1]
    assert sliced.shape == plain.shape and masked.shape[-1] == 8
    np.testing.assert_allclose(sliced, plain, rtol=1e-5, atol=1e-5)
    inside, outside = np.split(np.asarray(masked), [channels], axis=-1)
    np.testing.assert_allclose(inside, plain, rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(outside, 0)


@_EACH
def test_nothing_outside_the_prefix_matters_or_learns(case):
  narrow, _ = _widths(case)

  @jax.jit
  def both(params, x, counts):
    def gradient(run, counts):
      loss = lambda *args: jnp.sin(run(case, *args, *counts)).sum()  # noqa: E731
      return jax.value_and_grad(loss, (0, 1))(params, x)

    return gradient(_sliced, narrow), gradient(_masked, counts)

  params, x = _params(case), _inputs(case)
  found = both(params, x, jnp.asarray(narrow))
  inside = jax.tree.map(lambda x: np.asarray(x) != 0, found[0][1])
  used = jax.eval_shape(functools.partial(_cut, case), params)
  assert sum(leaf.sum() for leaf in jax.tree.leaves(inside[0])) == sum(
    leaf.size for leaf in jax.tree.leaves(used)
  )
  other = jax.tree.map(
    lambda keep, value, new: jnp.asarray(np.where(keep, value, new)),
    inside,
    (params, x),
    (_params(case, seed=3), np.full(x.shape, 9.0, np.float32)),
  )
  again = both(*other, jnp.asarray(narrow))
  jax.tree.map(np.testing.assert_array_equal, found, again)
  jax.tree.map(
    lambda keep, masked: np.testing.assert_array_equal(masked[~keep], 0),
    inside,
    found[1][1],
  )


@_EACH
def test_costs_are_the_hand_counts_and_those_of_the_traced_program(case):
  params, x = _params(case), _inputs(case)
  narrow, _ = _widths(case)
  totals = {"macs": 0, "parameters": 0, "activations": 0}

  def run(params, x):
    args = () if case.count is None else (narrow[1],)
    prefix = layers.Prefix(x[..., :6], 6, 8)
    y, found = case.layer.apply(
      {"params": params}, prefix, *args, mutable=["cost"]
    )
    for path, value in jax.tree_util.tree_leaves_with_path(found["cost"]):
      totals[path[-1].key] += value
    return y.values

  # Both counts take every tap of a window, also those in the padding; what is
  # elementwise counts for nothing.
  flops = jaxpr_flops.count_flops(run, params, x)
  assert tuple(totals.values()) == case.cost
  assert flops == 2 * _BATCH * case.cost[0]
  used = jax.eval_shape(functools.partial(_cut, case), params)
  assert totals["parameters"] == sum(x.size for x in jax.tree.leaves(used))


def test_one_program_serves_all_widths_and_maps_over_them():
  case = _CASES["dense"]
  params, x = _params(case), _inputs(case)
  counts = [(8, 8), (6, 4), (1, 1), (3, 8)]
  masked = jax.vmap(functools.partial(_masked, case), (None, None, 0, 0))

  @jax.jit
  def run(params, x, columns):
    sliced = [_sliced(case, params, x, *row) for row in counts]
    return masked(params, x, *columns), sliced

  found, sliced = run(params, x, jnp.asarray(counts).T)
  for row, expected, (_, count) in zip(found, sliced, counts, strict=True):
    np.testing.assert_allclose(row[:, :count], expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(row[:, count:], 0)


@pytest.mark.parametrize("count", [0, -1, 9])
def test_counts_that_no_layer_has_are_refused(count):
  case = _CASES["dense"]
  with pytest.raises(ValueError, match=f"{count} of 8 channels"):
    _sliced(case, _params(case), _inputs(case), 8, count)


def test_sums_and_nonlinearities_keep_the_count():
  x = layers.Prefix(jnp.asarray([[1.0, -2.0, 0.0]]), jnp.int32(2), 3)
  y = layers.elementwise(nn.relu, layers.add(x, x))
  np.testing.assert_array_equal(y.values, [[2, 0, 0]])
  assert y.count == 2 and y.features == 3 and y.places == 1
