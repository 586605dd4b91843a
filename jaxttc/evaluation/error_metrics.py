# SPDX-License-Identifier: Apache-2.0
"""Errors of numbers and directions, summed over batches.

For regression, depth and surface normals; `dense_metrics` has their table.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from jaxttc.evaluation import accumulators
from jaxttc.tasks.multitask import base

Results = dict[str, Array]

WITHIN_DEGREES = (11.25, 22.5, 30.0)
# Logarithms and quotients read depths as at least this.
_LEAST_DEPTH = 1e-3
_ANGLE_BINS = 3600  # a twentieth of a degree each


class Errors(NamedTuple):
  """Sums of errors f32[M] over so many places."""

  count: accumulators.WideCount
  sums: accumulators.WideSum


class Angles(NamedTuple):
  """Angles between normals: their sum, histogram, and how many are small."""

  count: accumulators.WideCount
  total: accumulators.WideSum
  histogram: accumulators.WideCount
  within: accumulators.WideCount


def errors(size: int) -> Callable[[base.Task], Errors]:
  """`zeros` of so many errors a place."""
  return lambda task: Errors(
    accumulators.no_count(), accumulators.no_sum((size,))
  )


def _add_errors(
  state: Errors, each: Float[Array, "*N M"], valid: Bool[Array, "*N"]
) -> Errors:
  return Errors(
    accumulators.count(state.count, valid.sum()),
    accumulators.add(state.sums, accumulators.sum_over(valid, each)),
  )


def _mean_errors(state: Errors) -> tuple[Array, Array]:
  total = accumulators.number(state.count)
  return accumulators.share(accumulators.number(state.sums), total), total


def add_regression(
  state: Errors, prediction: Array, label: base.Label
) -> Errors:
  """`update` of regression: squares, mean over channels."""
  each = jnp.square(prediction - label.value).mean(-1, keepdims=True)
  return _add_errors(state, each, label.valid)


def regression_results(state: Errors) -> Results:
  """`result` of regression: the mean squared error."""
  means, total = _mean_errors(state)
  return {"mse": means[0], "count": total}


def add_depth(state: Errors, prediction: Array, label: base.Label) -> Errors:
  """`update` of depth: squared, squared log, absolute, relative errors."""
  guess, truth = prediction[..., 0], label.value[..., 0]
  error = guess - truth
  positive = jnp.maximum(truth, _LEAST_DEPTH)
  logs = jnp.log(jnp.maximum(guess, _LEAST_DEPTH)) - jnp.log(positive)
  absolute = jnp.abs(error)
  each = (error**2, logs**2, absolute, absolute / positive)
  return _add_errors(state, jnp.stack(each, -1), label.valid)


def depth_results(state: Errors) -> Results:
  """`result` of depth; means, and their roots, over all pixels."""
  means, total = _mean_errors(state)
  return {
    "rmse": jnp.sqrt(means[0]),
    "log_rmse": jnp.sqrt(means[1]),
    "absolute_error": means[2],
    "relative_error": means[3],
    "count": total,
  }


def no_angles(task: base.Task) -> Angles:
  """`zeros` of normals."""
  del task
  return Angles(
    accumulators.no_count(),
    accumulators.no_sum((1,)),
    accumulators.no_count((_ANGLE_BINS,)),
    accumulators.no_count((len(WITHIN_DEGREES),)),
  )


def add_angles(state: Angles, prediction: Array, label: base.Label) -> Angles:
  """`update` of normals of any length."""
  angle, valid = angles_between(prediction, label.value), label.valid
  bins = (angle * (_ANGLE_BINS / 180)).astype(jnp.int32)
  histogram = accumulators.histogram(
    jnp.minimum(bins, _ANGLE_BINS - 1), valid, _ANGLE_BINS
  )
  within = [(valid & (angle < degrees)).sum() for degrees in WITHIN_DEGREES]
  return Angles(
    accumulators.count(state.count, valid.sum()),
    accumulators.add(
      state.total, accumulators.sum_over(valid, angle[..., None])
    ),
    accumulators.count(state.histogram, histogram),
    accumulators.count(state.within, jnp.stack(within)),
  )


def angle_results(state: Angles) -> Results:
  """`result` of normals, in degrees and shares."""
  total = accumulators.number(state.count)
  shares = accumulators.share(accumulators.number(state.within), total)
  return {
    "mean_angle": accumulators.share(
      accumulators.number(state.total)[0], total
    ),
    "median_angle": _median_angle(accumulators.number(state.histogram)),
    **{f"within_{d:g}": shares[i] for i, d in enumerate(WITHIN_DEGREES)},
    "count": total,
  }


def _median_angle(histogram: Float[Array, " A"]) -> Array:
  """Where half of the angles are smaller; exact to a bin, linear within it."""
  below = jnp.cumsum(histogram)
  half = below[-1] / 2
  at = jnp.argmax(below >= half)
  inside = accumulators.share(half - (below[at] - histogram[at]), histogram[at])
  return (at + inside) * (180 / _ANGLE_BINS)


def angles_between(
  a: Float[Array, "*N 3"], b: Float[Array, "*N 3"]
) -> Float[Array, "*N"]:
  """Degrees between vectors of any length; 90 where one of them is zero.

  By the arc tangent of |a x b| and a . b, which keeps its digits where the arc
  cosine loses them: at small angles.
  """
  dot = jnp.sum(a * b, -1)
  cross = jnp.linalg.norm(jnp.cross(a, b), axis=-1)
  angle = jnp.degrees(jnp.arctan2(cross, dot))
  return jnp.where((dot == 0) & (cross == 0), 90.0, angle)
