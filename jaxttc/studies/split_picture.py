# SPDX-License-Identifier: Apache-2.0
"""The picture of annotation splits: curves, best shares, cold start, losses."""

from collections.abc import Mapping, Sequence
import os
from typing import Any

import numpy as np

from jaxttc import page
from jaxttc.allocators import annotation_split
from jaxttc.evaluation import statistics
from jaxttc.studies import split_study

# matplotlib is optional, so its types cannot be named at import time.
Axes = Any

_SHADES = ("#B3CDE3", "#8CB3D9", "#5B8DC0", "#2E67A3", "#0B3C6F")
_PRICES = ("#009E73", "#0072B2", "#D55E00", "#CC79A7", "#E69F00")
_ARMS = {
  "dpo": ("DPO", "#0072B2", "o"),
  "dpo_anchor": ("DPO with an anchor", "#009E73", "s"),
  "orpo": ("ORPO", "#D55E00", "^"),
}


def draw(
  recipe: split_study.SplitRecipe,
  runs: split_study.Runs,
  base: Mapping[str, np.ndarray],
  advice: Mapping[float, Sequence[annotation_split.Recommendation]],
  rule: annotation_split.SplitRule,
  path: str | os.PathLike[str],
) -> None:
  """Draws four panels.

  Args:
    recipe: the study.
    runs: all its runs.
    base: scores of the base policy, by name.
    advice: by price of a pair, what is recommended at each budget.
    rule: the fitted rule.
    path: picture to write; the suffix names the format.

  Raises:
    ImportError: if matplotlib is not installed.
  """
  with page.style():
    figure = page.figure(7.4)
    panels = figure.subplots(2, 2)
    _draw_shares(panels[0, 0], recipe, runs, base)
    _draw_best(panels[0, 1], recipe, advice, rule)
    _draw_cold_start(panels[1, 0], recipe, runs, base)
    _draw_arms(panels[1, 1], recipe, runs)
    figure.suptitle(
      "One budget for demonstrations and preference pairs "
      f"({recipe.seeds} seeds, 95% intervals)",
      x=0.01,
      ha="left",
      fontsize=11,
    )
    page.save(figure, path)


def _curve(axes: Axes, x, rows, **style) -> None:
  """Means of rows [X, S] over seeds, with their intervals."""
  rng = np.random.default_rng(0)
  found = np.array([statistics.bootstrap(row, rng=rng) for row in rows])
  axes.plot(x, found[:, 0], ms=4, **style)
  axes.fill_between(
    x, found[:, 1], found[:, 2], alpha=0.15, lw=0, color=style["color"]
  )


def _dress(axes: Axes, title: str, x: str, y: str) -> None:
  axes.set_title(title)
  axes.set_xlabel(x)
  axes.set_ylabel(y)
  axes.grid(axis="y", color="#E6E6E6", linewidth=0.8)
  axes.set_axisbelow(True)


def _budgets(axes: Axes, budgets) -> None:
  axes.set_xscale("log", base=2)
  axes.set_xticks(budgets, [f"{b:,}" for b in budgets])
  axes.minorticks_off()


def _shades(count: int) -> list[str]:
  places = np.linspace(0, len(_SHADES) - 1, count).round().astype(int)
  return [_SHADES[i] for i in places]


def _draw_shares(axes: Axes, recipe, runs, base) -> None:
  table = split_study.table(recipe, runs, 1.0)
  places = np.arange(len(table.shares))
  for budget, rows, colour in zip(
    recipe.budgets, table.scores, _shades(len(recipe.budgets)), strict=True
  ):
    _curve(axes, places, rows, color=colour, marker="o", label=f"{budget:,}")
    best = rows.mean(1).argmax()
    axes.plot(best, rows[best].mean(), marker="*", ms=13, color=colour)
  axes.axhline(base["accuracy"].mean(), color="#666666", lw=0.8, ls=":")
  axes.set_xticks(places, [f"{share:g}" for share in table.shares])
  axes.legend(title="budget", loc="upper left", ncols=2)
  axes.set_ylim(top=axes.get_ylim()[1] * 1.25)
  _dress(
    axes,
    "Equal prices; star: best share",
    "share on demonstrations",
    "accuracy",
  )


def _draw_best(axes: Axes, recipe, advice, rule) -> None:
  x = np.array(recipe.budgets, np.float64)
  fine = np.geomspace(x[0], x[-1], 100)
  for i, (price, found) in enumerate(advice.items()):
    colour = _PRICES[i % len(_PRICES)]
    nudged = x * 2 ** (0.12 * (i - (len(advice) - 1) / 2))
    share = np.array([advised.share for advised in found])
    ends = np.array([(min(a.band), max(a.band)) for a in found])
    axes.vlines(nudged, *ends.T, color=colour, alpha=0.35, lw=5)
    label = f"a pair costs {price:g}"
    axes.plot(nudged, share, ls="", marker="o", color=colour, label=label)
    prices = annotation_split.AnnotationPrices(sft=1.0, pair=price)
    line = [rule.share(budget, prices) for budget in fine]
    if rule.rise:
      axes.plot(fine, line, color=colour, ls="--")
  axes.plot(
    fine if not rule.rise else [],
    line if not rule.rise else [],
    color="#222222",
    ls="--",
    label="fitted rule" if rule.rise else "fitted rule, at all prices",
  )
  _budgets(axes, recipe.budgets)
  axes.set_ylim(-0.03, 1.03)
  axes.legend(loc="lower left")
  _dress(
    axes,
    "Best share, those no worse, fitted rule",
    "budget, in demonstrations",
    "share on demonstrations",
  )


def _draw_cold_start(axes: Axes, recipe, runs, base) -> None:
  accuracy = split_study.table(recipe, runs, 1.0).scores
  within = split_study.table(recipe, runs, 1.0, "step_accuracy").scores
  shares = list(recipe.shares)
  shown = [share for share in (0.1, 0.25, 1.0) if share in shares]
  x = recipe.budgets
  _curve(
    axes,
    x,
    within[:, 0],
    color="#999999",
    ls="--",
    label="pairs only, where it works in steps",
  )
  _curve(
    axes, x, accuracy[:, 0], color="#D55E00", marker="v", label="pairs only"
  )
  for share, colour in zip(
    shown, ("#56B4E9", "#0072B2", "#222222"), strict=False
  ):
    label = (
      f"{share:.0%} demonstrations" if share < 1 else "demonstrations only"
    )
    rows = accuracy[:, shares.index(share)]
    _curve(axes, x, rows, color=colour, marker="o", label=label)
  axes.axhline(base["accuracy"].mean(), color="#666666", lw=0.8, ls=":")
  _budgets(axes, recipe.budgets)
  axes.legend(loc="upper left")
  axes.set_ylim(top=1.25)
  axes.set_yticks(np.arange(0.2, 1.1, 0.2))
  _dress(axes, "The cold start", "budget, in demonstrations", "accuracy")


def _draw_arms(axes: Axes, recipe, runs) -> None:
  places = np.arange(len(recipe.shares))
  for name in recipe.arms():
    label, colour, marker = _ARMS[name]
    rows = runs[split_study.Cell(name, 1.0, recipe.arms_budget)]
    scores = np.reshape([r["accuracy"] for r in rows], (len(places), -1))
    _curve(axes, places, scores, color=colour, marker=marker, label=label)
  axes.set_xticks(places, [f"{share:g}" for share in recipe.shares])
  axes.legend(loc="lower right")
  _dress(
    axes,
    f"Losses of pairs, budget {recipe.arms_budget:,}",
    "share on demonstrations",
    "accuracy",
  )
