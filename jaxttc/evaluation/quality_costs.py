# SPDX-License-Identifier: Apache-2.0
"""Costs at equal quality: what curves of quality against cost have to say.

A curve is what one method reaches as more is spent on it, once a seed. Four
questions, each with its spread over seeds:

  cost_to_target    what it costs to reach a quality, for the first time
  quality_at        what a cost buys
  area              mean quality over a range of costs, on a logarithmic scale
  speed_up          how many times less one method needs than another

Between points quality is on the line over the logarithm of cost; nothing is
extrapolated. `frontier.cost_at_accuracy` asks another question: what a mixture
of settings costs.
"""

from collections.abc import Callable, Sequence
import dataclasses

from jaxtyping import Float
import numpy as np

from jaxttc.evaluation import statistics as statistics_lib


@dataclasses.dataclass(frozen=True, kw_only=True)
class Curve:
  """Quality against cost, a row a seed.

  Attributes:
    cost: f64[S, P], positive, rising along P.
    quality: f64[S, P], higher is better.

  Raises:
    ValueError: for shapes that disagree, numbers that are not finite, or costs
      that do not rise.
  """

  cost: Float[np.ndarray, "S P"]
  quality: Float[np.ndarray, "S P"]

  def __post_init__(self):
    cost, quality = (
      np.atleast_2d(np.asarray(x, np.float64))
      for x in (self.cost, self.quality)
    )
    if cost.shape != quality.shape or cost.ndim != 2 or not cost.size:
      raise ValueError(
        f"a curve needs cost[S, P] and quality[S, P], got {cost.shape} and "
        f"{quality.shape}"
      )
    if not (np.isfinite(cost).all() and np.isfinite(quality).all()):
      raise ValueError("a curve's costs and qualities must be finite")
    if (cost[:, 0] <= 0).any() or (np.diff(cost) <= 0).any():
      raise ValueError("a curve's costs must be positive and rise")
    object.__setattr__(self, "cost", cost)
    object.__setattr__(self, "quality", quality)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Reached:
  """What it costs to reach a quality.

  Attributes:
    cost: mean over the seeds that reach it, geometric, with its interval; None
      if none does.
    seeds: share of the seeds that reach it.
  """

  cost: statistics_lib.Interval | None
  seeds: float


def cost_to_target(curve: Curve, target: int | float) -> Reached:
  """The cost at which the quality is first reached.

  The interval is over seeds that reach it, and says nothing of the others:
  look at `seeds`.

  Args:
    curve: of one method.
    target: the quality.
  """
  found = []
  for cost, quality in zip(curve.cost, curve.quality, strict=True):
    first = np.flatnonzero(quality >= target)
    if not first.size:
      continue
    i = first[0]
    if i == 0:
      found.append(cost[0])
      continue
    share = (target - quality[i - 1]) / (quality[i] - quality[i - 1])
    found.append(cost[i - 1] * (cost[i] / cost[i - 1]) ** share)
  if not found:
    return Reached(cost=None, seeds=0.0)
  logs = np.log(np.array(found))
  mean = _over_seeds(logs, np.mean)
  return Reached(
    cost=statistics_lib.Interval(*(float(np.exp(x)) for x in mean)),
    seeds=len(found) / len(curve.cost),
  )


def quality_at(curve: Curve, cost: int | float) -> statistics_lib.Interval:
  """Mean quality that a cost buys.

  Raises:
    ValueError: for a cost outside the range that all seeds measured.
  """
  _within(curve, cost, cost)
  each = [
    np.interp(np.log(cost), np.log(row), quality)
    for row, quality in zip(curve.cost, curve.quality, strict=True)
  ]
  return _over_seeds(np.array(each), np.mean)


def area(
  curve: Curve, low: int | float, high: int | float
) -> statistics_lib.Interval:
  """Mean quality over costs from `low` to `high`, evenly in their logarithm.

  Raises:
    ValueError: for a range that is empty or reaches outside the curve.
  """
  if not low < high:
    raise ValueError(f"area needs low < high, got {low} and {high}")
  _within(curve, low, high)
  ends = np.log([low, high])
  each = []
  for cost, quality in zip(np.log(curve.cost), curve.quality, strict=True):
    inside = cost[(cost > ends[0]) & (cost < ends[1])]
    x = np.concatenate([ends[:1], inside, ends[1:]])
    y = np.interp(x, cost, quality)
    each.append(np.trapezoid(y, x) / (ends[1] - ends[0]))
  return _over_seeds(np.array(each), np.mean)


def speed_up(
  baseline: Curve, method: Curve, target: int | float
) -> float | None:
  """How many times less a method needs to reach a quality; None if either
  does not reach it with every seed."""
  theirs, ours = (cost_to_target(c, target) for c in (baseline, method))
  if min(theirs.seeds, ours.seeds) < 1:
    return None
  return theirs.cost.value / ours.cost.value


def _within(curve: Curve, low: float, high: float) -> None:
  least, most = curve.cost[:, 0].max(), curve.cost[:, -1].min()
  if not least <= low <= high <= most:
    raise ValueError(
      f"costs {low:g} to {high:g} reach outside what all seeds measured, "
      f"{least:g} to {most:g}"
    )


def _over_seeds(
  values: np.ndarray, statistic: Callable[[np.ndarray], float]
) -> statistics_lib.Interval:
  """A mean over seeds and its bootstrap interval; a point for one seed."""
  value = float(statistic(values))
  if len(values) == 1:
    return statistics_lib.Interval(value, value, value)
  rng = np.random.default_rng(0)
  draws = rng.choice(values, (2000, len(values))).mean(axis=1)
  return statistics_lib.percentile_interval(value, draws)


def pareto(points: statistics_lib.Values, senses: Sequence[str]) -> list[bool]:
  """Which points no other dominates, on any number of axes.

  Args:
    points: f64[N, K].
    senses: of each axis "more" or "less", what is better. Twins do not
      dominate each other.

  Raises:
    ValueError: for senses that do not fit, or NaN.
  """
  values = np.asarray(points, np.float64)
  if values.ndim != 2 or values.shape[1] != len(senses):
    raise ValueError(
      f"pareto: expected points[N, {len(senses)}], got {values.shape}"
    )
  if not set(senses) <= {"more", "less"}:
    raise ValueError(f"pareto: senses are more or less, got {list(senses)}")
  if np.isnan(values).any():
    raise ValueError("pareto: a point is NaN; leave out what was not measured")
  better = values * np.array([1.0 if s == "more" else -1.0 for s in senses])
  at_least = (better[:, None] >= better[None]).all(-1)
  above = at_least & (better[:, None] > better[None]).any(-1)
  return (~above.any(axis=0)).tolist()
