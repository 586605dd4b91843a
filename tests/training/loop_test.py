# SPDX-License-Identifier: Apache-2.0
"""Tests of the train loop, on a model small enough to know by heart."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxttc import checkpoints
from jaxttc import mesh as mesh_lib
from jaxttc.training import divergence, loop
from jaxttc.training import metrics as metrics_lib

_CONFIG = loop.TrainConfig(
  steps=12,
  batch_size=8,
  length=3,
  learning_rate=0.1,
  warmup_steps=2,
  log_every=2,
  evaluate_every=5,
  checkpoint_every=4,
)
_TRUTH = np.asarray([[1.0, -2.0], [0.5, 0.0], [3.0, 1.0]], np.float32)


def _objective(params, batch, key):
  x, y = batch
  dropped = x * jax.random.bernoulli(key, 0.9, x.shape)  # the key matters
  loss = jnp.square(dropped @ params["w"] + params["b"][None] - y).mean()
  return loss, {"loss": loss}


def _init(key):
  return {"w": jax.random.normal(key, (3, 2)), "b": jnp.zeros((2,))}


def _batches(step):
  x = np.random.default_rng(step).normal(size=(8, 3)).astype(np.float32)
  return x, x @ _TRUTH


def _fit(workdir, config=_CONFIG, **options):
  given = {"objective": _objective, "batches": _batches} | options
  return loop.fit(config, init_params=_init, workdir=str(workdir), **given)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
  """A run that nothing disturbed: (workdir, final state)."""
  workdir = tmp_path_factory.mktemp("whole")
  evaluate = lambda params, step: {"held_out": params["w"].sum() + step}  # noqa: E731
  return workdir, _fit(workdir, evaluate=evaluate, meta={"recipe": 1})


def test_records_and_checkpoints_come_when_they_should(whole):
  workdir, state = whole
  records = metrics_lib.read(str(workdir))
  trained = [r["step"] for r in records if "loss" in r]
  assert trained == [2, 4, 6, 8, 10, 12]
  held_out = [r["step"] for r in records if "held_out" in r]
  assert held_out == [5, 10, 12]
  assert checkpoints.list_steps(str(workdir)) == [8, 12]
  assert int(state.step) == 12
  losses = [r["loss"] for r in records if "loss" in r]
  assert losses[-1] < losses[0]
  assert all(r["grad_norm"] > 0 for r in records if "loss" in r)


def test_a_disturbed_run_repeats_the_same_losses(whole, tmp_path):
  undisturbed, final = whole

  def disturbed(step):
    if step == 7:
      raise OSError("the disk of the data is gone")
    return _batches(step)

  evaluate = lambda params, step: {"held_out": params["w"].sum() + step}  # noqa: E731
  with pytest.raises(OSError, match="disk"):
    _fit(tmp_path, batches=disturbed, evaluate=evaluate, meta={"recipe": 1})
  assert checkpoints.list_steps(str(tmp_path)) == [4]
  state = _fit(tmp_path, evaluate=evaluate, meta={"recipe": 1})
  jax.tree.map(np.testing.assert_array_equal, state.params, final.params)
  assert metrics_lib.read(str(tmp_path)) == metrics_lib.read(str(undisturbed))


def test_a_finished_run_is_only_read_back(whole):
  workdir, final = whole

  def refuse(step):
    raise AssertionError(f"step {step} was trained again")

  again = _fit(workdir, batches=refuse, meta={"recipe": 1})
  jax.tree.map(np.testing.assert_array_equal, again.params, final.params)


def test_gradients_take_the_place_of_an_objective(whole, tmp_path):
  _, final = whole
  gradients = jax.grad(_objective, has_aux=True)
  state = _fit(tmp_path, objective=None, gradients=gradients)
  jax.tree.map(np.testing.assert_array_equal, state.params, final.params)
  for both in ({"gradients": gradients}, {"objective": None}):
    with pytest.raises(ValueError, match="either an objective or gradients"):
      _fit(tmp_path / "none", **both)


def test_another_recipe_does_not_resume(whole):
  workdir, _ = whole
  with pytest.raises(ValueError, match="another recipe.*differs in recipe"):
    _fit(workdir, meta={"recipe": 2})


def test_divergence_stops_the_run_and_leaves_no_checkpoint_of_it(tmp_path):
  def broken(params, batch, key):
    loss, figures = _objective(params, batch, key)
    bad = jnp.where(batch[0][0, 0] == 99.0, jnp.nan, 1.0)
    return loss * bad, jax.tree.map(lambda x: x * bad, figures)

  def batches(step):
    x, y = _batches(step)
    x[0, 0] = 99.0 if step == 6 else x[0, 0]
    return x, y

  # Nothing is due for logging between the bad step and the checkpoint.
  config = dataclasses.replace(_CONFIG, log_every=100)
  with pytest.raises(FloatingPointError, match="became nan at step 7") as said:
    _fit(tmp_path, config, objective=broken, batches=batches)
  assert checkpoints.list_steps(str(tmp_path)) == [4]
  # What the step was given is in the file that the error names.
  path = tmp_path / "diverged-7.safetensors"
  assert str(path) in str(said.value) and "\n" not in str(said.value)
  shapes = jax.eval_shape(_init, jax.random.key(0))
  found = divergence.read(path, shapes, batches(0))
  jax.tree.map(np.testing.assert_array_equal, found.batch, batches(6))
  assert all(np.isfinite(x).all() for x in jax.tree.leaves(found.params))
  figures, bad = divergence.replay(broken, found)
  assert np.isnan(figures["loss"]) and bad == {"b": 2, "w": 6}
  figures, bad = divergence.replay(_objective, found)
  assert np.isfinite(figures["loss"]) and not bad


def test_a_step_that_is_not_finite_changes_nothing_and_stops_all_after_it():
  config = dataclasses.replace(_CONFIG, warmup_steps=0)
  tx = loop.optimizer(config)
  step = loop.train_step(_objective, tx)
  params = _init(jax.random.key(0))
  state = loop.TrainState(
    step=jnp.int32(0),
    params=params,
    opt_state=tx.init(params),
    key=jax.random.key(1),
  )
  state, metrics = step(state, _batches(0), 0)
  assert np.isfinite(metrics["loss"])
  before = jax.device_get((state.params, state.opt_state))
  x, y = _batches(1)
  state, metrics = step(state, (x, y * np.nan), 1)
  assert np.isnan(metrics["loss"])
  state, metrics = step(state, _batches(2), 2)
  assert all(np.isnan(value) for value in metrics.values())
  assert int(state.step) == 1
  after = jax.device_get((state.params, state.opt_state))
  jax.tree.map(np.testing.assert_array_equal, before, after)
  state, metrics = step(state, _batches(1), 1)
  assert int(state.step) == 2 and np.isfinite(metrics["loss"])


def test_an_evaluation_that_is_not_finite_blames_no_batch(tmp_path):
  evaluate = lambda params, step: {"held_out": float("inf")}  # noqa: E731
  with pytest.raises(FloatingPointError, match="held_out became inf at step 5"):
    _fit(tmp_path, evaluate=evaluate)
  assert not list(tmp_path.glob("diverged*"))


def _still(params, batch, key):
  """The same objective without noise, which says what it is a mean over."""
  del key
  x, y, weights = batch
  errors = jnp.square(x @ params["w"] + params["b"][None] - y).mean(-1)
  loss = (errors * weights).sum() / weights.sum()
  return loss, {"loss": loss, "weight": weights.sum()}


def _weighted(step):
  weights = np.random.default_rng(step).integers(1, 9, size=8)
  return *_batches(step), weights.astype(np.float32)


def test_parts_of_a_batch_train_as_the_whole(tmp_path):
  losses = []
  for parts in (1, 2, 8):
    config = dataclasses.replace(_CONFIG, log_every=1, accumulate=parts)
    workdir = tmp_path / str(parts)
    _fit(workdir, config, objective=_still, batches=_weighted)
    records = metrics_lib.read(str(workdir))
    assert "weight" not in records[0]
    losses.append([r["loss"] for r in records])
  np.testing.assert_allclose(losses[1], losses[0], rtol=1e-4)
  np.testing.assert_allclose(losses[2], losses[0], rtol=1e-4)


def test_devices_that_split_the_state_train_as_one_does(tmp_path):
  """Also in parts, and going on from there on one device."""
  config = dataclasses.replace(_CONFIG, log_every=1)
  one = _fit(tmp_path / "one", config, objective=_still, batches=_weighted)
  mesh = mesh_lib.make_mesh(2, devices=jax.devices()[:2])
  split = dataclasses.replace(config, fully_sharded=True, accumulate=2)
  two = _fit(
    tmp_path / "two", split, objective=_still, batches=_weighted, mesh=mesh
  )
  for leaf in (two.params["w"], *jax.tree.leaves(two.opt_state)):
    shards = {shard.data.size for shard in leaf.addressable_shards}
    assert shards == {leaf.size // 2 if leaf.size > 1 else 1}
  losses = [
    [r["loss"] for r in metrics_lib.read(str(tmp_path / name))]
    for name in ("one", "two")
  ]
  np.testing.assert_allclose(losses[1], losses[0], rtol=1e-4)
  longer = dataclasses.replace(config, steps=13)
  resumed = _fit(tmp_path / "two", longer, objective=_still, batches=_weighted)
  assert int(resumed.step) == 13
  assert len(resumed.params["w"].sharding.device_set) == 1
  np.testing.assert_allclose(resumed.params["w"], one.params["w"], atol=0.1)


def test_what_cannot_be_taken_in_parts_is_refused(tmp_path):
  config = dataclasses.replace(_CONFIG, accumulate=2)
  with pytest.raises(ValueError, match="accumulate=2: the objective's.*weight"):
    _fit(tmp_path, config)
  gradients = jax.grad(_objective, has_aux=True)
  with pytest.raises(ValueError, match="accumulate=2: only an objective's"):
    _fit(tmp_path, config, objective=None, gradients=gradients)
  config = dataclasses.replace(_CONFIG, accumulate=3)
  with pytest.raises(ValueError, match="batch_size=8 must be a multiple"):
    _fit(tmp_path, config)


def test_eight_devices_train_as_one_does(whole, tmp_path):
  config = dataclasses.replace(_CONFIG, log_every=1)
  _fit(tmp_path / "one", config)
  state = _fit(tmp_path / "eight", config, mesh=mesh_lib.make_mesh(8))
  assert len(state.params["w"].sharding.device_set) == 8
  one, eight = (
    [r["loss"] for r in metrics_lib.read(str(tmp_path / name))]
    for name in ("one", "eight")
  )
  np.testing.assert_allclose(eight[0], one[0], rtol=1e-6)
  np.testing.assert_allclose(eight, one, rtol=1e-3)


def test_decay_pulls_matrices_only():
  config = dataclasses.replace(_CONFIG, weight_decay=0.5, warmup_steps=0)
  params = {"w": jnp.ones((3, 2)), "b": jnp.ones((2,))}
  nothing = jax.tree.map(jnp.zeros_like, params)
  axes = lambda params: {"w": ((0,), (1,)), "b": None}  # noqa: E731
  for matrix_axes in (None, axes):
    tx = loop.optimizer(config, matrix_axes)
    updates, _ = jax.jit(
      lambda params, tx=tx: tx.update(nothing, tx.init(params), params)
    )(params)
    moved = optax.apply_updates(params, updates)
    assert (moved["w"] < 1).all()
    if matrix_axes is None:
      assert (moved["b"] == 1).all()


def test_muon_moves_a_matrix_in_all_its_directions_alike():
  """The update is nearly orthogonal, whatever the gradient's spectrum."""
  config = dataclasses.replace(_CONFIG, weight_decay=0.0, warmup_steps=0)
  gradient = np.diag([5.0, 1.0, 0.2]).astype(np.float32)
  params = {"w": jnp.ones((3, 3))}
  spread = {}
  axes = lambda params: {"w": ((0,), (1,))}  # noqa: E731
  tx = loop.optimizer(config, axes)
  updates, _ = jax.jit(
    lambda params: tx.update({"w": gradient}, tx.init(params), params)
  )(params)
  singular = np.linalg.svd(np.asarray(updates["w"]), compute_uv=False)
  spread = singular.max() / singular.min()
  assert spread < 3 < 25  # the gradient's is 25


