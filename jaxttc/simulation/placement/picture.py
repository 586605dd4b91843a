# SPDX-License-Identifier: Apache-2.0
"""The picture of a study of placement."""

from collections.abc import Mapping
import os
from typing import Any

import numpy as np

from jaxttc import page

_COLOURS = {
  "greedy": "#0072b2",
  "tabu": "#56b4e9",
  "annealing": "#009e73",
  "genetic": "#e69f00",
  "seeded_genetic": "#d55e00",
  "integer_program": "#666666",
}
_POLICY_COLOURS = {
  "masb": "#d55e00",
  "rebalancing": "#0072b2",
  "power_of_k": "#009e73",
  "best_fit": "#e69f00",
}
_GREY = "#999999"


def draw(data: Mapping[str, Any], path: str | os.PathLike[str]) -> None:
  """Draws solvers on medium cells, and policies on small and large traces.

  Args:
    data: of a `study.BalancingStudy`.
    path: picture to write; the suffix names the format (.png, .svg, .pdf).

  Raises:
    ImportError: if matplotlib is not installed.
  """
  with page.style():
    figure = page.figure(7.0)
    axes = figure.subplots(2, 2)
    _solvers(axes[0, 0], data["medium"])
    _times(axes[0, 1], data["medium"])
    _policies(axes[1, 0], data["cells"])
    _series(axes[1, 1], data["replay"])
    page.save(figure, path)


def _by(rows: list[dict[str, Any]], name: str, field: str) -> dict[str, list]:
  found: dict[str, list] = {}
  for row in rows:
    found.setdefault(row[name], []).append(row[field])
  return found


def _words(name: str) -> str:
  return {"masb": "MASB"}.get(name, name.replace("_", " "))


def _solvers(axes: Any, rows: list[dict[str, Any]]) -> None:
  """Every instance a dot, over the bound; the mean a bar."""
  totals = _by(rows, "solver", "total")
  floor = np.maximum(totals.pop("integer_program"), 1e-9)
  means = {
    name: np.mean(np.array(found) / floor) for name, found in totals.items()
  }
  names = sorted(totals, key=means.__getitem__, reverse=True)
  for place, name in enumerate(names):
    ratios = np.array(totals[name]) / floor
    colour = _COLOURS[name]
    jitter = np.linspace(-0.18, 0.18, len(ratios))
    axes.plot(ratios, place + jitter, ".", color=colour, alpha=0.5)
    axes.plot([ratios.mean()] * 2, [place - 0.3, place + 0.3], color=colour)
  axes.axvline(1.0, color=_GREY, linewidth=1, linestyle=":")
  axes.set_yticks(range(len(names)), [_words(name) for name in names])
  axes.set_xlabel("cost over what no allocation can beat")
  axes.set_title(f"Equal evaluations, {len(floor)} cells")


def _times(axes: Any, rows: list[dict[str, Any]]) -> None:
  """What a solution costs in time."""
  seconds = {
    name: np.median(found)
    for name, found in _by(rows, "solver", "seconds").items()
  }
  names = sorted(seconds, key=seconds.__getitem__, reverse=True)
  for place, name in enumerate(names):
    axes.plot(1e3 * seconds[name], place, "o", color=_COLOURS[name])
  axes.set_xscale("log")
  axes.grid(axis="x", color="#eeeeee")
  axes.set_yticks(range(len(names)), [_words(name) for name in names])
  axes.set_ylim(-0.6, len(names) - 0.4)
  axes.set_xlabel("CPU milliseconds, compiled")
  axes.set_title("The same cells: time of one solution")


def _policies(axes: Any, rows: list[dict[str, Any]]) -> None:
  """Overloaded share of machines, a dot a trace."""
  shares = _by(rows, "policy", "overloaded_share")
  names = sorted(shares, key=lambda name: np.mean(shares[name]), reverse=True)
  for place, name in enumerate(names):
    percent = 100 * np.array(shares[name])
    colour = _POLICY_COLOURS.get(name, _GREY)
    jitter = np.linspace(-0.18, 0.18, len(percent))
    axes.plot(percent, place + jitter, ".", color=colour, alpha=0.5)
    axes.plot([percent.mean()] * 2, [place - 0.3, place + 0.3], color=colour)
  axes.set_yticks(range(len(names)), [_words(name) for name in names])
  axes.set_xlim(left=0)
  axes.set_xlabel("machines overloaded, % of time")
  machines = max(row["machines"] for row in rows)
  axes.set_title(f"Cells of {machines} machines, a dot a trace")


def _series(axes: Any, rows: list[dict[str, Any]]) -> None:
  """Overload over time in the large cell."""
  for row in rows:
    hours = [point["hours"] for point in row["series"]]
    percent = [100 * point["overloaded"] for point in row["series"]]
    colour = _POLICY_COLOURS.get(row["policy"], _GREY)
    axes.plot(hours, percent, color=colour, label=_words(row["policy"]))
  if rows:
    machines = max(row["nodes"] for row in rows)
    axes.set_title(f"One cell of {machines:,} machines")
    axes.legend(loc="best")
  axes.set_ylim(bottom=0)
  axes.set_xlabel("hours")
  axes.set_ylabel("machines overloaded, %")
