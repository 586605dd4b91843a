# SPDX-License-Identifier: Apache-2.0
"""Cost and quality of routers over all prices: curves, hulls, and figures.

A router is a family of policies, one a price, so it is judged as a curve of
points (mean cost, mean score). Two points can be mixed by drawing between
them, so what a curve offers is its non-decreasing concave hull. The *zero
router* is the hull of the single models: it sees no question, and any router
below it is useless. The *oracle* knows every score in advance.

References:
  Hu et al. (2024), RouterBench, arXiv:2403.12031 (hull, AIQ, zero router). AIQ
    here divides by c_max - c_min, as the paper's definition says.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int
import numpy as np

from jaxttc.allocators import routing as allocation
from jaxttc.evaluation import statistics
from jaxttc.predictors import routing

# i32[P, N]: the model of each question at each price.
Choices = Int[Array, "P N"] | Int[np.ndarray, "P N"]


class Curve(NamedTuple):
  """A router at each of P prices.

  Attributes:
    prices: f64[P].
    cost: f64[P], mean cost of a question.
    score: f64[P], mean score.
    shares: f64[P, K], of the calls that each model got.
  """

  prices: Float[np.ndarray, " P"]
  cost: Float[np.ndarray, " P"]
  score: Float[np.ndarray, " P"]
  shares: Float[np.ndarray, "P K"]


class Hull(NamedTuple):
  """Vertices of a non-decreasing concave hull, by rising cost.

  Attributes:
    cost: f64[V], rising.
    score: f64[V], rising.
  """

  cost: Float[np.ndarray, " V"]
  score: Float[np.ndarray, " V"]

  def at(self, cost: float | np.ndarray) -> Any:
    """The score that a mean cost buys; -inf below the first vertex."""
    return np.interp(cost, self.cost, self.score, left=-np.inf)

  def cost_of(self, score: float) -> float:
    """The least mean cost of a mean score; infinite if it is never reached."""
    if score > self.score[-1]:
      return float("inf")
    return float(np.interp(score, self.score, self.cost))


def prices(costs: Float[np.ndarray, "N K"], count: int = 256) -> np.ndarray:
  """Prices for a sweep of scores in [0, 1]: 0, a geometric row, infinity.

  The row runs from a price at which the largest difference of costs is worth a
  thousandth of a score to one at which the smallest is worth two.

  Raises:
    ValueError: for fewer than three prices.
  """
  if count < 3:
    raise ValueError(f"prices: expected at least 3, got {count}")
  levels = np.unique(np.asarray(costs, np.float64))
  gaps = np.diff(levels)
  if not gaps.size:
    return np.array([0.0, 1.0, np.inf])
  # Costs that differ in each question leave gaps of next to nothing.
  small = max(gaps.min(), 1e-3 * np.ptp(levels))
  row = np.geomspace(1e-3 / np.ptp(levels), 2 / small, count - 2)
  return np.concatenate([[0.0], row, [np.inf]])


@jax.jit
def _points(choices, scores, costs, weights):
  """Mean cost and score of choices [P, N] under weights [R, N]: f32[R, P]."""
  rows = jnp.arange(choices.shape[1])
  total = weights.sum(1)[:, None]
  cost = weights @ costs[rows, choices].T / total
  return cost, weights @ scores[rows, choices].T / total


def curve(
  choices: Choices,
  scores: Float[np.ndarray, "N K"],
  costs: Float[np.ndarray, "N K"],
  at: Float[np.ndarray, " P"],
) -> Curve:
  """The curve of choices at several prices, on known scores and costs.

  Args:
    choices: i32[P, N], from `allocators.routing.sweep`.
    scores: f64[N, K].
    costs: f64[N, K].
    at: f64[P], the prices.

  Raises:
    ValueError: if a score is not known.
  """
  if np.isnan(scores).any():
    raise ValueError("curve: expected a score of every model on every question")
  chosen = np.asarray(choices)
  rows = np.arange(len(scores))
  shares = np.stack([(chosen == k).mean(1) for k in range(scores.shape[1])], 1)
  return Curve(
    np.asarray(at),
    costs[rows, chosen].mean(1),
    scores[rows, chosen].mean(1),
    shares,
  )


def evaluate(
  forecast: routing.Forecast,
  scores: Float[np.ndarray, "N K"],
  costs: Float[np.ndarray, "N K"],
  at: Float[np.ndarray, " P"],
) -> Curve:
  """The curve of a router's forecasts; as `curve`."""
  return curve(allocation.sweep(forecast, at), scores, costs, at)


def oracle(
  scores: Float[np.ndarray, "N K"], costs: Float[np.ndarray, "N K"]
) -> routing.Forecast:
  """The forecast that knows every score and cost."""
  return routing.Forecast(
    jnp.asarray(scores, jnp.float32), jnp.asarray(costs, jnp.float32)
  )


