# SPDX-License-Identifier: Apache-2.0
"""Draws the account, and how wrong estimates are."""

from typing import Any

import numpy as np

from benchmarks import flops_account
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
  single = [row for row in rows if row["decoder"] == flops_account.SINGLE]
  search = [row for row in rows if row["decoder"] == flops_account.SEARCH]
  for own, colour, marker, label in (
    (single, "#000000", "s", "one answer, by width"),
    (search, "#D55E00", "o", f"width {flops_account.SMALL:g}, A*"),
  ):
    panel.errorbar(
      [row["flops"] / 1e6 for row in own],
      [row["accuracy"] for row in own],
      yerr=[1.645 * row["error"] for row in own],
      color=colour,
      marker=marker,
      markersize=4,
      capsize=2,
      label=label,
    )
  panel.set_xlabel("MFLOP a query, reward model included")
  panel.set_ylabel("accuracy")
  panel.set_title("A larger width answers,\nor the smallest searches")
  panel.legend(loc="center left", fontsize=8)


def _lives(panel, lives) -> None:
  queries = np.logspace(3, 8, 100)
  drawn = [
    ("large", "training", "width 1, one answer", "#000000", "-"),
    ("small", "training", "width 0.25 searching", "#D55E00", "-"),
    ("small", "everything", "same, with its helpers", "#D55E00", "--"),
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
