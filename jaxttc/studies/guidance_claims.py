# SPDX-License-Identifier: Apache-2.0
"""The guidance study's figures beside their bars."""

from typing import Any, NamedTuple

import numpy as np
from scipy import stats

from jaxttc import results
from jaxttc.evaluation import statistics
from jaxttc.studies import (
  guidance_checks,
  guidance_menu,
  guidance_study,
  line_law,
)

_GUIDED, _EVERY = guidance_menu.GUIDED, guidance_menu.EVERY


class Checks(NamedTuple):
  """What is known of the predictor and the method by themselves.

  Attributes:
    exact_law_error: of guidance with exact chances, six lines.
    mixed: calibration on traces as the predictor was trained on.
    natural: calibration on traces as the model writes them.
    discrete: as `mixed`, of the predictor whose law is discrete.
    overheads: at the 100M shape, of a Gamma and of a discrete law, a batch
      each.
  """

  exact_law_error: float
  mixed: guidance_checks.Calibration
  natural: guidance_checks.Calibration
  discrete: guidance_checks.Calibration
  overheads: tuple[guidance_checks.Overhead, ...]


def claims(
  recipe: guidance_study.GuidanceStudyRecipe,
  found: guidance_study.Found,
  checks: Checks,
) -> list[results.Claim]:
  """The figures beside their bars; points are differences of accuracies."""
  rng = np.random.default_rng(0)
  worst = max(checks.overheads, key=lambda o: o.share)
  full = found.full.right
  terse = found.cell("prompt hint", max(recipe.fractions)).right
  digits = np.array([item.steps for item in found.items])
  generous = [f for f in recipe.fractions if f >= recipe.generous]
  spent = [
    run.tally.spent - run.budgets[None]
    for (name, _), run in found.runs.items()
    if name in (_GUIDED, _EVERY)
  ]
  claim = results.Claim
  made = [
    claim("exact_law_error", checks.exact_law_error, bar=1e-6, comparison="<="),
    claim("full_accuracy", *_mean(recipe, full, rng), bar=0.97),
    claim("concise_accuracy", *_mean(recipe, terse, rng), bar=0.97),
  ]
  for rival in ("hard cap", "budget forcing"):
    name = f"points_over_{rival.replace(' ', '_')}"
    gaps = {f: _gap(found, _GUIDED, rival, f) for f in recipe.fractions}
    band = np.mean([gaps[f] for f in recipe.band], axis=0)
    made.append(claim(name, *_mean(recipe, band, rng), bar=20.0))
    made += [
      claim(f"{name}_at_{f:g}", *_mean(recipe, gaps[f], rng))
      for f in recipe.fractions
    ]
    made.append(
      claim(
        f"{name}_least",
        min(gap.mean() for gap in gaps.values()),
        bar=-2.0,
      )
    )
  made += [
    *(
      claim(
        f"accuracy_guided_at_{f:g}",
        *_mean(recipe, found.cell(_GUIDED, f).right, rng),
      )
      for f in recipe.fractions
    ),
    *_thrift(recipe, found, rng),
    *_parts(recipe, found, rng),
    claim(
      "points_below_full_when_generous",
      max(
        100 * (full.mean() - found.cell(_GUIDED, f).right.mean())
        for f in generous
      ),
      bar=3.0,
      comparison="<=",
    ),
    claim(
      "most_tokens_overspent",
      float(max(over.max() for over in spent)),
      bar=0.0,
      comparison="<=",
    ),
    claim("difficulty_spearman", *_spearman(recipe, found, digits), bar=0.8),
    claim(
      "concise_share_spearman",
      _concise_trend(recipe, found),
      bar=-0.8,
      comparison="<=",
    ),
    claim("pit_distance", checks.mixed.distance, bar=0.1, comparison="<="),
    claim("pit_distance_natural", checks.natural.distance),
    claim("pit_distance_discrete", checks.discrete.distance),
    claim(
      "nats_below_constant_gamma",
      checks.mixed.constant_nats - checks.mixed.nats,
      bar=0.0,
      comparison=">",
    ),
    claim(
      "nats_discrete_below_gamma", checks.mixed.nats - checks.discrete.nats
    ),
    claim("overhead_100m", worst.share, bar=0.15, comparison="<="),
  ]
  return made


def _thrift(recipe, found, rng):
  """Tokens at which nothing is lost, by policy; and the least there can be."""
  name = "tokens_fraction_at_full_accuracy"
  enough = _enough(recipe, found, _GUIDED)
  lost = 100 * (
    found.full.right.astype(float)
    - found.cell(_GUIDED, enough or max(recipe.fractions)).right
  )
  made = [
    results.Claim(
      name,
      *_tokens_share(recipe, found, _GUIDED, rng),
      bar=0.63,
      comparison="<=",
    ),
    results.Claim("budget_fraction_at_full_accuracy", enough or 1.0),
    results.Claim(
      "points_below_full_there",
      *_mean(recipe, lost, rng),
      bar=recipe.tolerance,
      comparison="<=",
    ),
  ]
  others = {
    "every_token": _EVERY,
    "strength_1": guidance_menu.PLAIN,
    "discrete": guidance_menu.BINS,
    "unfiltered": guidance_menu.UNFILTERED,
    "no_cap_strength_1": guidance_menu.NO_CAP,
  }
  for ending, policy in others.items():
    share = _tokens_share(recipe, found, policy, rng)
    made.append(results.Claim(f"{name}_{ending}", *share))
  terse = found.cell("prompt hint", max(recipe.fractions)).spent.mean()
  least = float(terse / found.full.spent.mean())
  return [*made, results.Claim("tokens_fraction_all_concise", least)]


