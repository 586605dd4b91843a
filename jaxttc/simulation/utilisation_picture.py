# SPDX-License-Identifier: Apache-2.0
"""Heat maps of machines over time, and distributions of what requests wait."""

from collections.abc import Mapping
import os
from typing import Any

import numpy as np

from jaxttc import page

_COLOURS = ("#333333", "#d62728", "#1f77b4")
_PANELS = (
  ("ttft_slowdown", "first token, times an idle A100's"),
  ("e2e_slowdown", "last token, times an idle A100's"),
  ("gap_s", "longest gap between tokens, s"),
)


def draw(data: Mapping[str, Any], path: str | os.PathLike[str]) -> None:
  """Draws the study of `utilisation_study.UtilisationStudy`.

  Raises:
    ImportError: if matplotlib is not installed.
  """
  with page.style():
    figure = page.figure(9.0)
    axes = figure.subplots(3, 3)
    for panel, row in zip(axes[0], data["clusters"], strict=True):
      image = _busy(panel, row)
    figure.colorbar(image, ax=axes[0, -1], label="share of time busy")
    for panel, (field, label) in zip(axes[1], _PANELS, strict=True):
      _tails(panel, data, field, label)
    axes[1, 0].legend(fontsize=8)
    for panel, row in zip(axes[2], data["cells"], strict=False):
      image = _use(panel, row)
    figure.colorbar(image, ax=axes[2, 1], label="CPU used, over capacity")
    _use_tails(axes[2, 2], data)
    page.save(figure, path)


def _busy(axes: Any, row: Mapping[str, Any]) -> Any:
  busy = np.array(row["busy"])
  image = axes.imshow(
    busy,
    aspect="auto",
    vmin=0,
    vmax=1,
    cmap="viridis",
    extent=(0, row["end_s"] / 60, len(busy) - 0.5, -0.5),
    interpolation="nearest",
  )
  axes.set(title=row["cluster"], xlabel="minute", ylabel="machine")
  return image


def _tails(axes: Any, data: Mapping[str, Any], field: str, label: str) -> None:
  """The share of requests that waits longer."""
  longer = 1 - np.array(data["percents"]) / 100
  for row, colour in zip(data["clusters"], _COLOURS, strict=True):
    kept = longer > 0
    values = np.array(row[field])[kept]
    axes.plot(values, longer[kept], color=colour, label=row["cluster"])
  axes.set_xscale("log")
  axes.set_yscale("log")
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
