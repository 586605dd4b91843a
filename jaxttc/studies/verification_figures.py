# SPDX-License-Identifier: Apache-2.0
"""What the study of verifying measures: curves, laws, regret, ratios.

Problems are cut into two halves. A split, or the law that predicts splits, is
chosen on one half and reported on the other, both ways round, so that every
problem is reported once and none has a say in its own split. Intervals resample
problems.
"""

from typing import Any, NamedTuple

import numpy as np

from jaxttc.allocators import solve_or_verify
from jaxttc.evaluation import (
  statistics,
  verification_curves,
  verification_scaling,
)
from jaxttc.studies import verification_recipe, verification_study

METHODS = {"best_of_n": "GenRM best-of-N", "weighted_sc": "weighted vote"}


class Measured(NamedTuple):
  """What all figures are made of.

  Attributes:
    costs: prices, prefill free.
    voted: plain votes.
    surfaces: by method.
    halves: the two ways round, (chosen on, reported on).
  """

  costs: solve_or_verify.SplitCosts
  voted: verification_curves.Votes
  surfaces: dict[str, verification_curves.Surface]
  halves: tuple[tuple[np.ndarray, np.ndarray], ...]


def measure(
  recipe: verification_recipe.StudyRecipe, found: verification_study.Found
) -> Measured:
  """Prices, votes and surfaces of a study's pools, and the two halves."""
  checked = found.checked[recipe.checks[0]].pool
  said = ~np.isnan(checked.scores)
  costs = solve_or_verify.SplitCosts(
    solution_tokens=float(found.solutions.tokens.mean()),
    verification_tokens=float(checked.tokens[said].mean()),
  )
  grid = [s for s in recipe.grid if s <= recipe.verified]
  most = recipe.verifications
  columns = [v for v in (1, 2, 3, 4, 6, 8, 12, 16, 24, 32) if v <= most]
  powers = [2**i for i in range(recipe.solutions.bit_length())]
  votes = sorted({*powers, *recipe.grid} & set(range(1, recipe.solutions + 1)))
  surfaces = {
    method: verification_curves.sr_surface(
      found.verified, checked, grid, columns, method=method, seed=recipe.seed
    )
    for method in METHODS
  }
  # Difficulties are dealt in turn: whole rounds of them alternate.
  turn = np.arange(recipe.problems) // len(recipe.steps) % 2
  even, odd = np.flatnonzero(turn == 0), np.flatnonzero(turn == 1)
  return Measured(
    costs,
    verification_curves.votes(found.solutions, votes),
    surfaces,
    ((even, odd), (odd, even)),
  )


def budgets_of(
  recipe: verification_recipe.StudyRecipe, costs: solve_or_verify.SplitCosts
) -> np.ndarray:
  """Powers of two, and their middles, up to the whole verified pool."""
  most = float(costs.solutions_worth(recipe.verified, recipe.verifications))
  powers = 2.0 ** np.arange(0, np.floor(np.log2(most)) + 1)
  middles = 1.5 * powers[1:]
  return np.sort(np.concatenate([powers, middles[middles <= most]]))


class Curve(NamedTuple):
  """Accuracy of each problem at equal compute, by budget, and what split."""

  vote: np.ndarray  # f64[X, P]
  verified: np.ndarray  # f64[X, P]
  splits: list[list[tuple[int, int]]]  # of both halves


def matched(
  measured: Measured,
  budgets: np.ndarray,
  method: str,
  costs: solve_or_verify.SplitCosts,
) -> Curve:
  """Votes and a method at X budgets; splits are chosen on the other half."""
  surface = measured.surfaces[method]
  vote = np.zeros((len(budgets), len(surface.values)))
  verified, splits = np.zeros_like(vote), [[] for _ in budgets]
  for choose, told in measured.halves:
    points = verification_curves.compute_matched_curves(
      budgets, costs, measured.voted, surface, choose, told
    )
    for x, point in enumerate(points):
      vote[x, told], verified[x, told] = point.vote, point.verified
      splits[x].append(tuple(point.split))
  return Curve(vote, verified, splits)


def small_lead(
  recipe: verification_recipe.StudyRecipe,
  budgets: np.ndarray,
  vote: np.ndarray,
  verified: np.ndarray,
) -> np.ndarray:
  """f64[P], points by which votes lead, over small budgets above 1."""
  small = (budgets > 1) & (budgets <= recipe.small_budget)
  return 100 * (vote - verified)[small].mean(0)


def law_of(
  recipe: verification_recipe.StudyRecipe, measured: Measured
) -> tuple[verification_scaling.ScalingLaw, verification_scaling.Optima]:
  """The law of the best split over all problems, and what it was fitted to."""
  optima = verification_scaling.optimal_splits(
    measured.surfaces["best_of_n"],
    measured.costs,
    np.array(recipe.fit_budgets),
    resamples=recipe.resamples,
    seed=recipe.seed,
  )
  return verification_scaling.fit_scaling(optima), optima


