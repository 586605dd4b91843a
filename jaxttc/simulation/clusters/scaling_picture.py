# SPDX-License-Identifier: Apache-2.0
"""The picture of how simulations of clusters scale, and of their designs."""

from collections.abc import Mapping, Sequence
import os
from typing import Any

import numpy as np

from jaxttc import page

_LOADS = {"load": "#1f77b4", "overload": "#d62728"}
_PAIRS = {
  "HH": "#1f77b4",
  "HHcap": "#17a2b8",
  "HA": "#9467bd",
  "AA": "#8c564b",
}
_LATE = 30.0  # where slowdowns over their limit are cut off in the picture


def draw(data: Mapping[str, Any], path: str | os.PathLike[str]) -> None:
  """Draws events per second, time by requests, and every design.

  Raises:
    ImportError: if matplotlib is not installed.
  """
  with page.style():
    figure = page.figure(7.2)
    grid = figure.add_gridspec(2, 3)
    _rate(figure.add_subplot(grid[0, 0]), data["by_machines"], "machines")
    _rate(figure.add_subplot(grid[0, 1]), data["by_requests"], "requests")
    _seconds(figure.add_subplot(grid[0, 2]), data["by_requests"])
    _designs(figure.add_subplot(grid[1, :]), data)
    page.save(figure, path)


def _rate(axes: Any, rows: Sequence[Mapping[str, Any]], field: str) -> None:
  for load, colour in _LOADS.items():
    mine = [row for row in rows if row["load"] == load]
    rate = [row["events"] / row["seconds"] / 1e6 for row in mine]
    at = [row[field] for row in mine]
    axes.plot(at, rate, "o-", color=colour, label=load)
  axes.set_xscale("log")
  axes.set_xticks(at, [f"{size:,}" for size in at])
  axes.minorticks_off()
  axes.set_ylim(bottom=0)
  axes.set_xlabel({"requests": "requests of a trace"}.get(field, field))
  axes.set_ylabel("million events a CPU second")
  if field == "machines":
    axes.legend()


def _seconds(axes: Any, rows: Sequence[Mapping[str, Any]]) -> None:
  for load, colour in _LOADS.items():
    mine = [row for row in rows if row["load"] == load]
    at = np.array([row["requests"] for row in mine], float)
    axes.plot(at, [row["seconds"] for row in mine], "o-", color=colour)
  axes.plot(
    at, mine[-1]["seconds"] * at / at[-1], ":", color="#666666", label="linear"
  )
  axes.set_xscale("log")
  axes.set_yscale("log")
  axes.set_xticks(at, [f"{int(size):,}" for size in at])
  axes.set_yticks([0.2, 0.5, 1, 2], ["0.2", "0.5", "1", "2"])
  axes.minorticks_off()
  axes.set_xlabel("requests of a trace")
  axes.set_ylabel("CPU seconds of a sweep")
  axes.legend()


def _designs(axes: Any, data: Mapping[str, Any]) -> None:
  """Each design a dot: its energy, and how far it is from the objective."""
  for pair, colour in _PAIRS.items():
    mine = [row for row in data["designs"] if row["design"].split()[0] == pair]
    if not mine:
      continue
    worst = [
      _LATE if row["worst"] is None else min(row["worst"], _LATE)
      for row in mine
    ]
    energy = [row["energy_mj"] for row in mine]
    axes.plot(energy, worst, ".", color=colour, alpha=0.5, ms=5, label=pair)
  axes.axhline(1.0, color="#222222", lw=1)
  axes.set_yscale("log")
  axes.set_yticks([0.6, 1, 2, 4], ["0.6", "1", "2", "4"])
  axes.minorticks_off()
  axes.set_xlabel("energy of the hour, MJ, idle machines too")
  axes.set_ylabel("worst slowdown over its limit")
  swept = data["sweep"]
  axes.set_title(
    f"{swept['designs']:,} designs of {swept['machines']} machines under one "
    f"recorded hour, {swept['cpu_seconds']:.0f} CPU seconds in all"
  )
  axes.legend(ncols=2)