def _parts(recipe, found, rng):
  """What each part of guidance costs, at a tight budget."""
  band = sorted(recipe.band)
  fraction = band[len(band) // 2]
  policies = {
    "every_token": guidance_menu.EVERY,
    "discrete": guidance_menu.BINS,
    "unfiltered": guidance_menu.UNFILTERED,
    "line_starts_strength_1": guidance_menu.PLAIN,
    "every_token_strength_1": guidance_menu.EVERY_PLAIN,
    "discrete_line_starts_strength_1": guidance_menu.BINS_PLAIN,
    "discrete_every_token_strength_1": guidance_menu.BINS_EVERY_PLAIN,
  }
  measured = [
    results.Claim(
      f"accuracy_{name}_at_{fraction:g}",
      *_mean(recipe, found.cell(policy, fraction).right, rng),
    )
    for name, policy in policies.items()
  ]
  exact = [
    results.Claim(
      "accuracy_exact_chances_{}_strength_{:g}_at_{:g}".format(
        row["where"].replace(" ", "_"), row["strength"], fraction
      ),
      row["accuracy"],
    )
    for row in exact_chances(found, fraction)
  ]
  early = found.cell(guidance_menu.UNFILTERED, fraction).early.mean()
  name = f"closed_early_unfiltered_at_{fraction:g}"
  return [*measured, *exact, results.Claim(name, float(early))]


def exact_chances(
  found: guidance_study.Found, fraction: float
) -> list[dict[str, Any]]:
  """Accuracy and tokens of guidance whose chances are the task's own.

  Lines are right, and as long as the task draws them (`line_law`); the cap is
  behind it. What is lost at line starts is lost to lengths that are only drawn
  after a line has begun.
  """
  law = line_law.LineLaw(right=(1.0,) * len(line_law.LineLaw().lengths))
  budgets = found.runs[_GUIDED, fraction].budgets - 1  # the closing token's
  steps = np.array([item.steps for item in found.items])
  rows = []
  for every_token, strength in [(False, 1.0), (False, 16.0), (True, 1.0)]:
    tables = line_law.guided(
      law,
      int(steps.max()),
      int(budgets.max()),
      every_token=every_token,
      strength=strength,
    )
    rows.append(
      {
        "where": "every token" if every_token else "line starts",
        "strength": strength,
        "fraction": fraction,
        "accuracy": float(tables.accuracy[steps, budgets].mean()),
        "mean_tokens": float(1 + tables.spent[steps, budgets].mean()),
      }
    )
  return rows


def _gap(found, ours, theirs, fraction):
  """Points of accuracy between two policies, [S, B]."""
  a, b = (found.cell(name, fraction).right for name in (ours, theirs))
  return 100 * (a.astype(float) - b)


def _mean(recipe, values, rng):
  """Mean over seeds and questions, and its interval over questions."""
  return _interval(np.asarray(values, float).T, np.mean, recipe.resamples, rng)


def _enough(recipe, found, name):
  """The least budget at which nothing is lost, as the tuning questions tell.

  Of the budgets from there on, the first at which nothing is lost here either.

  Returns:
    Its fraction; None if no budget will do.
  """
  tuned = found.runs["full", 0.0].tuned
  told = False
  for fraction in sorted(recipe.fractions):
    run = found.runs[name, fraction]
    told = told or 100 * (tuned - run.tuned) <= recipe.tolerance
    lost = 100 * (found.full.right.mean() - run.tally.right.mean())
    if told and lost <= recipe.tolerance:
      return fraction
  return None


def _tokens_share(recipe, found, name, rng):
  """Tokens over full thinking's at the budget of `_enough`; its interval."""
  fraction = _enough(recipe, found, name)
  if fraction is None:
    return 1.0, None, None
  pairs = np.stack(
    [found.cell(name, fraction).spent.mean(0), found.full.spent.mean(0)], 1
  )
  return _interval(
    pairs, lambda x: float(x[:, 0].sum() / x[:, 1].sum()), recipe.resamples, rng
  )


def _spearman(recipe, found, digits):
  pairs = np.stack([found.expected, digits], axis=1)
  return _interval(
    pairs,
    lambda x: float(stats.spearmanr(x[:, 0], x[:, 1]).statistic),
    min(recipe.resamples, 300),
    np.random.default_rng(1),
  )


def _interval(rows, statistic, resamples, rng):
  """A statistic and its interval over questions, which holds it."""
  found = statistics.bootstrap(rows, statistic, resamples=resamples, rng=rng)
  return (
    found.value,
    min(found.low, found.value),
    max(found.high, found.value),
  )


def _concise_trend(recipe, found):
  """Rank correlation of the budget and the share of concise lines.

  At strength 1: where each budget has a strength of its own, that would tell.
  """
  shares = [
    found.cell(guidance_menu.PLAIN, f).concise_share for f in recipe.fractions
  ]
  return float(stats.spearmanr(recipe.fractions, shares).statistic)
