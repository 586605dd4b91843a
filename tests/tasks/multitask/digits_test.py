# SPDX-License-Identifier: Apache-2.0
"""Tests of the digits benchmark."""

import hashlib

import hypothesis
from hypothesis import strategies as st
import jax
import numpy as np
import pytest

from jaxttc.tasks.multitask import digits

_layout = jax.jit(digits.draw_layout, static_argnums=1)
_picture = jax.jit(digits.picture)
_answers = jax.jit(digits.answers)


def _draw(seed, held_out):
  return jax.device_get(_layout(jax.random.key(seed), held_out))


def _shown(layout):
  return [i for i in range(3) if layout.present[i]]


@pytest.fixture(scope="module")
def batch():
  return jax.device_get(digits.Digits().sample(jax.random.key(1), 256))


def test_the_scans_are_those_of_their_source():
  """1,797 scans, their classes, and the checksum of every pixel."""
  images, classes = digits.scans()
  assert images.shape == (1797, 8, 8) and classes.shape == (1797,)
  assert images.dtype == classes.dtype == np.uint8
  assert classes[:10].tolist() == list(range(10))
  assert images.max() == 16
  found = hashlib.sha256(images.tobytes() + classes.tobytes()).hexdigest()
  assert found.startswith("87ff0c9e40dc7e2c")


@hypothesis.given(seed=st.integers(0, 2**31), held_out=st.booleans())
@hypothesis.settings(max_examples=60)
def test_layouts_keep_to_their_scans_and_do_not_overlap(seed, held_out):
  layout = _draw(seed, held_out)
  assert ((layout.scan >= digits.TRAINING_SCANS) == held_out).all()
  assert len(set(digits.scans().classes[layout.scan])) == 3
  assert layout.present.tolist() in ([True, True, False], [True] * 3)
  assert (layout.corner >= 0).all() and (layout.corner <= 16).all()
  assert (layout.contrast >= 0.4).all() and (layout.contrast <= 1).all()
  for i in range(3):
    for j in range(i):
      gaps = np.abs(layout.corner[i] - layout.corner[j])
      assert gaps.max() >= 8


@hypothesis.given(seed=st.integers(0, 2**31), held_out=st.booleans())
@hypothesis.settings(max_examples=40)
def test_a_picture_shows_its_scans_and_nothing_else(seed, held_out):
  layout = _draw(seed, held_out)
  expected = np.zeros((24, 24))
  for i in _shown(layout):
    row, column = layout.corner[i]
    scan = digits.scans().images[layout.scan[i]] / 16
    expected[row : row + 8, column : column + 8] += layout.contrast[i] * scan
  np.testing.assert_allclose(_picture(layout), expected, atol=1e-6)


@hypothesis.given(seed=st.integers(0, 2**31))
@hypothesis.settings(max_examples=60)
def test_answers_are_those_of_a_reader(seed):
  layout = _draw(seed, held_out=False)
  found = {k: int(v) for k, v in _answers(layout).items()}
  read = {
    int(digits.scans().classes[layout.scan[i]]): layout.corner[i] + 4.0
    for i in _shown(layout)
  }
  row, column = read[max(read)]
  assert found["which"] == max(read)
  assert found["where"] == 3 * int(row / 8) + int(column / 8)
  assert found["sum"] == sum(read)
  assert found["parity"] == sum(read) % 2


def test_a_batch_has_the_shapes_and_types_that_are_promised(batch):
  data = digits.Digits()
  assert batch.inputs.shape == (256, *data.input_shape)
  assert batch.inputs.dtype == np.float32
  assert set(batch.labels) == {task.name for task in data.tasks}
  for task in data.tasks:
    value, valid = batch.labels[task.name]
    assert task.kind == "classes"
    assert value.shape == (256,) and value.dtype == np.int32
    assert value.min() >= 0 and value.max() < task.outputs
    assert valid.shape == (256,) and valid.dtype == bool and valid.all()
  np.testing.assert_array_equal(
    batch.labels["parity"].value, batch.labels["sum"].value % 2
  )


def test_no_answer_is_right_for_most_pictures(batch):
  """Guessing the likeliest answer gets nobody far."""
  for task, least in (("which", 0.4), ("where", 0.3), ("sum", 0.2)):
    share = np.bincount(batch.labels[task].value).max() / 256
    assert share < least
  assert 0.4 < batch.labels["parity"].value.mean() < 0.6
  assert len(np.unique(batch.labels["where"].value)) == 9


def test_keys_decide_everything_and_tests_stay_apart(batch):
  data = digits.Digits()
  again = data.sample(jax.random.key(1), 256)
  jax.tree.map(np.testing.assert_array_equal, batch, again)
  few, many = data.held_out(8), data.held_out(16)
  np.testing.assert_allclose(few.inputs, many.inputs[:8], atol=1e-6)
  gaps = np.abs(np.asarray(few.inputs)[:, None] - batch.inputs[None])
  assert gaps.mean((2, 3, 4)).min() > 0.05
  other = digits.Digits(seed=1).held_out(8)
  assert np.abs(other.inputs - few.inputs).mean() > 0.05


def test_noise_is_as_strong_as_it_says(batch):
  clean = digits.Digits(noise=0.0).sample(jax.random.key(1), 256)
  added = batch.inputs - np.asarray(clean.inputs)
  np.testing.assert_allclose(added.std(), 0.1, rtol=0.02)
  assert np.asarray(clean.inputs).min() == 0
  jax.tree.map(np.testing.assert_array_equal, batch.labels, clean.labels)


@pytest.mark.parametrize(
  ("fields", "said"),
  [
    ({"noise": -0.1}, "noise must be in 0..1, got -0.1"),
    ({"noise": float("inf")}, "noise must be in 0..1, got inf"),
    ({"seed": -3}, "seed must be in 0..4294967295, got -3"),
    ({"side": 20}, r"side must be one of \(16, 24\), got 20"),
    ({"most": 4}, "most must be 2 or 3, got 4"),
    ({"side": 16, "most": 2}, "may have no room for a second digit"),
  ],
)
def test_refuses_what_cannot_be(fields, said):
  with pytest.raises(ValueError, match=said):
    digits.Digits(**fields)


@pytest.mark.parametrize("most", [2, 3])
def test_aligned_digits_keep_to_the_cells(most):
  """A 2 x 2 grid, of which some cells hold a scan each."""
  data = digits.Digits(side=16, most=most, aligned=True, noise=0.0)
  found = jax.device_get(data.sample(jax.random.key(2), 64))
  cells = found.inputs.reshape(64, 2, 8, 2, 8).max((2, 4)) > 0
  shown = cells.sum((1, 2))
  assert set(shown) == set(range(2, most + 1))
  for task in data.tasks:
    assert found.labels[task.name].value.max() < task.outputs
  where = found.labels["where"].value
  assert cells.reshape(64, 4)[np.arange(64), where].all()
