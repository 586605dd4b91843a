# SPDX-License-Identifier: Apache-2.0
"""Norms of a prefix against flax's norms of an array of that many channels."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxttc.models.slimmable import layers, norms, widths

_WIDTHS = (4, 8, 12)
_RNG = np.random.default_rng(0)
_X = jnp.asarray(_RNG.normal(1.0, 2.0, (6, 3, 3, 12)), jnp.float32)
_PARAMS = {
  "scale": jnp.asarray(_RNG.normal(size=12), jnp.float32),
  "bias": jnp.asarray(_RNG.normal(size=12), jnp.float32),
}
_ROWS = {
  "scale": jnp.asarray(_RNG.normal(size=(3, 12)), jnp.float32),
  "bias": jnp.asarray(_RNG.normal(size=(3, 12)), jnp.float32),
}


def _norm(kind, train=True):
  return norms.Norm(kind, 4, _WIDTHS, train)


def _sliced(norm, variables, x, count, **mutable):
  prefix = layers.Prefix(x[..., :count], count, 12)
  return norm.apply(variables, prefix, **mutable)


def _masked(norm, variables, x, count):
  prefix = layers.Prefix(layers.silenced(x, count), count, 12)
  return norm.apply(variables, prefix).values


def _plain(kind, count):
  if kind == "group":
    return nn.GroupNorm(num_groups=count // 4, epsilon=1e-5)
  if kind == "layer":
    return nn.LayerNorm(epsilon=1e-5)
  return nn.BatchNorm(use_running_average=False, epsilon=1e-5)


@pytest.mark.parametrize("vectors", [False, True], ids=["images", "vectors"])
@pytest.mark.parametrize("kind", ["group", "layer", "batch"])
def test_both_modes_are_the_plain_norm_of_that_size(kind, vectors):
  x = _X[:, 0, 0] if vectors else _X

  @jax.jit
  def run(params, x, counts):
    found = []
    for i, count in enumerate(_WIDTHS):
      cut = {"params": {name: leaf[:count] for name, leaf in params.items()}}
      plain = _plain(kind, count)
      if kind == "batch":
        cut["batch_stats"] = {"mean": jnp.zeros(count), "var": jnp.ones(count)}
      y = plain.apply(cut, x[..., :count], mutable=["batch_stats"])[0]
      sliced = _sliced(_norm(kind), {"params": params}, x, count).values
      masked = _masked(_norm(kind), {"params": params}, x, counts[i])
      found.append((y, sliced, masked))
    return found

  for plain, sliced, masked in run(_PARAMS, x, jnp.asarray(_WIDTHS)):
    np.testing.assert_allclose(sliced, plain, rtol=1e-4, atol=1e-5)
    inside, outside = np.split(np.asarray(masked), [plain.shape[-1]], axis=-1)
    np.testing.assert_allclose(inside, plain, rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(outside, 0)


def _run_switchable(x, count, params):
  """((loss, values), gradient), the narrow layer."""

  def loss(params):
    y = _sliced(_norm("switchable"), {"params": params}, x, count).values
    return jnp.sin(y).sum(), y

  return jax.value_and_grad(loss, has_aux=True)(params)


def test_a_switchable_norm_has_a_scale_and_shift_a_width():
  switchable, batch = _norm("switchable"), _norm("batch")

  @jax.jit
  def run(params, x, counts):
    found = []
    for row, count in enumerate(_WIDTHS):
      masked = _masked(switchable, {"params": params}, x, counts[row])
      own = {name: leaf[row] for name, leaf in params.items()}
      expected = _sliced(batch, {"params": own}, x, count).values
      (_, sliced), gradient = _run_switchable(x, count, params)
      found.append((expected, sliced, masked, gradient))
    return found

  results = run(_ROWS, _X, jnp.asarray(_WIDTHS))
  for row, (expected, sliced, masked, gradient) in enumerate(results):
    count = _WIDTHS[row]
    np.testing.assert_allclose(sliced, expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(
      masked[..., :count], expected, rtol=1e-4, atol=1e-5
    )
    used = np.zeros((3, 12), bool)
    used[row, :count] = True
    for leaf in gradient.values():
      np.testing.assert_array_equal(leaf != 0, used)


def test_no_norm_is_the_identity():
  norm = _norm("none")
  assert norm.init(jax.random.key(0), layers.whole(_X)) == {}
  assert norm.apply({}, layers.whole(_X)).values is _X


@pytest.mark.parametrize("kind", ["batch", "switchable"])
def test_measured_statistics_are_numpys_and_used_in_evaluation(kind):
  params = _ROWS if kind == "switchable" else _PARAMS

  @jax.jit
  def run(params, x):
    variables = {"params": params}
    _, found = _sliced(_norm(kind), variables, x, 8, mutable=["batch_stats"])
    evaluated = _norm(kind, train=False)
    return found["batch_stats"], _sliced(
      evaluated, variables | found, 3 * x[:2], 8
    ).values

  found, y = run(params, _X)
  x = np.asarray(_X, np.float64)[..., :8]
  mean, variance = x.mean((0, 1, 2)), x.var((0, 1, 2))
  np.testing.assert_allclose(found["mean"], mean, rtol=1e-5)
  np.testing.assert_allclose(found["variance"], variance, rtol=1e-5)
  row = {
    name: np.asarray(leaf[1] if leaf.ndim == 2 else leaf)[:8]
    for name, leaf in params.items()
  }
  expected = (3 * x[:2] - mean) / np.sqrt(variance + 1e-5)
  expected = expected * row["scale"] + row["bias"]
  np.testing.assert_allclose(y, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", ["batch", "switchable"])
def test_evaluation_without_statistics_of_the_width_is_refused(kind):
  params = _ROWS if kind == "switchable" else _PARAMS
  norm = _norm(kind, train=False)
  with pytest.raises(
    ValueError, match=f"{kind!r} has no statistics at 8 of 12 channels: recal"
  ):
    _sliced(norm, {"params": params}, _X, 8)
  other = {"mean": jnp.zeros(4), "variance": jnp.ones(4)}
  with pytest.raises(ValueError, match="statistics of 4 channels, not of 8"):
    _sliced(norm, {"params": params, "batch_stats": other}, _X, 8)


def test_statistics_of_a_batch_on_eight_devices_are_those_of_one():
  mesh = jax.make_mesh((8,), ("data",))
  spread = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("data"))
  x = jnp.asarray(_RNG.normal(2.0, 3.0, (16, 2, 2, 12)), jnp.float32)

  @jax.jit
  def run(params, x):
    loss = lambda params: jnp.sin(  # noqa: E731
      _sliced(_norm("batch"), {"params": params}, x, 8).values
    ).sum()
    _, found = _sliced(
      _norm("batch"), {"params": params}, x, 8, mutable=["batch_stats"]
    )
    return found["batch_stats"], jax.grad(loss)(params)

  one = run(_PARAMS, x)
  many = run(_PARAMS, jax.device_put(x, spread))
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4),
    one,
    many,
  )
  parts = np.asarray(x).reshape(8, 2, 2, 2, 12)[..., :8].var((1, 2, 3))
  assert (
    np.abs(parts - np.asarray(one[0]["variance"])).max() > 0.5
  )  # a shard's differ


def test_groups_that_do_not_divide_the_width_are_refused():
  for features, count in ((12, 6), (10, 4)):
    prefix = layers.Prefix(_X[..., :count], count, features)
    with pytest.raises(
      ValueError, match=f"{count} of {features} channels .* groups of 4"
    ):
      _norm("group").apply({"params": _PARAMS}, prefix)


def test_groups_of_a_single_number_are_refused():
  norm = norms.Norm("group", 1, _WIDTHS)
  with pytest.raises(ValueError, match="leave nothing of vectors"):
    norm.apply({"params": _PARAMS}, layers.whole(_X[:, 0, 0]))


def test_unknown_kinds_are_refused():
  with pytest.raises(ValueError, match="'instance' is not one of group, layer"):
    norms.NormChoice("instance")


def test_a_choice_knows_the_widths_of_a_group():
  group = widths.WidthGroup("stage", 16, 4)
  layer = norms.NormChoice("switchable", 4, (0.5, 1.0)).layer(group, True, 6)
  assert layer == norms.Norm("switchable", 4, (48, 96), True)