class Regret(NamedTuple):
  """What predicted splits lose, in points: intervals, and a row a budget."""

  interval: statistics.Interval
  against_chosen: statistics.Interval
  rows: list[dict[str, Any]]


def regret_of(
  recipe: verification_recipe.StudyRecipe,
  measured: Measured,
  counts: np.ndarray,
) -> Regret:
  """What a split predicted from small budgets loses at large ones, in points.

  Against the best split of the reported half itself, which no rule could have
  known: an upper bound; and against the split chosen on the other half at the
  same large budget.
  """
  surface = measured.surfaces["best_of_n"]
  shape = (len(recipe.test_budgets), len(surface.values))
  lost, behind = np.zeros(shape), np.zeros(shape)
  rows = []
  for choose, told in measured.halves:
    small = verification_scaling.optimal_splits(
      surface.some(choose), measured.costs, np.array(recipe.fit_budgets)
    )
    law = verification_scaling.fit_scaling(small)
    for x, budget in enumerate(recipe.test_budgets):
      split = law.split(
        budget,
        measured.costs,
        int(surface.solutions[-1]),
        int(surface.verifications[-1]),
      )
      cells = surface.values[told].reshape(len(told), -1)
      weights = verification_curves.grid_weights(
        surface,
        np.array([split.solutions]),
        np.array([max(split.verifications, 1)]),
      )[0]
      own = cells @ weights
      best, best_split = _best(surface, measured.costs, budget, told, told)
      chosen, _ = _best(surface, measured.costs, budget, choose, told)
      lost[x, told], behind[x, told] = 100 * (best - own), 100 * (chosen - own)
      rows.append(
        {
          "budget": budget,
          "predicted": list(split),
          "best": best_split,
          "accuracy": own.mean(),
          "best_accuracy": best.mean(),
          "exponent": law.solutions.value,
        }
      )
  return Regret(
    interval_over(lost.mean(0), counts),
    interval_over(behind.mean(0), counts),
    rows,
  )


def _best(surface, costs, budget, choose, told):
  """f64[Q] of the best affordable split of `choose`, on `told`."""
  means = surface.values[choose].mean(0)
  places = surface.affordable(budget, costs)
  a, b = max(places, key=lambda place: means[place])
  split = [int(surface.solutions[a]), int(surface.verifications[b])]
  return surface.values[told][:, a, b], split


class Ratio(NamedTuple):
  """Where verifying catches up; None where it never does."""

  crossover: statistics.Interval | None
  largest: statistics.Interval | None
  at_best_vote: statistics.Interval | None
  facts: dict[str, Any]


def ratio_of(
  budgets: np.ndarray,
  vote: np.ndarray,
  verified: np.ndarray,
  counts: np.ndarray,
) -> Ratio:
  """Where verifying catches up, and how sure that is."""
  found = verification_curves.match_ratio(
    budgets, vote.mean(1), verified.mean(1)
  )
  drawn = [
    verification_curves.match_ratio(budgets, a, b)
    for a, b in zip(
      counts @ vote.T / vote.shape[1],
      counts @ verified.T / vote.shape[1],
      strict=True,
    )
  ]
  crossovers = [draw.crossover for draw in drawn]
  largest = [draw.largest for draw in drawn]
  ratios = [draw.at_best_vote for draw in drawn]
  return Ratio(
    _finite_interval(found.crossover, crossovers),
    _finite_interval(found.largest, largest),
    _finite_interval(found.at_best_vote, ratios),
    {
      "text": found.text,
      "crossover": found.crossover,
      "smallest_ratio": found.smallest,
      "largest_ratio": found.largest,
      "ratio_at_best_vote": found.at_best_vote,
      "never_crosses_share": sum(c is None for c in crossovers) / len(drawn),
      "never_matches_share": sum(r is None for r in ratios) / len(drawn),
    },
  )


def _finite_interval(value, draws) -> statistics.Interval | None:
  """None if there is no value; draws of "never" count as infinite."""
  if value is None:
    return None
  numbers = [np.inf if draw is None else draw for draw in draws]
  got = statistics.percentile_interval(value, numbers)
  return got._replace(low=min(got.low, value), high=max(got.high, value))


def interval_over(
  by_problem: np.ndarray, counts: np.ndarray
) -> statistics.Interval:
  """The mean of f64[P], with an interval over the resamples f64[R, P]."""
  value = float(by_problem.mean())
  draws = counts @ by_problem / by_problem.size
  got = statistics.percentile_interval(value, draws)
  return got._replace(low=min(got.low, value), high=max(got.high, value))


def dear_costs(
  found: verification_study.Found, costs: solve_or_verify.SplitCosts
) -> solve_or_verify.SplitCosts:
  """The same with each verification reading its prefix anew."""
  read = next(iter(found.checked.values())).read
  return solve_or_verify.SplitCosts(
    solution_tokens=costs.solution_tokens,
    verification_tokens=costs.verification_tokens,
    prefix_tokens=read,
    prefill="uncached",
  )
