# SPDX-License-Identifier: Apache-2.0
"""The guidance study as a picture."""

from collections.abc import Mapping
import os

import numpy as np

from jaxttc import page
from jaxttc.studies import (
  guidance_checks,
  guidance_claims,
  guidance_menu,
  guidance_study,
)

_GUIDED, _EVERY = guidance_menu.GUIDED, guidance_menu.EVERY
_LOOKS = {
  "hard cap": ("#cc7722", "-"),
  "budget forcing": ("#e6b36b", "-"),
  "early exit": ("#8c8c8c", "--"),
  "prompt hint": ("#7b6ba8", "--"),
  _GUIDED: ("#2171b5", "-"),
  _EVERY: ("#08306b", "-"),
  guidance_menu.BINS: ("#6baed6", "--"),
  guidance_menu.PLAIN: ("#9ecae1", "-"),
}
_UNCAPPED = {guidance_menu.NO_CAP: ("#9ecae1", ":")}


def draw(
  path: str | os.PathLike[str],
  recipe: guidance_study.GuidanceStudyRecipe,
  found: guidance_study.Found,
  calibrations: Mapping[str, guidance_checks.Calibration],
) -> None:
  """Accuracy by budget and by tokens, what bends, and where it is lost.

  Args:
    path: of the PNG file.
    recipe: of the study.
    found: what came of it.
    calibrations: of length predictors, by what they are called.
  """
  with page.style():
    figure = page.figure(9.9)
    axes = figure.subplots(3, 2)
    _draw_accuracy(axes[0, 0], recipe, found)
    _draw_tokens(axes[0, 1], recipe, found)
    _draw_bending(axes[1, 0], recipe, found)
    _draw_adherence(axes[1, 1], recipe, found)
    _draw_parts(axes[2, 0], recipe, found)
    _draw_calibration(axes[2, 1], calibrations)
    page.save(figure, path)


def _draw_accuracy(axes, recipe, found):
  for name, (colour, line) in _LOOKS.items():
    cells = [found.cell(name, f).right for f in recipe.fractions]
    by_seed = np.array([100 * cell.mean(axis=1) for cell in cells])
    axes.plot(
      recipe.fractions,
      by_seed.mean(axis=1),
      color=colour,
      ls=line,
      marker="o",
      ms=3,
      label=name,
    )
    axes.fill_between(
      recipe.fractions,
      by_seed.min(axis=1),
      by_seed.max(axis=1),
      color=colour,
      alpha=0.2,
      lw=0,
    )
  full = found.full
  axes.axhline(100 * full.right.mean(), color="#222222", lw=0.8, ls=":")
  axes.axvspan(min(recipe.band), max(recipe.band), color="#f2f2f2", zorder=0)
  axes.set(xlabel="budget / natural length", ylabel="right, %", ylim=(0, 103))
  axes.set_title("Accuracy at a budget (dotted: full thinking)")
  axes.legend(fontsize=7, labelspacing=0.3, loc="lower right")


def _draw_tokens(axes, recipe, found):
  full = found.full
  for name, (colour, line) in (_LOOKS | _UNCAPPED).items():
    cells = [found.cell(name, f) for f in recipe.fractions]
    tokens = [cell.spent.mean() for cell in cells]
    right = [100 * cell.right.mean() for cell in cells]
    label = "strength 1, no cap" if name in _UNCAPPED else None
    axes.plot(
      tokens, right, color=colour, ls=line, marker="o", ms=3, label=label
    )
  axes.plot(
    full.spent.mean(), 100 * full.right.mean(), "*", color="#222222", ms=10
  )
  axes.axvline(0.63 * full.spent.mean(), color="#222222", lw=0.8, ls=":")
  axes.set(xlabel="thinking tokens spent, mean", ylim=(0, 103))
  axes.set_title("Accuracy and tokens (line: 63% of full)")
  axes.legend(fontsize=7, loc="lower right")


def _draw_bending(axes, recipe, found):
  for name in ("hard cap", guidance_menu.PLAIN, _GUIDED, _EVERY):
    colour, _ = _LOOKS[name]
    cells = [found.cell(name, f) for f in recipe.fractions]
    concise = [100 * cell.concise_share for cell in cells]
    cut = [100 * cell.cut.mean() for cell in cells]
    axes.plot(
      recipe.fractions, concise, color=colour, marker="o", ms=3, label=name
    )
    axes.plot(recipe.fractions, cut, color=colour, ls=":")
  axes.set(xlabel="budget / natural length", ylabel="%", ylim=(0, 145))
  axes.set_yticks(range(0, 101, 20))
  axes.set_title("Concise lines (solid), cut thoughts (dotted)")
  axes.legend(fontsize=7, ncols=2, loc="upper right")


def _draw_adherence(axes, recipe, found):
  for name, (colour, line) in (_LOOKS | _UNCAPPED).items():
    runs = [found.runs[name, f] for f in recipe.fractions]
    given = [run.budgets.mean() for run in runs]
    used = [run.tally.spent.mean() for run in runs]
    label = "strength 1, no cap" if name in _UNCAPPED else None
    axes.plot(given, used, color=colour, ls=line, marker="o", ms=3, label=label)
  ends = [min(given), max(given)]
  axes.plot(ends, ends, color="#222222", lw=0.8, ls=":")
  axes.set(xlabel="budget, mean tokens", ylabel="spent, mean tokens")
  axes.set_title("Adherence (dotted: all of it)")
  axes.legend(fontsize=7, loc="upper left")


def _draw_parts(axes, recipe, found):
  """Strength 1, by where it acts, and by whose chances."""
  fractions = recipe.fractions
  rows = [guidance_claims.exact_chances(found, f) for f in fractions]
  exact = {
    row["where"]: [100 * r[at]["accuracy"] for r in rows]
    for at, row in enumerate(rows[0])
    if row["strength"] == 1
  }
  learnt = {
    "line starts": (guidance_menu.PLAIN, guidance_menu.BINS_PLAIN),
    "every token": (guidance_menu.EVERY_PLAIN, guidance_menu.BINS_EVERY_PLAIN),
  }
  for where, colour in (("line starts", "#2171b5"), ("every token", "#08306b")):
    gamma, bins = (
      [100 * found.cell(name, f).right.mean() for f in fractions]
      for name in learnt[where]
    )
    for values, line, law in (
      (exact[where], ":", "exact"),
      (bins, "--", "discrete"),
      (gamma, "-", "Gamma"),
    ):
      axes.plot(
        fractions,
        values,
        color=colour,
        ls=line,
        marker="o",
        ms=3,
        label=f"{law}, {where}",
      )
  axes.set(xlabel="budget / natural length", ylabel="right, %", ylim=(0, 103))
  axes.set_title("Strength 1: chances exact and learnt")
  axes.legend(fontsize=7, loc="lower right")


def _draw_calibration(axes, calibrations):
  bins = np.linspace(0, 1, 21)
  colours = ("#2171b5", "#9ecae1", "#cc7722")
  for colour, (label, calibrated) in zip(
    colours, calibrations.items(), strict=True
  ):
    axes.hist(
      calibrated.pit,
      bins,
      density=True,
      histtype="step",
      color=colour,
      lw=1.5,
      label=f"{label} (distance {calibrated.distance:.2f})",
    )
  axes.axhline(1.0, color="#222222", lw=0.8, ls=":")
  axes.set(xlabel="chance of at most the length that came", ylabel="density")
  axes.set_title("Calibration (dotted: perfect)")
  axes.legend(fontsize=8)
