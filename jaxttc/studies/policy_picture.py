# SPDX-License-Identifier: Apache-2.0
"""Draws a study of budget policies: what a mean budget buys, and from whom."""

from collections.abc import Mapping
import os
from typing import Any

import numpy as np

from jaxttc import page

# Label, colour, width, dashes of the curves, the policy's last.
_CURVES = {
  "oracle": (
    "oracle that asks once",
    "#000000",
    1.4,
    (0, (5, 2)),
  ),
  "random arms, in hindsight": (
    "best random mix of arms",
    "#009E73",
    1.3,
    (0, (1.5, 1.5)),
  ),
  "single decoder, in hindsight": (
    "best single decoder",
    "#0072B2",
    1.6,
    "-",
  ),
  "router alone": (
    "policy that asks once",
    "#D55E00",
    1.3,
    (0, (3, 1.5)),
  ),
  "policy": ("policy", "#D55E00", 2.4, "-"),
}
_CAPS = ("#EEEEEE", "#C6DBEF", "#6BAED6", "#2171B5", "#08306B")


def draw(data: Mapping[str, Any], path: str | os.PathLike[str]) -> None:
  """Writes the picture of a study.

  Args:
    data: as `policy_claims.report` makes it.
    path: the file; its suffix names the format.

  Raises:
    ImportError: if matplotlib is not installed.
  """
  with page.style():
    figure = page.figure(5.0)
    left, right = figure.subplots(1, 2, width_ratios=(1.5, 1))
    _draw_curves(left, data)
    _draw_caps(right, data)
    page.save(figure, path)


def _draw_curves(axes: Any, data: Mapping[str, Any]) -> None:
  budgets = np.array(data["budgets"])
  axes.scatter(
    [point["tokens"] for point in data["arms"]],
    [point["accuracy"] for point in data["arms"]],
    s=12,
    color="#BBBBBB",
    label="one arm for every problem",
  )
  for name, (label, colour, width, dashes) in _CURVES.items():
    points = data["methods"][name]
    value = np.array([point["value"] for point in points])
    axes.plot(
      budgets,
      value,
      color=colour,
      linewidth=width,
      linestyle=dashes,
      label=label,
      marker="o" if name == "policy" else "",
      markersize=4,
    )
    if name == "policy":
      low, high = (
        np.array([point[end] for point in points]) for end in ("low", "high")
      )
      axes.fill_between(
        budgets, low, high, color=colour, alpha=0.13, linewidth=0
      )
  axes.set_xlim(0.85 * budgets.min(), 1.05 * budgets.max())
  axes.set_ylim(bottom=0)
  axes.set_xlabel("generated tokens a problem, in the mean")
  axes.set_ylabel("share of problems solved")
  axes.set_title(
    f"What a mean budget buys ({data['problems']} problems, 95% interval)"
  )
  axes.grid(axis="y", color="#E6E6E6", linewidth=0.8)
  axes.set_axisbelow(True)
  axes.legend(
    loc="upper center", bbox_to_anchor=(0.5, -0.16), ncols=2, handlelength=2.2
  )


def _draw_caps(axes: Any, data: Mapping[str, Any]) -> None:
  places = np.arange(len(data["budgets"]))
  bottom = np.zeros(len(places))
  caps = list(data["shares_by_cap"])
  shades = [
    _CAPS[round(i * (len(_CAPS) - 1) / max(len(caps) - 1, 1))]
    for i in range(len(caps))
  ]
  for cap, shade in zip(caps, shades, strict=True):
    share = np.array(data["shares_by_cap"][cap])
    axes.bar(
      places,
      share,
      bottom=bottom,
      width=0.8,
      color=shade,
      label="not tried" if cap == "0" else f"cap {cap}",
    )
    bottom += share
  axes.set_xticks(places, [f"{budget:g}" for budget in data["budgets"]])
  axes.set_xlabel("generated tokens a problem, in the mean")
  axes.set_ylabel("share of problems")
  axes.set_ylim(0, 1)
  axes.set_title("The caps of the last try")
  axes.legend(
    loc="upper center", bbox_to_anchor=(0.5, -0.16), ncols=3, handlelength=1.2
  )
