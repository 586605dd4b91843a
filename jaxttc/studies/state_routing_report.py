# SPDX-License-Identifier: Apache-2.0
"""Figures, claims and the picture of routing by a model's states.

Every figure is computed for each seed; a claim is the mean over seeds, from
the least to the most. The best single model may be mixed into every policy, so
no cost at an equal score exceeds its own.
"""

import os
from typing import Any

import numpy as np

from jaxttc import page, results
from jaxttc.evaluation import routing_curves
from jaxttc.simulation import study as study_lib
from jaxttc.studies import state_routing_study

_CASCADE_BAR = 3.0  # points above mixing blindly, halfway
_GRID = 200
_LOOKS = {
  state_routing_study.STATES: "#D55E00",
  state_routing_study.UNPAID: "#E69F00",
  state_routing_study.NGRAMS: "#0072B2",
  "cascade": "#009E73",
  "oracle": "#000000",
}


def report(
  recipe: state_routing_study.StudyRecipe, found: state_routing_study.Found
) -> study_lib.Study:
  """All figures of a study."""
  names = list(next(iter(found.policies.values())))
  figures = {
    seed: {
      name: _figures(recipe, found.single[seed], policies[name])
      for name in names
    }
    for seed, policies in found.policies.items()
  }
  rows = [
    {"policy": name}
    | {
      figure: [by_name[name][figure] for by_name in figures.values()]
      for figure in figures[recipe.seeds[0]][name]
    }
    for name in names
  ]
  claims = []
  for row in rows:
    words = row["policy"].replace(",", "")
    words = words.replace(" ", "_").replace("-", "_")
    for figure, values in row.items():
      if figure == "policy":
        continue
      held = words == "cascade" and figure == "points_over_zero_router_halfway"
      claims.append(
        results.claim_over(
          f"{words}_{figure}", values, _CASCADE_BAR if held else None
        )
      )
  data: dict[str, Any] = {
    "policies": rows,
    "models": [
      {
        "model": model,
        "flops": [found.single[seed].cost[k] for seed in recipe.seeds],
        "score": [found.single[seed].score[k] for seed in recipe.seeds],
      }
      for k, model in enumerate(state_routing_study.MODELS)
    ],
    "settings": state_routing_study.settings(recipe),
    "curves": _curves(recipe, found, names),
  }
  return study_lib.Study(
    recipe.seeds, data, claims, lambda path: _draw(data, path)
  )


def _figures(recipe, single, policy) -> dict[str, float]:
  """What a policy is worth on one seed's test side."""
  best = int(np.argmax(single.score))
  goal, price = float(single.score[best]), float(single.cost[best])
  front = _with_best(single, policy)
  zero = routing_curves.hull(single.cost, single.score)
  half = (single.cost.min() + price) / 2
  found = {
    _named(less): front.cost_of(goal - less) / price
    for less in recipe.tolerances
  }
  low, high = float(single.cost.min()), float(single.cost.max())
  found["points_over_zero_router_halfway"] = 100 * float(
    max(front.at(half), 0.0) - zero.at(half)
  )
  found["points_over_zero_router"] = 100 * (
    routing_curves.aiq(front, low, high) - routing_curves.aiq(zero, low, high)
  )
  return found


def _named(less: float) -> str:
  if less == 0:
    return "cost_over_best_single_at_equal_score"
  return f"cost_over_best_single_{100 * less:g}_points_below"


def _with_best(single, policy) -> routing_curves.Hull:
  """What a policy offers, the cheapest and the best single model beside it."""
  ends = [int(np.argmin(single.cost)), int(np.argmax(single.score))]
  return routing_curves.hull(
    np.append(policy.cost, single.cost[ends]),
    np.append(policy.score, single.score[ends]),
  )


def _curves(recipe, found, names) -> dict[str, Any]:
  """Mean hulls over seeds, on a grid of FLOPs."""
  every = [found.single[seed] for seed in recipe.seeds]
  grid = np.linspace(
    max(one.cost.min() for one in every),
    max(one.cost.max() for one in every),
    _GRID,
  )
  fronts = {"zero": [routing_curves.hull(one.cost, one.score) for one in every]}
  for name in names:
    fronts[name] = [
      _with_best(found.single[seed], found.policies[seed][name])
      for seed in recipe.seeds
    ]
  return {
    "flops": grid,
    "score": {
      name: routing_curves.mean_curve(each, grid)
      for name, each in fronts.items()
    },
  }


def _draw(data: dict[str, Any], path: str | os.PathLike[str]) -> None:
  with page.style():
    figure = page.figure(4.6)
    left, right = figure.subplots(1, 2, width_ratios=(1.4, 1))
    curves = data["curves"]
    for name, score in curves["score"].items():
      kind, _, head = name.partition(", ")
      if kind == state_routing_study.UNPAID:
        continue
      dashed = kind == "oracle" or head.startswith("mlp")
      left.plot(
        np.asarray(curves["flops"]) / 1e6,
        score,
        color=_LOOKS.get(kind, "#777777"),
        linestyle="--" if dashed else ":" if kind == "zero" else "-",
        linewidth=1.6,
        label="mixing blindly" if kind == "zero" else name,
      )
    for row in data["models"]:
      x, y = np.mean(row["flops"]) / 1e6, np.mean(row["score"])
      left.plot(x, y, "*", color="#777777", markersize=11, zorder=4)
      left.annotate(
        row["model"],
        (x, y),
        xytext=(0, 7) if y > 0.95 else (8, -12),
        textcoords="offset points",
        ha="right" if y > 0.95 else "left",
        color="#444444",
        fontsize=9,
      )
    left.margins(y=0.09)
    left.set_xlabel("million FLOPs a question, reading it for its state too")
    left.set_ylabel("share of right answers")
    left.set_title("What a mean cost buys")
    left.legend(loc="lower right", fontsize=8)
    rows = data["policies"]
    tolerances = [name for name in rows[0] if name.startswith("cost_over")]
    places = np.arange(len(rows))
    shade = np.linspace(1.0, 0.45, len(tolerances))
    for shift, name in enumerate(tolerances):
      values = np.array([row[name] for row in rows])
      y = places + 0.22 * (shift - (len(tolerances) - 1) / 2)
      colours = [_LOOKS[row["policy"].partition(", ")[0]] for row in rows]
      right.hlines(
        y, values.min(1), values.max(1), color=colours, alpha=shade[shift]
      )
      right.scatter(
        values.mean(1), y, color=colours, s=22, alpha=shade[shift], zorder=3
      )
    right.axvline(1, color="#777777", linewidth=0.8)
    right.set_yticks(places, [row["policy"] for row in rows])
    right.invert_yaxis()
    right.set_xlim(0, 1.08)
    right.set_xlabel("cost over the best single model's")
    right.set_title("At its score; below: 1, 5 points less")
    page.save(figure, path)
