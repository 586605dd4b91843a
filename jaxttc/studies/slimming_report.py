# SPDX-License-Identifier: Apache-2.0
"""What a study of slimmable networks found: figures, claims and a picture."""

from collections.abc import Callable, Mapping, Sequence
import os
import pathlib
from typing import Any

import numpy as np

from jaxttc import results
from jaxttc.evaluation import control
from jaxttc.studies import slimming_study
from jaxttc.studies.slimming_study import OURS, SeedAnalysis, StudyRecipe

# matplotlib is optional, so its types cannot be named at import time.
Axes = Any

_BARS = {
  "preference_rank_correlation": 0.85,
  "hypervolume_over_uniform": 1.015,
  "hypervolume_over_hypernetwork": 1.05,
  "configuration_variance_cut": 0.4,
  "planner_over_brute_force": 0.99,
}

_OTHER_RULES = {"proportional": "proportion", "value": "value"}


def write(
  recipe: StudyRecipe,
  analyses: Mapping[int, SeedAnalysis],
  out: str | os.PathLike[str],
  command: str,
) -> list[results.Claim]:
  """Writes <out>.json and <out>.png.

  Args:
    recipe: the study.
    analyses: of each seed.
    out: path without its suffix.
    command: that was run.

  Returns:
    The claims.
  """
  figures = {seed: seed_figures(recipe, a) for seed, a in analyses.items()}
  found = claims(list(figures.values()))
  path = pathlib.Path(out)
  results.write(
    path.with_suffix(".json"),
    command=command,
    seeds=sorted(analyses),
    data={"recipe": recipe.recipe.describe(), "seeds": figures},
    claims=found,
  )
  picture(recipe, list(analyses.values()), path.with_suffix(".png"))
  return found


def claims(figures: Sequence[Mapping[str, Any]]) -> list[results.Claim]:
  """A claim a figure: the mean over seeds, between the least and the most."""
  names = figures[0]["figures"]
  found = []
  for name in names:
    values = [float(one["figures"][name]) for one in figures]
    found.append(
      results.Claim(
        name,
        float(np.mean(values)),
        low=min(values),
        high=max(values),
        bar=_BARS.get(name),
      )
    )
  return found


def seed_figures(recipe: StudyRecipe, seed: SeedAnalysis) -> dict[str, Any]:
  """All figures of one seed, JSON-ready."""
  ours = seed.planned(OURS).volume()
  uniform = seed.uniform(OURS).volume()
  others = {
    name: seed.single(name).volume()
    for name, found in seed.measured.items()
    if "cost" in found
  }
  hyper = {k: v for k, v in others.items() if not k.startswith("static")}
  rho = {b: seed.rank_control(b) for b in slimming_study.CONTROL_BUDGETS}
  figures = {
    "preference_rank_correlation": min(r.min() for r in rho.values()),
    "hypervolume_over_uniform": _ratio(ours, uniform, "uniform widths"),
  }
  if hyper:
    best = max(hyper.values())
    figures["hypervolume_over_hypernetwork"] = _ratio(
      ours, best, "the best hypernetwork"
    )
    norms = [v for k, v in hyper.items() if k.startswith("norms")]
    if norms:
      figures["hypervolume_over_norms_only_hypernetwork"] = _ratio(
        ours, max(norms), "the norms-only hypernetwork"
      )
    joint = seed.joined(list(hyper)).volume()
    figures["hypervolume_over_all_hypernetworks_together"] = ours / joint
  figures["configuration_variance_cut"] = seed.variance_cut()
  figures["planner_over_brute_force"] = seed.over_brute_force()
  static = [name for name in others if name.startswith("static")]
  if static:
    figures["hypervolume_over_static_networks_together"] = (
      ours / seed.joined(static).volume()
    )
  if recipe.separate:
    figures["hypervolume_over_separate_slimmable_networks"] = (
      ours / seed.separate().volume()
    )
  for rule, name in _OTHER_RULES.items():
    volume = seed.planned(OURS, rule).volume()
    figures |= {
      f"hypervolume_of_rule_of_{name}_over_uniform": volume / uniform,
      f"rank_correlation_of_rule_of_{name}": _least(
        lambda b, rule=rule: seed.rank_control(b, rule)
      ),
    }
  figures |= {
    "rank_correlation_on_calibration_examples": _least(
      lambda b: seed.rank_control(b, examples="calibration")
    ),
    "rank_correlation_of_best_plans_at_99_percent": _least(
      lambda b: seed.best_rank_control(b, 0.99)
    ),
    "invariance_cuts_error_at_smallest": seed.loss_cut(
      "without_invariance", OURS, 0
    ),
    "invariance_cuts_error_at_full": seed.loss_cut(
      "without_invariance", OURS, -1
    ),
  }
  if recipe.ablations:
    figures |= {
      "smallest_in_sandwich_cuts_error_at_smallest": seed.loss_cut(
        "without_smallest", OURS, 0
      ),
      "variance_cut_if_only_narrow_encoders_move": seed.variance_cut(
        "stopped_teacher"
      ),
    }
  if recipe.noise:
    figures |= {
      "in_place_cuts_error_at_smallest_under_noise": seed.loss_cut(
        "noisy", "noisy_in_place", 0
      ),
      "variance_cut_under_noise": seed.variance_cut("noisy_invariance"),
    }
  return {
    "figures": figures,
    "hypervolumes": {"ours": ours, "uniform": uniform} | others,
    "rank_correlation": {str(b): r for b, r in rho.items()},
    "uniform": _points(seed.uniform(OURS)),
    "planned": _points(seed.planned(OURS)),
    "models_without_widths": {
      name: _points(seed.single(name)) for name in others
    },
  }


