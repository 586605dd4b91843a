# SPDX-License-Identifier: Apache-2.0
"""Heat maps of machines over time, and distributions of what requests wait."""

from collections.abc import Mapping
import os
from typing import Any

import numpy as np

from jaxttc import page

_COLOURS = ("#333333", "#d62728", "#1f77b4")
_PANELS = (
  (
    "ttft_slowdown",
    "first token over an idle A100's",
    (0.5, 1.0, 2.0, 5.0, 10.0),
  ),
  ("e2e_slowdown", "last token over an idle A100's", (0.5, 1.0, 2.0, 4.0)),
  ("gap_s", "longest gap between tokens, s", (0.05, 0.1, 0.2, 0.5, 1.0)),
)


def draw(data: Mapping[str, Any], path: str | os.PathLike[str]) -> None:
  """Draws the study of `utilisation_study.UtilisationStudy`.

  Raises:
    ImportError: if matplotlib is not installed.
  """
  with page.style():
    figure = page.figure(9.0)
    axes = figure.subplots(3, 3)
    most = max(np.max(row["in_work"]) for row in data["clusters"])
    for panel, row in zip(axes[0], data["clusters"], strict=True):
      image = _in_work(panel, row, most)
    figure.colorbar(image, ax=list(axes[0]), label="requests in work")
    for panel, what in zip(axes[1], _PANELS, strict=True):
      _tails(panel, data, *what)
    axes[1, 0].legend(fontsize=8)
    for panel, row in zip(axes[2], data["cells"], strict=False):
      image = _use(panel, row)
    figure.colorbar(image, ax=list(axes[2, :2]), label="CPU over capacity")
    _use_tails(axes[2, 2], data)
    page.save(figure, path)


def _in_work(axes: Any, row: Mapping[str, Any], most: float) -> Any:
  work = np.array(row["in_work"])
  image = axes.imshow(
    work,
    aspect="auto",
    vmin=0,
    vmax=most,
    cmap="viridis",
    extent=(0, row["end_s"] / 60, len(work) - 0.5, -0.5),
    interpolation="nearest",
  )
  axes.set(title=row["cluster"], xlabel="minute", ylabel="machine")
  return image


def _tails(
  axes: Any,
  data: Mapping[str, Any],
  field: str,
  label: str,
  ticks: tuple[float, ...],
) -> None:
  """The share of requests that waits longer."""
  longer = 1 - np.array(data["percents"]) / 100
  for row, colour in zip(data["clusters"], _COLOURS, strict=True):
    kept = longer > 0
    values = np.array(row[field])[kept]
    axes.plot(values, longer[kept], color=colour, label=row["cluster"])
  axes.set_xscale("log")
  axes.set_yscale("log")
  axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
  axes.minorticks_off()
  axes.set_xlabel(label)
  if field == _PANELS[0][0]:
    axes.set_ylabel("share of requests beyond")


def _use(axes: Any, row: Mapping[str, Any]) -> Any:
  use = np.array(row["use"], float).T  # machines by periods; NaN where none
  image = axes.imshow(
    use,
    aspect="auto",
    vmin=0,
    vmax=1.2,
    cmap="magma",
    extent=(0, 5 * use.shape[1], len(use) - 0.5, -0.5),
    interpolation="nearest",
  )
  name = {"masb": "MASB"}.get(row["policy"], row["policy"].replace("_", " "))
  axes.set(title=f"a cell under {name}", xlabel="minute", ylabel="machine")
  return image


def _use_tails(axes: Any, data: Mapping[str, Any]) -> None:
  longer = 1 - np.array(data["percents"]) / 100
  for row, colour in zip(data["cells"], ("#009e73", "#d55e00"), strict=True):
    name = {"masb": "MASB"}.get(row["policy"], row["policy"].replace("_", " "))
    kept = longer > 0
    values = np.array(row["use_percentiles"])[kept]
    axes.plot(values, longer[kept], color=colour, label=name)
  axes.axvline(1.0, color="#222222", lw=1)
  axes.set_yscale("log")
  axes.set(xlabel="CPU used, over capacity", ylabel="share of machines beyond")
  axes.legend()
