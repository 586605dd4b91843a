# SPDX-License-Identifier: Apache-2.0
"""The picture of what the study of SCALE found."""

from collections.abc import Mapping
import os
from typing import Any

import numpy as np

from jaxttc import page
from jaxttc.studies import two_speed_recipe

_FRONTS = {
  "probe": ("difficulty read off the state", "#D55E00", "o"),
  "oracle": ("true failure rate of the step", "#000000", "s"),
  "disagreement": ("disagreement of samples, paid for", "#009E73", "^"),
  "budgeted": ("knapsack over known rates", "#CC79A7", "D"),
  "random": ("random, equally many hard steps", "#999999", "v"),
}
_POINTS = {
  "fast": "all at once",
  "slow": "all worked out",
  "vote": "all at once, 8 votes",
  "large_at_once": "all at once, by the larger",
}
_UNITS = {"tokens": 1, "flops": 1e6}
_SPENT = {
  "tokens": "tokens sampled a chain, difficulty included",
  "flops": "million FLOPs a chain, difficulty and prompts included",
}


def draw(data: Mapping[str, Any], path: str | os.PathLike[str]) -> None:
  """Writes the picture of a study.

  Args:
    data: as `two_speed_report.report` makes it.
    path: the file; its suffix names the format.

  Raises:
    ImportError: if matplotlib is not installed.
  """
  arms = {row["arm"]: row for row in data["arms"]}
  with page.style():
    figure = page.figure(7.6)
    upper, lower = figure.subfigures(2, 1)
    top, gate = upper.subplots(1, 2, width_ratios=(1.5, 1))
    share, told, caps = lower.subplots(1, 3)
    _draw_front(top, arms, data["spent_in"])
    _draw_gate(gate, data["steps"])
    _draw_hard(share, arms)
    _draw_difficulties(told, data["difficulties"])
    if data["spent_in"] == "flops":
      _draw_thresholds(caps, arms)
    else:
      _draw_caps(caps, arms)
    page.save(figure, path)


def _series(arms, kind, field="tokens") -> list[dict[str, Any]]:
  rows = [row for name, row in arms.items() if name.split("-")[0] == kind]
  return sorted(rows, key=lambda row: row[field])


def _draw_front(axes, arms, field) -> None:
  unit = _UNITS[field]
  for kind, (label, colour, marker) in _FRONTS.items():
    rows = _series(arms, kind, field)
    if not rows:
      continue
    x = [row[field] / unit for row in rows]
    value = np.array([row["accuracy"]["value"] for row in rows])
    low = np.array([row["accuracy"]["low"] for row in rows])
    high = np.array([row["accuracy"]["high"] for row in rows])
    axes.plot(
      x,
      value,
      color=colour,
      marker=marker,
      markersize=4,
      linewidth=1.4,
      label=label,
    )
    axes.fill_between(x, low, high, color=colour, alpha=0.12, linewidth=0)
  for name, label in _POINTS.items():
    if name not in arms:
      continue
    x, y = arms[name][field] / unit, arms[name]["accuracy"]["value"]
    axes.plot(x, y, "*", color="#0072B2", markersize=11, zorder=4)
    right = name in ("slow", "large_at_once") or (
      name == "vote" and field == "tokens"
    )
    low = name not in ("fast", "large_at_once")
    axes.annotate(
      label,
      (x, y),
      xytext=(-8 if right else 8, -14 if low else -3),
      textcoords="offset points",
      ha="right" if right else "left",
      color="#0072B2",
      fontsize=9,
    )
  axes.set_xlabel(_SPENT[field])
  axes.set_ylabel("accuracy")
  axes.set_title("Which steps to think through")
  axes.grid(axis="y", color="#E6E6E6", linewidth=0.8)
  corner = "upper left" if field == "tokens" else "lower right"
  axes.legend(loc=corner, fontsize=8)


