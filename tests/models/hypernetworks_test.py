# SPDX-License-Identifier: Apache-2.0
"""Tests of networks that write parameters."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxttc.models import hypernetworks

_TASKS = 3
_INPUTS = jax.random.normal(jax.random.key(7), (5, 6))


class _Target(nn.Module):
  """Two hidden layers, one with a norm, and two heads."""

  @nn.compact
  def __call__(self, x):
    x = nn.tanh(nn.LayerNorm(name="norm")(nn.Dense(8, name="first")(x)))
    x = nn.tanh(nn.Dense(8, name="second")(x))
    return {
      name: nn.Dense(2, name=f"head_{name}", dtype=jnp.float32)(x)
      for name in ("a", "b")
    }


def _initial(key):
  return _Target().init(key, jnp.zeros((1, 6)))["params"]


def _forward(params, x):
  return _Target().apply({"params": params}, x)


_HIDDEN = (16, 16)
_KINDS = {
  "ray": hypernetworks.RayHypernetwork(_initial, hidden=_HIDDEN),
  "chunked": hypernetworks.ChunkedHypernetwork(
    _initial, hidden=_HIDDEN, chunk=50
  ),
  "norms": hypernetworks.NormHypernetwork(_initial, hidden=_HIDDEN),
}


def _filled(network):
  """Parameters of the right shapes, drawn without compiling anything."""
  rng = np.random.default_rng(0)
  ray = jnp.zeros(_TASKS)
  shapes = jax.eval_shape(network.init, jax.random.key(0), ray)["params"]
  draw = lambda x: jnp.asarray(rng.normal(size=x.shape) * 0.3, x.dtype)  # noqa: E731
  return jax.tree.map(draw, shapes)


@pytest.fixture(scope="module", params=sorted(_KINDS))
def made(request):
  """(hypernetwork, its parameters)"""
  network = _KINDS[request.param]
  init = jax.jit(lambda key: network.init(key, jnp.zeros(_TASKS))["params"])
  return network, init(jax.random.key(0))


def test_writes_a_tree_like_the_target(made):
  network, params = made
  written = network.apply({"params": params}, jnp.full(_TASKS, 1 / _TASKS))
  expected = jax.eval_shape(_initial, jax.random.key(0))
  assert jax.tree.structure(written) == jax.tree.structure(expected)
  for got, leaf in zip(
    jax.tree.leaves(written), jax.tree.leaves(expected), strict=True
  ):
    assert (got.shape, got.dtype) == (leaf.shape, leaf.dtype)


def test_one_hot_and_uniform_preferences_give_different_finite_answers(made):
  network, params = made
  rays = jnp.concatenate([jnp.eye(_TASKS), jnp.full((1, _TASKS), 1 / _TASKS)])

  @jax.jit
  def answers(rays):
    run = lambda r: hypernetworks.apply(network, _forward, params, r, _INPUTS)  # noqa: E731
    return jax.vmap(run)(rays)["a"]

  found = answers(rays)
  assert np.isfinite(found).all()
  for i in range(len(rays)):
    one = hypernetworks.apply(network, _forward, params, rays[i], _INPUTS)
    np.testing.assert_allclose(found[i], one["a"], atol=1e-5)
    for j in range(i):
      assert np.abs(found[i] - found[j]).max() > 1e-4


def test_gradient_reaches_every_parameter(made):
  network, params = made

  def loss(params):
    out = hypernetworks.apply(
      network, _forward, params, jnp.asarray([0.5, 0.3, 0.2]), _INPUTS
    )
    return sum(jnp.square(x - 1.0).mean() for x in out.values())

  grads = jax.jit(jax.grad(loss))(params)
  for path, grad in jax.tree_util.tree_leaves_with_path(grads):
    assert np.abs(grad).max() > 0, path


def test_the_target_starts_like_an_ordinary_one(made):
  network, _ = made
  ray = jnp.asarray([0.2, 0.2, 0.6])

  @jax.jit
  @jax.vmap
  def written(key):
    return network.apply(network.init(key, ray), ray)

  keys = jax.random.split(jax.random.key(1), 60)
  found = written(keys)
  usual = jax.jit(jax.vmap(_initial))(keys)
  for (path, ours), theirs in zip(
    jax.tree_util.tree_leaves_with_path(found),
    jax.tree.leaves(usual),
    strict=True,
  ):
    path = jax.tree_util.keystr(path)
    np.testing.assert_allclose(
      ours.mean((0, -1)), theirs.mean((0, -1)), atol=0.25, err_msg=path
    )
    spread = float(theirs.std())
    if spread > 0:
      assert 0.85 < float(ours.std()) / spread < 1.3, path
    else:  # biases and scales of norms are constants
      assert float(jnp.abs(ours - theirs).std()) < 0.12, path


@pytest.mark.parametrize("chunk", [1, 7, 50, 180, 181, 1000])
def test_chunks_cover_every_weight_exactly_once(chunk):
  network = hypernetworks.ChunkedHypernetwork(
    _initial,
    preference_embedding=2,
    chunk_embedding=2,
    hidden=(4,),
    chunk=chunk,
  )
  ray = jnp.asarray([1.0, 0.0, 0.0])
  shapes = jax.eval_shape(network.init, jax.random.key(0), ray)["params"]
  params = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)
  leaves, _ = hypernetworks.leaves_of(_initial)
  total = sum(leaf.size for leaf in leaves)
  length = min(chunk, total)
  assert params["head"]["kernel"].shape == (4, length)
  assert params["chunks"].shape == (-(-total // length), 2)
  # The head's bias counts places in a chunk; all else of the generator is
  # zero. A weight must be the count of its place.
  params["head"]["bias"] = jnp.arange(length, dtype=jnp.float32)
  params["scaling"]["gain"] = jnp.ones_like(params["scaling"]["gain"])
  written = network.apply({"params": params}, ray)
  row = np.concatenate([np.ravel(x) for x in jax.tree.leaves(written)])
  np.testing.assert_array_equal(row, np.arange(total) % length)


def test_a_chunk_has_its_own_embedding():
  network = hypernetworks.ChunkedHypernetwork(_initial, hidden=(4,), chunk=10)
  ray = jnp.asarray([1.0, 0.0, 0.0])
  params = _filled(network)
  row = lambda p: np.concatenate(  # noqa: E731
    [np.ravel(x) for x in jax.tree.leaves(network.apply({"params": p}, ray))]
  )
  other = params | {"chunks": params["chunks"].at[2].add(1.0)}
  changed = np.flatnonzero(row(params) != row(other))
  np.testing.assert_array_equal(changed, np.arange(20, 30))


def test_only_norms_follow_the_preference():
  network, ray = _KINDS["norms"], jnp.asarray([0.0, 1.0, 0.0])
  params = _filled(network)
  written = network.apply({"params": params}, ray)
  for name, leaf in written.items():
    same = jax.tree.map(np.array_equal, leaf, params["plain"][name])
    assert set(jax.tree.leaves(same)) == {name != "norm"}


def test_features_without_norms_are_scaled_and_shifted():
  """Modulated kernels and biases are the same as modulated features."""
  network = hypernetworks.NormHypernetwork(
    _initial, selects=lambda path: path.startswith("second/"), hidden=(4,)
  )
  ray = jnp.asarray([0.0, 1.0, 0.0])
  params = _filled(network)
  plain = params["plain"]["second"]
  plain["bias"] += jnp.linspace(-1.0, 1.0, 8)
  written = network.apply({"params": params}, ray)["second"]
  scale = (written["kernel"] / plain["kernel"])[0]
  x = np.asarray(jax.random.normal(jax.random.key(2), (4, 8)))
  shift = written["bias"] - scale * plain["bias"]
  np.testing.assert_allclose(
    x @ written["kernel"] + written["bias"][None],
    (x @ plain["kernel"] + plain["bias"][None]) * scale[None] + shift[None],
    atol=1e-5,
  )
  assert np.abs(scale - 1).max() > 1e-3
  assert np.abs(written["bias"] - plain["bias"]).max() > 1e-3


def test_selecting_nothing_is_refused():
  network = hypernetworks.NormHypernetwork(_initial, selects=lambda path: False)
  with pytest.raises(ValueError, match="false for all 10 .first/bias"):
    network.init(jax.random.key(0), jnp.ones(_TASKS))


def test_paths_name_norms():
  leaves, _ = hypernetworks.leaves_of(_initial)
  found = [leaf.path for leaf in leaves if hypernetworks.is_norm(leaf.path)]
  assert found == ["norm/bias", "norm/scale"]


@pytest.mark.parametrize("name", sorted(_KINDS))
def test_a_batch_of_preferences_is_refused(name):
  with pytest.raises(ValueError, match=r"got shape \(2, 3\); use jax.vmap"):
    _KINDS[name].init(jax.random.key(0), jnp.ones((2, 3)))
