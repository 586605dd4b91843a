# SPDX-License-Identifier: Apache-2.0
"""Which method buys most accuracy for its cost, and how sure we may be.

Questions asked of a table of runs, or of the points that summarise it (see
`tables`):

  pareto                     the points that no other dominates
  cost_at_accuracy           what a method needs to reach an accuracy
  savings, savings_at_best   how many times less one method needs than another
  on_front_at_every_budget   is a method's best setting undominated?

**Cost at an accuracy.** Whoever owns two settings can also send each problem
to one of them by the toss of a coin, and pays and earns the average of both.
So a method reaches an accuracy at the least mean cost of any *mixture* of its
settings: the lower convex envelope of its points, monotone in accuracy, honest
about dips (a setting that is worse and dearer is never used), and never made
worse by measuring one more setting.
"""

from collections.abc import Sequence
import dataclasses

import numpy as np

from jaxttc.evaluation import quality_costs, tables
from jaxttc.evaluation import statistics as statistics_lib


@dataclasses.dataclass(frozen=True, kw_only=True)
class Saving:
  """How many times less a method costs than a baseline.

  Attributes:
    accuracy: the accuracy both reach.
    method_cost: what the method needs for it.
    baseline_cost: what the baseline needs for it.
    ratio: baseline_cost / method_cost: above 1, the method is cheaper. An end
      of the interval is 0 where the method, and infinite where the baseline,
      does not reach the accuracy in the resample.
    reached: share of the resamples in which both reach the accuracy.
  """

  accuracy: float
  method_cost: float
  baseline_cost: float
  ratio: statistics_lib.Interval
  reached: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class FrontCheck:
  """Whether a method is on the Pareto front of what a budget can buy.

  Attributes:
    budget: the budget.
    setting: the method's most accurate setting at this budget.
    gap: accuracy by which the best rival at no higher mean cost is ahead; 0
      if none is ahead.
    strict: no rival is as good and as cheap, and better in either.
    within: the interval of the gap reaches 0.
  """

  budget: float
  setting: str
  gap: statistics_lib.Interval
  strict: bool
  within: bool


def pareto(points: Sequence[tables.Point], cost_field: str) -> list[bool]:
  """Which points no other point dominates.

  A point is dominated by one that costs no more and is no less accurate, and
  is better in at least one of the two. Twins do not dominate each other.

  Args:
    points: the points to compare.
    cost_field: the cost axis.

  Returns:
    One truth value a point, in their order.

  Raises:
    ValueError: if a point lacks the cost field.
  """
  cost = _costs(points, cost_field)
  accuracy = np.array([point.accuracy for point in points])
  return quality_costs.pareto(np.stack([cost, accuracy], 1), ("less", "more"))


def cost_at_accuracy(
  points: Sequence[tables.Point], accuracy: int | float, field: str
) -> float | None:
  """Least mean cost at which a method reaches an accuracy.

  See the module docstring: the best mixture of the method's settings. Below
  its cheapest point's accuracy, the cost of that point: no extrapolation.

  Args:
    points: points of ONE method.
    accuracy: the accuracy wanted, in [0, 1].
    field: the cost axis.

  Returns:
    The cost, or None if no setting reaches the accuracy.

  Raises:
    ValueError: if there are no points, points of several methods, a point
      without the cost field, or an accuracy out of range.
  """
  methods = sorted({point.method for point in points})
  if len(methods) != 1:
    raise ValueError(
      f"cost_at_accuracy: expected points of one method, got {methods}"
    )
  if not 0 <= accuracy <= 1:
    raise ValueError(
      f"cost_at_accuracy: accuracy must lie in [0, 1], got {accuracy}"
    )
  cost = _costs(points, field)[None]
  reached = np.array([[point.accuracy for point in points]])
  least = _envelope(reached, cost, np.array([accuracy]))[0]
  return float(least) if np.isfinite(least) else None


def savings(
  table: Sequence[tables.Run],
  method: str,
  baseline: str,
  field: str,
  accuracies: Sequence[float] | None = None,
  *,
  resamples: int = 2000,
  level: float = 0.95,
  seed: int = 0,
) -> list[Saving]:
  """How many times less a method costs, at accuracies both methods reach.

  Args:
    table: the runs; both methods with all their settings.
    method: the method.
    baseline: what it is compared to.
    field: the cost axis.
    accuracies: accuracies to compare at; those that either method does not
      reach are left out. None: five, evenly spaced from the accuracy of the
      better of the two cheapest points to the highest both reach.
    resamples: bootstrap resamples, over problems and seeds.
    level: confidence level, in (0, 1).
    seed: seed of the bootstrap.

  Returns:
    One saving for each accuracy, in their order; none if there is no accuracy
    that both reach. Resamples in which neither reaches it are left out.

  Raises:
    ValueError: as `tables.resample` does, or if a name is not in the table.
  """
  draws = tables.resample(table, resamples, seed)
  ours, theirs = _sides(draws, method, baseline, field)
  if accuracies is None:
    accuracies = np.linspace(*_shared_range(ours, theirs), 5).tolist()
  found = []
  for accuracy in accuracies:
    wanted = np.full(len(draws.accuracy), float(accuracy))
    saving = _saving(ours, theirs, wanted, level)
    if saving is not None:
      found.append(saving)
  return found