def _least(control_at: Callable[[float], np.ndarray]) -> float:
  """Of all tasks, and of the budgets at which control is claimed."""
  return min(control_at(b).min() for b in slimming_study.CONTROL_BUDGETS)


def _ratio(ours: float, other: float, name: str) -> float:
  if not other > 0:
    raise ValueError(
      f"the hypervolume of {name} is zero: a task scores nothing; train longer"
    )
  return ours / other


def _points(points: slimming_study.Points) -> dict[str, Any]:
  return {
    "cost": np.round(points.costs, 4),
    "scores": np.round(points.scores, 4),
  }


def picture(
  recipe: StudyRecipe,
  analyses: Sequence[SeedAnalysis],
  path: str | os.PathLike[str],
) -> None:
  """Draws score against cost, and every task's score against its preference.

  Raises:
    ImportError: if matplotlib is not installed.
  """
  from jaxttc import page  # needs matplotlib

  tasks = analyses[0].tasks
  with page.style():
    figure = page.figure(4.6)
    panels = figure.subplots(1, 2, width_ratios=(3, 2))
    _draw_costs(panels[0], recipe, analyses)
    _draw_control(panels[1], analyses, tasks)
    figure.legend(loc="outside lower center", ncols=2, columnspacing=1.4)
    figure.suptitle(
      f"Slimmable {recipe.recipe.data} ({len(analyses)} seeds)",
      x=0.01,
      ha="left",
      fontsize=11,
    )
    page.save(figure, path)


def _draw_costs(axes: Axes, recipe, analyses) -> None:
  """What a weighted mean of scores costs, a method."""
  weighted = lambda seed, points: (  # noqa: E731
    points.scores.reshape(-1, len(seed.rays), len(seed.tasks)) * seed.rays
  ).sum(-1)

  def draw(label, costs: Callable, values: Callable, **style):
    xs = np.mean([costs(a) for a in analyses], 0)
    ys = np.array([values(a) for a in analyses])
    axes.plot(xs, ys.mean(0), label=label, **style)
    if style.get("ls") != "":
      axes.fill_between(
        xs, ys.min(0), ys.max(0), alpha=0.15, lw=0, color=style.get("color")
      )

  def planned(seed):
    points = seed.planned(OURS)
    return points.costs.reshape(-1, len(seed.rays)).mean(1)

  draw(
    "ours, planned for each preference",
    planned,
    lambda a: weighted(a, a.planned(OURS)).mean(1),
    color="#c1272d",
    marker="o",
    ms=3,
  )
  draw(
    "the same network, uniform widths",
    lambda a: a.uniform(OURS).costs,
    lambda a: a.uniform(OURS).scores.mean(1),
    color="#1f77b4",
    marker="s",
    ms=3,
  )
  cells = {
    name: found
    for name, found in analyses[0].measured.items()
    if "cost" in found
  }
  static = sorted(
    (name for name in cells if name.startswith("static")),
    key=lambda name: float(cells[name]["cost"]),
  )
  if static:
    draw(
      "a network a width",
      lambda a: [a.single(n).costs[0] for n in static],
      lambda a: [a.single(n).scores.mean() for n in static],
      color="#666666",
      ls="--",
    )
  hyper = [name for name in cells if not name.startswith("static")]
  if hyper:
    draw(
      "a hypernetwork each, at its preferences",
      lambda a: [a.single(n).costs.mean() for n in hyper],
      lambda a: [weighted(a, a.single(n)).mean() for n in hyper],
      color="#2ca02c",
      marker="^",
      ls="",
    )
  axes.set_xlabel("multiply-adds, share of the full network's")
  axes.set_ylabel("score, weighted by the preference")


def _draw_control(axes: Axes, analyses, tasks) -> None:
  """Every task's score against its weight, at half the cost."""
  budget = slimming_study.CONTROL_BUDGETS[0]
  for t, task in enumerate(tasks):
    curves = []
    for seed in analyses:
      indices, _ = seed.plans(OURS, budget)
      scores = seed.table(OURS, "test")(indices)
      curves.append(control.marginal_curves(seed.rays, scores)[t])
    axes.plot(
      curves[0].weight,
      np.mean([c.score for c in curves], 0),
      marker="o",
      ms=3,
      label=f"_{task}",  # not in the figure's legend
    )
  axes.legend(axes.lines, tasks, loc="best")
  axes.set_xlabel("weight of the task")
  axes.set_ylabel("its score")
  axes.set_title(f"control at {budget:.0%} of the cost")
