# SPDX-License-Identifier: Apache-2.0
"""What a study of slimmable networks found: figures, and claims of them."""

from collections.abc import Callable, Mapping, Sequence
import json
import os
import pathlib
from typing import Any

import numpy as np

from jaxttc import results
from jaxttc.studies import (
  slimming_analysis,
  slimming_data,
  slimming_picture,
  slimming_study,
  slimming_trainer,
)
from jaxttc.studies.slimming_analysis import SeedAnalysis
from jaxttc.studies.slimming_study import OURS, StudyRecipe

_BARS = {
  "preference_rank_correlation": 0.85,
  "hypervolume_over_uniform": 1.015,
  "hypervolume_over_hypernetwork": 1.05,
  "configuration_variance_cut": 0.4,
  "planner_over_brute_force": 0.99,
}

# Figures that should be at most this.
_CEILINGS = {"rivals_with_a_collapsed_task": 0.0}

_LEAST_GAIN = 0.01  # of a score, that chance does not explain

_OTHER_RULES = {"proportional": "proportion", "value": "value"}


def write(
  recipe: StudyRecipe,
  figures: Mapping[int, Mapping[str, Any]],
  out: str | os.PathLike[str],
  command: str,
  *,
  tuning: Mapping[str, Any] | None = None,
  recorded: Mapping[str, Any] | None = None,
) -> list[results.Claim]:
  """Writes <out>.json and <out>.png.

  Args:
    recipe: the study.
    figures: of each seed, see `seed_figures`.
    out: path without its suffix.
    command: that was run.
    tuning: how the rivals' learning rates were found, if they were tuned.
    recorded: where our networks' figures come from, if this run did not train
      them; see `Recorded.source`.

  Returns:
    The claims.
  """
  found = claims(list(figures.values()))
  path = pathlib.Path(out)
  data: dict[str, Any] = {"recipe": recipe.recipe.describe()}
  if recorded:
    data["recorded"] = dict(recorded)
  if tuning:
    data["tuning"] = dict(tuning)
  results.write(
    path.with_suffix(".json"),
    command=command,
    seeds=sorted(figures),
    data=data | {"seeds": dict(figures)},
    claims=found,
  )
  slimming_picture.write(
    recipe, list(figures.values()), path.with_suffix(".png")
  )
  return found


class Recorded:
  """Figures of our networks from an earlier run's results file.

  They let rivals be trained anew without training ours anew: the same recipe
  and seeds, so the same data.

  Attributes:
    source: the command and the environment of the run that trained ours.
    tuning: how rivals were tuned then; None if they were not.
  """

  def __init__(self, path: str | os.PathLike[str], recipe: StudyRecipe):
    """Reads a file that `write` wrote.

    Raises:
      ValueError: if it is of another recipe, or lacks a seed of the study, or
        other preferences or budgets were asked for.
    """
    file = results.read(path)
    data = file.data
    then, now = (
      json.dumps({"recipe": x, "cell": ["", {}]}, default=list)
      for x in (data.get("recipe"), recipe.recipe.describe())
    )
    if not slimming_trainer.same(then, now):
      raise ValueError(f"{path}: holds figures of another recipe")
    missing = [s for s in recipe.seeds if str(s) not in data["seeds"]]
    if missing:
      raise ValueError(f"{path}: holds no figures of seed {missing[0]}")
    self._recipe = recipe
    self.tuning = data.get("tuning")
    self._seeds = {seed: data["seeds"][str(seed)] for seed in recipe.seeds}
    points = len(recipe.rays()) * len(slimming_study.feasible(recipe))
    for seed, found in self._seeds.items():
      if len(found["planned"]["scores"]) != points:
        raise ValueError(
          f"{path}: seed {seed} has {len(found['planned']['scores'])} plans, "
          f"and the study asks for {points}"
        )
    self.source = data.get("recorded") or {
      "command": file.command,
      "environment": file.environment,
    }

  def figures(self, seed: int) -> dict[str, Any]:
    """What was found then, rivals included, and ranges, which may be new."""
    found = self._seeds[seed]
    planned = np.asarray(found["planned"]["scores"])
    models = found["models_without_widths"]
    rivals = {
      k: _arrays(v)["scores"] for k, v in models.items() if not _is_own(k)
    }
    told = _ranges(self._recipe, planned)
    learnt: dict[str, Any] = {}
    if rivals:
      uniform = _arrays(found["uniform"])["scores"]
      learnt, told_of = _learnt(self._recipe, seed, uniform, rivals)
      told |= told_of
    return found | {
      "figures": found["figures"] | told,
      **learnt,
      "uniform": _arrays(found["uniform"]),
      "planned": _arrays(found["planned"]),
      "models_without_widths": {k: _arrays(v) for k, v in models.items()},
    }

  def own_figures(self, seed: int) -> dict[str, Any]:
    """What `own_figures` found then."""
    found = self.figures(seed)
    own = lambda part: {  # noqa: E731
      k: v for k, v in found[part].items() if _is_own(k)
    }
    return found | {
      "figures": {
        k: v for k, v in found["figures"].items() if not _is_rivals(k)
      },
      "hypervolumes": own("hypervolumes"),
      "models_without_widths": own("models_without_widths"),
    }


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
        bar=_CEILINGS.get(name, _BARS.get(name)),
        comparison="<=" if name in _CEILINGS else ">=",
      )
    )
  return found


