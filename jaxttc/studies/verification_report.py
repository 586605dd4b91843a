# SPDX-License-Identifier: Apache-2.0
"""Figures and claims of a study of voting against verifying, as rows."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from jaxttc import results
from jaxttc.evaluation import (
  statistics,
  verification_estimators,
  verification_pools,
)
from jaxttc.simulation import study as study_lib
from jaxttc.solving import samples
from jaxttc.studies import (
  verification_figures,
  verification_picture,
  verification_recipe,
  verification_study,
)


def report(
  recipe: verification_recipe.StudyRecipe, found: verification_study.Found
) -> study_lib.Study:
  """All figures of a study of one verifier.

  Raises:
    ValueError: if a budget to fit or test on does not fit the pools.
  """
  measured = verification_figures.measure(recipe, found)
  budgets = verification_figures.budgets_of(recipe, measured.costs)
  rng = np.random.default_rng(recipe.seed)
  counts = statistics.resample_counts(recipe.problems, recipe.resamples, rng)
  curves = {
    method: verification_figures.matched(
      measured, budgets, method, measured.costs
    )
    for method in measured.surfaces
  }
  vote = curves["best_of_n"].vote
  lead = verification_figures.small_lead(
    recipe, budgets, vote, curves["best_of_n"].verified
  )
  law, optima = verification_figures.law_of(recipe, measured)
  regret = verification_figures.regret_of(recipe, measured, counts)
  ratio = verification_figures.ratio_of(
    budgets, vote, curves["best_of_n"].verified, counts
  )
  dear = verification_figures.dear_costs(found, measured.costs)
  dear_curve = verification_figures.matched(
    measured, budgets, "best_of_n", dear
  )
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
      **{
        method: surface.values.mean(0)
        for method, surface in measured.surfaces.items()
      },
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
  values = [
    verification_estimators.coverage(found.solutions, k).value for k in ks
  ]
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
      best = verification_estimators.best_of_n(found.verified, score, k)
      vote = verification_estimators.weighted_sc(found.verified, score, k)
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
    row |= verification_figures.interval_over(by_problem[x], counts)._asdict()
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
      verification_figures.interval_over(lead, counts),
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
  single = verification_estimators.coverage(found.solutions, 1)
  claims.append(results.Claim("accuracy_of_one", single.value))
  return claims
