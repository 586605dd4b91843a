# SPDX-License-Identifier: Apache-2.0
"""Tests of the sandwich objective."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxttc.models import slimmable as slimmable_lib
from jaxttc.tasks.multitask import vectors
from jaxttc.training import (
  distillation_teacher,
  loop,
  slimmable,
  task_losses,
)

_DATA = vectors.Vectors()
_SPEC = slimmable_lib.NetworkSpec(
  encoder={"kind": "mlp", "hidden": (16, 16)},
  tasks=tuple((task.name, task.outputs, False) for task in _DATA.tasks),
  input_shape=_DATA.input_shape,
  hidden=16,
  menu=(0.5, 1.0),
  norm="none",
)
_NETWORK = _SPEC.build()
_NECK = dataclasses.replace(
  _SPEC, encoder={"kind": "mlp", "hidden": (16, 16), "neck": 12}
).build()
_PLAIN = slimmable.Sandwich(widths=2, invariance=0.0)


@pytest.fixture(scope="module")
def params():
  return slimmable_lib.init(_NETWORK, jax.random.key(0))


@pytest.fixture(scope="module")
def batch():
  return _DATA.sample(jax.random.key(1), 32)


def _predict(params, batch, ratio):
  space = _NETWORK.space
  counts = space.counts(space.uniform(ratio))
  return _NETWORK.apply({"params": params}, batch.inputs, counts)


def _mean_squares(params, batch, ratio):
  found, _ = _predict(params, batch, ratio)
  return np.array(
    [
      np.square(found[t.name] - batch.labels[t.name].value).mean()
      for t in _DATA.tasks
    ]
  )


def test_the_loss_is_the_mean_over_full_and_smallest_width(params, batch):
  """Summed over tasks; each width by itself is the oracle."""
  objective = jax.jit(slimmable.objective(_NETWORK, _DATA.tasks, _PLAIN))
  loss, metrics = objective(params, batch, jax.random.key(0))
  full, small = (_mean_squares(params, batch, r) for r in (1.0, 0.5))
  np.testing.assert_allclose(loss, (full + small).sum() / 2, rtol=1e-5)
  np.testing.assert_allclose(metrics["loss_task_1"], full[1], rtol=1e-5)
  np.testing.assert_allclose(metrics["narrow_task_1"], small[1], rtol=1e-5)


def test_in_place_distillation_draws_narrow_widths_to_the_full(params, batch):
  """Its share of the loss, by hand; no gradient reaches the teacher."""
  taught = dataclasses.replace(_PLAIN, in_place=0.5)
  key = jax.random.key(0)
  loss, without = (
    slimmable.objective(_NETWORK, _DATA.tasks, s)(params, batch, key)[0]
    for s in (taught, _PLAIN)
  )
  full, small = (_predict(params, batch, r)[0] for r in (1.0, 0.5))
  away = sum(
    task_losses.distillation(t, small[t.name], full[t.name])
    for t in _DATA.tasks
  )
  np.testing.assert_allclose(loss - without, 0.5 * away / 2, rtol=1e-4)
  grads = [
    jax.grad(
      lambda p, s=s: slimmable.objective(_NETWORK, _DATA.tasks, s)(
        p, batch, key
      )[0]
    )(params)
    for s in (taught, _PLAIN)
  ]
  # What only the full network reads has no part in the distillation.
  wide = [g["decoder_task_0"]["Dense_1"]["kernel"][8:] for g in grads]
  np.testing.assert_allclose(*wide, atol=1e-7)


@pytest.mark.parametrize("distance", slimmable.DISTANCES)
def test_distances_vanish_between_equal_features(distance, params, batch):
  """And noise is far away."""
  features = _predict(params, batch, 1.0)[1]
  zero = slimmable._distance(distance, features, features, 16, params)
  assert abs(float(zero)) < 1e-5
  noise = jax.random.normal(jax.random.key(3), features.shape)
  assert float(slimmable._distance(distance, noise, features, 16, params)) > 0.1


@pytest.mark.parametrize("distance", slimmable.DISTANCES)
def test_no_distance_shrinks_by_shrinking_features(distance, params, batch):
  """Both sides scaled alike are as far apart as before."""
  first = _predict(params, batch, 1.0)[1]
  other = first + jax.random.normal(jax.random.key(3), first.shape)
  found = [
    float(slimmable._distance(distance, s * other, s * first, 16, params))
    for s in (1.0, 0.5)
  ]
  np.testing.assert_allclose(*found, rtol=2e-2)


@pytest.mark.parametrize("distance", slimmable.DISTANCES)
def test_a_stopped_teacher_gets_no_gradient(distance, params, batch):
  """With every channel of the full encoder's own, only narrow ones move."""
  stopped = slimmable.Sandwich(
    widths=2, invariance=1.0, distance=distance, teacher="stopped"
  )
  mutual = dataclasses.replace(stopped, teacher="mutual")
  network = _NECK if distance == "neck" else _NETWORK
  if distance == "neck":
    params = slimmable_lib.init(network, jax.random.key(0))

  def wide(sandwich):
    terms = slimmable.task_terms(network, _DATA.tasks, sandwich)
    grads = jax.grad(lambda p: terms(p, batch, jax.random.key(0))[1])(params)
    return np.abs(grads["encoder"]["Dense_1"]["kernel"][:, 8:]).max()

  assert wide(stopped) == 0
  if distance != "prefix":  # which compares the channels that both have
    assert wide(mutual) > 0


