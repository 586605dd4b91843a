# SPDX-License-Identifier: Apache-2.0
"""Losses of multi-task training: one pure function a kind of task.

| kind         | of labels                         | of a teacher       |
| classes      | cross-entropy                     | soft cross-entropy |
| regression   | squared error                     | squared error      |
| segmentation | cross-entropy                     | soft cross-entropy |
| depth        | absolute error                    | absolute error     |
| normals      | absolute error of unit vectors    | 1 - cosine         |
| edges        | cross-entropy, edges weigh 0.95   | soft cross-entropy |
| saliency     | cross-entropy, balanced by counts | soft cross-entropy |

Each is a mean over the places that are valid (and over channels), in float32,
and 0 where none is: an image may lack the labels of a task.

References:
  Xie and Tu (2015), Holistically-nested edge detection (the balance).
  Hinton, Vinyals and Dean (2015), Distilling the knowledge in a neural network
    (soft targets, and the square of the temperature).
  Maninis, Radosavovic and Kokkinos (2019), Attentive single-tasking of multiple
    tasks (the choice of losses for dense tasks).
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float
import numpy as np
import optax

from jaxttc.tasks.multitask import base

EDGE_WEIGHT = 0.95
# Keeps the direction of a zero vector, and its gradient, finite.
_SQUARED_LENGTH = 1e-6
# Unit vectors that were stored in eight bits are this far from unit length.
_LENGTH_ERROR = 0.02
_CHANNELS = {"depth": 1, "normals": 3, "edges": 1, "saliency": 1}
_CLASS_KINDS = ("classes", "segmentation")
_BINARY_KINDS = ("edges", "saliency")


def loss(
  task: base.Task, prediction: Float[Array, "..."], label: base.Label
) -> Float[Array, ""]:
  """How far a prediction is from its labels; the task's weight is left out.

  Args:
    task: whose prediction it is; static.
    prediction: what the task's head returns, f[B, outputs] or
      f[B, H, W, outputs]; see the module's table and `base.Label`.
    label: the labels. Values that are not valid are not read.

  Returns:
    f32[], the mean over valid places; 0 if there are none.

  Raises:
    ValueError: if shapes or types disagree with the task.
  """
  check_shapes(task, prediction, label)
  prediction = prediction.astype(jnp.float32)
  value, valid = jnp.asarray(label.value), jnp.asarray(label.valid)
  return _LOSSES[task.kind](prediction, value, valid)


def losses(
  tasks: Sequence[base.Task],
  predictions: Mapping[str, Float[Array, "..."]],
  labels: Mapping[str, base.Label],
) -> Float[Array, " K"]:
  """`loss` of every task, in their order; weights are left out.

  Raises:
    ValueError: as `loss`.
  """
  return jnp.stack(
    [loss(task, predictions[task.name], labels[task.name]) for task in tasks]
  )


def distillation(
  task: base.Task,
  prediction: Float[Array, "..."],
  teacher: Float[Array, "..."],
  *,
  temperature: float = 1.0,
) -> Float[Array, ""]:
  """How far a prediction is from a teacher's, at every place.

  No labels are needed, so every image counts. Gradients flow into both: pass
  `jax.lax.stop_gradient(teacher)` to train the student alone.

  Args:
    task: whose predictions they are; static.
    prediction: the student's, f[B, outputs] or f[B, H, W, outputs].
    teacher: the teacher's, of the same shape.
    temperature: divides the logits of both where there are logits; the loss is
      multiplied by its square, so that gradients keep their size.

  Returns:
    f32[]. Cross-entropies have their least value, the teacher's entropy, where
    both agree; the others have 0 there.

  Raises:
    ValueError: if the shapes disagree with the task or with each other, or the
      temperature is not positive.
  """
  _check_prediction(task, prediction.shape)
  if prediction.shape != teacher.shape:
    raise ValueError(
      f"task {task.name!r}: the student predicts {prediction.shape}, the "
      f"teacher {teacher.shape}"
    )
  if not temperature > 0:
    raise ValueError(f"temperature must be positive, got {temperature}")
  student = prediction.astype(jnp.float32)
  target = teacher.astype(jnp.float32)
  if task.kind in _CLASS_KINDS + _BINARY_KINDS:
    student, target = student / temperature, target / temperature
    scale = temperature**2
  else:
    scale = 1.0
  return scale * _DISTILLATIONS[task.kind](student, target).mean()


def unit_vectors(v: Float[Array, "*N C"]) -> Float[Array, "*N C"]:
  """Vectors at unit length; the zero vector stays, with a finite gradient."""
  return v * jax.lax.rsqrt(jnp.sum(v * v, -1, keepdims=True) + _SQUARED_LENGTH)


def check_shapes(task: base.Task, prediction: Any, label: base.Label) -> None:
  """Checks that a prediction and its labels are a task's, without their values.

  Args:
    task: the task.
    prediction: array [B, outputs] or [B, H, W, outputs].
    label: its labels, see `base.Label`.

  Raises:
    ValueError: naming the task, the shape found and the shape expected.
  """
  shape = jnp.shape(prediction)
  _check_prediction(task, shape)
  places = shape[:-1]
  value_shape = places if task.kind in _CLASS_KINDS else shape
  for what, got, expected in (
    ("label values have", jnp.shape(label.value), value_shape),
    ("label.valid has", jnp.shape(label.valid), places),
  ):
    if got != expected:
      raise ValueError(
        f"task {task.name!r}: {what} shape {got}, expected {expected} for "
        f"predictions {shape}"
      )
  _check_types(task, label)


def check_labels(task: base.Task, label: base.Label) -> None:
  """Checks the values of labels on the host, where a loss could not.

  Args:
    task: whose labels they are.
    label: NumPy or JAX arrays, with or without the batch axis.

  Raises:
    ValueError: naming the task and the first valid label that is wrong: a class
      id outside [0, outputs), a number that is not finite, an edge or a
      saliency outside [0, 1], a normal that is not of unit length.
  """
  _check_types(task, label)
  value, valid = np.asarray(label.value), np.asarray(label.valid)
  channels = _CHANNELS.get(task.kind, task.outputs)
  by_class = task.kind in _CLASS_KINDS
  expected = valid.shape if by_class else (*valid.shape, channels)
  if value.shape != expected:
    raise ValueError(
      f"task {task.name!r}: label values have shape {value.shape}, expected "
      f"{expected} for label.valid {valid.shape}"
    )
  wrong, wanted = _wrong_values(task, value)
  wrong = np.asarray(wrong & valid)
  if wrong.any():
    place = tuple(np.argwhere(wrong)[0].tolist())
    raise ValueError(
      f"task {task.name!r}: label {value[place]} at {list(place)}, expected "
      f"{wanted}"
    )


def _wrong_values(task: base.Task, value: np.ndarray) -> tuple[Any, str]:
  """Which places hold a value that the task cannot have, and what it can."""
  if task.kind in _CLASS_KINDS:
    wrong = (value < 0) | (value >= task.outputs)
    return wrong, f"a class id in [0, {task.outputs})"
  unreal = ~np.isfinite(value).all(-1)
  if task.kind in _BINARY_KINDS:
    outside = ((value < 0) | (value > 1)).any(-1)
    return unreal | outside, "a number in [0, 1]"
  if task.kind == "normals":
    length = np.linalg.norm(value.astype(np.float64), axis=-1)
    return unreal | (abs(length - 1) > _LENGTH_ERROR), "a vector of length 1"
  return unreal, "finite numbers"


def _check_prediction(task: base.Task, shape: tuple[int, ...]) -> None:
  channels = _CHANNELS.get(task.kind, task.outputs)
  if len(shape) == (4 if task.dense else 2) and shape[-1] == channels:
    return
  axes = f"[B, H, W, {channels}]" if task.dense else f"[B, {channels}]"
  raise ValueError(
    f"task {task.name!r}: prediction has shape {tuple(shape)}, expected {axes}"
  )


def _check_types(task: base.Task, label: base.Label) -> None:
  value, valid = jnp.result_type(label.value), jnp.result_type(label.valid)
  kind = jnp.integer if task.kind in _CLASS_KINDS else jnp.floating
  if not jnp.issubdtype(value, kind):
    raise ValueError(
      f"task {task.name!r}: label values have type {value}, expected "
      f"{'integers' if kind is jnp.integer else 'floating point'}"
    )
  if valid != jnp.bool_:
    raise ValueError(
      f"task {task.name!r}: label.valid has type {valid}, expected bool"
    )


def _mean(
  each: Float[Array, "*N"], valid: Bool[Array, "*N"]
) -> Float[Array, ""]:
  """Mean over the valid places; 0 if there are none."""
  return jnp.where(valid, each, 0.0).sum() / jnp.maximum(valid.sum(), 1)


def _magnitude(x: Array) -> Array:
  """|x| with slope 0 at 0, where `jnp.abs` has slope 1."""
  return x * jnp.sign(x)


def _cross_entropy(prediction: Array, value: Array, valid: Array) -> Array:
  # Ids that are not valid may be out of range, which would read as NaN.
  ids = jnp.where(valid, value, 0)
  each = optax.softmax_cross_entropy_with_integer_labels(prediction, ids)
  return _mean(each, valid)


def _absolute_error(prediction: Array, value: Array, valid: Array) -> Array:
  return _mean(_magnitude(prediction - value).mean(-1), valid)


def _squared_error(prediction: Array, value: Array, valid: Array) -> Array:
  return _mean(jnp.square(prediction - value).mean(-1), valid)


def _direction_error(prediction: Array, value: Array, valid: Array) -> Array:
  return _absolute_error(unit_vectors(prediction), value, valid)


def _weighted(
  prediction: Array, value: Array, valid: Array, positive: float | Array
) -> Array:
  """Binary cross-entropy; ones weigh `positive`, zeros 1 - `positive`."""
  each = optax.sigmoid_binary_cross_entropy(prediction, value)
  weight = positive * value + (1 - positive) * (1 - value)
  return _mean((weight * each)[..., 0], valid)


def _edge_entropy(prediction: Array, value: Array, valid: Array) -> Array:
  return _weighted(prediction, value, valid, EDGE_WEIGHT)


def _balanced_entropy(prediction: Array, value: Array, valid: Array) -> Array:
  """Ones weigh the share of zeros in the batch, zeros the share of ones."""
  share = _mean(value[..., 0], valid)
  return _weighted(prediction, value, valid, 1 - share)


def _cosine_gap(student: Array, teacher: Array) -> Array:
  return 1 - jnp.sum(unit_vectors(student) * unit_vectors(teacher), -1)


def _soft_entropy(student: Array, teacher: Array) -> Array:
  return optax.softmax_cross_entropy(student, jax.nn.softmax(teacher))


def _soft_binary_entropy(student: Array, teacher: Array) -> Array:
  return optax.sigmoid_binary_cross_entropy(student, jax.nn.sigmoid(teacher))


def _absolute_gap(student: Array, teacher: Array) -> Array:
  return _magnitude(student - teacher)


def _squared_gap(student: Array, teacher: Array) -> Array:
  return jnp.square(student - teacher)


_LOSSES: dict[str, Callable[[Array, Array, Array], Array]] = {
  "classes": _cross_entropy,
  "regression": _squared_error,
  "segmentation": _cross_entropy,
  "depth": _absolute_error,
  "normals": _direction_error,
  "edges": _edge_entropy,
  "saliency": _balanced_entropy,
}
_DISTILLATIONS: dict[str, Callable[[Array, Array], Array]] = {
  "classes": _soft_entropy,
  "regression": _squared_gap,
  "segmentation": _soft_entropy,
  "depth": _absolute_gap,
  "normals": _cosine_gap,
  "edges": _soft_binary_entropy,
  "saliency": _soft_binary_entropy,
}
