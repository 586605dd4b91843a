# SPDX-License-Identifier: Apache-2.0
"""What the study of split budgets found: claims, and their picture."""

from collections.abc import Mapping, Sequence
import os
from typing import Any

import numpy as np

from jaxttc import page, results, simulation
from jaxttc.allocators import decay_schedules
from jaxttc.studies import plan_caps, plan_recipe, plan_splits

_LABELS = {
  "in_order": "one pool, in order",
  "uniform": "equal shares",
  "weighted": "a probe's credits",
  "model": "allocation model, fitted",
  "oracle": "best split",
  "vanilla": "no budget",
}


def report(
  recipe: plan_recipe.StudyRecipe, data: Mapping[str, Any]
) -> simulation.Study:
  """Claims of a study.

  Args:
    recipe: that it was run by.
    data: as `plan_study.run` returns it.
  """
  kept = dict(data) | {
    "additions": list(recipe.additions),
    "samples": {"budget": recipe.budget, "vanilla": recipe.vanilla},
  }
  return simulation.Study(
    recipe.seeds, kept, claims(data), lambda path: draw(kept, path)
  )


def claims(data: Mapping[str, Any]) -> list[results.Claim]:
  """The orderings, each between the least and the most of the seeds."""
  accuracy = {
    name: _over_seeds(data["splits"], "accuracy", split=name)
    for name in plan_splits.SPLITS
  }
  e3 = {
    name: _over_seeds(data["splits"], "e3", split=name)
    for name in plan_splits.SPLITS
  }

  def points(a, b):
    return 100 * (accuracy[a] - accuracy[b])

  def decay(place, credits, schedule):
    return _over_seeds(
      data["decays"],
      "accuracy",
      place=place,
      credits=credits,
      schedule=schedule,
    )

  losses = [
    decay("anywhere", "probe", "constant") - decay("anywhere", "probe", name)
    for name in decay_schedules.SCHEDULES
    if name != "constant"
  ]

  def capped(rule):
    return 100 * _over_seeds(
      data["caps"], "accuracy", rule=rule, share=plan_recipe.TOLD
    )

  return [
    results.claim_over("e3_over_vanilla", e3["weighted"] / e3["vanilla"], 1.5),
    results.claim_over(
      "e3_model_over_vanilla", e3["model"] / e3["vanilla"], 1.5
    ),
    results.claim_over(
      "points_oracle_over_model", points("oracle", "model"), 0.0
    ),
    results.claim_over(
      "points_model_over_weighted", points("model", "weighted"), 0.0
    ),
    results.claim_over(
      "points_weighted_over_uniform", points("weighted", "uniform"), 8.0
    ),
    results.claim_over(
      "points_uniform_over_in_order", points("uniform", "in_order"), 0.0
    ),
    results.claim_over(
      "points_linear_over_constant_credits_late",
      100
      * (
        decay("hard first", "late", "linear")
        - decay("hard first", "late", "constant")
      ),
      0.0,
    ),
    results.claim_over(
      "points_least_loss_by_decay_credits_right",
      100 * np.min(losses, axis=0),
      0.0,
    ),
    results.claim_over(
      "points_lost_by_polynomial_work_late",
      100
      * (
        decay("hard last", "probe", "constant")
        - decay("hard last", "probe", "polynomial")
      ),
      0.0,
    ),
    *(
      results.claim_over(
        f"points_{name}_at_{plan_recipe.TOLD}",
        capped(better) - capped(worse),
        bar,
        ">",
      )
      for name, better, worse, bar in (
        ("pool_over_hard_caps", "pool", "none", 20.0),
        ("roll_over_over_hard_caps", "next", "none", 0.0),
        ("pool_over_caps_by_length", "pool", plan_caps.BY_LENGTH, 0.0),
      )
    ),
  ]


def _over_seeds(rows: Sequence[Mapping[str, Any]], field: str, **where: Any):
  """A field of the rows that match, f64[S], in the order of seeds."""
  found = [
    row for row in rows if all(row[name] == it for name, it in where.items())
  ]
  return np.array(
    [row[field] for row in sorted(found, key=lambda row: row["seed"])]
  )


