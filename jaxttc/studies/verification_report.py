# SPDX-License-Identifier: Apache-2.0
"""Figures, intervals and claims of a study of voting against verifying.

Problems are cut into two halves. A split, or the law that predicts splits, is
chosen on one half and reported on the other, both ways round, so that every
problem is reported once and none has a say in its own split. Intervals resample
problems.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from jaxttc import results
from jaxttc.allocators import solve_or_verify
from jaxttc.evaluation import (
  samples,
  statistics,
  verification_curves,
  verification_pools,
  verification_scaling,
)
from jaxttc.simulation import study as study_lib
from jaxttc.studies import verification_picture, verification_study

_METHODS = {"best_of_n": "GenRM best-of-N", "weighted_sc": "weighted vote"}


class _Measured(NamedTuple):
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


def report(
  recipe: verification_study.StudyRecipe, found: verification_study.Found
) -> study_lib.Study:
  """All figures of a study.

  Raises:
    ValueError: if a budget to fit or test on does not fit the pools.
  """
  measured = _measure(recipe, found)
  budgets = _budgets(recipe, measured.costs)
  rng = np.random.default_rng(recipe.seed)
  counts = statistics.resample_counts(recipe.problems, recipe.resamples, rng)
  curves = {
    method: _matched(measured, budgets, method, measured.costs)
    for method in measured.surfaces
  }
  vote = curves["best_of_n"].vote
  lead = _small_lead(recipe, budgets, vote, curves["best_of_n"].verified)
  law, optima = _law(recipe, measured)
  regret = _regret(recipe, measured, counts)
  ratio = _ratio(budgets, vote, curves["best_of_n"].verified, counts)
  dear = _dear_costs(found, measured.costs)
  dear_curve = _matched(measured, budgets, "best_of_n", dear)
  data = {
    "pool": _pool_facts(recipe, found, measured),
    "verifiers": _verifiers(found),
    "curves": _curve_rows(budgets, curves, counts),
    "curve_with_prefill": _rows(
      budgets, dear_curve.verified, counts, dear_curve.splits
    ),
    "coverage": _coverage(found),
    "controls": _controls(recipe, found),
    "surface": {
      "solutions": measured.surfaces["best_of_n"].solutions,
      "verifications": measured.surfaces["best_of_n"].verifications,
      "best_of_n": measured.surfaces["best_of_n"].values.mean(0),
    },
    "optima": {
      "budgets": optima.budgets,
      "solutions": optima.solutions[0],
      "verifications": optima.verifications[0],
      "on_edge": optima.on_edge[0],
    },
    "law": {
      "solutions": law.solutions,
      "verifications": law.verifications,
      "difference": law.difference,
      "solutions_scale": law.solutions_scale,
      "verifications_scale": law.verifications_scale,
      "on_edge": law.on_edge,
      "points": law.points,
    },
    "predicted": regret.rows,
    "match": ratio.facts,
  }
  claims = _claims(found, measured, lead, law, regret, ratio, counts)
  return study_lib.Study(
    [recipe.seed],
    data,
    claims,
    lambda path: verification_picture.draw(data, path),
  )


def _measure(recipe, found) -> _Measured:
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
    for method in _METHODS
  }
  # Difficulties are dealt in turn: whole rounds of them alternate.
  turn = np.arange(recipe.problems) // len(recipe.steps) % 2
  even, odd = np.flatnonzero(turn == 0), np.flatnonzero(turn == 1)
  return _Measured(
    costs,
    verification_curves.votes(found.solutions, votes),
    surfaces,
    ((even, odd), (odd, even)),
  )


def _budgets(recipe, costs) -> np.ndarray:
  """Powers of two, and their middles, up to the whole verified pool."""
  most = float(costs.solutions_worth(recipe.verified, recipe.verifications))
  powers = 2.0 ** np.arange(0, np.floor(np.log2(most)) + 1)
  middles = 1.5 * powers[1:]
  return np.sort(np.concatenate([powers, middles[middles <= most]]))


class _Curve(NamedTuple):
  vote: np.ndarray  # f64[X, P]
  verified: np.ndarray  # f64[X, P]
  splits: list[list[tuple[int, int]]]  # of both halves


def _matched(measured, budgets, method, costs) -> _Curve:
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
  return _Curve(vote, verified, splits)


def _small_lead(recipe, budgets, vote, verified) -> np.ndarray:
  """f64[P], points by which votes lead, over small budgets above 1."""
  small = (budgets > 1) & (budgets <= recipe.small_budget)
  return 100 * (vote - verified)[small].mean(0)


def _law(recipe, measured):
  optima = verification_scaling.optimal_splits(
    measured.surfaces["best_of_n"],
    measured.costs,
    np.array(recipe.fit_budgets),
    resamples=recipe.resamples,
    seed=recipe.seed,
  )
  return verification_scaling.fit_scaling(optima), optima


class _Regret(NamedTuple):
  interval: statistics.Interval
  against_chosen: statistics.Interval
  rows: list[dict[str, Any]]


def _regret(recipe, measured, counts) -> _Regret:
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
  return _Regret(
    _interval(lost.mean(0), counts), _interval(behind.mean(0), counts), rows
  )


def _best(surface, costs, budget, choose, told):
  """f64[Q] of the best affordable split of `choose`, on `told`."""
  means = surface.values[choose].mean(0)
  places = surface.affordable(budget, costs)
  a, b = max(places, key=lambda place: means[place])
  split = [int(surface.solutions[a]), int(surface.verifications[b])]
  return surface.values[told][:, a, b], split


class _Ratio(NamedTuple):
  crossover: statistics.Interval | None
  largest: statistics.Interval | None
  at_best_vote: statistics.Interval | None
  facts: dict[str, Any]


def _ratio(budgets, vote, verified, counts) -> _Ratio:
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
  return _Ratio(
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


def _interval(by_problem: np.ndarray, counts) -> statistics.Interval:
  value = float(by_problem.mean())
  draws = counts @ by_problem / by_problem.size
  got = statistics.percentile_interval(value, draws)
  return got._replace(low=min(got.low, value), high=max(got.high, value))


def _dear_costs(found, costs) -> solve_or_verify.SplitCosts:
  """The same with each verification reading its prefix anew."""
  read = next(iter(found.checked.values())).read
  return solve_or_verify.SplitCosts(
    solution_tokens=costs.solution_tokens,
    verification_tokens=costs.verification_tokens,
    prefix_tokens=read,
    prefill="uncached",
  )


def _pool_facts(recipe, found, measured) -> dict[str, Any]:
  checked = found.checked[recipe.checks[0]]
  parts = verification_pools.variance_components(
    np.nan_to_num(checked.pool.scores, nan=0.5)
  )
  return {
    "problems": recipe.problems,
    "solutions": recipe.solutions,
    "verified": recipe.verified,
    "verifications": recipe.verifications,
    "steps": list(recipe.steps),
    "solution_tokens": measured.costs.solution_tokens,
    "verification_tokens": measured.costs.verification_tokens,
    "read_tokens": checked.read,
    "ratio": measured.costs.ratio,
    "missing_verdicts": checked.pool.missing,
    "unanswered": float((found.solutions.answers < 0).mean()),
    "voting": found.solutions.voting,
    "grading": found.solutions.grading,
    "verdict_variance": parts._asdict(),
  }


def _verifiers(found) -> list[dict[str, Any]]:
  """What single verdicts, and their means, can tell."""
  labels = found.verified.correct.ravel()
  rows = []
  for style, checked in found.checked.items():
    scores = checked.pool.scores
    one = verification_pools.aggregate_verifications(scores, 1)
    every = verification_pools.aggregate_verifications(scores, scores.shape[-1])
    right = found.verified.correct
    rows.append(
      {
        "verifier": style,
        "auc_one": samples.step_auc(one.ravel(), labels),
        "auc_mean": samples.step_auc(every.ravel(), labels),
        "accepts_right": float(every[right].mean()),
        "accepts_wrong": float(every[~right].mean()),
      }
    )
  for name, score in _controls_of(found).items():
    rows.append(
      {
        "verifier": name,
        "auc_one": samples.step_auc(score.ravel(), labels),
        "auc_mean": samples.step_auc(score.ravel(), labels),
        "accepts_right": float(score[found.verified.correct].mean()),
        "accepts_wrong": float(score[~found.verified.correct].mean()),
      }
    )
  return rows


def _controls_of(found) -> dict[str, np.ndarray]:
  """Scores of verifiers that write nothing."""
  return {"bare verdict": found.bare, "reward model": found.read}


def _coverage(found) -> dict[str, Any]:
  ks = [2**i for i in range(found.solutions.size.bit_length())]
  values = [verification_pools.coverage(found.solutions, k).value for k in ks]
  return {"solutions": ks, "value": values}


def _controls(recipe, found) -> list[dict[str, Any]]:
  """Equal numbers of solutions: what each verifier's ranking is worth."""
  scores = {
    "written": verification_pools.aggregate_verifications(
      found.checked[recipe.checks[0]].pool.scores, recipe.verifications
    ),
    **_controls_of(found),
  }
  rows = []
  for name, score in scores.items():
    for k in (k for k in recipe.grid if k <= recipe.verified):
      best = verification_pools.best_of_n(found.verified, score, k)
      vote = verification_pools.weighted_sc(found.verified, score, k)
      rows.append(
        {
          "verifier": name,
          "solutions": k,
          "best_of_n": best.value,
          "best_of_n_low": best.low,
          "best_of_n_high": best.high,
          "weighted_sc": vote.value,
          "weighted_sc_standard_error": vote.standard_error,
        }
      )
  return rows


