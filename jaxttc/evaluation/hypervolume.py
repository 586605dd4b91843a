# SPDX-License-Identifier: Apache-2.0
"""Hypervolume: how much of the space of scores a set of points dominates.

HV(P, ref) is the volume of the union of the boxes between `ref` and the points
of P; every coordinate is higher-better. It grows whenever the front does, and
depends on `ref` and on the scores' scales: state both beside every figure.

Exact volumes come from slicing: with points sorted by their last coordinate z,
the slabs' volumes sum to

  HV_K(P) = sum_i z_i * (volume that point i adds, in K - 1 dimensions, to the
                         points above it),

and what a point adds is its box less the hypervolume of the others cut down to
it, of which few are not dominated. Three dimensions are one sweep of arrays.
Above eight dimensions sampling takes over, with an interval.

References:
  Zitzler and Thiele (1999), Multiobjective evolutionary algorithms: a
    comparative case study and the strength Pareto approach.
  While, Bradstreet and Barone (2012), A fast way of calculating exact
    hypervolumes (limited sets, slicing).
  Karp, Luby and Madras (1989), Monte-Carlo approximation algorithms for
    enumeration problems (the union of boxes).
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float
import numpy as np
import scipy.stats

from jaxttc.evaluation import statistics as statistics_lib

MOST_DIMENSIONS = 8
_CHUNK = 1024  # samples that are compared with all points at a time


def hypervolume(
  points: statistics_lib.Values, reference: statistics_lib.Values
) -> float:
  """Exact hypervolume of up to eight scores, all higher-better.

  Args:
    points: f64[N, K]; N may be 0. Points that are not above the reference in
      every coordinate add nothing, nor do dominated ones.
    reference: f64[K].

  Returns:
    The volume, 0 if no point is above the reference.

  Raises:
    ValueError: for shapes that disagree, numbers that are not finite, or K
      outside [1, 8].
  """
  boxes = _boxes(points, reference)
  if boxes.shape[1] > MOST_DIMENSIONS:
    raise ValueError(
      f"hypervolume: exact in at most {MOST_DIMENSIONS} dimensions, got "
      f"{boxes.shape[1]}; use monte_carlo"
    )
  return _volume(boxes[undominated(boxes)])


def with_savings(
  scores: statistics_lib.Values, macs: statistics_lib.Values, full_macs: float
) -> Float[np.ndarray, "N M"]:
  """Scores with what was saved, 1 - MACs / full, as one more coordinate.

  Their hypervolume, with 0 as the reference of the savings, is the
  budget-aware one. A point at full cost saves nothing and drops out of it.

  Args:
    scores: f64[N, K].
    macs: f64[N], multiply-accumulates of each point, >= 0.
    full_macs: those of the whole network, > 0.

  Raises:
    ValueError: for shapes that disagree or costs that are out of range.
  """
  values, costs = np.asarray(scores, np.float64), np.asarray(macs, np.float64)
  if values.ndim != 2 or costs.shape != values.shape[:1]:
    raise ValueError(
      f"with_savings: expected scores[N, K] and macs[N], got {values.shape} "
      f"and {costs.shape}"
    )
  if not (full_macs > 0 and np.isfinite(costs).all() and (costs >= 0).all()):
    raise ValueError(
      "with_savings: macs must be finite and >= 0, and those of the whole "
      f"network positive, got {full_macs} for the latter"
    )
  return np.column_stack([values, 1 - costs / full_macs])


def monte_carlo(
  points: statistics_lib.Values,
  reference: statistics_lib.Values,
  key: Array,
  samples: int = 65_536,
  *,
  level: float = 0.95,
) -> statistics_lib.Interval:
  """Hypervolume by sampling, in any number of dimensions.

  A box is drawn with probability proportional to its volume, then a point
  uniformly in it. One over the number of boxes that hold the point, times the
  sum of all volumes, is unbiased, and lies between that sum and an N-th of it:
  the relative error does not grow with the dimensions, as it does for points
  drawn in the bounding box.

  Args:
    points: f64[N, K]; see `hypervolume`.
    reference: f64[K].
    key: a JAX random key.
    samples: points to draw, rounded up to whole chunks of 1,024.
    level: confidence level, in (0, 1).

  Returns:
    The volume and its normal interval.

  Raises:
    ValueError: for shapes that disagree, numbers that are not finite, fewer
      than 2 samples, or a level out of range.
  """
  if samples < 2:
    raise ValueError(f"monte_carlo: samples must be at least 2, got {samples}")
  if not 0 < level < 1:
    raise ValueError(f"monte_carlo: level must lie in (0, 1), got {level}")
  boxes = _boxes(points, reference)
  boxes = boxes[undominated(boxes)]
  if not len(boxes):
    return statistics_lib.Interval(0.0, 0.0, 0.0)
  # Coordinates in [0, 1] keep float32 from overflowing in many dimensions.
  scale = boxes.max(axis=0)
  volumes = (boxes / scale).prod(axis=1)
  chunks = -(-samples // _CHUNK)
  # Sets of like size share a program: boxes that are never drawn, and hold
  # nothing, fill up to a power of two.
  spare = (1 << (len(boxes) - 1).bit_length()) - len(boxes)
  sides = np.pad(boxes / scale, ((0, spare), (0, 0)), constant_values=-1.0)
  logs = np.pad(np.log(volumes), (0, spare), constant_values=-np.inf)
  shares = _shares(
    key,
    jnp.asarray(sides, jnp.float32),
    jnp.asarray(logs, jnp.float32),
    chunks,
  )
  drawn = np.asarray(shares, np.float64)
  total = float(volumes.sum() * scale.prod())
  mean, error = drawn.mean(), drawn.std(ddof=1) / np.sqrt(drawn.size)
  half = float(scipy.stats.norm.ppf(0.5 + level / 2)) * error
  low, high = max(0.0, mean - half), min(1.0, mean + half)
  return statistics_lib.Interval(total * mean, total * low, total * high)


def undominated(points: Float[np.ndarray, "N K"]) -> Bool[np.ndarray, " N"]:
  """Which points no other equals or exceeds everywhere; of twins the first."""
  at_least = np.ones((len(points), len(points)), bool)
  for column in points.T:
    at_least &= column[:, None] >= column[None, :]
  twins = at_least & at_least.T
  beats = at_least & ~twins | np.triu(twins, 1)
  return ~beats.any(axis=0)


def _boxes(points: Any, reference: Any) -> np.ndarray:
  """Sides f64[N', K] of the boxes that have a volume."""
  ends = np.asarray(points, np.float64)
  start = np.asarray(reference, np.float64)
  if ends.ndim != 2 or start.shape != ends.shape[1:] or not start.size:
    raise ValueError(
      "hypervolume: expected points[N, K] and reference[K], got "
      f"{ends.shape} and {start.shape}"
    )
  if not (np.isfinite(ends).all() and np.isfinite(start).all()):
    raise ValueError("hypervolume: points and reference must be finite")
  sides = ends - start
  return sides[(sides > 0).all(axis=1)]


def _volume(boxes: np.ndarray) -> float:
  """Volume of a union of boxes from the origin, by slicing."""
  count, dimensions = boxes.shape
  if not count:
    return 0.0
  if count == 1:
    return float(boxes.prod())
  if dimensions == 1:
    return float(boxes.max())
  if dimensions == 2:
    return _area(boxes)
  if dimensions == 3:
    return _sweep(boxes)
  boxes = boxes[np.argsort(-boxes[:, -1], kind="stable")]
  flat, height = boxes[:, :-1], boxes[:, -1]
  total = float(height[0] * flat[0].prod())
  for i in range(1, count):
    limited = np.minimum(flat[:i], flat[i])
    covered = _volume(limited[undominated(limited)])
    total += float(height[i] * (flat[i].prod() - covered))
  return total


def _area(boxes: np.ndarray) -> float:
  """Area under a staircase."""
  x, y = boxes[np.argsort(-boxes[:, 0], kind="stable")].T
  steps = x - np.append(x[1:], 0.0)
  return float(steps @ np.maximum.accumulate(y))


def _sweep(boxes: np.ndarray) -> float:
  """Volume in three dimensions: the staircase at every height, at once."""
  x, y, z = boxes[np.argsort(-boxes[:, 0], kind="stable")].T
  widths = x - np.append(x[1:], 0.0)
  heights = np.sort(z)[::-1]
  slabs = heights - np.append(heights[1:], 0.0)
  stairs = np.where(z >= heights[:, None], y, 0.0)
  np.maximum.accumulate(stairs, axis=1, out=stairs)
  return float(slabs @ (stairs @ widths))


@functools.partial(jax.jit, static_argnums=3)
def _shares(
  key: Array,
  boxes: Float[Array, "N K"],
  log_volumes: Float[Array, " N"],
  chunks: int,
) -> Float[Array, "chunks samples"]:
  """One over the number of boxes that hold each point drawn."""

  def draw(key: Array) -> Float[Array, " samples"]:
    which, where = jax.random.split(key)
    box = jax.random.categorical(which, log_volumes, shape=(_CHUNK,))
    inside = jax.random.uniform(where, (_CHUNK, boxes.shape[1]))
    point = inside * boxes[box]
    held = (point[:, None, :] <= boxes[None, :, :]).all(-1)
    return 1.0 / held.sum(-1).astype(jnp.float32)

  return jax.lax.map(draw, jax.random.split(key, chunks))
