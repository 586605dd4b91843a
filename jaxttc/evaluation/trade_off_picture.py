# SPDX-License-Identifier: Apache-2.0
"""Draws what the two dials of a slimmable network do to every task.

A row a task: on the left its expected score against the budget, a line a
preference; on the right against its preference, a line a budget.
"""

from collections.abc import Sequence
import os
from typing import Any

import numpy as np

from jaxttc import page
from jaxttc.evaluation import slimming

# matplotlib is optional, so its types cannot be named at import time.
Axes = Any

# Light is little, dark is much; markers differ too, so that no reading depends
# on colour.
_COLOURS = ("#9ECAE1", "#4292C6", "#08519C", "#08204B")
_MARKERS = ("o", "s", "^", "D")
_WEIGHTS = (0.1, 0.4, 0.7, 1.0)  # lines on the left, at most
_BUDGETS = (0.25, 0.5, 0.75, 1.0)  # lines on the right, at most
_ROW = 1.9  # inches


def write(
  surface: slimming.TradeOff, path: str | os.PathLike[str], title: str = ""
) -> None:
  """Draws a trade-off.

  Args:
    surface: expected scores by task, weight and budget.
    path: picture to write; the suffix names the format (.png, .svg, .pdf).
    title: title of the picture.

  Raises:
    ImportError: if matplotlib is not installed.
    ValueError: if matplotlib does not know the format.
  """
  with page.style():
    tasks = len(surface.tasks)
    figure = page.figure(_ROW * tasks + 0.9)
    rows = figure.subplots(tasks, 2, squeeze=False, sharex="col", sharey="row")
    weights = nearest(surface.weights, _WEIGHTS)
    budgets = nearest(surface.budgets, _BUDGETS)
    for t, (left, right) in enumerate(rows):
      _lines(
        left, surface.budgets, surface.scores[t, weights], _weights(surface)
      )
      _lines(
        right,
        surface.weights,
        surface.scores[t][:, budgets].T,
        _budgets(surface),
      )
      left.set_ylabel(f"{surface.tasks[t]}\nexpected score")
    _dress(rows, title, figure)
    page.save(figure, path)


def nearest(grid: np.ndarray, wanted: Sequence[float]) -> list[int]:
  """Places of a grid that are nearest to some values, each once, rising."""
  away = np.abs(grid[:, None] - np.asarray(wanted)[None])
  return sorted({int(i) for i in away.argmin(0)})


def _weights(surface: slimming.TradeOff) -> list[str]:
  places = nearest(surface.weights, _WEIGHTS)
  return [f"preference {surface.weights[i]:.2g}" for i in places]


def _budgets(surface: slimming.TradeOff) -> list[str]:
  places = nearest(surface.budgets, _BUDGETS)
  return [f"{surface.budgets[i]:.0%} of the cost" for i in places]


def _lines(
  axes: Axes, x: np.ndarray, rows: np.ndarray, labels: Sequence[str]
) -> None:
  for i, (row, label) in enumerate(zip(rows, labels, strict=True)):
    axes.plot(
      x,
      row,
      color=_COLOURS[i],
      marker=_MARKERS[i],
      markersize=4.5,
      linewidth=1.5,
      markeredgecolor="white",
      markeredgewidth=0.5,
      label=label,
    )
  axes.grid(axis="y", color="#E6E6E6", linewidth=0.8)
  axes.set_axisbelow(True)
  axes.margins(y=0.08)


def _dress(rows: np.ndarray, title: str, figure: Any) -> None:
  from matplotlib import ticker

  left, right = rows[-1]
  left.set_xlabel("budget, share of the full multiply-adds")
  right.set_xlabel("preference for the task; others share the rest")
  for axes in (left, right):
    axes.set_xlim(-0.03, 1.03)
    axes.xaxis.set_major_formatter(ticker.PercentFormatter(1.0, decimals=0))
  for axes in rows[0]:
    axes.legend(
      loc="lower left",
      bbox_to_anchor=(0, 1.0),
      ncols=2,
      columnspacing=1.2,
      handletextpad=0.5,
      borderaxespad=0.2,
    )
  if title:
    figure.suptitle(title, x=0.01, ha="left", fontsize=11)
