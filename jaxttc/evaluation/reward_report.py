# SPDX-License-Identifier: Apache-2.0
"""Recorded rewards, told: how they spread, how often the good ones are seen.

A `heterogeneity.Diagnosis` for each radius of the ball, as lines of a table,
as claims of a results file and as a picture.
"""

from collections.abc import Sequence
import os
from typing import Any, NamedTuple

import numpy as np
from rich import table as table_lib

from jaxttc import page
from jaxttc.evaluation import heterogeneity, statistics
from jaxttc.tasks import reward_rows

_GRID = 13  # radii of the curve
_DRAWS = 500  # resamples of each
_BLUE, _GREY = "#1f77b4", "#888888"


class RewardReport(NamedTuple):
  """What a table of rewards says.

  Attributes:
    table: the rewards.
    kappas: radii of the chi-square ball, ascending.
    said: a diagnosis for each.
    grid: radii of the curve, f64[G].
    curve: anti-concentration at each.
  """

  table: reward_rows.RewardTable
  kappas: tuple[float, ...]
  said: tuple[heterogeneity.Diagnosis, ...]
  grid: np.ndarray
  curve: tuple[statistics.Interval, ...]


def make(
  table: reward_rows.RewardTable, kappas: Sequence[float], *, seed: int = 0
) -> RewardReport:
  """Diagnoses a table of rewards.

  Args:
    table: at least three samples a problem.
    kappas: radii of the chi-square ball, each once; not negative.
    seed: of the intervals' resamples.

  Raises:
    ValueError: as `heterogeneity.diagnose`; or if no radius is given, or one
      twice.
  """
  if not kappas or len(set(kappas)) < len(kappas):
    raise ValueError(
      f"kappas are {tuple(kappas)}; expected one or more, all unlike"
    )
  kappas = tuple(sorted(kappas))
  said = tuple(
    heterogeneity.diagnose(
      table.rewards, kappa, table.mask, rng=np.random.default_rng(seed)
    )
    for kappa in kappas
  )
  grid = np.linspace(0, max(1.0, kappas[-1]), _GRID)
  curve = tuple(
    heterogeneity.anti_concentration(
      table.rewards,
      kappa,
      table.mask,
      rng=np.random.default_rng(seed),
      resamples=_DRAWS,
    )
    for kappa in grid
  )
  return RewardReport(table, kappas, said, grid, curve)


def lines(report: RewardReport) -> table_lib.Table:
  """The diagnosis as a table for a terminal, a line a radius."""
  problems, samples = report.table.mask.shape[0], int(report.table.mask.sum())
  drawn = table_lib.Table(
    "kappa",
    "mean",
    "sigma",
    "c",
    "headroom",
    "advice",
    title=f"{problems} problems, {samples} responses; 95% intervals",
    caption=(
      "sigma: heterogeneity; c: anti-concentration, chance of a response at "
      "mean + sqrt(kappa) sigma"
    ),
  )
  for kappa, said in zip(report.kappas, report.said, strict=True):
    found = (said.mean, said.sigma, said.concentration)
    cells = (f"{x.value:.2g} [{x.low:.2g}, {x.high:.2g}]" for x in found)
    drawn.add_row(
      f"{kappa:g}", *cells, f"{said.headroom:.2g}", said.recommendation
    )
  return drawn


def data(report: RewardReport) -> dict[str, Any]:
  """What the picture shows, as JSON holds it."""
  return {
    "diagnoses": [
      {"kappa": kappa} | said._asdict()
      for kappa, said in zip(report.kappas, report.said, strict=True)
    ],
    "anti_concentration": [
      {"kappa": float(kappa)} | found._asdict()
      for kappa, found in zip(report.grid, report.curve, strict=True)
    ],
  }


def plot(report: RewardReport, path: str | os.PathLike[str]) -> None:
  """Draws both properties: left heterogeneity, right anti-concentration.

  Args:
    report: what to draw.
    path: picture to write; the suffix names the format (.png, .svg, .pdf).

  Raises:
    ImportError: if matplotlib is not installed.
  """
  rewards, mask = report.table
  count = mask.sum(1)
  mean = rewards.sum(1) / count
  square = ((rewards - mean[:, None]) ** 2 * mask).sum(1)
  spread = np.sqrt(square / np.maximum(count - 1, 1))
  order = np.argsort(mean, kind="stable")
  with page.style():
    figure = page.figure(3.8)
    left, right = figure.subplots(1, 2)
    place = np.arange(len(order))
    left.fill_between(
      place,
      (mean - spread)[order],
      (mean + spread)[order],
      color=_BLUE,
      alpha=0.2,
      linewidth=0,
      step="mid",
      label="one deviation of its responses",
    )
    left.step(place, mean[order], where="mid", color=_BLUE, label="mean reward")
    left.set_xlabel("problems, by mean reward")
    left.set_ylabel("reward of a response")
    sigma = report.said[0].sigma
    left.set_title(f"Heterogeneity: sigma = {sigma.value:.3g}")
    left.legend(loc="lower right")
    right.fill_between(
      report.grid,
      [found.low for found in report.curve],
      [found.high for found in report.curve],
      color=_BLUE,
      alpha=0.2,
      linewidth=0,
    )
    right.plot(
      report.grid, [found.value for found in report.curve], color=_BLUE
    )
    right.axhline(1 / count.mean(), color=_GREY, linestyle="--")
    right.annotate(
      "one response of a problem",
      (report.grid[-1], 1 / count.mean()),
      xytext=(0, 4),
      textcoords="offset points",
      ha="right",
      color=_GREY,
    )
    right.set_xlabel("kappa, radius of the chi-square ball")
    right.set_ylabel("chance of mean + sqrt(kappa) sigma")
    right.set_ylim(bottom=0)
    right.set_title("Anti-concentration")
    page.save(figure, path)