@pytest.mark.parametrize(
  ("field", "value"),
  [
    ("steps", 0),
    ("batch_size", 0),
    ("log_every", 0),
    ("evaluate_every", 0),
    ("checkpoint_every", 0),
    ("keep", 0),
    ("learning_rate", 0.0),
    ("clip_norm", float("nan")),
    ("warmup_steps", -1),
    ("weight_decay", -0.1),
    ("accumulate", 0),
    ("dtype", "float16"),
  ],
)
def test_refuses_values_that_cannot_be(tmp_path, field, value):
  config = dataclasses.replace(_CONFIG, **{field: value})
  with pytest.raises(ValueError, match=f"train.{field}"):
    _fit(tmp_path, config)


def _collector(limit=None):
  """Batches bent by the parameters; remembers how often it was asked."""

  def collect(params, seen, batch, step):
    if step == limit:
      raise KeyboardInterrupt
    x, y = batch
    shift = 0.01 * params["b"][None]
    return (x, y + shift), seen + 1, {"asked": seen + 1}

  return loop.Collector(lambda: jnp.int32(0), collect)


def test_a_collector_sees_the_parameters_and_resumes_exactly(tmp_path):
  config = dataclasses.replace(_CONFIG, log_every=1)
  whole = _fit(tmp_path / "whole", config, collector=_collector())
  plain = _fit(tmp_path / "plain", config)
  assert int(whole.collected) == 12
  assert plain.collected is None
  assert (whole.params["w"] != plain.params["w"]).any()
  with pytest.raises(KeyboardInterrupt):
    _fit(tmp_path / "cut", config, collector=_collector(limit=7))
  cut = _fit(tmp_path / "cut", config, collector=_collector())
  assert int(cut.collected) == 12
  assert (cut.params["w"] == whole.params["w"]).all()
  logged = metrics_lib.read(str(tmp_path / "cut"))
  assert logged == metrics_lib.read(str(tmp_path / "whole"))
  assert [record["asked"] for record in logged] == list(range(1, 13))


def test_batches_or_a_collector_that_makes_them(tmp_path):
  with pytest.raises(ValueError, match="expected batches, or a collector"):
    loop.fit(_CONFIG, lambda *_: None, lambda _: {}, None, str(tmp_path))


def test_descriptions_written_before_a_field_came_go_on():
  today = {"kind": "x", "train": dataclasses.asdict(loop.TrainConfig(seed=3))}
  before = {"kind": "x", "train": dict(today["train"])}
  del before["train"]["accumulate"]
  nested = {"trunk": before}
  assert loop.completed(before) == today == loop.completed(today)
  assert loop.completed(nested) == {"trunk": today}
  other = loop.completed(before | {"train": before["train"] | {"seed": 4}})
  assert other != today
