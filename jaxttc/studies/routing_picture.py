# SPDX-License-Identifier: Apache-2.0
"""Draws a routing study: cost against score, and cost at equal score."""

from collections.abc import Mapping
import os
from typing import Any

import numpy as np

from jaxttc import page

# Label, colour, width of the routers whose whole curve is drawn.
_CURVES = {
  "oracle": ("oracle (knows all scores)", "#000000", 1.4),
  "chosen": ("chosen on training questions", "#D55E00", 2.4),
  "forest": ("forest", "#E69F00", 1.3),
  "knn": ("nearest neighbours", "#0072B2", 1.3),
  "ridge": ("ridge", "#009E73", 1.3),
}
_PLAIN = "#777777"
_BAR = 0.65


def draw(data: Mapping[str, Any], path: str | os.PathLike[str]) -> None:
  """Writes the picture of a study.

  Args:
    data: as `routing_report.report` makes it.
    path: the file; its suffix names the format.

  Raises:
    ImportError: if matplotlib is not installed.
  """
  with page.style():
    figure = page.figure(4.8)
    left, right = figure.subplots(1, 2, width_ratios=(1.45, 1))
    _draw_curves(left, data)
    _draw_ratios(right, data)
    page.save(figure, path)


def _draw_curves(axes: Any, data: Mapping[str, Any]) -> None:
  curves, singles = data["curves"], data["single_models"]
  cost = np.asarray(curves["cost"])
  for name, (label, colour, width) in _CURVES.items():
    if name in curves["score"]:
      dashes = (0, (5, 2)) if name == "oracle" else "-"
      score = np.array(curves["score"][name], float)
      axes.plot(
        cost,
        score,
        color=colour,
        linewidth=width,
        label=label,
        linestyle=dashes,
      )
  axes.plot(
    cost,
    np.array(curves["score"]["zero"], float),
    color=_PLAIN,
    linewidth=1.3,
    linestyle=(0, (1.5, 1.5)),
    label="zero router (sees no question)",
  )
  x = np.array([single["cost"] for single in singles])
  y = np.array([single["score"] for single in singles])
  axes.scatter(x, y, s=22, color=_PLAIN, zorder=3, label="single models")
  best = int(y.argmax())
  axes.axhline(y[best], color=_PLAIN, linewidth=0.8, zorder=0)
  # So many questions, drawn at random, to the best model, the rest to the best
  # of the cheapest.
  cheapest, mix = np.lexsort((-y, x))[0], np.linspace(0, 1, 50)
  axes.plot(
    x[cheapest] + mix * (x[best] - x[cheapest]),
    y[cheapest] + mix * (y[best] - y[cheapest]),
    color="#BBBBBB",
    linewidth=1.3,
    label="random between two models",
  )
  axes.annotate(
    "best single model",
    (x[best], y[best]),
    xytext=(-7, 5),
    textcoords="offset points",
    ha="right",
    color="#444444",
    fontsize=9,
  )
  axes.set_xscale("log")
  ticks = [
    t for t in (5, 7, 10, 20, 30, 50, 70, 100) if cost[0] <= t <= cost[-1]
  ]
  axes.set_xticks(ticks, [str(t) for t in ticks])
  axes.minorticks_off()
  axes.set_xlabel(f"{data['unit']} a question")
  axes.set_ylabel("mean score")
  axes.set_title("What a mean cost buys")
  axes.grid(axis="y", color="#E6E6E6", linewidth=0.8)
  axes.set_axisbelow(True)
  axes.legend(loc="lower right", handlelength=2.2)


def _draw_ratios(axes: Any, data: Mapping[str, Any]) -> None:
  rows = sorted(
    data["routers"], key=lambda row: row["cost_ratio"]["value"], reverse=True
  )
  places = np.arange(len(rows))
  value, low, high = (
    np.array([row["cost_ratio"][end] for row in rows])
    for end in ("value", "low", "high")
  )
  colours = [_CURVES.get(r["router"], ("", _PLAIN, 1))[1] for r in rows]
  axes.hlines(places, low, high, color=colours, linewidth=1.6)
  axes.scatter(value, places, color=colours, s=26, zorder=3)
  axes.axvline(_BAR, color="#BBBBBB", linewidth=1, linestyle=(0, (4, 2)))
  axes.axvline(1, color=_PLAIN, linewidth=0.8)
  for place, number in zip(places, high, strict=True):
    axes.text(
      number + 0.02, place, f"{value[place]:.2f}", va="center", fontsize=8.5
    )
  axes.set_yticks(places, [row["router"] for row in rows])
  axes.tick_params(axis="y", length=0)
  axes.set_xlim(0, 1.15)
  axes.set_xlabel("cost over the best single model's")
  axes.set_title("Cost at an equal score")
  axes.grid(axis="y", color="#F0F0F0", linewidth=0.8)
  axes.set_axisbelow(True)