def test_random_widths_follow_the_key_and_the_smallest_is_always_there():
  """Indices of a step's configurations."""
  space = _NETWORK.space
  sandwich = slimmable.Sandwich(widths=4)
  draw = lambda key, s: np.asarray(slimmable._draw(key, space, s))  # noqa: E731
  rows = np.stack([draw(jax.random.key(i), sandwich) for i in range(50)])
  assert rows.shape == (50, 3, 5)
  assert (rows[:, 0] == 0).all()
  assert set(rows[:, 1:].reshape(-1)) == {0, 1}
  assert (rows[:, 1] != rows[:, 1, :1]).any()
  uniform = dataclasses.replace(sandwich, uniform=True, smallest=False)
  rows = np.stack([draw(jax.random.key(i), uniform) for i in range(50)])
  assert (rows == rows[..., :1]).all()


def test_images_without_labels_of_a_task_train(params, batch):
  """Their loss is zero, and all gradients are finite."""
  label = batch.labels["task_0"]
  bare = batch._replace(
    labels=batch.labels | {"task_0": label._replace(valid=label.valid & False)}
  )
  objective = slimmable.objective(_NETWORK, _DATA.tasks, slimmable.Sandwich())
  grads, metrics = jax.grad(objective, has_aux=True)(
    params, bare, jax.random.key(0)
  )
  assert metrics["loss_task_0"] == 0
  assert all(jnp.isfinite(g).all() for g in jax.tree.leaves(grads))


def test_tasks_must_be_those_of_the_network():
  """Both lists are named."""
  with pytest.raises(ValueError, match="the network decodes task_0"):
    slimmable.objective(_NETWORK, _DATA.tasks[:2], _PLAIN)


def test_the_distance_of_necks_is_of_features_themselves(batch):
  """The mean of squares over the teacher's variance, by hand."""
  params = slimmable_lib.init(_NECK, jax.random.key(2))
  sandwich = slimmable.Sandwich(widths=2, invariance=1.0, distance="neck")
  terms = slimmable.task_terms(_NECK, _DATA.tasks, sandwich)
  found = jax.jit(terms)(params, batch, jax.random.key(0))[1]
  narrow, full = (
    np.asarray(
      _NECK.apply(
        {"params": params},
        batch.inputs,
        _NECK.space.counts(_NECK.space.uniform(ratio)),
      )[1]
    )
    for ratio in (0.5, 1.0)
  )
  assert narrow.shape == full.shape == (32, 12)  # no width slims the neck
  expected = np.square(narrow - full).mean() / full.var()
  np.testing.assert_allclose(found, expected, rtol=1e-4)


def test_necks_are_needed_by_their_distance():
  sandwich = slimmable.Sandwich(distance="neck")
  with pytest.raises(ValueError, match="'neck' needs an encoder whose last"):
    slimmable.task_terms(_NETWORK, _DATA.tasks, sandwich)


@pytest.mark.parametrize("kind", ["ema", "frozen"])
def test_narrow_widths_learn_from_a_teacher_of_its_own(kind, params, batch):
  """From its predictions and features, by hand; and it gets no gradient."""
  taught = slimmable.Sandwich(
    widths=2, in_place=0.5, invariance=0.3, teacher=kind
  )
  other = slimmable_lib.init(_NETWORK, jax.random.key(9))
  both = distillation_teacher.init(params, other)
  key = jax.random.key(0)
  objective = slimmable.objective(_NETWORK, _DATA.tasks, taught)
  plain = slimmable.objective(_NETWORK, _DATA.tasks, _PLAIN)
  loss, without = objective(both, batch, key)[0], plain(params, batch, key)[0]
  (small, own) = _predict(params, batch, 0.5)
  (full, features) = _predict(other, batch, 1.0)
  away = sum(
    task_losses.distillation(t, small[t.name], full[t.name])
    for t in _DATA.tasks
  )
  distance = slimmable._distance("relational", own, features, 8, params)
  np.testing.assert_allclose(
    loss - without, 0.5 * away / 2 + 0.3 * distance, rtol=1e-4
  )
  grads = jax.grad(lambda p: objective(p, batch, key)[0])(both)
  teacher = jax.tree.leaves(grads[distillation_teacher.PARAMS])
  assert all(not np.any(leaf) for leaf in teacher)
  assert any(np.any(x) for x in jax.tree.leaves(grads["encoder"]))


def test_a_frozen_teacher_is_given_and_no_other(params):
  frozen = slimmable.Sandwich(teacher="frozen")
  ema = slimmable.Sandwich(teacher="ema")
  for sandwich, taught in ((frozen, None), (ema, params)):
    with pytest.raises(ValueError, match="trained before is what a frozen"):
      slimmable.with_teacher(params, sandwich, taught)
  assert slimmable.with_teacher(params, slimmable.Sandwich()) is params


def test_optimizers_move_a_teacher_of_its_own_only(params):
  """By its momentum; a frozen one stays."""
  config = loop.TrainConfig(steps=10, warmup_steps=0, learning_rate=0.1)
  grads = jax.tree.map(jnp.ones_like, params)
  for kind, kept in (("ema", 0.9), ("frozen", 1.0)):
    sandwich = slimmable.Sandwich(teacher=kind, momentum=0.9)
    taught = params if kind == "frozen" else None
    both = slimmable.with_teacher(params, sandwich, taught)
    tx = slimmable.optimizer(config, sandwich)
    zeros = {distillation_teacher.PARAMS: jax.tree.map(jnp.zeros_like, params)}
    updates, _ = tx.update(grads | zeros, tx.init(both), both)
    before = params["encoder"]["Dense_0"]["kernel"]
    moved = updates["encoder"]["Dense_0"]["kernel"]
    drag = updates[distillation_teacher.PARAMS]["encoder"]["Dense_0"]["kernel"]
    assert np.abs(moved).max() > 0 and moved.shape == before.shape
    np.testing.assert_allclose(drag, (1 - kept) * moved, atol=1e-6)
