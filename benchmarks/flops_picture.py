# SPDX-License-Identifier: Apache-2.0
"""Draws the account, and how wrong estimates are."""

from typing import Any

import numpy as np

from jaxttc import page

_METHODS = ("closed form", "hardware time", "6ND as reported")


def draw(data: dict[str, Any], path: str) -> None:
  """Draws three panels.

  Args:
    data: what `flops.measure` returns.
    path: the picture's file.
  """
  with page.style():
    figure = page.figure(3.6)
    left, middle, right = figure.subplots(1, 3)
    _search(left, data["answers"])
    _lives(middle, data["lives"])
    _errors(right, data["calibration"])
    page.save(figure, path)


def _search(panel, rows) -> None:
  for row in rows:
    if row["decoder"] != "sample":
      continue
    panel.axhline(row["accuracy"], color="#BBBBBB", linewidth=0.8, zorder=0)
    panel.text(
      1.0,
      row["accuracy"],
      f"width {row['width']:g} ",
      color="#777777",
      fontsize=7.5,
      ha="right",
      va="bottom",
      transform=panel.get_yaxis_transform(),
    )
  own = [row for row in rows if row["width"] == min(r["width"] for r in rows)]
  panel.errorbar(
    [row["k"] for row in own],
    [row["accuracy"] for row in own],
    yerr=[1.645 * row["error"] for row in own],
    color="#D55E00",
    marker="o",
    markersize=4,
    capsize=2,
    label="best of k",
  )
  panel.set_xscale("log", base=2)
  ks = sorted({row["k"] for row in rows})
  panel.set_xticks(ks, [str(k) for k in ks])
  panel.set_xlabel("answers k of the smallest width")
  panel.set_ylabel("accuracy")
  panel.set_title("One answer of a larger width,\nor k of the smallest")
  panel.legend(loc="lower right", fontsize=8)


def _lives(panel, lives) -> None:
  queries = np.logspace(3, 8, 100)
  drawn = [
    ("large", "training", "width 1, one answer", "#000000", "-"),
    ("small", "training", "width 0.25 searching", "#D55E00", "-"),
    ("small", "everything", "same, with its verifier", "#D55E00", "--"),
  ]
  for name, counted, label, colour, line in drawn:
    if name in lives:
      told = lives[name]
      panel.plot(
        queries,
        told[counted] + queries * told["per_query"],
        line,
        color=colour,
        label=label,
      )
  panel.set_xscale("log")
  panel.set_yscale("log")
  panel.set_xlabel("queries answered")
  panel.set_ylabel("FLOP, training and queries")
  panel.set_title("Equal accuracy:\nwhat a life costs")
  panel.legend(loc="upper left", fontsize=8)


def _errors(panel, rows) -> None:
  for i, method in enumerate(_METHODS):
    ratios = [
      row["ratio"]
      for row in rows
      if row["method"] == method and row["hidden"] == "published"
    ]
    jitter = np.random.default_rng(0).uniform(-0.28, 0.28, len(ratios))
    panel.plot(
      i + jitter, ratios, ".", markersize=3, color="#0072B2", alpha=0.6
    )
  panel.axhline(1.0, color="#666666", linewidth=0.8)
  panel.set_yscale("log")
  panel.set_yticks([0.5, 1, 2, 4], ["0.5", "1", "2", "4"])
  panel.minorticks_off()
  panel.set_xticks(
    range(len(_METHODS)),
    [method.replace(" ", "\n", 1) for method in _METHODS],
    fontsize=8,
  )
  panel.set_ylabel("estimate over truth")
  panel.set_title("Estimates of training FLOP,\nrandom sizes")
