# SPDX-License-Identifier: Apache-2.0
"""Tests of multi-task losses against loops over places."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxttc.tasks.multitask import base
from jaxttc.training import task_losses

OUTPUTS = {"classes": 5, "regression": 3, "segmentation": 4, "normals": 3}
TASKS = {k: base.Task("it", k, OUTPUTS.get(k, 1)) for k in base.KINDS}


def drawn(kind, seed=0, batch=3, size=4):
  """A prediction and labels of a kind, a third of them not valid."""
  rng = np.random.default_rng(seed)
  task = TASKS[kind]
  places = (batch, size, size) if task.dense else (batch,)
  prediction = rng.normal(size=(*places, task.outputs)).astype(np.float32)
  if kind in ("classes", "segmentation"):
    value = rng.integers(0, task.outputs, places).astype(np.int32)
  elif kind in ("edges", "saliency"):
    value = (rng.random((*places, 1)) < 0.3).astype(np.float32)
  else:
    value = rng.normal(size=prediction.shape).astype(np.float32)
    if kind == "normals":
      value /= np.linalg.norm(value, axis=-1, keepdims=True)
  valid = rng.random(places) < 0.67
  return task, jnp.asarray(prediction), base.Label(value, valid)


def binary_entropy(logit, y):
  p = 1 / (1 + math.exp(-logit))
  return -(y * math.log(p) + (1 - y) * math.log(1 - p))


def place_loss(kind, p, y, share):
  """What one place costs, written out."""
  if kind in ("classes", "segmentation"):
    return math.log(sum(math.exp(x) for x in p)) - p[y]
  if kind == "regression":
    return sum((a - b) ** 2 for a, b in zip(p, y, strict=True)) / len(p)
  if kind == "depth":
    return abs(p[0] - y[0])
  if kind == "normals":
    length = math.sqrt(sum(a * a for a in p))
    return sum(abs(a / length - b) for a, b in zip(p, y, strict=True)) / 3
  ones = 0.95 if kind == "edges" else 1 - share
  weight = ones if y[0] == 1 else 1 - ones
  return weight * binary_entropy(p[0], y[0])


@pytest.mark.parametrize("kind", base.KINDS)
def test_a_loss_is_the_mean_over_valid_places(kind):
  task, prediction, label = drawn(kind)
  predicted = np.asarray(prediction, np.float64)
  share = 0.0
  if kind == "saliency":
    share = np.asarray(label.value)[label.valid].mean()
  each = [
    place_loss(kind, predicted[at], label.value[at], share)
    for at in map(tuple, np.argwhere(label.valid))
  ]
  found = jax.jit(task_losses.loss, static_argnums=0)(task, prediction, label)
  np.testing.assert_allclose(found, np.mean(each), rtol=2e-5)


@pytest.mark.parametrize("kind", base.KINDS)
def test_what_is_not_valid_changes_nothing(kind):
  task, prediction, label = drawn(kind)
  gradient = jax.value_and_grad(lambda p, y: task_losses.loss(task, p, y))
  want, slope = gradient(prediction, label)
  hidden = ~label.valid
  value = np.array(label.value)
  value[hidden] = 255  # as class ids that mark what to ignore
  found, other = gradient(prediction, base.Label(value, label.valid))
  np.testing.assert_array_equal(found, want)
  np.testing.assert_array_equal(other, slope)
  assert not np.asarray(slope)[hidden].any()
  assert np.asarray(slope)[label.valid].any()


@pytest.mark.parametrize("kind", base.KINDS)
def test_nothing_valid_costs_nothing_and_trains(kind):
  task, prediction, label = drawn(kind)
  label = base.Label(label.value, np.zeros_like(label.valid))
  found, slope = jax.value_and_grad(lambda p: task_losses.loss(task, p, label))(
    prediction
  )
  assert found == 0
  assert not np.asarray(slope).any()


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_balance_of_one_class_alone_is_finite(value):
  task, prediction, label = drawn("saliency")
  label = base.Label(np.full_like(label.value, value), label.valid)
  assert task_losses.loss(task, prediction, label) == 0


def test_gradient_at_the_zero_normal_is_finite():
  task, prediction, label = drawn("normals")
  zero = jnp.zeros_like(prediction)
  slope = jax.grad(lambda p: task_losses.loss(task, p, label))(zero)
  distilled = jax.grad(lambda p: task_losses.distillation(task, p, prediction))
  for found in (slope, distilled(zero)):
    assert np.isfinite(found).all()
    assert np.asarray(found).any()


def test_losses_of_half_precision_are_computed_in_full():
  task, prediction, label = drawn("segmentation", size=32)
  half = prediction.astype(jnp.bfloat16)
  found = task_losses.loss(task, half, label)
  want = task_losses.loss(task, half.astype(jnp.float32), label)
  assert found.dtype == jnp.float32
  assert found == want


def test_soft_entropy_of_hand_cases():
  task = base.Task("it", "classes", 2)
  even = jnp.zeros((1, 2))
  sure = jnp.array([[math.log(3.0), 0.0]])
  for temperature in (1.0, 2.0):
    odds = 3 ** (1 / temperature)
    p = odds / (1 + odds)
    found = task_losses.distillation(task, even, sure, temperature=temperature)
    np.testing.assert_allclose(found, temperature**2 * math.log(2), rtol=1e-6)
    own = task_losses.distillation(task, sure, sure, temperature=temperature)
    entropy = -p * math.log(p) - (1 - p) * math.log(1 - p)
    np.testing.assert_allclose(own, temperature**2 * entropy, rtol=1e-5)


def test_distillation_of_numbers_and_directions():
  vector = base.Task("it", "regression", 2)
  a, b = jnp.array([[1.0, 2.0]]), jnp.array([[3.0, 5.0]])
  assert task_losses.distillation(vector, a, b) == (4 + 9) / 2
  depth = base.Task("it", "depth", 1)
  one = jnp.ones((1, 2, 2, 1))
  assert task_losses.distillation(depth, one, 4 * one) == 3
  normals = base.Task("it", "normals", 3)
  x, y = jnp.zeros((2, 1, 1, 1, 3)).at[(0, 1), 0, 0, 0, (0, 1)].set(2.0)
  for other, gap in ((x, 0.0), (y, 1.0), (-x, 2.0)):
    found = task_losses.distillation(normals, x, other)
    np.testing.assert_allclose(found, gap, atol=1e-6)


@pytest.mark.parametrize("kind", base.KINDS)
def test_students_are_drawn_to_their_teacher(kind):
  """At the teacher's own prediction there is nothing to gain."""
  task, teacher, _ = drawn(kind)

  def loss(p):
    return task_losses.distillation(task, p, teacher, temperature=2.0)

  np.testing.assert_allclose(jax.grad(loss)(teacher), 0, atol=1e-5)
  assert loss(teacher) < loss(drawn(kind, seed=1)[1])