def savings_at_best(
  table: Sequence[tables.Run],
  method: str,
  baseline: str,
  field: str,
  *,
  resamples: int = 2000,
  level: float = 0.95,
  seed: int = 0,
) -> Saving | None:
  """The saving at the best accuracy the baseline reaches.

  Each resample looks for the baseline's best anew, so the interval also says
  how sure we are of where that best lies.

  Args:
    table: the runs; both methods with all their settings.
    method: the method.
    baseline: what it is compared to.
    field: the cost axis.
    resamples: bootstrap resamples, over problems and seeds.
    level: confidence level, in (0, 1).
    seed: seed of the bootstrap.

  Returns:
    The saving, or None if the method never is as accurate.

  Raises:
    ValueError: as `tables.resample` does, or if a name is not in the table.
  """
  draws = tables.resample(table, resamples, seed)
  ours, theirs = _sides(draws, method, baseline, field)
  return _saving(ours, theirs, theirs[0].max(axis=1), level)


def on_front_at_every_budget(
  table: Sequence[tables.Run],
  method: str,
  field: str,
  *,
  resamples: int = 2000,
  level: float = 0.95,
  seed: int = 0,
) -> list[FrontCheck]:
  """Whether a method is on the Pareto front, at each budget it ran under.

  At budget b the method enters with its most accurate setting (the cheaper of
  equals); its rivals are all settings of all other methods under any budget
  <= b. The best of many rivals is flattered by chance and the method has one
  entry, so the check errs against the method.

  Args:
    table: the runs.
    method: the method.
    field: the cost axis.
    resamples: bootstrap resamples, over problems and seeds.
    level: confidence level of the gap's interval, in (0, 1).
    seed: seed of the bootstrap.

  Returns:
    One check a budget, in rising order.

  Raises:
    ValueError: as `tables.resample` does, or if a name is not in the table.
  """
  draws = tables.resample(table, resamples, seed)
  own = draws.of(method)
  cost = draws.field(field)
  budgets = np.array([key[2] for key in draws.keys])
  checks = []
  for budget in np.unique(budgets[own]):
    entries = own[budgets[own] == budget]
    order = np.lexsort((cost[0, entries], -draws.accuracy[0, entries]))
    entry = int(entries[order[0]])
    rivals = np.setdiff1d(np.flatnonzero(budgets <= budget), own)
    checks.append(_front_check(draws, cost, entry, rivals, level))
  return checks


def _front_check(
  draws: tables.Draws,
  cost: np.ndarray,
  entry: int,
  rivals: np.ndarray,
  level: float,
) -> FrontCheck:
  lead = draws.accuracy[:, rivals] - draws.accuracy[:, [entry]]
  affordable = cost[:, rivals] <= cost[:, [entry]]
  gap = np.where(affordable, lead, 0.0).max(axis=1, initial=0.0)
  interval = tables.interval(gap, level)
  cheaper = cost[0, rivals] < cost[0, entry]
  dominates = affordable[0] & (lead[0] >= 0) & ((lead[0] > 0) | cheaper)
  return FrontCheck(
    budget=draws.keys[entry][2],
    setting=draws.keys[entry][1],
    gap=interval,
    strict=not bool(dominates.any()),
    within=interval.low <= 0,
  )


def _envelope(
  accuracy: np.ndarray, cost: np.ndarray, wanted: np.ndarray
) -> np.ndarray:
  """Least cost of a mixture of points that reaches an accuracy.

  A cheapest mixture never needs more than two points: one that reaches the
  accuracy, and a cheaper one that does not.

  Args:
    accuracy: f64[R, P].
    cost: f64[R, P].
    wanted: f64[R].

  Returns:
    f64[R]; infinite where no point reaches the accuracy.
  """
  enough = accuracy >= wanted[:, None]
  least = np.where(enough, cost, np.inf).min(axis=1)
  for i in range(accuracy.shape[1]):
    low_accuracy, low_cost = accuracy[:, i, None], cost[:, i, None]
    rise = np.where(enough, accuracy - low_accuracy, 1.0)
    rise = np.where(rise > 0, rise, 1.0)
    share = (wanted[:, None] - low_accuracy) / rise
    mixed = low_cost + share * (cost - low_cost)
    usable = enough & ~enough[:, i, None]
    least = np.minimum(least, np.where(usable, mixed, np.inf).min(axis=1))
  return least


_Side = tuple[np.ndarray, np.ndarray]  # accuracy and cost, both f64[1 + R, P]


def _sides(
  draws: tables.Draws, method: str, baseline: str, field: str
) -> tuple[_Side, _Side]:
  cost = draws.field(field)
  ours, theirs = draws.of(method), draws.of(baseline)
  return (
    (draws.accuracy[:, ours], cost[:, ours]),
    (draws.accuracy[:, theirs], cost[:, theirs]),
  )


def _shared_range(ours: _Side, theirs: _Side) -> tuple[float, float]:
  """From the better of the cheapest points to the lesser of the bests."""
  cheapest = [a[0][np.argmin(c[0])] for a, c in (ours, theirs)]
  top = min(a[0].max() for a, _ in (ours, theirs))
  return float(min(max(cheapest), top)), float(top)


def _saving(
  ours: _Side, theirs: _Side, wanted: np.ndarray, level: float
) -> Saving | None:
  method_cost = _envelope(*ours, wanted)
  baseline_cost = _envelope(*theirs, wanted)
  reached = np.isfinite(method_cost) & np.isfinite(baseline_cost)
  if not reached[0]:
    return None
  ratio = statistics_lib.ratio(baseline_cost, method_cost)
  ratio = np.where((method_cost == 0) & (baseline_cost == 0), 1.0, ratio)
  return Saving(
    accuracy=float(wanted[0]),
    method_cost=float(method_cost[0]),
    baseline_cost=float(baseline_cost[0]),
    ratio=tables.interval(ratio, level),
    reached=float(reached[1:].mean()),
  )


def _costs(points: Sequence[tables.Point], field: str) -> np.ndarray:
  for point in points:
    if field not in point.cost:
      raise ValueError(
        tables.unknown_name("cost field", field, set(point.cost))
      )
  return np.array([point.cost[field].value for point in points])
