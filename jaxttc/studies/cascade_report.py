# SPDX-License-Identifier: Apache-2.0
"""Claims and the picture of routing after the answer, and while serving."""

from collections.abc import Mapping
import dataclasses
import os
from typing import Any

import numpy as np

from jaxttc import page, results
from jaxttc.simulation import study as study_lib
from jaxttc.studies import bandit_study, cascade_study
from jaxttc.tasks import routing as tasks

_COLOURS = {
  cascade_study.ORACLE: "#000000",
  cascade_study.CASCADE: "#D55E00",
  cascade_study.BLIND_CASCADE: "#E69F00",
  cascade_study.ROUTER: "#0072B2",
  cascade_study.ZERO: "#777777",
  bandit_study.TAUGHT: "#0072B2",
  "LinUCB": "#D55E00",
  "Thompson": "#009E73",
  "UCB": "#CC79A7",
  "epsilon-greedy": "#E69F00",
}


@dataclasses.dataclass(kw_only=True)
class StudyRecipe:
  """What is judged, on which data.

  Attributes:
    answered_data: file with the models' answers.
    scored_data: file with scores alone, for judges and learners.
    answered: cascades of learned scorers, on the first.
    scored: cascades of judges, on the second.
    online: learners, on the second.
  """

  answered_data: str
  scored_data: str
  answered: cascade_study.CascadeRecipe = dataclasses.field(
    default_factory=cascade_study.CascadeRecipe
  )
  scored: cascade_study.CascadeRecipe = dataclasses.field(
    default_factory=cascade_study.CascadeRecipe
  )
  online: bandit_study.BanditRecipe = dataclasses.field(
    default_factory=bandit_study.BanditRecipe
  )

  def check(self) -> None:
    """Raises ValueError, naming the field, for values that cannot be."""
    for part in (self.answered, self.scored, self.online):
      part.check()


def run(recipe: StudyRecipe) -> study_lib.Study:
  """Runs all three, and says what came of them.

  Raises:
    ValueError: if the recipe or its data cannot be used.
  """
  recipe.check()
  answered, scored = map(tasks.load, (recipe.answered_data, recipe.scored_data))
  if not answered.answers:
    raise ValueError(
      f"{recipe.answered_data}: expected answers of the models, found scores "
      "alone"
    )
  cascades = cascade_study.run(recipe.answered, answered)
  judges = cascade_study.run(recipe.scored, scored)
  learnt = bandit_study.run(recipe.online, scored)
  data = {
    "answered": _described(cascades),
    "scored": _described(judges),
    "online": {
      name: {
        "reward_by_part": rewards.mean(0).tolist(),
        "cost": float(learnt.cost[name].mean()),
      }
      for name, rewards in learnt.rewards.items()
    },
  }
  claims = [
    *_cascade_claims("", cascades),
    *_cascade_claims("nine_models_", judges),
    *_learner_claims(recipe.online, learnt),
  ]
  return study_lib.Study(
    [recipe.answered.seed], data, claims, lambda path: draw(data, path)
  )


def _described(found: cascade_study.Found) -> dict[str, Any]:
  table = found.table
  return {
    "questions": len(table),
    "unit": table.unit,
    "models": [
      {"model": model, "cost": float(cost), "score": float(score)}
      for model, cost, score in zip(
        table.models, table.costs.mean(0), table.scores.mean(0), strict=True
      )
    ],
    "scorers": found.scorers,
    "grid": found.grid.tolist(),
    "ways": {
      name: {
        "cost_ratio": way.cost_ratio._asdict(),
        "points_at_equal_cost": way.points._asdict(),
        "points_over_zero_halfway": way.over_zero._asdict(),
        "curve": [None if np.isnan(v) else float(v) for v in way.curve],
      }
      for name, way in found.ways.items()
    },
  }


def _cascade_claims(
  prefix: str, found: cascade_study.Found
) -> list[results.Claim]:
  made = []
  for name, way in found.ways.items():
    if name == cascade_study.ZERO:
      continue
    words = name.replace(",", "").replace(" %", "").replace(" ", "_")
    for figure, what in (
      (way.cost_ratio, "cost_over_best_single_at_equal_score"),
      (way.over_zero, "points_over_zero_router_halfway"),
    ):
      made.append(results.Claim(f"{prefix}{words}_{what}", *figure))
  return made


def _learner_claims(
  recipe: bandit_study.BanditRecipe, learnt: bandit_study.Learnt
) -> list[results.Claim]:
  made = []
  last = slice(-max(recipe.parts // 4, 1), None)
  for name in learnt.rewards:
    if name == bandit_study.FIXED:
      continue
    words = name.replace(" ", "_").replace("-", "_").lower()
    for part, what in ((slice(None), "whole_stream"), (last, "last_quarter")):
      figure = learnt.points_over_fixed(name, part)
      made.append(
        results.Claim(f"{words}_points_over_fixed_model_{what}", *figure)
      )
  return made


def draw(data: Mapping[str, Any], path: str | os.PathLike[str]) -> None:
  """Writes the picture of the study.

  Args:
    data: as `run` makes it.
    path: the file; its suffix names the format.

  Raises:
    ImportError: if matplotlib is not installed.
  """
  with page.style():
    figure = page.figure(4.2)
    left, right = figure.subplots(1, 2)
    _draw_cascades(left, data["answered"])
    _draw_learners(right, data["online"])
    page.save(figure, path)


def _draw_cascades(axes: Any, found: Mapping[str, Any]) -> None:
  for name, colour in _COLOURS.items():
    if name in found["ways"]:
      axes.plot(
        found["grid"],
        np.array(found["ways"][name]["curve"], float),
        color=colour,
        label=name,
        linestyle="--" if name == cascade_study.ORACLE else "-",
      )
  axes.scatter(
    [one["cost"] for one in found["models"]],
    [one["score"] for one in found["models"]],
    s=20,
    color="#777777",
    zorder=3,
  )
  axes.set_xscale("log")
  axes.set_xlabel(f"mean cost of a question ({found['unit']})")
  axes.set_ylabel("questions answered rightly")
  axes.set_title(f"Cascades on {found['questions']} questions")
  axes.legend(loc="upper left")


def _draw_learners(axes: Any, found: Mapping[str, Any]) -> None:
  fixed = np.array(found[bandit_study.FIXED]["reward_by_part"])
  parts = np.arange(1, len(fixed) + 1) / len(fixed)
  for name, colour in _COLOURS.items():
    if name in found and name != bandit_study.ORACLE:
      gain = 100 * (np.array(found[name]["reward_by_part"]) - fixed)
      axes.plot(parts, gain, color=colour, label=name, marker="o", markersize=3)
  axes.axhline(0, color="#777777", linewidth=0.8)
  axes.set_xlabel("share of the stream served")
  axes.set_ylabel("points of reward over the best fixed model")
  axes.set_title("Learning while serving")
  axes.legend(loc="lower right")
