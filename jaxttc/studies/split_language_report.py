# SPDX-License-Identifier: Apache-2.0
"""What the study of splits on a language model found: figures and picture.

Intervals are ranges over seeds, each with problems of its own.
"""

import os
from typing import Any

import numpy as np

from jaxttc import page, results, simulation
from jaxttc.studies import split_language_study as study_lib

# matplotlib is optional, so its types cannot be named at import time.
Axes = Any

_SHADES = ("#D55E00", "#56B4E9", "#0072B2", "#222222", "#009E73", "#CC79A7")


def study(
  recipe: study_lib.LanguageSplitRecipe, found: study_lib.Found
) -> simulation.Study:
  """Figures, claims and picture of all runs."""
  return simulation.Study(
    range(recipe.seeds),
    {
      "sft_price": recipe.sft_price,
      "pair_price": recipe.pair_price,
      "budgets": recipe.budgets,
      "shares": recipe.shares,
      "base": found.base,
      "rates": found.rates,
      "tuning": {
        stage: {f"{rate:g}": got for rate, got in tried.items()}
        for stage, tried in found.tuning.items()
      },
      "runs": [
        {k: _rounded(v) for k, v in row.items() if k != "rates"}
        for row in found.runs
      ],
    },
    claims(recipe, found),
    lambda path: draw(recipe, found, path),
  )


def claims(
  recipe: study_lib.LanguageSplitRecipe, found: study_lib.Found
) -> list[results.Claim]:
  """Every figure, beside its bar where the paper's shape gives one.

  Success is in points. The paper's shape is that the best share falls, that
  demonstrations alone are best with little money, that pairs alone are worst
  with much, and that a few demonstrations before the pairs mend it.
  """
  success = 100 * study_lib.scores(recipe, found.runs)
  base = 100 * found.base
  best = np.array(recipe.shares)[success.mean(2).argmax(1)]
  least, most = success[0], success[-1]
  falls = bool((np.diff(best) <= 0).all() and best[-1] < best[0])
  over = results.claim_over
  made = [
    over("base_success", base),
    results.Claim("best_sft_share_falls_with_budget", float(falls), bar=1.0),
    over(
      "sft_only_over_pairs_only_least_budget", least[-1] - least[0], 0.0, ">"
    ),
    over("mixed_over_sft_only_most_budget", _mixed(most) - most[-1], 0.0, ">"),
    over("mixed_over_pairs_only_most_budget", _mixed(most) - most[0], 0.0, ">"),
    over("cold_start_gap_most_budget", most[1] - most[0], 0.0, ">"),
  ]
  for i, budget in enumerate(recipe.budgets):
    made.append(results.Claim(f"best_sft_share_at_{budget}", best[i]))
    made += [
      over(f"points_over_base_share_{share:g}_at_{budget}", row - base)
      for share, row in zip(recipe.shares, success[i], strict=True)
    ]
  return made


def draw(
  recipe: study_lib.LanguageSplitRecipe,
  found: study_lib.Found,
  path: str | os.PathLike[str],
) -> None:
  """Draws what was gained over the base, over budgets and over shares.

  Raises:
    ImportError: if matplotlib is not installed.
  """
  gain = 100 * (study_lib.scores(recipe, found.runs) - found.base)
  with page.style():
    figure = page.figure(3.9)
    left, right = figure.subplots(1, 2, sharey=True)
    places = np.arange(len(recipe.budgets))
    for i, share in enumerate(recipe.shares):
      shift = 0.05 * (i - (len(recipe.shares) - 1) / 2)
      colour = _SHADES[i % len(_SHADES)]
      _points(left, places + shift, gain[:, i], colour, _label(share))
    left.set_xticks(places, [f"{budget:,}" for budget in recipe.budgets])
    _dress(
      left, "More money", f"budget, in pairs at {recipe.pair_price:g} each"
    )
    left.set_ylabel("points of success over the base")
    places = np.arange(len(recipe.shares))
    for i, budget in enumerate(recipe.budgets):
      shade = str(0.7 - 0.7 * i / max(1, len(recipe.budgets) - 1))
      at = places + 0.06 * (i - (len(recipe.budgets) - 1) / 2)
      _points(right, at, gain[i], shade, f"budget {budget:,}")
      best = gain[i].mean(1).argmax()
      right.plot(at[best], gain[i, best].mean(), "*", ms=13, color=shade)
    right.set_xticks(places, [f"{share:g}" for share in recipe.shares])
    _dress(right, "Star: best share", "share of the money on demonstrations")
    for axes in (left, right):
      axes.axhline(0, color="#666666", lw=0.8, ls=":")
      axes.legend(loc="upper left", fontsize=8)
    low, high = left.get_ylim()
    left.set_ylim(low, high + 0.35 * (high - low))
    figure.suptitle(
      f"A demonstration costs {recipe.sft_price:g}, a pair "
      f"{recipe.pair_price:g}; mean and range of {recipe.seeds} seeds",
      x=0.01,
      ha="left",
      fontsize=11,
    )
    page.save(figure, path)


def _mixed(rows: np.ndarray) -> np.ndarray:
  """Success of the mixture that is best on average; rows [shares, seeds]."""
  between = rows[1:-1]
  return between[between.mean(1).argmax()]


def _rounded(value: Any) -> Any:
  return round(value, 5) if isinstance(value, float) else value


def _label(share: float) -> str:
  if share in (0, 1):
    return "demonstrations only" if share else "pairs only"
  return f"{share:.0%} demonstrations, then pairs"


def _points(axes: Axes, x, rows, colour: str, label: str) -> None:
  """Means of rows [X, S] over seeds, with their ranges."""
  axes.plot(x, rows.mean(1), "o-", ms=4, color=colour, label=label)
  axes.vlines(x, rows.min(1), rows.max(1), color=colour, alpha=0.4, lw=2)


def _dress(axes: Axes, title: str, what: str) -> None:
  axes.set(title=title, xlabel=what)
  axes.grid(axis="y", color="#E6E6E6", linewidth=0.8)
  axes.set_axisbelow(True)