def draw(data: Mapping[str, Any], path: str | os.PathLike[str]) -> None:
  """Writes the picture of a study.

  Args:
    data: as `report` makes it.
    path: the file; its suffix names the format.

  Raises:
    ImportError: if matplotlib is not installed.
  """
  with page.style():
    figure = page.figure(6.6)
    (splits, curves), (decays, caps) = figure.subplots(2, 2)
    _draw_splits(splits, data)
    _draw_curves(curves, data)
    _draw_decays(decays, data)
    _draw_caps(caps, data)
    page.save(figure, path)


def _draw_splits(axes, data) -> None:
  for at, name in enumerate(plan_splits.SPLITS):
    found = 100 * _over_seeds(data["splits"], "accuracy", split=name)
    e3 = _over_seeds(data["splits"], "e3", split=name).mean()
    colour = "#cc7722" if name == "vanilla" else "#4292c6"
    axes.barh(at, found.mean(), color=colour)
    axes.plot([found.min(), found.max()], [at, at], color="#222222", lw=1.5)
    axes.text(1, at, f"E$^3$ {e3:.0f}", va="center", fontsize=8, color="white")
  axes.set_yticks(
    range(len(_LABELS)), [_LABELS[name] for name in plan_splits.SPLITS]
  )
  axes.invert_yaxis()
  axes.set(xlabel="problems solved, %", xlim=(0, 100))
  steps = len(data["additions"])
  axes.set_title(
    f"{data['samples']['budget']} samples (no budget:"
    f" {steps * data['samples']['vanilla']})"
  )


def _draw_curves(axes, data) -> None:
  shades = ("#deebf7", "#9ecae1", "#6baed6", "#3182bd", "#08519c")
  for row, count in enumerate(data["additions"]):
    axes.plot(
      range(1, len(data["curves"][row])),
      data["curves"][row][1:],
      color=shades[row % len(shades)],
      label=f"{count} addition{'s' * (count > 1)}",
    )
  axes.set(xlabel="samples of a sum", ylabel="accuracy of the vote")
  axes.set(ylim=(0, 1.03), xscale="log")
  axes.set_title("What votes buy")
  axes.legend(fontsize=8, loc="lower right")


def _draw_decays(axes, data) -> None:
  names = list(decay_schedules.SCHEDULES)
  groups = [
    ("hard first", "late", "hard sums first,\ncredits late"),
    ("anywhere", "probe", "anywhere,\nprobe's credits"),
    ("hard last", "probe", "hard sums last,\nprobe's credits"),
  ]
  colours = ("#444444", "#084594", "#cc7722", "#6baed6", "#c6dbef")
  for k, (name, colour) in enumerate(zip(names, colours, strict=True)):
    heights = [
      100
      * _over_seeds(
        data["decays"], "accuracy", place=place, credits=credits, schedule=name
      ).mean()
      for place, credits, _ in groups
    ]
    where = np.arange(len(groups)) + (k - 2) * 0.16
    axes.bar(where, heights, width=0.15, color=colour, label=name)
  axes.set_xticks(range(len(groups)), [label for *_, label in groups])
  axes.tick_params(axis="x", labelsize=8)
  axes.set(ylabel="problems solved, %", ylim=(0, 125), yticks=range(0, 101, 20))
  axes.set_title("Decay schedules")
  axes.legend(fontsize=7.5, ncols=3, loc="upper center", columnspacing=0.8)


def _draw_caps(axes, data) -> None:
  styles = {
    "none": ("#cc7722", "hard caps, equal"),
    plan_caps.BY_LENGTH: ("#CC79A7", "hard caps, by length"),
    "spread": ("#6baed6", "rest spread"),
    "next": ("#2171b5", "rest to the next"),
    "pool": ("#444444", "one pool"),
  }
  shares = sorted({row["share"] for row in data["caps"] if row["share"]})
  for rule, (colour, label) in styles.items():
    heights = [
      100 * _over_seeds(data["caps"], "accuracy", rule=rule, share=share).mean()
      for share in shares
    ]
    axes.plot(shares, heights, color=colour, marker="o", ms=4, label=label)
  free = 100 * _over_seeds(data["caps"], "accuracy", rule="uncapped").mean()
  axes.axhline(free, color="#BBBBBB", lw=1, ls=(0, (4, 2)))
  axes.text(shares[0], free + 2, "no caps", color="#777777", fontsize=8.5)
  axes.set(xlabel="budget / mean need", ylabel="problems solved, %")
  axes.set(ylim=(0, 135), yticks=range(0, 101, 20))
  axes.set_title("Worked out under caps")
  axes.legend(fontsize=7.5, ncols=2, loc="upper center", columnspacing=0.8)
