# SPDX-License-Identifier: Apache-2.0
"""The picture of the study: a day's power, brakes, latencies, limits."""

from collections.abc import Mapping
import os
from typing import Any

import numpy as np

from jaxttc import page

_SHOWN = {
  "no_cap": ("no cap", "#b2182b"),
  "one_threshold_all": ("one threshold, all", "#ef8a62"),
  "one_threshold_low": ("one threshold, low", "#f4b942"),
  "dual": ("dual threshold", "#2166ac"),
  "dual_held": ("dual, held through brakes", "#67a9cf"),
  "oracle": ("oracle", "#777777"),
}


def draw(data: Mapping[str, Any], path: str | os.PathLike[str]) -> None:
  """Draws the study of `study.PolcaRecipe`.

  Args:
    data: its data.
    path: picture to write; the suffix names the format.

  Raises:
    ImportError: if matplotlib is not installed.
  """
  with page.style():
    figure = page.figure(7.2)
    panels = figure.subplots(2, 2)
    _power(panels[0, 0], data["power"])
    _brakes(panels[0, 1], data["sweep"])
    _latencies(panels[1, 0], data["sweep"])
    _limits(panels[1, 1], data)
    page.save(figure, path)


def _power(axes: Any, power: Mapping[str, Any]) -> None:
  for name in ("no_cap", "dual"):
    label, colour = _SHOWN[name]
    shares = np.asarray(power[name])
    hours = np.arange(len(shares)) / 60
    axes.plot(hours, shares, color=colour, lw=0.6, label=label)
  axes.axhline(1, color="#222222", lw=1)
  axes.text(0.2, 1.005, "budget", va="bottom", fontsize=9)
  for threshold in (0.80, 0.89):
    axes.axhline(threshold, color="#999999", lw=0.8, ls="--")
  axes.set(
    title="A day with 30 % more servers",
    xlabel="hour",
    ylabel="row power over budget\n(largest second of a minute)",
    xlim=(0, len(power["dual"]) / 60),
  )
  axes.legend(loc="lower center", ncols=2)


def _brakes(axes: Any, sweep: Any) -> None:
  for name, (label, colour) in _SHOWN.items():
    extras, means, lows, highs = [], [], [], []
    for extra in sorted({entry["extra"] for entry in sweep}):
      brakes = [
        entry["brakes"]
        for entry in sweep
        if entry["policy"] == name and entry["extra"] == extra
      ]
      extras.append(100 * extra)
      means.append(np.mean(brakes))
      lows.append(means[-1] - min(brakes))
      highs.append(max(brakes) - means[-1])
    axes.errorbar(
      extras,
      means,
      [lows, highs],
      color=colour,
      marker="o",
      ms=3.5,
      lw=1.3,
      capsize=2,
      label=label,
    )
  axes.set_yscale("symlog", linthresh=1)
  axes.set(
    title="Brakes a day",
    xlabel="extra servers (%)",
    ylim=(-0.15, None),
    xticks=extras,
  )
  axes.legend(loc="upper left", fontsize=8)


def _latencies(axes: Any, sweep: Any) -> None:
  shown = {
    "low_p50": ("low priority, median", "#2166ac", "-", 1.05),
    "high_p50": ("high priority, median", "#b2182b", "-", 1.01),
    "low_p99": ("low priority, 99th percentile", "#2166ac", ":", 1.5),
    "high_p99": ("high priority, 99th percentile", "#b2182b", ":", 1.05),
  }
  extras = sorted({entry["extra"] for entry in sweep})
  kept = [extra for extra in extras if _calm(sweep, extra)]
  for field, (label, colour, style, limit) in shown.items():
    means = [
      100 * (np.mean([entry[field] for entry in _dual(sweep, extra)]) - 1)
      for extra in kept
    ]
    at = [100 * extra for extra in kept]
    axes.plot(at, means, style, color=colour, marker="o", ms=3.5, label=label)
    axes.axhline(100 * (limit - 1), color=colour, ls=style, lw=0.7, alpha=0.5)
  axes.set_yscale("symlog", linthresh=10)
  title = "Latencies of the dual policy (thin lines: limits)"
  axes.set(
    title=title,
    xlabel="extra servers (%)",
    ylabel="longer than as provisioned (%)",
    xticks=[100 * extra for extra in extras],
  )
  if len(kept) < len(extras):
    most = 100 * extras[-1]
    axes.text(
      most, 0, "brakes: hundreds\nof times longer ", ha="right", fontsize=8.5
    )
  axes.legend(loc="upper left", fontsize=8)


def _dual(sweep: Any, extra: float) -> list[Any]:
  return [
    entry
    for entry in sweep
    if entry["policy"] == "dual" and entry["extra"] == extra
  ]


def _calm(sweep: Any, extra: float) -> bool:
  """Whether the dual policy keeps out of a standstill."""
  return all(entry["low_p50"] < 3 for entry in _dual(sweep, extra))


def _limits(axes: Any, data: Mapping[str, Any]) -> None:
  found = [(one["peak"], one["extra"], "#9ecae1") for one in data["conditions"]]
  found.append((data["row"]["peak"], data["servers"]["extra"], "#2166ac"))
  found.sort()
  bars = [(f"{peak:.2f}", extra, colour) for peak, extra, colour in found]
  least, most = data["busier"]["busy"]
  label = f"{data['row']['peak']:.2f}, day of\n{least:.0%} to {most:.0%} busy"
  bars.append((label, data["busier"]["extra"], "#bdbdbd"))
  at = np.arange(len(bars))
  values = [100 * extra for _, extra, _ in bars]
  axes.bar(at, values, color=[colour for *_, colour in bars], width=0.6)
  for x, value in zip(at, values, strict=True):
    axes.text(x, value + 0.7, f"{value:.0f}", ha="center", fontsize=9)
  axes.axhline(30, color="#222222", lw=0.8, ls="--")
  axes.set_xticks(at, [label for label, *_ in bars])
  axes.set(
    title="Most servers of the dual policy, all limits kept",
    xlabel="peak of the row as provisioned, over its budget",
    ylabel="extra servers (%)",
    ylim=(0, max(40, max(values) + 6)),
  )