def hull(cost: statistics.Values, score: statistics.Values) -> Hull:
  """The non-decreasing concave hull of points, O(P log P).

  Raises:
    ValueError: if there are no points, or one is not finite.
  """
  cost, score = np.asarray(cost, float), np.asarray(score, float)
  if not cost.size or not np.isfinite([cost, score]).all():
    raise ValueError("hull: expected finite points, at least one")
  order = np.lexsort((-score, cost))
  cost, score = cost[order], score[order]
  # What a cheaper point equals cannot be a vertex.
  before = np.concatenate([[-np.inf], np.maximum.accumulate(score)[:-1]])
  rises = score > before
  kept: list[tuple[float, float]] = []
  for point in zip(cost[rises].tolist(), score[rises].tolist(), strict=True):
    while len(kept) > 1 and _turns_left(kept[-2], kept[-1], point):
      kept.pop()
    kept.append(point)
  return Hull(*np.array(kept).T)


def _turns_left(a, b, c) -> bool:
  """Whether b lies on or below the chord from a to c."""
  return (b[1] - a[1]) * (c[0] - a[0]) <= (c[1] - a[1]) * (b[0] - a[0])


def zero_router(
  scores: Float[np.ndarray, "N K"], costs: Float[np.ndarray, "N K"]
) -> Hull:
  """The hull of the single models."""
  return hull(costs.mean(0), scores.mean(0))


def aiq(front: Hull, low: float | int, high: float | int) -> float:
  """Average improvement in quality: the mean height of a hull over costs.

  Beyond its last vertex a hull goes on level; below its first it buys nothing,
  score 0.

  Args:
    front: the hull.
    low: least cost of the comparison, e.g. of the cheapest model.
    high: largest cost, of the dearest model.

  Raises:
    ValueError: if the range is empty.
  """
  if not low < high:
    raise ValueError(f"aiq: expected low < high, got {low} and {high}")
  inside = (front.cost > low) & (front.cost < high)
  start = max(low, front.cost[0])
  if start >= high:
    return 0.0
  x = np.concatenate([[start], front.cost[inside], [high]])
  return float(np.trapezoid(front.at(x), x) / (high - low))


def regret(
  forecast: routing.Forecast,
  scores: Float[np.ndarray, "N K"],
  costs: Float[np.ndarray, "N K"],
  at: Float[np.ndarray, " P"],
) -> Float[np.ndarray, " P"]:
  """What the oracle has more of score - price * cost, f64[P], mean.

  Args:
    forecast: the router's.
    scores: f64[N, K].
    costs: f64[N, K].
    at: f64[P], finite prices.
  """
  chosen = np.asarray(allocation.sweep(forecast, at))
  rows = np.arange(len(scores))
  found = []
  for price, choices in zip(at, chosen, strict=True):
    worth = scores - price * costs
    found.append((worth.max(1) - worth[rows, choices]).mean())
  return np.array(found)


def calibration_error(
  predicted: Float[np.ndarray, "N K"],
  scores: Float[np.ndarray, "N K"],
  bins: int = 10,
) -> float:
  """Mean |mean prediction - mean score| over bins of equal size, all models."""
  known = ~np.isnan(scores)
  flat, truth = np.asarray(predicted)[known], scores[known]
  order = np.argsort(flat, kind="stable")
  gaps = [
    abs(flat[rows].mean() - truth[rows].mean()) * len(rows)
    for rows in np.array_split(order, bins)
    if len(rows)
  ]
  return float(np.sum(gaps) / len(flat))


def resampled(
  choices: Choices,
  scores: Float[np.ndarray, "N K"],
  costs: Float[np.ndarray, "N K"],
  weights: Float[np.ndarray, "R N"],
) -> list[Hull]:
  """The hull of choices in each bootstrap resample, all in one compiled call.

  Args:
    choices: i32[P, N].
    scores: f64[N, K], known.
    costs: f64[N, K].
    weights: f64[R, N], how often each question is drawn.
  """
  cost, score = _points(
    jnp.asarray(choices),
    *(jnp.asarray(a, jnp.float32) for a in (scores, costs)),
    jnp.asarray(weights, jnp.float32),
  )
  rows = zip(np.asarray(cost), np.asarray(score), strict=True)
  return [hull(x, y) for x, y in rows]


def group_weights(
  groups: Int[np.ndarray, " N"], resamples: int, rng: np.random.Generator
) -> Float[np.ndarray, "R N"]:
  """Bootstrap weights that draw whole groups of near-duplicates.

  Args:
    groups: i64[N].
    resamples: R.
    rng: is advanced.
  """
  _, place = np.unique(groups, return_inverse=True)
  count = place.max() + 1
  drawn = rng.multinomial(count, np.full(count, 1 / count), size=resamples)
  return drawn[:, place].astype(np.float64)


def best_single(scores: Float[np.ndarray, "N K"]) -> int:
  """The column of greatest mean score, by the questions where it is known."""
  return int(np.nanargmax(np.nanmean(scores, 0)))


def mean_curve(curves: Sequence[Hull], grid: np.ndarray) -> np.ndarray:
  """Mean score of several hulls at each cost of a grid; NaN where one has none.

  Args:
    curves: hulls.
    grid: f64[G], costs.
  """
  values = np.stack([front.at(grid) for front in curves])
  return np.where(np.isfinite(values).all(0), values.mean(0), np.nan)
