# SPDX-License-Identifier: Apache-2.0
"""Voting against verifying at equal compute: surfaces, curves, crossover.

A surface holds, for each problem, how often S solutions verified V times each
lead to a right answer; V = 0 is a vote. Whatever is compared is compared at
equal cost, in units of one solution (`allocators.solve_or_verify`), and a split
chosen on some problems is reported on others: the best of a noisy grid looks
better than it is.

Reference:
  Singhi et al. (2025), When To Solve, When To Verify, arXiv:2504.01005.
"""

from collections.abc import Sequence
from typing import NamedTuple

from jaxtyping import Float, Int, Shaped
import numpy as np

from jaxttc.allocators import solve_or_verify
from jaxttc.evaluation import (
  statistics,
  verification_estimators,
  verification_pools,
)

METHODS = ("best_of_n", "weighted_sc")
_DRAWS = 100  # subsets a problem for weighted votes


class Surface(NamedTuple):
  """Success rates on a grid of splits.

  Attributes:
    solutions: i64[A], S, rising from 1.
    verifications: i64[B], V, rising from 1.
    values: f64[P, A, B].
  """

  solutions: Int[np.ndarray, " A"]
  verifications: Int[np.ndarray, " B"]
  values: Float[np.ndarray, "P A B"]

  def some(self, problems: Sequence[int] | np.ndarray) -> "Surface":
    """The same on some problems."""
    return self._replace(values=self.values[np.asarray(problems)])

  def affordable(
    self, budget: float | int, costs: solve_or_verify.SplitCosts
  ) -> list[tuple[int, int]]:
    """Places (a, b) of the grid that a budget pays for."""
    worth = costs.solutions_worth(
      self.solutions[:, None], self.verifications[None, :]
    )
    return [
      (int(a), int(b)) for a, b in np.argwhere(worth <= budget * (1 + 1e-9))
    ]


class Votes(NamedTuple):
  """Success rates of plain votes.

  Attributes:
    solutions: i64[K], rising from 1.
    values: f64[P, K].
  """

  solutions: Int[np.ndarray, " K"]
  values: Float[np.ndarray, "P K"]

  def at(self, budget: float | int) -> Float[np.ndarray, " P"]:
    """Of each problem, at the largest S that a budget pays for.

    Raises:
      ValueError: if the budget does not pay for one solution.
    """
    place = np.searchsorted(self.solutions, budget * (1 + 1e-9), "right") - 1
    if place < 0:
      raise ValueError(f"a budget of {budget} does not pay for one solution")
    return self.values[:, place]


def votes(
  pool: verification_pools.SolutionPool, solutions: Sequence[int]
) -> Votes:
  """Exact self-consistency at several S.

  Raises:
    ValueError: if an S is out of [1, n], or they do not rise.
  """
  grid = _rising("solutions", solutions)
  values = [
    verification_estimators.self_consistency(pool, int(s)).by_problem
    for s in grid
  ]
  return Votes(grid, np.stack(values, axis=1))


