# SPDX-License-Identifier: Apache-2.0
"""Draws accuracy against FLOPs: of a token, by width, and of a search."""

import os
from typing import Any

from matplotlib import figure as figure_lib

_COLOURS = {"nested": "#D55E00", "separate": "#0072B2"}
_LINES = {"greedy": ("-", "o"), "sample": ("--", "s")}
_WIDTHS = ("#56B4E9", "#009E73", "#CC79A7", "#D55E00", "#0072B2", "#8C6D1F")


def draw(data: dict[str, Any], path: str | os.PathLike[str]) -> None:
  """Draws both panels.

  Args:
    data: what `slimmable_lm.measure` returns.
    path: the picture's file.
  """
  figure = figure_lib.Figure(figsize=(9.0, 3.8), layout="constrained")
  left, right = figure.subplots(1, 2)
  _answers(left, data["answers"])
  _searches(right, data)
  for panel in (left, right):
    panel.spines[["top", "right"]].set_visible(False)
    panel.set_ylabel("accuracy")
    panel.legend(frameon=False, fontsize=8.5)
  folder = os.path.dirname(os.fspath(path))
  if folder:
    os.makedirs(folder, exist_ok=True)
  figure.savefig(path, dpi=200, facecolor="white")


def _answers(panel, rows):
  kinds = sorted({(row["model"], row["decoder"]) for row in rows})
  for model, decoder in kinds:
    own = [r for r in rows if (r["model"], r["decoder"]) == (model, decoder)]
    line, marker = _LINES[decoder]
    panel.plot(
      [r["flops_per_token"] / 1e6 for r in own],
      [r["accuracy"] for r in own],
      linestyle=line,
      marker=marker,
      color=_COLOURS[model],
      label=f"{model}, {decoder}",
    )
  panel.set_xlabel("MFLOP a token, by width")
  panel.set_title("One answer", loc="left", fontsize=11)


def _searches(panel, data):
  rows = [r for r in data["search"] if r["split"] == "evaluation"]
  widths = sorted({row["width"] for row in rows})
  for width, colour in zip(widths, _WIDTHS, strict=False):
    own = [row for row in rows if row["width"] == width]
    panel.plot(
      [row["budget"] / 1e9 for row in own],
      [row["accuracy"] for row in own],
      marker="o",
      color=colour,
      label=f"width {width:g}",
    )
  accuracy = {(row["width"], row["budget"]): row["accuracy"] for row in rows}
  panel.plot(
    [row["flops"] / 1e9 for row in data["gains"]],
    [accuracy[row["width"], row["within"]] for row in data["gains"]],
    linestyle="none",
    marker="o",
    markersize=13,
    markerfacecolor="none",
    markeredgecolor="#222222",
    label="chosen by calibration",
  )
  panel.set_xlabel("GFLOP a problem, reward model included")
  panel.set_title("A* under equal budgets", loc="left", fontsize=11)
