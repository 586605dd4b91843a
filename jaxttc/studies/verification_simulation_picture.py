# SPDX-License-Identifier: Apache-2.0
"""The picture of the simulated comparison of voting and verifying."""

from collections.abc import Mapping
import os
from typing import Any

import numpy as np

from jaxttc import page

# matplotlib is optional, so its types cannot be named at import time.
Axes = Any


def draw(data: Mapping[str, Any], path: str | os.PathLike[str]) -> None:
  """Draws two panels.

  Args:
    data: of `verification_simulation`.
    path: picture to write; the suffix names the format.

  Raises:
    ImportError: if matplotlib is not installed.
  """
  with page.style():
    figure = page.figure(3.9)
    left, right = figure.subplots(1, 2)
    _draw_curves(left, data)
    _draw_splits(right, data)
    page.save(figure, path)


def _ticks(axes: Axes, label: str) -> None:
  axes.set_xscale("log", base=2)
  low, high = np.log2(axes.get_xlim())
  ticks = [2**i for i in range(max(int(np.ceil(low)), 0), int(high) + 1, 2)]
  axes.set_xticks(ticks, [f"{tick}" for tick in ticks])
  axes.minorticks_off()
  axes.set_xlabel(label)
  axes.grid(axis="y", color="#E6E6E6", linewidth=0.8)
  axes.set_axisbelow(True)


def _draw_curves(axes: Axes, data) -> None:
  x = data["budgets"]
  axes.plot(x, data["vote"], "o-", ms=3.5, color="#0072B2", label="vote")
  axes.axhline(data["vote_limit"], color="#0072B2", ls=":", lw=1)
  shades = ("#BBBBBB", "#E9B08A", "#D55E00", "#7F3800", "#401C00")
  for row, shade in zip(data["sweep"], shades, strict=False):
    axes.plot(
      x,
      row["accuracy"],
      "s-",
      ms=3,
      lw=1.2,
      color=shade,
      label=f"best-of-N, verifier x {row['quality']:g}",
    )
  axes.set_ylabel("accuracy")
  axes.set_title("Simulated; dotted: the vote's limit")
  axes.legend(loc="upper left", fontsize=8.5)
  _ticks(axes, "compute, in solutions")


def _draw_splits(axes: Axes, data) -> None:
  optima, law = data["optima"], data["law"]
  x = np.asarray(optima["budgets"])
  for name, label, colour in (
    ("solutions", "S", "#0072B2"),
    ("verifications", "V", "#D55E00"),
  ):
    axes.plot(x, optima[name], "o", color=colour, ms=4.5)
    power = law[name][0]
    axes.plot(
      x,
      np.exp(law[f"{name}_scale"]) * x**power,
      color=colour,
      label=f"{label} ~ C^{power:.2f}",
    )
  axes.set_yscale("log", base=2)
  axes.set_yticks(
    marks := [1, 2, 4, 8, 16, 32, 64, 128], [f"{m}" for m in marks]
  )
  axes.set_ylabel("best split")
  axes.set_title("The best split of a budget")
  axes.legend(loc="upper left")
  _ticks(axes, "compute, in solutions")
