# SPDX-License-Identifier: Apache-2.0
"""Tests of meshes and data parallelism on 8 simulated devices."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxttc import mesh as mesh_lib


def _normalise(x, scale):
  """A per-device function with a loop and two collectives."""
  mean = jax.lax.pmean(x.mean(axis=0), "data")
  spread = jax.lax.pmean(jnp.square(x - mean[None]).mean(axis=0), "data")

  def halve(carry):
    count, value = carry
    return count + 1, value / 2

  start = (jnp.int32(0), scale * (x - mean[None]) / spread[None])
  return jax.lax.while_loop(lambda carry: carry[0] < 3, halve, start)[1]


@pytest.fixture(name="batch")
def _batch():
  return np.random.default_rng(0).normal(size=(16, 3)).astype(np.float32)


@pytest.mark.parametrize(
  "data,tensor,shape", [(None, 1, (8, 1)), (None, 2, (4, 2)), (2, 4, (2, 4))]
)
def test_make_mesh_shape_and_axis_types(data, tensor, shape):
  mesh = mesh_lib.make_mesh(data, tensor)
  assert tuple(mesh.shape.items()) == (("data", shape[0]), ("tensor", shape[1]))
  assert set(mesh.axis_types) == {jax.sharding.AxisType.Auto}


def test_make_mesh_takes_devices():
  assert mesh_lib.make_mesh(devices=jax.devices()[:3]).size == 3


@pytest.mark.parametrize(
  "sizes", [(3, 1), (None, 3), (8, 2), (0, 1), (None, 0), (-8, -1)]
)
def test_make_mesh_refuses_sizes_that_do_not_fit(sizes):
  with pytest.raises(ValueError, match="8 devices"):
    mesh_lib.make_mesh(*sizes)


def test_data_parallel_agrees_with_pmap(batch):
  ours = mesh_lib.data_parallel(
    _normalise, mesh_lib.make_mesh(), replicated_argnums=(1,)
  )(batch, 2.0)
  theirs = jax.pmap(_normalise, axis_name="data", in_axes=(0, None))(
    batch.reshape(8, 2, 3), 2.0
  )
  assert ours.sharding.spec == mesh_lib.BATCH
  np.testing.assert_array_equal(ours, np.reshape(theirs, (16, 3)))


@pytest.mark.parametrize("tensor", [1, 2, 8])
def test_data_parallel_agrees_with_one_device(batch, tensor):
  whole = batch - batch.mean(axis=0)
  expected = 2.0 * whole / np.square(whole).mean(axis=0) / 8
  ours = mesh_lib.data_parallel(
    _normalise, mesh_lib.make_mesh(tensor=tensor), replicated_argnums=(1,)
  )(batch, 2.0)
  np.testing.assert_allclose(ours, expected, rtol=2e-5, atol=1e-6)


def test_data_parallel_gradient_of_a_mean_is_the_whole_gradient(batch):
  def loss(weights, x):
    return jnp.square(x @ weights).mean()

  def step(weights, x):
    value, gradient = jax.value_and_grad(loss)(weights, x)
    return jax.lax.pmean((value, gradient), "data")

  weights = jnp.arange(1.0, 4.0)
  ours = mesh_lib.data_parallel(
    step,
    mesh_lib.make_mesh(),
    replicated_argnums=(0,),
    out_specs=mesh_lib.REPLICATED,
  )(weights, batch)
  chex.assert_trees_all_close(
    ours, jax.value_and_grad(loss)(weights, batch), rtol=1e-5
  )


def test_data_parallel_keeps_typed_keys_apart():
  keys = jax.random.split(jax.random.key(1), 16)
  draw = jax.vmap(jax.random.normal)
  ours = mesh_lib.data_parallel(draw, mesh_lib.make_mesh())(keys)
  np.testing.assert_array_equal(ours, draw(keys))


def test_data_parallel_compiles_once():
  traced = chex.assert_max_traces(lambda x: x + 1, n=1)
  run = mesh_lib.data_parallel(traced, mesh_lib.make_mesh())
  for value in (1.0, 2.0):
    np.testing.assert_array_equal(run(jnp.full((8,), value)), value + 1)


def test_data_parallel_refuses_rows_that_do_not_divide():
  run = mesh_lib.data_parallel(lambda x: x, mesh_lib.make_mesh())
  with pytest.raises(ValueError, match=r"argument 0\['a'\] has shape \(9,\)"):
    run({"a": jnp.zeros(9)})
  with pytest.raises(ValueError, match="leading axis"):
    run(jnp.float32(1.0))


def test_data_parallel_refuses_positions_beyond_the_arguments():
  run = mesh_lib.data_parallel(
    lambda x: x, mesh_lib.make_mesh(), replicated_argnums=(1,)
  )
  with pytest.raises(ValueError, match=r"replicated_argnums \[1\]"):
    run(jnp.zeros(8))


def test_shard_batch_and_replicate_place_every_leaf(batch):
  mesh = mesh_lib.make_mesh(tensor=2)
  tree = {"x": batch, "key": jax.random.split(jax.random.key(0), 4)}
  split, whole = (
    mesh_lib.shard_batch(tree, mesh),
    mesh_lib.replicate(tree, mesh),
  )
  assert {s.data.shape for s in split["x"].addressable_shards} == {(4, 3)}
  assert {s.data.shape for s in whole["x"].addressable_shards} == {(16, 3)}
  np.testing.assert_array_equal(split["x"], batch)
  np.testing.assert_array_equal(whole["x"], batch)
  assert split["key"].sharding.spec == mesh_lib.BATCH


def test_shard_batch_refuses_rows_that_do_not_divide():
  with pytest.raises(ValueError, match=r"batch\['x'\].*multiple of 8"):
    mesh_lib.shard_batch({"x": np.zeros((12, 2))}, mesh_lib.make_mesh())


@pytest.mark.parametrize(
  ("text", "shape"),
  [
    ("data=8", (8, 1)),
    ("tensor=2", (4, 2)),
    ("tensor=4, data=2", (2, 4)),
    ("data=1,tensor=8", (1, 8)),
  ],
)
def test_parse_reads_sizes_in_any_order(text, shape):
  mesh = mesh_lib.parse(text)
  assert (mesh.shape["data"], mesh.shape["tensor"]) == shape


def test_parse_of_nothing_is_one_device():
  assert mesh_lib.parse("") is None


@pytest.mark.parametrize(
  ("text", "message"),
  [
    ("data=2,model=4", "'model=4' is no axis"),
    ("8", "'8' is no axis; expected data=N"),
    ("data=2,", "'' is no axis"),
    ("data=4,data=2", "data is given twice"),
    ("data=x", "data=x; expected a whole number above 0"),
    ("tensor=0", "tensor=0; expected a whole number"),
    ("data=-1", "data=-1; expected"),
    ("data=2,tensor=2", "data=2 x tensor=2 does not fit 8 devices"),
  ],
)
def test_parse_says_in_one_line_what_is_wrong(text, message):
  with pytest.raises(ValueError, match=message) as caught:
    mesh_lib.parse(text)
  assert "\n" not in str(caught.value)


def test_constrain_splits_rows_within_data_parallel_only():
  mesh = mesh_lib.make_mesh(4, 2)
  seen = []

  def split(x):
    seen.append(mesh_lib.tensor_parts())
    return mesh_lib.constrain(x, jax.P(None, "tensor"))

  x = np.arange(32.0, dtype=np.float32).reshape(8, 4)
  out = mesh_lib.data_parallel(split, mesh)(x)
  assert {s.data.shape for s in out.addressable_shards} == {(2, 2)}
  np.testing.assert_array_equal(out, x)
  assert split(x) is x and seen == [2, 1]
  assert mesh_lib.data_parallel(split, mesh_lib.make_mesh(8))(x).shape == (8, 4)
  assert seen[-1] == 1


def test_data_parallel_gives_up_what_is_donated(batch):
  mesh = mesh_lib.make_mesh()
  run = mesh_lib.data_parallel(lambda x: x + 1, mesh, donate_argnums=(0,))
  given = mesh_lib.shard_batch(batch, mesh)
  np.testing.assert_allclose(run(given), batch + 1)
  assert given.is_deleted()


def test_fetch_makes_whole_arrays_of_the_host(batch):
  mesh = mesh_lib.make_mesh(tensor=2)
  tree = {"x": mesh_lib.shard_batch(batch, mesh), "n": np.int32(3)}
  got = mesh_lib.fetch(tree)
  assert isinstance(got["x"], np.ndarray) and got["n"] == 3
  np.testing.assert_array_equal(got["x"], batch)


def test_split_shardings_take_the_longest_axis_that_divides():
  mesh = mesh_lib.make_mesh(4, 2)
  tree = {
    "longest": jnp.zeros((4, 8)),
    "first_of_equals": jnp.zeros((8, 8)),
    "what_divides": jnp.zeros((12, 30)),
    "too_short": jnp.zeros((2, 3)),
    "number": jnp.zeros(()),
    "key": jax.random.key(0),
  }
  shardings = mesh_lib.split_shardings(jax.eval_shape(lambda: tree), mesh)
  assert {name: s.spec for name, s in shardings.items()} == {
    "longest": jax.P(None, "data"),
    "first_of_equals": jax.P("data"),
    "what_divides": jax.P("data"),
    "too_short": jax.P(),
    "number": jax.P(),
    "key": jax.P(),
  }
  placed = mesh_lib.place(tree, shardings)
  assert placed["longest"].addressable_shards[0].data.shape == (4, 2)
