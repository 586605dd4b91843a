# SPDX-License-Identifier: Apache-2.0
"""The picture of the planted study: gaps, suboptimality, and what decides."""

from collections.abc import Mapping
import os
from typing import Any

import numpy as np

from jaxttc import page

# matplotlib is optional, so its types cannot be named at import time.
Axes = Any

_COLOURS = {
  "heterogeneous": "#D55E00",
  "homogeneous": "#666666",
  "contextual": "#CC79A7",
  "rare": "#0072B2",
}
_METHODS = {
  "clone_solved": ("clone n solved traces", "#0072B2", "o"),
  "clone_solved_charged": ("clone the solved of n", "#56B4E9", "v"),
  "clone_expert": ("clone the ball's best expert", "#009E73", "s"),
  "policy_gradient": ("policy gradient, n checked", "#D55E00", "^"),
  "reweight": ("reweight n checked", "#E69F00", "D"),
}
_FLOOR = 1e-3  # tokens; less is drawn here


def draw(
  table: Any,
  base: Mapping[str, Mapping[str, Any]],
  path: str | os.PathLike[str],
) -> None:
  """Draws four panels.

  Args:
    table: a `planted_report.Table`.
    base: exact sigma and concentration of each family, over horizons.
    path: picture to write; the suffix names the format.

  Raises:
    ImportError: if matplotlib is not installed.
  """
  with page.style():
    figure = page.figure(7.2)
    panels = figure.subplots(2, 2)
    _draw_gaps(panels[0, 0], table)
    _draw_suboptimality(panels[0, 1], table)
    _draw_traces(panels[1, 0], table)
    _draw_base(panels[1, 1], table, base)
    seeds = table.recipe.seeds
    figure.suptitle(
      f"Training with and without a verifier ({seeds} seeds, 95% intervals)",
      x=0.01,
      ha="left",
      fontsize=11,
    )
    page.save(figure, path)


def _band(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
  """Mean over seeds, and bootstrapped ends of its interval."""
  rng = np.random.default_rng(0)
  drawn = rows[rng.integers(len(rows), size=(1000, len(rows)))].mean(1)
  low, high = np.quantile(drawn, (0.025, 0.975), axis=0)
  return rows.mean(0), low, high


def _curve(axes: Axes, x, rows, floor=None, **style) -> None:
  mean, low, high = _band(rows)
  if floor is not None:
    mean, low, high = (np.maximum(v, floor) for v in (mean, low, high))
  axes.plot(x, mean, ms=4, **style)
  axes.fill_between(x, low, high, alpha=0.15, lw=0, color=style["color"])


def _dress(axes: Axes, ticks, label: str) -> None:
  axes.set_xscale("log", base=2)
  axes.set_xticks(ticks, [str(tick) for tick in ticks])
  axes.minorticks_off()
  axes.set_xlabel(label)
  axes.grid(axis="y", color="#E6E6E6", linewidth=0.8)
  axes.set_axisbelow(True)


def _fit(x, rows) -> tuple[float, np.ndarray]:
  """Exponent and fitted line of the mean over seeds."""
  power, scale = np.polyfit(np.log(x), np.log(rows.mean(0)), 1)
  return power, np.exp(scale) * x**power


def _draw_gaps(axes: Axes, table: Any) -> None:
  x = table.horizons
  for family in ("heterogeneous", table.recipe.contextual, "homogeneous"):
    if family:
      rows = table.gap("policy_gradient", "clone_solved", family)
      _curve(axes, x, rows, marker="o", color=_colour(family), label=family)
  rows = table.gap("policy_gradient", "clone_solved", "heterogeneous")
  if (rows.mean(0) > 0).all():
    power, line = _fit(x, rows)
    axes.plot(
      x, line, color="#222222", ls=":", label=f"fit: H to the {power:.2f}"
    )
  axes.axhline(0, color="#666666", lw=0.8)
  _dress(axes, x, "horizon H, tokens")
  axes.set_ylabel("gap, tokens of reward")
  axes.set_title(f"Policy gradient over cloning, n = {table.recipe.ratio}H")
  axes.legend(loc="upper left")


def _draw_suboptimality(axes: Axes, table: Any) -> None:
  x = table.horizons
  for method in (
    "clone_solved",
    "clone_expert",
    "policy_gradient",
    "reweight",
  ):
    label, colour, marker = _METHODS[method]
    rows = table.suboptimality(method, "heterogeneous")
    shown = np.maximum(rows, 0)
    if (shown.mean(0) > _FLOOR).all():
      label += f": H to the {_fit(x, shown)[0]:.2f}"
    _curve(
      axes, x, rows, floor=_FLOOR, marker=marker, color=colour, label=label
    )
  axes.plot(
    x,
    0.5 * np.sqrt(x / x[0]),
    color="#222222",
    ls=":",
    label="slope of the square root",
  )
  axes.set_yscale("log")
  _dress(axes, x, "horizon H, tokens")
  axes.set_ylabel("below the optimum, tokens")
  axes.set_title(f"Heterogeneous base, n = {table.recipe.ratio}H")
  axes.set_ylim(_FLOOR, axes.get_ylim()[1] * 30)
  axes.legend(loc="upper left", fontsize=8)


def _draw_traces(axes: Axes, table: Any) -> None:
  traces = table.ratios * table.recipe.horizon
  best = table.recipe.horizon - table.recipe.length + 1
  for family, style in (("heterogeneous", "-"), ("rare", "--")):
    for method in ("clone_solved", "clone_solved_charged", "policy_gradient"):
      label, colour, marker = _METHODS[method]
      rows = best - table.over_traces(method, family)
      _curve(
        axes,
        traces,
        rows,
        floor=_FLOOR,
        marker=marker,
        color=colour,
        ls=style,
        label=label if style == "-" else None,
      )
  axes.plot([], [], color="#222222", ls="--", label="the fast style is rare")
  axes.set_yscale("log")
  _dress(axes, traces, "traces n")
  axes.set_ylabel("below the optimum, tokens")
  axes.set_title(f"More traces, H = {table.recipe.horizon}")
  axes.set_ylim(top=axes.get_ylim()[1] * 60)
  axes.legend(loc="upper left", fontsize=8, ncols=2)


def _draw_base(axes: Axes, table: Any, base) -> None:
  x = table.horizons
  for family, rows in base.items():
    if family == table.recipe.contextual:  # the same styles: the same curves
      continue
    colour = _colour(family)
    sigma = np.array(rows["sigma"]) / x
    axes.plot(x, sigma, color=colour, marker="o", ms=4, label=family)
    axes.plot(x, rows["concentration"], color=colour, ls="--")
  axes.plot([], [], color="#222222", label="heterogeneity over H")
  axes.plot([], [], color="#222222", ls="--", label="anti-concentration c")
  _dress(axes, x, "horizon H, tokens")
  axes.set_ylim(0, 1.1)
  axes.set_yticks(np.arange(0, 0.9, 0.2))
  axes.set_title(f"What decides, at kappa = {table.recipe.kappa:g}")
  axes.legend(loc="upper left", fontsize=8, ncols=2)


def _colour(family: str) -> str:
  return _COLOURS.get(family, "#882255")