def _curve_rows(budgets, curves, counts) -> dict[str, Any]:
  first = curves["best_of_n"]
  rows = {"vote": _rows(budgets, first.vote, counts)}
  for method, curve in curves.items():
    rows[method] = _rows(budgets, curve.verified, counts, curve.splits)
  return rows


def _rows(
  budgets, by_problem, counts, splits: Sequence[Any] = ()
) -> list[dict[str, Any]]:
  rows = []
  for x, budget in enumerate(budgets):
    row: dict[str, Any] = {"budget": float(budget)}
    row |= _interval(by_problem[x], counts)._asdict()
    if splits:
      row["splits"] = [list(split) for split in splits[x]]
    rows.append(row)
  return rows


def _claims(found, measured, lead, law, regret, ratio, counts):
  def claim(name, interval, **bar) -> results.Claim:
    ends = (interval.low, interval.high)
    if not np.isfinite(ends).all():
      return results.Claim(name, interval.value, **bar)
    return results.Claim(name, interval.value, *ends, **bar)

  claims = [
    claim(
      "sc_ahead_at_small_budget",
      _interval(lead, counts),
      bar=0.0,
      comparison=">",
    ),
    claim(
      "predicted_split_regret_points",
      regret.interval,
      bar=1.0,
      comparison="<=",
    ),
    claim("regret_against_chosen_points", regret.against_chosen),
    results.Claim("verification_over_solution_tokens", measured.costs.ratio),
    claim("solutions_exponent", law.solutions),
    claim("verifications_exponent", law.verifications),
  ]
  if ratio.crossover is not None:
    claims.append(claim("crossover_budget", ratio.crossover))
  if ratio.largest is not None:
    claims.append(claim("largest_compute_ratio_to_match", ratio.largest))
  if ratio.at_best_vote is not None:
    claims.append(claim("compute_ratio_at_best_vote", ratio.at_best_vote))
  for row in _verifiers(found):
    name = row["verifier"].replace(" ", "_")
    claims.append(results.Claim(f"auc_{name}", row["auc_one"]))
  single = verification_pools.coverage(found.solutions, 1)
  claims.append(results.Claim("accuracy_of_one", single.value))
  return claims