def seed_figures(
  recipe: StudyRecipe, own: Mapping[str, Any], seed: SeedAnalysis
) -> dict[str, Any]:
  """All figures of one seed, JSON-ready.

  Args:
    recipe: the study.
    own: figures of our networks, of `own_figures` or recorded ones.
    seed: holds what the rivals measured.
  """
  rivals = [
    cell.name for cell in recipe.rivals(dict.fromkeys(recipe.open(), 0.0))
  ]
  points = {name: seed.single(name) for name in rivals}
  volumes = {name: found.volume() for name, found in points.items()}
  figures = dict(own["figures"]) | _ranges(recipe, own["planned"]["scores"])
  learnt: dict[str, Any] = {}
  ours = own["hypervolumes"]["ours"]
  if rivals:
    figures["hypervolume_over_hypernetwork"] = _ratio(
      ours, max(volumes.values()), "the best hypernetwork"
    )
    norms = [v for k, v in volumes.items() if k.startswith("norms")]
    if norms:
      figures["hypervolume_over_norms_only_hypernetwork"] = _ratio(
        ours, max(norms), "the norms-only hypernetwork"
      )
    joint = seed.joined(rivals).volume()
    figures["hypervolume_over_all_hypernetworks_together"] = ours / joint
    learnt, told = _learnt(
      recipe,
      seed.seed,
      own["uniform"]["scores"],
      {name: points[name].scores for name in rivals},
    )
    figures |= told
  return dict(own) | {
    "figures": figures,
    **learnt,
    "hypervolumes": own["hypervolumes"] | volumes,
    "models_without_widths": own["models_without_widths"]
    | {name: _points(found) for name, found in points.items()},
  }


def _learnt(
  recipe: StudyRecipe,
  seed: int,
  uniform: np.ndarray,
  rivals: Mapping[str, np.ndarray],
) -> tuple[dict[str, Any], dict[str, float]]:
  """What rivals did not learn, by name; and the figure that follows."""
  constant = slimming_data.constants(recipe.recipe, seed)
  tasks = [task.name for task in recipe.recipe.load_data().tasks]
  missed = {
    name: [
      task
      for task, wrong in zip(
        tasks, collapsed(constant, uniform, scores), strict=True
      )
      if wrong
    ]
    for name, scores in rivals.items()
  }
  return (
    {"constant_predictions": constant, "not_learnt": missed},
    {"rivals_with_a_collapsed_task": float(sum(map(bool, missed.values())))},
  )


