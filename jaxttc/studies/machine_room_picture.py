# SPDX-License-Identifier: Apache-2.0
"""The picture of decoders in the machine room."""

from collections.abc import Mapping
import os
from typing import Any

import numpy as np

from jaxttc import page

_SHARED, _PLAIN, _SPLIT = "#1f77b4", "#c7c7c7", "#ff7f0e"


def draw(data: Mapping[str, Any], path: str | os.PathLike[str]) -> None:
  """Draws energy, machines, accuracy against energy, and extra servers.

  Raises:
    ImportError: if matplotlib is not installed.
  """
  with page.style():
    figure = page.figure(8.0)
    top, bottom = figure.subplots(2, 2)
    _bars(
      top[0], data, "joules_per_solved", 1e-3, "kJ a solved problem, idle too"
    )
    _bars(top[1], data, "machines", 1.0, "machines that meet the objective")
    _against(bottom[0], data)
    _extra(bottom[1], data)
    page.save(figure, path)


def _bars(
  axes: Any, data: Mapping[str, Any], field: str, unit: float, label: str
) -> None:
  names = [one["decoder"] for one in data["decoders"]]
  ways = (
    (True, "split", _SPLIT, "split"),
    (False, "split", _PLAIN, "split, no prefix sharing"),
    (True, "undivided", _SHARED, "undivided (none: not at any size)"),
  )
  for at, (shared, kind, colour, title) in enumerate(ways):
    values = [
      unit * (row.get(field) or 0)
      for name in names
      for row in data["summary"]
      if (row["decoder"], row["shared"], row["kind"]) == (name, shared, kind)
    ]
    place = np.arange(len(names)) + (at - 1) * 0.27
    axes.barh(place, values, 0.25, color=colour, label=title)
  axes.set_yticks(range(len(names)), [name.replace("_", " ") for name in names])
  axes.invert_yaxis()
  axes.set_xlabel(label)
  if field == "machines":
    axes.legend(fontsize=8)


def _against(axes: Any, data: Mapping[str, Any]) -> None:
  for one in data["decoders"]:
    for row in data["summary"]:
      if (
        row["decoder"] == one["decoder"]
        and row["shared"]
        and row["kind"] == "split"
        and row["machines"] is not None
      ):
        joules = row["joules_per_solved"] * one["accuracy"] / 1e3
        axes.plot(joules, one["accuracy"], "o", color=_SPLIT)
        axes.annotate(
          one["decoder"].replace("_", " "),
          (joules, one["accuracy"]),
          xytext=(5, -10 if one["decoder"] == "dvts" else 3),
          textcoords="offset points",
          fontsize=8,
        )
  axes.margins(x=0.25, y=0.1)
  axes.set_xlabel("kJ a problem asked, split, shared prefixes")
  axes.set_ylabel("share of problems solved")


def _extra(axes: Any, data: Mapping[str, Any]) -> None:
  for row in data["power"]:
    share, extra = 100 * row["prefill_share"], 100 * row["extra"]
    axes.plot(share, extra, "o", color="#2ca02c")
    axes.annotate(
      row["decoder"].replace("_", " "),
      (share, extra),
      xytext=(5, 3),
      textcoords="offset points",
      fontsize=8,
    )
  axes.margins(x=0.25, y=0.15)
  axes.set_xlabel("share of busy time in prefill, %")
  axes.set_ylabel("more servers in the power budget, %")
