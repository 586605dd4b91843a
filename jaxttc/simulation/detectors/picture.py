# SPDX-License-Identifier: Apache-2.0
"""The picture of the study: systems, where to reject, where skill pays."""

from collections.abc import Mapping
import os
from typing import Any

import numpy as np

from jaxttc import page
from jaxttc.simulation.detectors import cms

# Colours that those who see fewer of them can tell apart (Okabe and Ito).
_BLUE, _ORANGE, _GREEN, _GREY = "#0072B2", "#D55E00", "#009E73", "#888888"


def draw(data: Mapping[str, Any], path: str | os.PathLike[str]) -> None:
  """Draws the data of `study.DaqRecipe.run`, four panels.

  Raises:
    ImportError: if matplotlib is not installed.
  """
  with page.style():
    figure = page.figure(7.4)
    panels = figure.subplots(2, 2)
    _systems(panels[0, 0], data["scenarios"])
    _skill(panels[0, 1], data["early_or_late"])
    _rejection(panels[1, 0], data["rejection_moved"])
    _trained(panels[1, 1], data["trained"])
    page.save(figure, path)


def _systems(axes: Any, rows: list[dict[str, Any]]) -> None:
  """Samples a kilojoule, ours and the release's."""
  upgrades = [row for row in rows if row["system"] != "today"]
  upgrades.sort(key=lambda row: row["samples_per_kj"])
  places = np.arange(len(upgrades))
  ours = [row["samples_per_kj"] for row in upgrades]
  axes.barh(places, ours, color=_BLUE, height=0.62, label="ours")
  told = [
    (place, row["released_samples_per_kj"])
    for place, row in zip(places, upgrades, strict=True)
    if "released_samples_per_kj" in row
  ]
  if told:
    axes.plot(
      [value for _, value in told],
      [place for place, _ in told],
      "D",
      color=_ORANGE,
      label="SystemFlow's release",
    )
  for place, row in zip(places, upgrades, strict=True):
    axes.text(
      0.004,
      place,
      f"{row['megawatts']:.0f} MW",
      va="center",
      color="white",
      fontsize=8.5,
    )
  axes.set_yticks(places, [row["system"] for row in upgrades])
  axes.set_xlabel("stored samples x F1 per kJ")
  axes.set_title("CMS upgrade: what each technology is worth")
  axes.legend(loc="lower right")


def _skill(axes: Any, curves: Mapping[str, list[float]]) -> None:
  """F1 against skill added to either trigger."""
  for name, colour, text in (
    (cms.LEVEL1, _BLUE, "to Level-1"),
    (cms.HIGH_LEVEL, _ORANGE, "to the high level"),
  ):
    axes.plot(curves["added_skill"], curves[name], color=colour, lw=2)
    axes.annotate(
      text,
      (curves["added_skill"][-1], curves[name][-1]),
      xytext=(-4, 7),
      textcoords="offset points",
      ha="right",
      color=colour,
    )
  axes.set_xlabel("skill added, standard deviations of the score")
  axes.set_ylabel("F1 of the whole pipeline")
  axes.set_title("Skill pays early")


def _rejection(axes: Any, curves: list[dict[str, Any]]) -> None:
  """F1 against power as Level-1 takes over rejection."""
  for curve, colour in zip(curves, (_ORANGE, _BLUE), strict=True):
    axes.plot(curve["megawatts"], curve["f1"], color=colour, lw=2)
    text = "with tracks" if curve["tracks"] else "Level-1 as planned"
    middle = len(curve["f1"]) // 2
    axes.annotate(
      text,
      (curve["megawatts"][middle], curve["f1"][middle]),
      xytext=(14, -16),
      textcoords="offset points",
      color=colour,
    )
    for ratio in (53.3, 100, 400):
      nearest = int(
        np.abs(np.log(np.asarray(curve["level1_reduction"]) / ratio)).argmin()
      )
      spot = curve["megawatts"][nearest], curve["f1"][nearest]
      axes.plot(*spot, "o", color=colour)
      axes.annotate(
        f"1/{ratio:g}",
        spot,
        xytext=(0, 7),
        textcoords="offset points",
        ha="center",
        fontsize=8.5,
        color="#444444",
      )
  axes.set_xscale("log")
  axes.set_xticks([10, 20, 50], ["10", "20", "50"])
  axes.minorticks_off()
  axes.set_ylim(0, 0.8)
  axes.set_xlabel("power, MW")
  axes.set_ylabel("F1")
  axes.set_title("Level-1 keeps fewer, the store as many")


def _trained(axes: Any, runs: list[dict[str, Any]]) -> None:
  """Recall against FLOPs of the cascades that were trained."""
  curve = runs[0]["curve"]
  whole = runs[0]["flops"]["network"]
  shown = {
    "predicted, stages independent": ("independent_recall", _GREY, "--"),
    "predicted, Gaussian copula": ("copula_recall", _GREEN, "-"),
  }
  share = np.asarray(curve["flops"]) / whole
  for text, (key, colour, line) in shown.items():
    axes.plot(share, np.asarray(curve[key]), line, color=colour, label=text)
  axes.plot(share, curve["recall"], "o", ms=4, color=_BLUE, label="counted")
  axes.plot(
    1.0,
    runs[0]["recall_of_network_alone"],
    "*",
    ms=13,
    color=_ORANGE,
    label="network on every event",
  )
  axes.set_xscale("log")
  axes.set_xlabel("FLOPs, share of the network on every event")
  axes.set_ylabel("recall, 1 in 1,000 kept")
  axes.set_ylim(0, None)
  axes.set_title("A trained cascade, predicted and counted")
  axes.legend(loc="lower right")