def _draw_gate(axes, steps) -> None:
  x = [row["additions"] for row in steps]
  for mode, label, colour in (
    ("slow", "worked out", "#0072B2"),
    ("fast", "at once", "#E69F00"),
  ):
    axes.plot(
      x,
      [row[f"{mode}_accuracy"] for row in steps],
      color=colour,
      marker="o",
      markersize=4,
      label=label,
    )
  axes.set_xticks(x)
  axes.set_ylim(0, 1.03)
  axes.set_xlabel("additions in the step")
  axes.set_ylabel("accuracy of one step")
  axes.set_title("What the modes can do")
  axes.legend(loc="center left")


def _draw_hard(axes, arms) -> None:
  for kind in ("probe", "random"):
    label, colour, marker = _FRONTS[kind]
    rows = sorted(_series(arms, kind), key=lambda row: row["hard"])
    axes.plot(
      [row["hard"] for row in rows],
      [row["accuracy"]["value"] for row in rows],
      color=colour,
      marker=marker,
      markersize=4,
      label=label,
    )
    for row in rows:
      if kind == "probe":
        axes.annotate(
          row["arm"].partition("-")[2],
          (row["hard"], row["accuracy"]["value"]),
          xytext=(0, 6),
          textcoords="offset points",
          ha="center",
          fontsize=7.5,
          color=colour,
        )
  axes.set_xlabel("steps worked out (numbers: threshold)")
  axes.set_ylabel("accuracy")
  axes.set_title("At the same share of hard steps")
  axes.grid(axis="y", color="#E6E6E6", linewidth=0.8)


def _draw_difficulties(axes, difficulties) -> None:
  edges = np.asarray(difficulties["edges"])
  axes.bar(
    edges[:-1],
    difficulties["steps"],
    width=np.diff(edges),
    align="edge",
    color="#D55E00",
    edgecolor="white",
    linewidth=0.5,
  )
  axes.axvline(two_speed_recipe.FIXED, color="#777777", linewidth=0.9)
  axes.set_yscale("symlog")
  axes.set_xlabel("difficulty (line: threshold)")
  axes.set_ylabel("steps")
  axes.set_title("How hard steps are said to be")


def _draw_caps(axes, arms) -> None:
  for kind, label, colour in (
    ("cap_easy", "easy steps", "#56B4E9"),
    ("cap_hard", "hard steps", "#0072B2"),
  ):
    rows = [
      (int(n.partition("-")[2]), r)
      for n, r in arms.items()
      if n.split("-")[0] == kind
    ]
    rows.sort(key=lambda pair: pair[0])
    axes.plot(
      [cap for cap, _ in rows],
      [row["accuracy"]["value"] for _, row in rows],
      color=colour,
      marker="o",
      markersize=4,
      label=label,
    )
  axes.set_xlabel("most tokens of a worked-out step")
  axes.set_ylabel("accuracy")
  axes.set_title("What a cap costs")
  axes.legend(loc="lower right")


def _draw_thresholds(axes, arms) -> None:
  """What every threshold keeps and spends, of what all slow steps do."""
  rows = sorted(
    (float(name.partition("-")[2]), row)
    for name, row in arms.items()
    if name.split("-")[0] == "probe"
  )
  slow = arms["slow"]
  right = lambda row: row["accuracy"]["value"]  # noqa: E731
  for label, colour, marker, kept in (
    ("accuracy", "#0072B2", "o", lambda row: right(row) / right(slow)),
    ("FLOPs", "#D55E00", "s", lambda row: row["flops"] / slow["flops"]),
    ("tokens", "#E69F00", "^", lambda row: row["tokens"] / slow["tokens"]),
  ):
    axes.plot(
      [tau for tau, _ in rows],
      [kept(row) for _, row in rows],
      color=colour,
      marker=marker,
      markersize=4,
      label=label,
    )
  axes.axhline(1, color="#999999", linewidth=0.8)
  axes.set_ylim(0, 1.2)
  axes.set_xlabel("threshold on the difficulty")
  axes.set_ylabel("share of thinking everywhere")
  axes.set_title("Over the threshold")
  axes.legend(loc="lower left", fontsize=8)
