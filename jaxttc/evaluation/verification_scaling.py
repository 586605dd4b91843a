# SPDX-License-Identifier: Apache-2.0
"""How the best split of a budget grows with it: S ~ C^a, V ~ C^b.

Along the line of splits that cost C, success rates are interpolated, smoothed
by a parabola in log S, and its peak is the best split. Over budgets, peaks are
fitted by lines in logarithms. A peak at the line's end is no peak: it says only
where the pool, or V = 1, ends; such points are reported, and can be left out.

Reference:
  Singhi et al. (2025), When To Solve, When To Verify, arXiv:2504.01005 (the
    exponents; the smoothing is ours).
"""

from typing import NamedTuple

from jaxtyping import Bool, Float, Shaped
import numpy as np

from jaxttc.allocators import solve_or_verify
from jaxttc.evaluation import statistics, verification_curves

_CANDIDATES = 41  # splits tried on a line


class Optima(NamedTuple):
  """The best split at each budget; row 0 measured, the others resampled.

  Attributes:
    budgets: f64[X].
    solutions: f64[R, X], not rounded.
    verifications: f64[R, X], not rounded.
    on_edge: bool[R, X], whether the best is the line's end.
  """

  budgets: Float[np.ndarray, " X"]
  solutions: Float[np.ndarray, "R X"]
  verifications: Float[np.ndarray, "R X"]
  on_edge: Bool[np.ndarray, "R X"]


def optimal_splits(
  surface: verification_curves.Surface,
  costs: solve_or_verify.SplitCosts,
  budgets: Shaped[np.ndarray, " X"],
  *,
  resamples: int = 0,
  seed: int = 0,
) -> Optima:
  """The best split along each budget's line.

  Args:
    surface: success rates.
    costs: prices, with which S = C / cost(1, V).
    budgets: in units of one solution.
    resamples: of problems.
    seed: of the resamples.

  Raises:
    ValueError: if a budget's line has fewer than 3 whole splits on the grid:
      it pays for too little, or for more than the pool holds.
  """
  problems = len(surface.values)
  weights = np.ones((1, problems))
  if resamples:
    rng = np.random.default_rng(seed)
    drawn = statistics.resample_counts(problems, resamples, rng)
    weights = np.concatenate([weights, drawn])
  means = weights @ surface.values.reshape(problems, -1) / problems
  columns = [_peak(surface, costs, float(c), means) for c in budgets]
  solutions, verifications, edges = map(
    lambda parts: np.stack(parts, axis=1), zip(*columns, strict=True)
  )
  return Optima(
    np.asarray(budgets, np.float64), solutions, verifications, edges
  )


def _line(surface, costs, budget):
  """Splits (S, V) of equal cost on the grid, with V rising."""
  most = float(surface.verifications[-1])
  v = np.exp(
    np.linspace(np.log(surface.verifications[0]), np.log(most), _CANDIDATES)
  )
  # Cost is S times a function of V, whatever the prefill costs.
  s = budget / costs.solutions_worth(1, v)
  kept = (s >= surface.solutions[0] - 1e-9) & (s <= surface.solutions[-1])
  if kept.sum() < 3:
    raise ValueError(
      f"a budget of {budget:g} solutions leaves {int(kept.sum())} splits on "
      f"the grid of {surface.solutions[-1]} solutions and {most:g} "
      "verifications; expected 3"
    )
  return np.maximum(s[kept], 1.0), v[kept]


def _peak(surface, costs, budget, means):
  s, v = _line(surface, costs, budget)
  value = means @ verification_curves.grid_weights(surface, s, v).T
  x = np.log(s)
  basis = np.stack([np.ones_like(x), x - x.mean(), (x - x.mean()) ** 2], 1)
  smooth = value @ (basis @ np.linalg.pinv(basis)).T
  best = smooth.argmax(1)
  return s[best], v[best], (best == 0) | (best == len(s) - 1)


class ScalingLaw(NamedTuple):
  """log S = a log C + c, log V = b log C + d.

  Attributes:
    solutions: a and its interval.
    verifications: b and its interval.
    difference: a - b and its interval.
    solutions_scale: c.
    verifications_scale: d.
    points: budgets that the fit of the measured row used.
    on_edge: of them, those whose best split is the line's end.
  """

  solutions: statistics.Interval
  verifications: statistics.Interval
  difference: statistics.Interval
  solutions_scale: float
  verifications_scale: float
  points: int
  on_edge: int

  def split(
    self,
    budget: float | int,
    costs: solve_or_verify.SplitCosts,
    most_solutions: int,
    most_verifications: int,
  ) -> solve_or_verify.Split:
    """The whole split nearest to the law's, in logarithms, that is paid for.

    Of the law only S is used; V follows from the budget. Verifies at least
    once where that can be paid.

    Raises:
      ValueError: as `solve_or_verify.allocate`.
    """
    goal = self.solutions_scale + self.solutions.value * np.log(budget)

    def nearness(s: np.ndarray, v: np.ndarray) -> np.ndarray:
      most = np.minimum(costs.most_verifications(budget, s), most_verifications)
      off = np.abs(np.log(s) - goal)
      # Leave nothing unspent; a plain vote only where nothing else is paid.
      return -off - 1e3 * (v < most) - 1e6 * (v == 0)

    model = solve_or_verify.SplitModel(
      costs, nearness, most_solutions, most_verifications
    )
    return solve_or_verify.allocate(budget, model)


def fit_scaling(
  optima: Optima, *, drop_edges: bool = False, level: float = 0.95
) -> ScalingLaw:
  """Exponents of the best split, with intervals over the resampled rows.

  Args:
    optima: best splits at two or more budgets.
    drop_edges: leave out, row by row, budgets whose best split is an end of
      the line. Rows left with fewer than two budgets have no exponent.
    level: confidence level, in (0, 1).

  Raises:
    ValueError: if fewer than two budgets are left in the measured row.
  """
  x = np.log(optima.budgets)
  fits = []
  for s, v, edge in zip(
    optima.solutions, optima.verifications, optima.on_edge, strict=True
  ):
    kept = ~edge if drop_edges else np.ones(edge.shape, bool)
    if kept.sum() < 2:
      fits.append((np.nan,) * 4)
      continue
    a, c = np.polyfit(x[kept], np.log(s[kept]), 1)
    b, d = np.polyfit(x[kept], np.log(v[kept]), 1)
    fits.append((a, b, c, d))
  found = np.array(fits)
  if np.isnan(found[0]).any():
    raise ValueError(
      f"fit_scaling: {int((~optima.on_edge[0]).sum())} of "
      f"{optima.budgets.size} budgets have a best split inside the grid; "
      "expected at least 2"
    )

  def interval(values: np.ndarray) -> statistics.Interval:
    if len(values) == 1:
      value = float(values[0])
      return statistics.Interval(value, value, value)
    got = statistics.percentile_interval(float(values[0]), values[1:], level)
    return statistics.Interval(
      got.value, min(got.low, got.value), max(got.high, got.value)
    )

  edges = optima.on_edge[0]
  return ScalingLaw(
    interval(found[:, 0]),
    interval(found[:, 1]),
    interval(found[:, 0] - found[:, 1]),
    float(found[0, 2]),
    float(found[0, 3]),
    int((~edges).sum() if drop_edges else edges.size),
    0 if drop_edges else int(edges.sum()),
  )
