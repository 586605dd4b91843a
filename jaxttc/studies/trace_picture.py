# SPDX-License-Identifier: Apache-2.0
"""The picture of what training on SCALE's traces brought."""

from collections.abc import Mapping
import os
from typing import Any

import numpy as np

from jaxttc import page

_LOOKS = {
  "fast": ("the model, at once", "#999999", "v"),
  "student-fast": ("trained on its own right answers", "#56B4E9", "s"),
  "student-scale": ("trained on SCALE's traces", "#D55E00", "o"),
  "student-slow": ("trained on all worked out", "#009E73", "^"),
  "slow": ("the model, all worked out", "#000000", "D"),
}
_SCALE = ("SCALE with the model and a probe", "#CC79A7", "P")


def draw(data: Mapping[str, Any], path: str | os.PathLike[str]) -> None:
  """Writes the picture of a study.

  Args:
    data: as `trace_report.report` makes it.
    path: the file; its suffix names the format.

  Raises:
    ImportError: if matplotlib is not installed.
  """
  with page.style():
    figure = page.figure(6.8)
    grid = figure.add_gridspec(2, 2, width_ratios=(1, 1.2))
    right = figure.add_subplot(grid[0, 0])
    spent = figure.add_subplot(grid[1, 0])
    chains = figure.add_subplot(grid[:, 1])
    _draw_steps(right, data["steps"], "right")
    right.set(ylabel="steps that are right", ylim=(0, 1.04))
    right.set_title("Single steps")
    _draw_steps(spent, data["steps"], "tokens")
    spent.set(ylabel="tokens of a step", ylim=(0, None))
    spent.set_xlabel("additions of a step")
    _draw_chains(chains, data["chains"])
    page.save(figure, path)


def _draw_steps(axes, rows, field) -> None:
  """Means over seeds, and from the least to the most of them."""
  for name, (label, colour, marker) in _LOOKS.items():
    mine = [row for row in rows if row["name"] == name]
    kinds = sorted({row["additions"] for row in mine})
    by_kind = [
      [row[field] for row in mine if row["additions"] == kind] for kind in kinds
    ]
    axes.plot(
      kinds,
      [np.mean(part) for part in by_kind],
      color=colour,
      marker=marker,
      markersize=4,
      label=label,
    )
    axes.fill_between(
      kinds,
      [min(part) for part in by_kind],
      [max(part) for part in by_kind],
      color=colour,
      alpha=0.15,
      linewidth=0,
    )
  axes.set_xticks(sorted({row["additions"] for row in rows}))


def _draw_chains(axes, rows) -> None:
  """A point a seed: what chains cost, and how many come out right."""
  for name, (label, colour, marker) in (_LOOKS | {"scale": _SCALE}).items():
    mine = [row for row in rows if row["name"] == name]
    axes.scatter(
      [row["tokens"] for row in mine],
      [row["right"] for row in mine],
      color=colour,
      marker=marker,
      s=34,
      label=label,
    )
  axes.set(xlabel="tokens sampled a chain", ylabel="chains that are right")
  axes.set(ylim=(0, 1.45), xlim=(0, None))
  axes.set_yticks(np.arange(0, 1.01, 0.2))
  axes.set_title("Chains, a point a seed")
  axes.legend(loc="upper left", fontsize=8.5)
