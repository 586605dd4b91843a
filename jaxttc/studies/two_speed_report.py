# SPDX-License-Identifier: Apache-2.0
"""What the study of SCALE found: figures and claims."""

from typing import Any

import numpy as np

from jaxttc import results, simulation
from jaxttc.evaluation import statistics
from jaxttc.studies import (
  two_speed_bench,
  two_speed_picture,
  two_speed_recipe,
  two_speed_study,
)

_STRONG = f"probe-{two_speed_recipe.FIXED}"
_BINS = 20  # of difficulties
_MATCHED = f"random-{two_speed_recipe.FIXED}"


def report(
  recipe: two_speed_recipe.StudyRecipe, found: two_speed_study.Found
) -> simulation.Study:
  """Figures and claims of a study.

  Args:
    recipe: that it was run by.
    found: by `two_speed_study.run`.
  """
  rng = np.random.default_rng(0)
  calibration = found.calibration
  kinds = sorted(set(recipe.additions))
  data: dict[str, Any] = {
    "mix": (
      f"{recipe.steps} steps a chain; additions of a step drawn uniformly from"
      f" {', '.join(map(str, recipe.additions))}; what can be saved depends on"
      " it"
    ),
    "chains_a_seed": recipe.chains,
    "models": {"slow": recipe.model, "fast": recipe.fast_model or recipe.model},
    "spent_in": "flops" if recipe.two_models else "tokens",
    "steps": [
      {
        "additions": kind,
        "fast_accuracy": float(calibration.rates[row, 0]),
        "slow_accuracy": float(calibration.rates[row, 1]),
        "fast_tokens": float(calibration.tokens[row, 0]),
        "slow_tokens": float(calibration.tokens[row, 1]),
        "fast_flops": float(calibration.flops[row, 0]),
        "slow_flops": float(calibration.flops[row, 1]),
      }
      for row, kind in enumerate(kinds)
    ],
    "probe_auc": calibration.auc,
    "difficulties": _difficulties(found.arms[_STRONG]),
    "calibrated_tau": calibration.tau,
    "arms": [
      _figures(name, by_seed, recipe, rng)
      for name, by_seed in found.arms.items()
    ],
  }
  claims = _claims(recipe, found, rng)
  return simulation.Study(
    recipe.seeds, data, claims, lambda path: two_speed_picture.draw(data, path)
  )


def _difficulties(by_seed) -> dict[str, Any]:
  """How often the probe gave steps which difficulty, at the fixed threshold."""
  scores = np.concatenate(
    [outcome.scores.ravel() for outcome in by_seed.values()]
  )
  counts, edges = np.histogram(scores, _BINS, (0.0, 1.0))
  return {"edges": edges.tolist(), "steps": counts.tolist()}


def _column(by_seed, field: str) -> np.ndarray:
  return np.concatenate(
    [np.asarray(getattr(o, field), float) for o in by_seed.values()]
  )


def _figures(name, by_seed, recipe, rng) -> dict[str, Any]:
  accuracy = statistics.bootstrap(
    _column(by_seed, "right"), resamples=recipe.resamples, rng=rng
  )
  means = {
    field: float(_column(by_seed, field).mean())
    for field in two_speed_bench.Outcome._fields
    if field not in ("right", "scores")
  }
  return {"arm": name, "accuracy": accuracy._asdict()} | means


def _claims(recipe, found, rng) -> list[results.Claim]:
  def points(a: str, b: str) -> statistics.Interval:
    return statistics.Interval(
      *(
        100 * end
        for end in statistics.paired_difference(
          _column(found.arms[a], "right"),
          _column(found.arms[b], "right"),
          resamples=recipe.resamples,
          rng=rng,
        )
      )
    )

  def claim(name, interval, bar=None, comparison=">="):
    return results.Claim(name, *interval, bar=bar, comparison=comparison)

  def share(field: str):
    return statistics.ratio_of_means(
      _column(found.arms[slight], field),
      _column(found.arms["slow"], field),
      resamples=recipe.resamples,
      rng=rng,
    )

  slight = f"probe-{found.calibration.tau}"
  rates = found.calibration.rates
  # What is held to the bar is what the systems are priced in.
  tokens_bar = None if recipe.two_models else 0.9
  claims = [
    claim("points_over_random_routing", points(_STRONG, _MATCHED), 15),
    claim("tokens_over_uniform_system2", share("tokens"), tokens_bar, "<="),
    claim("points_below_uniform_system2", points("slow", slight), 3, "<="),
    claim("points_over_uniform_system1", points(_STRONG, "fast")),
    claim("points_over_voting_system1", points(_STRONG, "vote")),
    claim(
      "points_below_oracle_difficulty",
      points(f"oracle-{two_speed_recipe.FIXED}", _STRONG),
    ),
    results.Claim("calibrated_tau", found.calibration.tau),
    results.Claim("probe_auc", found.calibration.auc),
    results.Claim("fast_accuracy_easiest", rates[0, 0]),
    results.Claim("fast_accuracy_hardest", rates[-1, 0]),
    results.Claim("slow_accuracy_worst", rates[:, 1].min()),
  ]
  if recipe.two_models:
    hard = {
      name: _column(found.arms[name], "hard") for name in (slight, _STRONG)
    }
    return [
      *claims,
      claim("flops_over_uniform_system2", share("flops"), 0.9, "<="),
      claim("points_over_large_at_once", points(_STRONG, "large_at_once")),
      results.Claim("hard_share_fixed", float(hard[_STRONG].mean())),
      results.Claim("hard_share_calibrated", float(hard[slight].mean())),
    ]
  return [
    *claims,
    claim("flops_over_uniform_system2", share("flops")),
    claim(
      "points_lost_without_answers", points("slow", "slow_without_answers")
    ),
    claim(
      "points_lost_without_answers_independent",
      points("slow_independent", "slow_independent_without_answers"),
    ),
  ]
