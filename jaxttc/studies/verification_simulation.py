# SPDX-License-Identifier: Apache-2.0
"""Voting against verifying on simulated solvers with known limits.

A problem is solved with probability p ~ Beta; its wrong answers have Dirichlet
weights, few of them large, so a vote may converge to a wrong one. A
verification accepts a solution with a probability that depends on whether it
is right, on the problem and on the solution: verifications of one solution err
together, and more of them help only so far. With many solutions the vote is
right on exactly those problems whose truth is the most frequent answer:
p > (1 - p) * (largest weight).
"""

import dataclasses
from typing import Any, NamedTuple

from jaxtyping import Float
import numpy as np
from scipy import special

from jaxttc import results
from jaxttc.allocators import solve_or_verify
from jaxttc.evaluation import (
  statistics,
  verification_curves,
  verification_pools,
  verification_scaling,
)
from jaxttc.simulation import study as study_lib
from jaxttc.studies import verification_simulation_picture

_FRESH = 100  # fresh votes a problem and size


class Simulated(NamedTuple):
  """Pools of a simulated solver and verifier.

  Attributes:
    pool: solutions; class 0 is the truth.
    verified: verdicts, 0 or 1.
    voted: votes of fresh solutions, not of the pool's.
    vote_limit: bool[P], whether infinitely many votes are right.
    chance: f64[P], p.
  """

  pool: verification_pools.SolutionPool
  verified: verification_pools.VerificationPool
  voted: verification_curves.Votes
  vote_limit: np.ndarray
  chance: Float[np.ndarray, " P"]


@dataclasses.dataclass(kw_only=True)
class SimulationRecipe:
  """A simulated solver and verifier, and what is compared.

  Attributes:
    problems: P.
    solutions: n, in the pool.
    verifications: Vmax, of each.
    chance: a and b of p ~ Beta(a, b).
    wrong_answers: of a problem.
    concentration: of their Dirichlet weights.
    accept_right: log-odds of accepting a right solution.
    accept_wrong: log-odds of accepting a wrong one.
    problem_noise: deviation of the log-odds between problems.
    solution_noise: deviation between solutions of one problem.
    ratio: lambda, cost of a verification in solutions.
    qualities: factors on both log-odds, for the sweep; 0 is a random verifier.
    budgets: in units of one solution, rising from 1.
    fit_budgets: of them or others, for the law of the best split.
    small_budget: up to which votes are said to lead.
    resamples: of problems.
    seed: of all draws.
  """

  problems: int = 300
  solutions: int = 256
  verifications: int = 16
  chance: tuple[float, float] = (0.9, 1.6)
  wrong_answers: int = 40
  concentration: float = 0.15
  accept_right: float = 1.0
  accept_wrong: float = -0.7
  problem_noise: float = 0.6
  solution_noise: float = 0.9
  ratio: float = 1.0
  qualities: tuple[float, ...] = (0.0, 1.0, 2.0)
  budgets: tuple[float, ...] = tuple(2.0**i for i in range(11))
  fit_budgets: tuple[float, ...] = (16.0, 32.0, 64.0, 128.0, 256.0, 512.0)
  small_budget: float = 32.0
  resamples: int = 500
  seed: int = 0

  def validate(self) -> None:
    """Raises ValueError, naming the field, for values that cannot be."""
    for name in ("problems", "solutions", "verifications", "wrong_answers"):
      if getattr(self, name) < 1:
        raise ValueError(
          f"{name} must be at least 1, got {getattr(self, name)}"
        )
    for name in ("concentration", "ratio"):
      if not getattr(self, name) > 0:
        raise ValueError(f"{name} must be positive, got {getattr(self, name)}")
    if min(self.chance) <= 0:
      raise ValueError(f"chance must be positive, got {self.chance}")
    if self.problems < 2:
      raise ValueError("problems must be at least 2: splits are chosen on half")
    if 1.0 not in self.qualities:
      raise ValueError(
        f"qualities={self.qualities} must hold 1.0, the recipe's own verifier"
      )

  def run(self) -> study_lib.Study:
    """Simulates, and compares at equal compute.

    Raises:
      ValueError: if the recipe cannot be.
    """
    self.validate()
    data, claims = _study(self)
    return study_lib.Study(
      [self.seed],
      data,
      claims,
      lambda path: verification_simulation_picture.draw(data, path),
    )


