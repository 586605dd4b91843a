# SPDX-License-Identifier: Apache-2.0
"""What the study of annotation splits found: figures, claims and a picture.

Intervals are bootstraps over seeds, each a task of its own.
"""

from typing import Any

import numpy as np

from jaxttc import results, simulation
from jaxttc.allocators import annotation_split
from jaxttc.evaluation import statistics
from jaxttc.studies import split_picture, split_study


def study(
  recipe: split_study.SplitRecipe, runs: split_study.Runs
) -> simulation.Study:
  """Figures, claims and picture of all runs."""
  tables = {
    price: split_study.table(recipe, runs, price)
    for price in recipe.pair_prices
  }
  base = split_study.base_scores(recipe)
  rule = annotation_split.fit_rule(list(tables.values()))
  advice = {
    price: [
      annotation_split.recommend(table, budget) for budget in table.budgets
    ]
    for price, table in tables.items()
  }
  data = {
    "budgets": recipe.budgets,
    "shares": recipe.shares,
    "pair_prices": recipe.pair_prices,
    "base": {name: values.mean().round(4) for name, values in base.items()},
    "rule": {
      "scale": rule.scale,
      "fall": rule.fall,
      "rise": rule.rise,
      "regret": {
        str(price): annotation_split.regret(rule, table).round(4)
        for price, table in tables.items()
      },
    },
    "recommended": [
      {"pair_price": price, "budget": budget} | advised._asdict()
      for price, found in advice.items()
      for budget, advised in zip(recipe.budgets, found, strict=True)
    ],
    "cells": [_cell(recipe, cell, runs[cell]) for cell in recipe.cells()],
  }
  claims = [
    *_fall_claims(recipe, tables[1.0]),
    *_cold_start_claims(recipe, runs, base),
    *_arm_claims(recipe, runs),
    *_price_claims(recipe, tables),
    *_rule_claims(tables),
  ]
  return simulation.Study(
    range(recipe.seeds),
    data,
    claims,
    lambda path: split_picture.draw(recipe, runs, base, advice, rule, path),
  )


def _cell(recipe, cell, rows) -> dict[str, Any]:
  """Means over seeds of a cell's runs, a value a share."""
  shape = (len(recipe.shares), recipe.seeds)
  means = {
    name: np.reshape([r[name] for r in rows], shape).mean(1).round(4)
    for name in (
      *("accuracy", "step_rate", "step_accuracy", "chosen", "rejected"),
      *("sft", "pairs", "spent", "steps", "forward_passes"),
    )
  }
  accuracy = np.reshape([r["accuracy"] for r in rows], shape).round(4)
  return cell._asdict() | {"accuracy_by_seed": accuracy} | means


def _falls(shares: np.ndarray) -> np.ndarray:
  """Whether shares [.., C] never rise and end below where they began."""
  never_rise = (np.diff(shares, axis=-1) <= 0).all(-1)
  return np.asarray(never_rise & (shares[..., -1] < shares[..., 0]))


def _fall_claims(recipe, table) -> list[results.Claim]:
  """Whether the best share falls, and whether it would with other seeds."""
  first = recipe.budgets.index(recipe.falls_from)
  scores = table.scores[first:]
  best = table.shares[scores.mean(2).argmax(1)]
  seeds = scores.shape[2]
  drawn = np.random.default_rng(0).integers(seeds, size=(1000, seeds))
  again = table.shares[scores[:, :, drawn].mean(3).argmax(1)].T  # [draws, C]
  few = [i for i, budget in enumerate(recipe.budgets) if budget <= 256]
  behind = (
    table.scores[few].mean(2).max(1) - table.scores[few, -1].mean(1)
  ).max()
  return [
    results.Claim(
      "best_sft_share_falls_with_budget", float(_falls(best)), bar=1
    ),
    results.Claim("resamples_in_which_it_falls", _falls(again).mean()),
    *(
      results.Claim(f"best_sft_share_at_{budget}", share)
      for budget, share in zip(recipe.budgets[first:], best, strict=True)
    ),
    results.Claim(
      "demonstrations_only_below_best_up_to_256",
      behind,
      bar=0.005,
      comparison="<=",
    ),
  ]


def _cold_start_claims(recipe, runs, base) -> list[results.Claim]:
  """What pairs alone do, and what a tenth of demonstrations changes."""

  def of(field, budget):
    rows = split_study.table(recipe, runs, 1.0, field)
    return rows.scores[recipe.budgets.index(budget)]

  alone = np.array([of("accuracy", budget)[0] for budget in recipe.budgets])
  gain = alone - base["accuracy"]
  worst = gain[np.abs(gain.mean(1)).argmax()]
  tenth = recipe.shares.index(0.1) if 0.1 in recipe.shares else None
  claims = [
    _claim("pairs_only_over_base", worst, bar=0.01, comparison="<="),
    _claim(
      "pairs_only_accuracy_within_style",
      of("step_accuracy", recipe.budgets[-1])[0],
    ),
    _claim(
      "demonstrations_only_accuracy",
      of("accuracy", recipe.budgets[-1])[-1],
    ),
  ]
  if tenth is not None:
    rows = of("accuracy", recipe.arms_budget)
    claims.append(
      _claim(
        "tenth_of_demonstrations_over_none", rows[tenth] - rows[0], bar=0.1
      )
    )
  return claims


def _arm_claims(recipe, runs) -> list[results.Claim]:
  """What losses that also raise the chosen answer do with pairs alone."""
  shape = (len(recipe.shares), recipe.seeds)
  scores = {
    name: np.reshape(
      [
        r["accuracy"]
        for r in runs[split_study.Cell(name, 1.0, recipe.arms_budget)]
      ],
      shape,
    )
    for name in recipe.arms()
  }
  best = scores[split_study.MAIN][scores[split_study.MAIN].mean(1).argmax()]
  return [
    _claim(f"{name}_pairs_only_over_best_split", rows[0] - best)
    for name, rows in scores.items()
    if name != split_study.MAIN
  ]


def _price_claims(recipe, tables) -> list[results.Claim]:
  """Whether dearer pairs raise the best share, budget by budget."""
  first = recipe.budgets.index(recipe.falls_from)
  best = np.array(
    [
      table.shares[table.scores[first:].mean(2).argmax(1)]
      for table in tables.values()
    ]
  )  # [prices, C]
  rises = (np.diff(best, axis=0) >= 0).all(0) & (best[-1] > best[0])
  never_falls = (np.diff(best, axis=0) >= 0).all(0)
  return [
    results.Claim(
      "budgets_where_dearer_pairs_never_lower_the_sft_share",
      never_falls.mean(),
      bar=1,
    ),
    results.Claim("budgets_where_they_raise_it", rises.mean()),
  ]


def _rule_claims(tables) -> list[results.Claim]:
  """Regret of a rule on seeds that it was not fitted to."""

  def half(odd):
    return [t._replace(scores=t.scores[:, :, odd::2]) for t in tables.values()]

  regrets = []
  for odd in (0, 1):
    rule = annotation_split.fit_rule(half(odd))
    regrets += [annotation_split.regret(rule, t) for t in half(1 - odd)]
  found = np.concatenate(regrets)
  return [
    results.Claim(
      "rule_points_below_best_held_out",
      100 * found.mean(),
      100 * min(found.min(), found.mean()),
      100 * found.max(),
      bar=3,
      comparison="<=",
    )
  ]


def _claim(name, values, bar=None, comparison=">=") -> results.Claim:
  interval = statistics.bootstrap(values, rng=np.random.default_rng(0))
  return results.Claim(name, *interval, bar, comparison)
