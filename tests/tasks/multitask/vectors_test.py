# SPDX-License-Identifier: Apache-2.0
"""Tests of the vector tasks."""

import jax
import numpy as np
import pytest

from jaxttc.tasks.multitask import vectors

_sample = jax.jit(
  lambda data, key, batch: data.sample(key, batch), static_argnums=(0, 2)
)


@pytest.fixture(scope="module")
def data():
  return vectors.Vectors(seed=0)


@pytest.fixture(scope="module")
def many(data):
  return data.held_out(8192)


def _targets(examples):
  return np.stack([label.value for label in examples.labels.values()], 1)


def test_a_batch_has_the_shapes_and_types_that_are_promised(data):
  batch = _sample(data, jax.random.key(1), 8)
  assert batch.inputs.shape == (8, *data.input_shape)
  assert batch.inputs.dtype == np.float32
  assert set(batch.labels) == {task.name for task in data.tasks}
  for task in data.tasks:
    label = batch.labels[task.name]
    assert (task.kind, task.outputs) == ("regression", 4)
    assert label.value.shape == (8, 4) and label.value.dtype == np.float32
    assert label.valid.shape == (8,) and label.valid.dtype == bool
    assert np.asarray(label.valid).all()


def test_targets_are_standardised(many):
  targets = _targets(many)
  np.testing.assert_allclose(targets.mean(0), 0.0, atol=0.06)
  np.testing.assert_allclose(targets.var(0), 1.0, atol=0.06)


def test_targets_are_what_the_definition_says(data, many):
  """A loop over one input, its tasks and outputs."""
  teacher = data._teacher
  x = np.asarray(many.inputs[5], np.float64)
  h = np.tanh(np.tanh(x @ teacher.hidden) @ teacher.features)
  for t in range(3):
    sines = [
      np.sin(h @ teacher.turn[:, t, k] + teacher.phase[t, k]) for k in range(16)
    ]
    for o in range(4):
      plain = sum(teacher.mix[t, k, o] * sines[k] for k in range(16))
      expected = (plain - teacher.shift[t, o]) / teacher.scale[t, o]
      np.testing.assert_allclose(
        many.labels[f"task_{t}"].value[5, o], expected, atol=1e-4
      )


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_no_linear_map_solves_them(seed):
  """Even the best one leaves much of every task's variance."""
  examples = vectors.Vectors(seed=seed).held_out(4096)
  inputs = np.c_[np.asarray(examples.inputs), np.ones(4096)]
  targets = _targets(examples).reshape(4096, -1)
  best = inputs @ np.linalg.lstsq(inputs, targets, rcond=None)[0]
  left = np.square(targets - best).mean(0).reshape(3, 4).mean(1)
  assert (left > 0.3).all() and left.mean() > 0.5


def test_keys_and_seeds_decide_everything(data):
  again = vectors.Vectors(seed=0)
  key = jax.random.key(7)
  one, two = _sample(data, key, 8), _sample(again, key, 8)
  jax.tree.map(np.testing.assert_array_equal, one, two)
  other = _sample(data, jax.random.key(8), 8)
  assert not np.isclose(one.inputs, other.inputs).any()
  stranger = _sample(vectors.Vectors(seed=1), key, 8)
  np.testing.assert_array_equal(one.inputs, stranger.inputs)
  assert np.abs(_targets(one) - _targets(stranger)).mean() > 0.5


def test_held_out_examples_come_in_one_order(data, many):
  few = data.held_out(16)
  np.testing.assert_array_equal(few.inputs, many.inputs[:16])
  trained = _sample(data, jax.random.key(0), 16)
  assert not np.isclose(few.inputs, trained.inputs).any()


def test_noise_is_added_to_training_targets_only(data, many):
  noisy = vectors.Vectors(seed=0, noise=2.0)
  key = jax.random.key(2)
  clean, dirty = _sample(data, key, 4096), _sample(noisy, key, 4096)
  np.testing.assert_array_equal(clean.inputs, dirty.inputs)
  added = _targets(dirty) - _targets(clean)
  np.testing.assert_allclose(added.std(0), 2.0, atol=0.1)
  np.testing.assert_allclose(added.mean(0), 0.0, atol=0.15)
  np.testing.assert_allclose(
    _targets(noisy.held_out(64)), _targets(many)[:64], atol=1e-5
  )


@pytest.mark.parametrize("noise", [-1.0, float("nan"), float("inf")])
def test_refuses_noise_that_cannot_be(noise):
  with pytest.raises(ValueError, match=f"noise must be .*, got {noise}"):
    vectors.Vectors(noise=noise)


def test_refuses_a_seed_that_cannot_be():
  with pytest.raises(ValueError, match="seed must be in .*, got -1"):
    vectors.Vectors(seed=-1)