def simulate(recipe: SimulationRecipe, quality: float = 1.0) -> Simulated:
  """Draws pools; equal solutions for every quality.

  Args:
    recipe: the solver and the verifier.
    quality: factor on the verifier's log-odds; 0 makes it random.
  """
  rng = np.random.default_rng(recipe.seed)
  shape = (recipe.problems, recipe.solutions)
  p = rng.beta(*recipe.chance, size=recipe.problems)
  weights = rng.dirichlet(
    np.full(recipe.wrong_answers, recipe.concentration), size=recipe.problems
  )
  law = np.concatenate([p[:, None], (1 - p[:, None]) * weights], axis=1)
  uniform = rng.random(shape)
  edges = np.cumsum(law, axis=1)
  answers = np.stack(
    [np.searchsorted(e, u) for e, u in zip(edges, uniform, strict=True)]
  )
  answers = np.minimum(answers, recipe.wrong_answers)  # sums short of 1
  correct = answers == 0
  odds = np.where(correct, recipe.accept_right, recipe.accept_wrong) * quality
  if quality > 0:  # a random verifier knows neither problem nor solution
    odds = odds + recipe.problem_noise * rng.normal(size=(recipe.problems, 1))
    odds = odds + recipe.solution_noise * rng.normal(size=shape)
  accepts = special.expit(odds)[..., None]
  verdicts = rng.random((*shape, recipe.verifications)) < accepts
  ids = tuple(map(str, range(recipe.problems)))
  return Simulated(
    verification_pools.SolutionPool(
      ids=ids, answers=answers, correct=correct, tokens=np.ones(shape, int)
    ),
    verification_pools.VerificationPool(
      ids=ids,
      scores=verdicts.astype(np.float64),
      tokens=np.ones(verdicts.shape, int),
    ),
    _fresh_votes(recipe, law, rng),
    p > (1 - p) * weights.max(1),
    p,
  )


def _fresh_votes(recipe, law, rng) -> verification_curves.Votes:
  """Votes of fresh solutions, ties shared: no pool runs out."""
  sizes = np.unique(np.asarray(recipe.budgets, int))
  values = np.zeros((recipe.problems, sizes.size))
  for column, k in enumerate(sizes):
    counts = rng.multinomial(k, law, size=(_FRESH, recipe.problems))
    wins = counts == counts.max(-1, keepdims=True)
    values[:, column] = (wins[..., 0] / wins.sum(-1)).mean(0)
  return verification_curves.Votes(sizes, values)


def _grids(recipe) -> tuple[list[int], list[int]]:
  powers = lambda most: [2**i for i in range(most.bit_length())]  # noqa: E731
  return powers(recipe.solutions), powers(recipe.verifications)


def _study(recipe) -> tuple[dict[str, Any], list[results.Claim]]:
  costs = solve_or_verify.SplitCosts.of_ratio(recipe.ratio)
  rng = np.random.default_rng(recipe.seed + 1)
  halves = np.arange(recipe.problems) % 2
  choose, told = np.flatnonzero(halves == 0), np.flatnonzero(halves == 1)
  counts = statistics.resample_counts(told.size, recipe.resamples, rng)
  budgets = np.asarray(recipe.budgets)
  sweep, curves = [], {}
  # The recipe's own verifier comes last: what is left of it is used below.
  for quality in sorted(recipe.qualities, key=lambda quality: quality == 1.0):
    drawn = simulate(recipe, quality)
    found = verification_curves.sr_surface(
      drawn.pool, drawn.verified, *_grids(recipe)
    )
    points = verification_curves.compute_matched_curves(
      recipe.budgets, costs, drawn.voted, found, choose, told
    )
    vote = np.stack([point.vote for point in points])
    verified = np.stack([point.verified for point in points])
    match = verification_curves.match_ratio(
      budgets, vote.mean(1), verified.mean(1)
    )
    sweep.append(
      {
        "quality": quality,
        "crossover": match.crossover,
        "ratio_at_best_vote": match.at_best_vote,
        "accuracy": verified.mean(1),
        "single": float(drawn.pool.correct[told].mean()),
      }
    )
    curves = {"vote": vote, "verified": verified}
  sweep.sort(key=lambda row: row["quality"])
  optima = verification_scaling.optimal_splits(
    found, costs, np.asarray(recipe.fit_budgets), resamples=recipe.resamples
  )
  law = verification_scaling.fit_scaling(optima)
  limit = float(drawn.vote_limit.mean())
  told_limit = float(drawn.vote_limit[told].mean())
  last = float(drawn.voted.values[:, -1].mean())
  small = (budgets > 1) & (budgets <= recipe.small_budget)
  lead = 100 * (curves["vote"] - curves["verified"])[small].mean(0)
  data = {
    "budgets": budgets,
    "vote": curves["vote"].mean(1),
    "verified": curves["verified"].mean(1),
    "vote_limit": told_limit,
    "sweep": sweep,
    "law": law._asdict(),
    "optima": {
      "budgets": optima.budgets,
      "solutions": optima.solutions[0],
      "verifications": optima.verifications[0],
      "on_edge": optima.on_edge[0],
    },
  }
  own = next(row for row in sweep if row["quality"] == 1.0)
  interval = statistics.percentile_interval(
    float(lead.mean()), counts @ lead / lead.size
  )
  claims = [
    results.Claim(
      "vote_lead_at_small_budgets_points",
      *interval,
      bar=3.0,
    ),
    results.Claim(
      "vote_limit_error", abs(last - limit), bar=0.02, comparison="<="
    ),
    results.Claim(
      "exponent_of_solutions_less_of_verifications",
      *law.difference,
      bar=0.0,
      comparison=">",
    ),
  ]
  if own["crossover"] is not None:
    claims.append(results.Claim("crossover_budget", own["crossover"], bar=64))
  return data, claims
