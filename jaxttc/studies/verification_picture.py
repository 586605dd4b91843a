# SPDX-License-Identifier: Apache-2.0
"""The picture of voting against verifying at equal compute."""

from collections.abc import Mapping
import os
from typing import Any

import numpy as np

from jaxttc import page

# matplotlib is optional, so its types cannot be named at import time.
Axes = Any

_CURVES = {
  "vote": ("self-consistency", "#0072B2", "o"),
  "best_of_n": ("GenRM best-of-N", "#D55E00", "s"),
  "weighted_sc": ("GenRM weighted vote", "#009E73", "^"),
}
_CONTROLS = {
  "written": ("written verification", "#D55E00", "s"),
  "bare verdict": ("bare verdict", "#CC79A7", "D"),
  "reward model": ("reward model", "#E69F00", "v"),
}


def draw(data: Mapping[str, Any], path: str | os.PathLike[str]) -> None:
  """Draws four panels.

  Args:
    data: of `verification_report.report`.
    path: picture to write; the suffix names the format.

  Raises:
    ImportError: if matplotlib is not installed.
  """
  with page.style():
    figure = page.figure(7.4)
    panels = figure.subplots(2, 2)
    _draw_curves(panels[0, 0], data)
    _draw_surface(panels[0, 1], data, figure)
    _draw_splits(panels[1, 0], data)
    _draw_controls(panels[1, 1], data)
    pool = data["pool"]
    figure.suptitle(
      f"Solve or verify: {pool['problems']} problems, one verification costs "
      f"{pool['ratio']:.2f} solutions (95% intervals)",
      x=0.01,
      ha="left",
      fontsize=11,
    )
    page.save(figure, path)


def _dress(axes: Axes, label: str, ticks) -> None:
  axes.set_xscale("log", base=2)
  axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
  axes.minorticks_off()
  axes.set_xlabel(label)
  axes.grid(axis="y", color="#E6E6E6", linewidth=0.8)
  axes.set_axisbelow(True)


def _powers(most: float | int) -> list[int]:
  return [2**i for i in range(int(np.log2(most)) + 1)]


def _draw_curves(axes: Axes, data) -> None:
  for name, (label, colour, marker) in _CURVES.items():
    rows = data["curves"][name]
    x = [row["budget"] for row in rows]
    axes.plot(
      x,
      [row["value"] for row in rows],
      color=colour,
      marker=marker,
      ms=3.5,
      lw=1.4,
      label=label,
    )
    if name != "weighted_sc":
      low, high = ([row[end] for row in rows] for end in ("low", "high"))
      axes.fill_between(x, low, high, color=colour, alpha=0.12, lw=0)
  rows = data["curve_with_prefill"]
  axes.plot(
    [row["budget"] for row in rows],
    [row["value"] for row in rows],
    color="#D55E00",
    ls=":",
    lw=1.2,
    label="GenRM, reading counted",
  )
  _dress(axes, "compute, in solutions", _powers(x[-1]))
  axes.set_ylabel("accuracy")
  axes.set_title("At equal compute")
  bottom, top = axes.get_ylim()
  axes.set_ylim(bottom, top + 0.35 * (top - bottom))  # room for the legend
  axes.legend(loc="upper left", fontsize=8.5)


def _draw_surface(axes: Axes, data, figure) -> None:
  surface = data["surface"]
  values = np.asarray(surface["best_of_n"])
  shown = axes.imshow(values.T, origin="lower", aspect="auto", cmap="viridis")
  solutions, verifications = surface["solutions"], surface["verifications"]
  axes.set_xticks(range(len(solutions)), [f"{s}" for s in solutions])
  axes.set_yticks(range(len(verifications)), [f"{v}" for v in verifications])
  axes.set_xlabel("solutions S")
  axes.set_ylabel("verifications V")
  axes.set_title("Accuracy of GenRM best-of-N")
  figure.colorbar(shown, ax=axes)


def _draw_splits(axes: Axes, data) -> None:
  optima, law = data["optima"], data["law"]
  tested = [row["budget"] for row in data["predicted"]]
  x = np.asarray(optima["budgets"])
  line = np.geomspace(x[0], max([*tested, x[-1]]), 50)
  for name, label, colour in (
    ("solutions", "S", "#0072B2"),
    ("verifications", "V", "#D55E00"),
  ):
    values, edge = np.asarray(optima[name]), np.asarray(optima["on_edge"])
    axes.plot(x[~edge], values[~edge], "o", color=colour, ms=5)
    axes.plot(x[edge], values[edge], "o", color=colour, ms=5, mfc="white")
    power = law[name][0]
    axes.plot(
      line,
      np.exp(law[f"{name}_scale"]) * line**power,
      color=colour,
      lw=1.2,
      label=f"{label} ~ C^{power:.2f} [{law[name][1]:.2f}, {law[name][2]:.2f}]",
    )
  for row in data["predicted"]:
    axes.plot(row["budget"], row["best"][0], "x", color="#0072B2", ms=6)
    axes.plot(row["budget"], row["best"][1], "x", color="#D55E00", ms=6)
  axes.set_yscale("log", base=2)
  marks = _powers(data["pool"]["verified"])
  axes.set_yticks(marks, [f"{mark}" for mark in marks])
  axes.set_ylabel("best split")
  _dress(axes, "compute, in solutions", [8, 16, 32, 64, 128])
  axes.set_title("Best splits; crosses: held out, by half")
  axes.legend(loc="upper left", fontsize=8.5)


def _draw_controls(axes: Axes, data) -> None:
  for name, (label, colour, marker) in _CONTROLS.items():
    rows = [row for row in data["controls"] if row["verifier"] == name]
    x = [row["solutions"] for row in rows]
    for field, dash, what in (
      ("best_of_n", "-", "best-of-N"),
      ("weighted_sc", "--", "weighted vote"),
    ):
      axes.plot(
        x,
        [row[field] for row in rows],
        color=colour,
        ls=dash,
        marker=marker,
        ms=3.5,
        lw=1.3,
        label=f"{label}, {what}",
      )
  vote = data["curves"]["vote"]
  kept = [row for row in vote if row["budget"] in x]
  axes.plot(
    [row["budget"] for row in kept],
    [row["value"] for row in kept],
    color="#666666",
    lw=1.2,
    label="plain vote",
  )
  _dress(axes, "solutions, verified or not", _powers(x[-1]))
  axes.set_title("At equal numbers of solutions")
  bottom, top = axes.get_ylim()
  axes.set_ylim(bottom, top + 0.7 * (top - bottom))  # room for the legend
  axes.legend(loc="upper left", fontsize=8)
