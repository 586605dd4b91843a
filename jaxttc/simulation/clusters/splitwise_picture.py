# SPDX-License-Identifier: Apache-2.0
"""The picture of the study of Splitwise."""

from collections.abc import Mapping, Sequence
import os
from typing import Any

import numpy as np

from jaxttc import page

_COLOURS = {
  "HH": "#1f77b4",
  "HHcap": "#17a2b8",
  "HA": "#9467bd",
  "AA": "#8c564b",
}


def draw(data: Mapping[str, Any], path: str | os.PathLike[str]) -> None:
  """Draws throughput by pool sizes, and speed by load.

  Raises:
    ImportError: if matplotlib is not installed.
  """
  with page.style():
    figure = page.figure(7.0)
    top, bottom = figure.subplots(2, 2)
    for axes, workload in zip(top, ("conversation", "coding"), strict=True):
      _throughput(axes, data["throughput"], workload)
    top[0].legend(fontsize=8, loc="lower left")
    _speed(bottom[0], data["speed"])
    _growth(bottom[1], data["growth"])
    page.save(figure, path)


def _throughput(
  axes: Any, rows: Sequence[Mapping[str, Any]], workload: str
) -> None:
  mine = [row for row in rows if row["workload"] == workload]
  for design, colour in _COLOURS.items():
    points = []
    for row in mine:
      if row["kind"] == "split" and row["budget"] == 1.0:
        name, prompts, tokens = row["design"].split()
        if name == design:
          prompt, token = int(prompts[:-1]), int(tokens[:-1])
          points.append((prompt / (prompt + token), row["rates"]))
    points.sort(key=lambda point: point[0])
    share = [point[0] for point in points]
    rates = np.array([point[1] for point in points])
    axes.plot(share, rates.mean(1), "o-", color=colour, label=design, ms=4)
    axes.fill_between(
      share, rates.min(1), rates.max(1), color=colour, alpha=0.15, lw=0
    )
  for kind, colour in (("baseline", "#333333"), ("chunked", "#d62728")):
    best = max(np.mean(row["rates"]) for row in mine if row["kind"] == kind)
    axes.axhline(best, color=colour, ls="--", lw=1, label=f"best {kind}")
  axes.set_ylim(bottom=0)
  axes.set_xlabel("share of machines that compute prompts")
  axes.set_ylabel("requests/s under the objective")
  axes.set_title(f"{workload}, equal cost and power")


def _speed(axes: Any, rows: Sequence[Mapping[str, Any]]) -> None:
  rate = [row["rate_per_s"] for row in rows]
  for field, label, colour in (
    ("requests_per_s", "compiled sweep", "#1f77b4"),
    ("reference_requests_per_s", "plain Python", "#333333"),
  ):
    axes.plot(
      rate, [row[field] for row in rows], "o-", color=colour, label=label
    )
  axes.set_xscale("log")
  axes.set_yscale("log")
  axes.set_xlabel("requests/s that arrive at the cluster")
  axes.set_ylabel("requests simulated a CPU second")
  axes.set_title("speed, one hour's trace, one core")
  axes.legend()


def _growth(axes: Any, rows: Sequence[Mapping[str, Any]]) -> None:
  for load, colour in (("load", "#1f77b4"), ("overload", "#d62728")):
    mine = [row for row in rows if row["load"] == load]
    axes.plot(
      [row["requests"] for row in mine],
      [row["seconds"] for row in mine],
      "o-",
      color=colour,
      label=load,
    )
  axes.set_xscale("log")
  axes.set_yscale("log")
  axes.set_xlabel("requests")
  axes.set_ylabel("CPU seconds of a sweep")
  axes.set_title("growth of time")
  axes.legend()