@pytest.mark.parametrize(
  ("kind", "change", "said"),
  [
    (
      "classes",
      {"prediction": (3, 6)},
      r"task 'it'.*\(3, 6\), expected \[B, 5",
    ),
    ("depth", {"prediction": (3, 4, 4, 2)}, r"expected \[B, H, W, 1\]"),
    ("segmentation", {"prediction": (3, 4)}, r"expected \[B, H, W, 4\]"),
    (
      "segmentation",
      {"value": (3, 4, 5)},
      r"values have shape \(3, 4, 5\), exp",
    ),
    ("normals", {"valid": (3, 4)}, r"label.valid has shape \(3, 4\), expected"),
    ("edges", {"value": (3, 4, 4)}, r"expected \(3, 4, 4, 1\)"),
  ],
)
def test_shapes_that_disagree_are_named(kind, change, said):
  task, prediction, label = drawn(kind)
  parts = {"prediction": prediction, **label._asdict()}
  for name, shape in change.items():
    parts[name] = jnp.zeros(shape, parts[name].dtype)
  label = base.Label(parts["value"], parts["valid"])
  with pytest.raises(ValueError, match=said):
    task_losses.loss(task, parts["prediction"], label)


def test_types_and_temperatures_that_cannot_be_are_named():
  task, prediction, label = drawn("classes")
  floats = base.Label(label.value.astype(np.float32), label.valid)
  with pytest.raises(ValueError, match="type float32, expected integers"):
    task_losses.loss(task, prediction, floats)
  numbers = base.Label(label.value, label.valid.astype(np.int32))
  with pytest.raises(ValueError, match="type int32, expected bool"):
    task_losses.loss(task, prediction, numbers)
  with pytest.raises(ValueError, match="temperature must be positive, got 0"):
    task_losses.distillation(task, prediction, prediction, temperature=0.0)
  with pytest.raises(
    ValueError, match=r"predicts \(3, 5\), the teacher \(2, 5"
  ):
    task_losses.distillation(task, prediction, prediction[:2])


@pytest.mark.parametrize("kind", base.KINDS)
def test_right_labels_pass_with_and_without_a_batch(kind):
  task, _, label = drawn(kind)
  task_losses.check_labels(task, label)
  task_losses.check_labels(task, base.Label(label.value[0], label.valid[0]))


@pytest.mark.parametrize(
  ("kind", "wrong", "said"),
  [
    (
      "classes",
      5,
      r"task 'it': label 5 at \[1\], expected a class id in \[0, 5",
    ),
    ("segmentation", -1, r"label -1 at \[1, 0, 2\], expected a class id"),
    ("depth", np.inf, r"at \[1, 0, 2\], expected finite numbers"),
    ("edges", 1.5, r"label \[1.5\] at \[1, 0, 2\], expected a number in"),
    ("saliency", np.nan, "expected a number in"),
    ("normals", 0.0, "expected a vector of length 1"),
  ],
)
def test_labels_that_cannot_be_are_named(kind, wrong, said):
  task, _, label = drawn(kind)
  value, valid = np.array(label.value), np.ones_like(label.valid)
  at = (1, 0, 2) if task.dense else (1,)
  value[at] = wrong
  with pytest.raises(ValueError, match=said):
    task_losses.check_labels(task, base.Label(value, valid))
  valid[at] = False
  task_losses.check_labels(task, base.Label(value, valid))
  with pytest.raises(ValueError, match="label values have shape"):
    task_losses.check_labels(task, base.Label(value, valid[1:]))
