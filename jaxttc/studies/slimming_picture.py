# SPDX-License-Identifier: Apache-2.0
"""The picture of a study of slimmable networks, from its figures."""

from collections.abc import Callable, Mapping, Sequence
import os
from typing import Any

import numpy as np

from jaxttc.evaluation import control
from jaxttc.studies import slimming_study
from jaxttc.studies.slimming_study import StudyRecipe

# matplotlib is optional, so its types cannot be named at import time.
Axes = Any
Figures = Mapping[str, Any]


def write(
  recipe: StudyRecipe,
  figures: Sequence[Figures],
  path: str | os.PathLike[str],
) -> None:
  """Draws score against cost, and every task's score against its preference.

  Raises:
    ImportError: if matplotlib is not installed.
  """
  from jaxttc import page  # needs matplotlib

  tasks = [task.name for task in recipe.recipe.load_data().tasks]
  with page.style():
    figure = page.figure(4.6)
    panels = figure.subplots(1, 2, width_ratios=(3, 2))
    _draw_costs(panels[0], recipe.rays(), figures)
    _draw_control(panels[1], recipe, figures, tasks)
    figure.legend(loc="outside lower center", ncols=2, columnspacing=1.4)
    figure.suptitle(
      f"Slimmable {recipe.recipe.data} ({len(figures)} seeds)",
      x=0.01,
      ha="left",
      fontsize=11,
    )
    page.save(figure, path)


def _draw_costs(axes: Axes, rays: np.ndarray, figures) -> None:
  """What a weighted mean of scores costs, a method."""

  def weighted(points):
    scores = np.asarray(points["scores"]).reshape(-1, *rays.shape)
    return (scores * rays).sum(-1)

  def draw(label, costs: Callable, values: Callable, **style):
    xs = np.mean([costs(f) for f in figures], 0)
    ys = np.array([values(f) for f in figures])
    axes.plot(xs, ys.mean(0), label=label, **style)
    if style.get("ls") != "":
      axes.fill_between(
        xs, ys.min(0), ys.max(0), alpha=0.15, lw=0, color=style.get("color")
      )

  draw(
    "ours, planned for each preference",
    lambda f: f["planned"]["cost"].reshape(-1, len(rays)).mean(1),
    lambda f: weighted(f["planned"]).mean(1),
    color="#c1272d",
    marker="o",
    ms=3,
  )
  draw(
    "the same network, uniform widths",
    lambda f: f["uniform"]["cost"],
    lambda f: f["uniform"]["scores"].mean(1),
    color="#1f77b4",
    marker="s",
    ms=3,
  )
  found = figures[0]["models_without_widths"]
  static = sorted(
    (name for name in found if name.startswith("static")),
    key=lambda name: float(found[name]["cost"][0]),
  )
  of = lambda f, name: f["models_without_widths"][name]  # noqa: E731
  if static:
    draw(
      "a network a width",
      lambda f: [of(f, n)["cost"][0] for n in static],
      lambda f: [of(f, n)["scores"].mean() for n in static],
      color="#666666",
      ls="--",
    )
  hyper = [name for name in found if not name.startswith("static")]
  if hyper:
    draw(
      "a hypernetwork each, at its preferences",
      lambda f: [of(f, n)["cost"].mean() for n in hyper],
      lambda f: [weighted(of(f, n)).mean() for n in hyper],
      color="#2ca02c",
      marker="^",
      ls="",
    )
  axes.set_xlabel("multiply-adds, share of the full network's")
  axes.set_ylabel("score, weighted by the preference")


def _draw_control(axes: Axes, recipe, figures, tasks) -> None:
  """Every task's score against its weight, at half the cost."""
  budget, rays = slimming_study.CONTROL_BUDGETS[0], recipe.rays()
  at = slimming_study.feasible(recipe).index(budget)
  found = [
    control.marginal_curves(
      rays, f["planned"]["scores"].reshape(-1, *rays.shape)[at]
    )
    for f in figures
  ]
  for t, task in enumerate(tasks):
    axes.plot(
      found[0][t].weight,
      np.mean([curves[t].score for curves in found], 0),
      marker="o",
      ms=3,
      label=f"_{task}",  # not in the figure's legend
    )
  axes.legend(axes.lines, tasks, loc="best")
  axes.set_xlabel("weight of the task")
  axes.set_ylabel("its score")
  axes.set_title(f"control at {budget:.0%} of the cost")