def sr_surface(
  pool: verification_pools.SolutionPool,
  verified: verification_pools.VerificationPool,
  solutions: Sequence[int],
  verifications: Sequence[int],
  *,
  method: str = "best_of_n",
  how: str = "mean",
  seed: int = 0,
) -> Surface:
  """Success rates over a grid of splits.

  At V < Vmax the pool's verifications are cut into Vmax // V blocks, whose
  success rates are averaged: unbiased, and less noisy than the first V alone.

  Args:
    pool: solutions.
    verified: their verifications.
    solutions: S, rising.
    verifications: V, rising from 1 or more.
    method: "best_of_n", exact; or "weighted_sc", over random subsets.
    how: as `aggregate_verifications`.
    seed: of random subsets; all cells share theirs.

  Raises:
    ValueError: if the pools are of different solutions, a grid is out of
      range or does not rise, or a name is unknown.
  """
  verified.check(pool)
  rows = _rising("solutions", solutions)
  columns = _rising("verifications", verifications)
  if method not in METHODS:
    raise ValueError(
      f"sr_surface: method {method!r}, expected one of {', '.join(METHODS)}"
    )
  most = verified.scores.shape[-1]
  values = np.zeros((len(pool.ids), rows.size, columns.size))
  for b, v in enumerate(columns):
    blocks = max(most // int(v), 1)
    for block in range(blocks):
      part = verified.scores[..., block * v : (block + 1) * v]
      scores = verification_pools.aggregate_verifications(part, int(v), how)
      if method == "best_of_n":
        found = verification_estimators.best_of_n_values(
          pool, scores, rows.tolist()
        )
      else:
        found = verification_estimators.weighted_sc_shares(
          pool, scores, rows.tolist(), draws=_DRAWS, seed=seed
        ).mean(0)
      values[:, :, b] += found / blocks
  return Surface(rows, columns, values)


class MatchedPoint(NamedTuple):
  """Both ways at one budget, on the problems that are reported.

  Attributes:
    budget: in units of one solution.
    vote: f64[P], success of the vote.
    verified: f64[P], of the chosen split; of one solution, taken as it is,
      where the budget pays for no verification.
    split: the split, chosen on other problems; V = 0 if there is none.
  """

  budget: float
  vote: Float[np.ndarray, " P"]
  verified: Float[np.ndarray, " P"]
  split: solve_or_verify.Split


def compute_matched_curves(
  budgets: Sequence[float | int] | np.ndarray,
  costs: solve_or_verify.SplitCosts,
  voted: Votes,
  surface: Surface,
  choose: np.ndarray,
  report: np.ndarray,
) -> list[MatchedPoint]:
  """Votes and verified answers at equal compute.

  Args:
    budgets: in units of one solution, at least 1.
    costs: prices.
    voted: of all problems.
    surface: of all problems.
    choose: i64[Q], problems on which each budget's split is chosen.
    report: i64[P], problems that are reported.

  Raises:
    ValueError: if there is nothing to choose or report on, or a budget does
      not pay for one solution.
  """
  if not len(choose) or not len(report):
    raise ValueError(
      f"compute_matched_curves: {len(choose)} problems to choose on, "
      f"{len(report)} to report; expected some of each"
    )
  means = surface.some(choose).values.mean(0)
  single = surface.values[report][:, 0, 0]
  if surface.solutions[0] != 1:
    raise ValueError("compute_matched_curves: the surface must begin at S = 1")
  points = []
  for budget in budgets:
    open_to = surface.affordable(budget, costs)
    if open_to:
      a, b = max(open_to, key=lambda place: means[place])
      chosen = surface.values[report][:, a, b]
      split = solve_or_verify.Split(
        int(surface.solutions[a]), int(surface.verifications[b])
      )
    else:
      chosen, split = single, solve_or_verify.Split(1, 0)
    points.append(MatchedPoint(budget, voted.at(budget)[report], chosen, split))
  return points


class MatchRatio(NamedTuple):
  """Where verifying catches up with voting; None where it never does.

  Attributes:
    smallest: least ratio, over the budgets at which votes gain, of the budget
      at which verifying is as good to that of the vote.
    largest: the largest of those ratios.
    at_best_vote: that ratio at the vote's highest accuracy.
    crossover: first budget from which verifying is ahead at equal compute.
  """

  smallest: float | None
  largest: float | None
  at_best_vote: float | None
  crossover: float | None

  @property
  def text(self) -> str:
    """One line for people."""
    if self.at_best_vote is None:
      return "verifying never matches the best vote"
    ahead = (
      "never ahead at equal compute"
      if self.crossover is None
      else f"ahead from {self.crossover:g} solutions' compute on"
    )
    times = f"{self.at_best_vote:.3g} times its compute"
    return f"matches the best vote at {times}, {ahead}"


def match_ratio(
  budgets: Shaped[np.ndarray, " X"],
  vote: Float[np.ndarray, " Y"],
  verified: Float[np.ndarray, " Z"],
) -> MatchRatio:
  """Compares two curves over the same budgets.

  Budgets at which verifying cannot pay for a second solution are no match: of
  curves that are equal at one solution the ratio would be 1.

  Args:
    budgets: rising.
    vote: accuracy of votes.
    verified: accuracy of verified answers.

  Raises:
    ValueError: if the shapes differ, there are no budgets, or they do not
      rise.
  """
  x = np.asarray(budgets, np.float64)
  vote, verified = np.asarray(vote), np.asarray(verified)
  if x.ndim != 1 or not x.size or not vote.shape == verified.shape == x.shape:
    raise ValueError(
      f"match_ratio: expected three arrays of one length, got {x.shape}, "
      f"{vote.shape}, {verified.shape}"
    )
  if (np.diff(x) <= 0).any():
    raise ValueError("match_ratio: expected rising budgets")
  base = verified[0]
  ratios = {}
  before = np.maximum.accumulate(np.append(-np.inf, vote[:-1]))
  for budget, goal, least in zip(x, vote, before, strict=True):
    reached = x[(verified >= goal) & (verified > base)]
    if goal > max(base, least) and reached.size:
      ratios[budget] = float(reached[0] / budget)
  best = x[np.argmax(vote)]
  ahead = verified > vote
  held = np.flatnonzero(~ahead)
  first = held[-1] + 1 if held.size else 0
  crossover = float(x[first]) if first < x.size else None
  return MatchRatio(
    min(ratios.values(), default=None),
    max(ratios.values(), default=None),
    ratios.get(best),
    crossover,
  )


class Advice(NamedTuple):
  """Whether to verify at a budget.

  Attributes:
    choice: "solve" or "verify".
    split: the better one.
    gain: of the best verified split over the vote, an interval over problems.
      The split was chosen on the same problems, so it errs upward.
  """

  choice: str
  split: solve_or_verify.Split
  gain: statistics.Interval


def advise(
  budget: float | int,
  costs: solve_or_verify.SplitCosts,
  voted: Votes,
  surface: Surface,
  *,
  seed: int = 0,
) -> Advice:
  """Says, from pilot pools, whether a budget is better voted or verified.

  Raises:
    ValueError: if the budget does not pay for one solution, or the two are of
      different problems.
  """
  everyone = np.arange(len(surface.values))
  (point,) = compute_matched_curves(
    [budget], costs, voted, surface, everyone, everyone
  )
  gain = statistics.paired_difference(
    point.verified, point.vote, rng=np.random.default_rng(seed)
  )
  if gain.value > 0 and point.split.verifications:
    return Advice("verify", point.split, gain)
  largest = int(voted.solutions[voted.solutions <= budget * (1 + 1e-9)][-1])
  return Advice("solve", solve_or_verify.Split(largest, 0), gain)


def measured_model(
  costs: solve_or_verify.SplitCosts, voted: Votes, surface: Surface
) -> solve_or_verify.SplitModel:
  """A model for `allocate` that interpolates what was measured.

  Linear in log S and log V between the grid's points; beyond them nothing is
  known, and nothing is asked.
  """
  mean = surface.values.mean(0)
  vote = voted.values.mean(0)

  def success(s: np.ndarray, v: np.ndarray) -> np.ndarray:
    weights = grid_weights(surface, s, np.maximum(v, 1))
    verified = weights @ mean.ravel()
    voting = np.interp(np.log(s), np.log(voted.solutions), vote)
    return np.where(v > 0, verified, voting)

  return solve_or_verify.SplitModel(
    costs,
    success,
    int(min(surface.solutions[-1], voted.solutions[-1])),
    int(surface.verifications[-1]),
  )


def grid_weights(
  surface: Surface,
  solutions: Shaped[np.ndarray, " M"],
  verifications: Shaped[np.ndarray, " M"],
) -> Float[np.ndarray, "M AB"]:
  """Weights of the grid's cells, flattened, that interpolate bilinearly."""
  rows = _hat(surface.solutions, solutions)
  columns = _hat(surface.verifications, verifications)
  return (rows[:, :, None] * columns[:, None, :]).reshape(len(rows), -1)


def _hat(grid: np.ndarray, at: np.ndarray) -> np.ndarray:
  """f64[M, A], linear weights in the logarithm, constant beyond the ends."""
  unit = np.eye(len(grid))
  position = np.interp(np.log(at), np.log(grid), np.arange(len(grid)))
  low = np.floor(position).astype(int)
  high = np.minimum(low + 1, len(grid) - 1)
  share = (position - low)[:, None]
  return (1 - share) * unit[low] + share * unit[high]


def _rising(name: str, grid: Sequence[int]) -> np.ndarray:
  found = np.asarray(grid, np.int64)
  if not found.size or found[0] < 1 or (np.diff(found) <= 0).any():
    raise ValueError(
      f"{name}: expected rising numbers from 1, got {list(grid)}"
    )
  return found