def collapsed(
  constant: np.ndarray, uniform: np.ndarray, scores: np.ndarray
) -> np.ndarray:
  """Which tasks a rival did not learn: a ratio to it says nothing.

  Measured is what a task gains over the best constant prediction. It is not
  learnt if no preference brings it to half of what our narrowest network gains,
  nor to a hundredth.

  Args:
    constant: f64[tasks], of `constant_scores`.
    uniform: f64[widths, tasks], of our network at all uniform widths.
    scores: f64[points, tasks] of the rival.

  Returns:
    bool[tasks].
  """
  ours = np.asarray(uniform).min(0) - constant
  return np.max(scores, axis=0) - constant < np.maximum(ours / 2, _LEAST_GAIN)


def _ranges(recipe: StudyRecipe, planned: np.ndarray) -> dict[str, float]:
  """How far preferences move each task's test score.

  The difference between the highest and the lowest over all preferences, the
  smaller of those at the budgets at which control is claimed.
  """
  budgets = slimming_study.feasible(recipe)
  tasks = [task.name for task in recipe.recipe.load_data().tasks]
  scores = planned.reshape(len(budgets), -1, len(tasks))
  asked = [
    budgets.index(b) for b in slimming_study.CONTROL_BUDGETS if b in budgets
  ]
  moved = np.ptp(scores[asked], axis=1).min(0)
  return {
    f"score_range_of_{task}": float(x)
    for task, x in zip(tasks, moved, strict=True)
  }


def own_figures(recipe: StudyRecipe, seed: SeedAnalysis) -> dict[str, Any]:
  """Figures of one seed's networks with widths, and of one width."""
  ours = seed.planned(OURS).volume()
  uniform = seed.uniform(OURS).volume()
  others = {
    name: seed.single(name).volume()
    for name, found in seed.measured.items()
    if _is_own(name) and "cost" in found
  }
  rho = {b: seed.rank_control(b) for b in slimming_study.CONTROL_BUDGETS}
  figures = {
    "preference_rank_correlation": min(r.min() for r in rho.values()),
    "hypervolume_over_uniform": _ratio(ours, uniform, "uniform widths"),
  }
  figures["configuration_variance_cut"] = seed.variance_cut()
  figures["planner_over_brute_force"] = seed.over_brute_force()
  if others:
    figures["hypervolume_over_static_networks_together"] = (
      ours / seed.joined(list(others)).volume()
    )
  if recipe.separate:
    figures["hypervolume_over_separate_slimmable_networks"] = (
      ours / seed.separate().volume()
    )
  for name, points in (
    ("fixed_decoders", seed.fixed_decoders(OURS)),
    ("random_search", seed.random_search(OURS)),
  ):
    if volume := points.volume():  # fixed decoders may buy full widths only
      figures[f"hypervolume_over_{name}"] = ours / volume
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


def _is_own(name: str) -> bool:
  """Whether a model, or its volume, is none of a rival's."""
  return name in ("ours", "uniform") or name.startswith("static")


def _is_rivals(figure: str) -> bool:
  return "hypernetwork" in figure or "rivals" in figure


def _least(control_at: Callable[[float], np.ndarray]) -> float:
  """Of all tasks, and of the budgets at which control is claimed."""
  return min(control_at(b).min() for b in slimming_study.CONTROL_BUDGETS)


def _ratio(ours: float, other: float, name: str) -> float:
  if not other > 0:
    raise ValueError(
      f"the hypervolume of {name} is zero: a task scores nothing; train longer"
    )
  return ours / other


def _arrays(points: Mapping[str, Any]) -> dict[str, np.ndarray]:
  return {name: np.asarray(values) for name, values in points.items()}


def _points(points: slimming_analysis.Points) -> dict[str, Any]:
  return {
    "cost": np.round(points.costs, 4),
    "scores": np.round(points.scores, 4),
  }
