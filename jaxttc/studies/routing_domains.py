# SPDX-License-Identifier: Apache-2.0
"""How much of a router's gain is left on kinds of questions it never saw.

The same routers are fitted twice: on folds of all kinds of questions, and with
one kind left out at a time. Both then say something about every question, by a
router that never saw it, or never saw its kind; and both are judged on all
questions together, under one price. Intervals resample groups of
near-duplicates, the same ones for both, so differences are paired.
"""

import dataclasses
import os
from typing import Any

import numpy as np

from jaxttc import page, results
from jaxttc.evaluation import routing_curves
from jaxttc.simulation import study as study_lib
from jaxttc.studies import routing_report, routing_study

_SIDES = ("known", "unknown")
_SHUFFLED_BAR = 0.5  # points above mixing blindly
_COLOURS = {"known": "#0072B2", "unknown": "#D55E00"}
_WORDS = {
  "known": "kind seen in training",
  "unknown": "kind never seen",
}
_GRID = 200


def run(
  recipe: routing_study.StudyRecipe, workdir: str | os.PathLike[str]
) -> dict[str, routing_study.Found]:
  """Fits the routers both ways: "known" and "unknown".

  Args:
    recipe: whose split leaves something out.
    workdir: where predictions are kept.

  Raises:
    ValueError: as `routing_study.run`, or if nothing is left out.
  """
  if recipe.split == "groups":
    raise ValueError(
      "split='groups' leaves nothing out; expected kinds, labels"
    )
  within = dataclasses.replace(recipe, split="groups")
  folder = os.fspath(workdir)
  return {
    "known": routing_study.run(within, os.path.join(folder, "known")),
    "unknown": routing_study.run(recipe, os.path.join(folder, "unknown")),
  }


def report(
  recipe: routing_study.StudyRecipe, found: dict[str, routing_study.Found]
) -> study_lib.Study:
  """All figures and claims of a study."""
  unknown = found["unknown"]
  table = unknown.table
  rng = np.random.default_rng(recipe.seed)
  weights = np.concatenate(
    [
      np.ones((1, len(table))),
      routing_curves.group_weights(unknown.groups, recipe.resamples, rng),
    ]
  )
  whole = routing_report.Side(
    table.scores,
    table.costs,
    routing_curves.best_single(table.scores),
    routing_curves.prices(table.costs, recipe.prices),
    weights,
  )
  said = {side: _pooled(one) for side, one in found.items()}
  rows, claims = _rows(whole, said)
  kinds = [_kind(whole, fold, said) for fold in unknown.folds]
  data: dict[str, Any] = {
    "routers": rows,
    "kinds": kinds,
    "curves": _curves(whole, said),
    "single_models": [
      {"model": model, "cost": float(cost), "score": float(score)}
      for model, cost, score in zip(
        table.models, table.costs.mean(0), table.scores.mean(0), strict=True
      )
    ],
    "questions": len(table),
    "left_out": recipe.split,
    "unit": table.unit,
  }
  return study_lib.Study(
    [recipe.seed], data, claims, lambda path: _draw(data, path)
  )


def _pooled(found: routing_study.Found) -> dict[str, np.ndarray]:
  """What each router says of every question, f32[N, K], by its name."""
  chosen = routing_report.CHOSEN
  parts: dict[str, list[np.ndarray]] = {}
  for fold in found.folds:
    for name, part in fold.routers.items():
      parts.setdefault(name, []).append(part.test)
    picked = routing_report.chosen(fold)
    parts.setdefault(chosen, []).append(fold.routers[picked].test)
    for name, part in fold.shuffled.items():
      parts.setdefault(f"{name}, shuffled", []).append(part.test)
  order = np.argsort(np.concatenate([fold.test for fold in found.folds]))
  return {name: np.concatenate(part)[order] for name, part in parts.items()}


def _rows(whole, said) -> tuple[list[dict[str, Any]], list[results.Claim]]:
  """A line for each router, and the claims."""
  interval = routing_report.interval
  oracle = routing_report.figures_of(whole, whole.scores)
  zero = routing_report.zero_aiq(whole)
  rows: list[dict[str, Any]] = []
  claims: list[results.Claim] = []
  for name in said["known"]:
    row: dict[str, Any] = {"router": name}
    gains = {}
    for side in _SIDES:
      figures = routing_report.figures_of(whole, said[side][name])
      gains[side] = 100 * (figures.aiq - zero)
      row[side] = {
        "cost_ratio": interval([figures.cost_ratio])._asdict(),
        "points_at_equal_cost": interval([100 * figures.points])._asdict(),
        "points_over_zero_router": interval([gains[side]])._asdict(),
        "share_of_oracle_gain": interval(
          [(figures.aiq - zero) / (oracle.aiq - zero)]
        )._asdict(),
      }
    lost = interval([gains["known"] - gains["unknown"]])
    row["points_lost"] = lost._asdict()
    rows.append(row)
    words = name.replace(",", "").replace(" ", "_")
    if "shuffled" in name:
      claims.append(
        results.Claim(
          f"{words}_points_over_zero_router",
          **row["known"]["points_over_zero_router"],
          bar=_SHUFFLED_BAR,
          comparison="<=",
        )
      )
      continue
    for side in _SIDES:
      for figure in ("points_over_zero_router", "cost_ratio"):
        claims.append(
          results.Claim(f"{words}_{figure}_{side}_kinds", **row[side][figure])
        )
    claims.append(results.Claim(f"{words}_points_lost", *lost))
  return rows, claims


def _kind(whole, fold, said) -> dict[str, Any]:
  """Of the questions of one kind: points over mixing blindly, both ways.

  The price is the best for the kind, in hindsight; so is the mixture.
  """
  test = fold.test
  side = routing_report.Side(
    whole.scores[test],
    whole.costs[test],
    routing_curves.best_single(whole.scores[test]),
    whole.prices,
    np.ones((1, len(test))),
  )
  zero = routing_report.zero_aiq(side)[0]
  oracle = routing_report.figures_of(side, side.scores).aiq[0]
  row: dict[str, Any] = {"kind": fold.label, "questions": len(test)}
  row["oracle"] = 100 * (oracle - zero)
  for name in said["known"]:
    row[name] = {
      one: 100
      * (routing_report.figures_of(side, said[one][name][test]).aiq[0] - zero)
      for one in _SIDES
    }
  return row


def _curves(whole, said) -> dict[str, Any]:
  """Hulls of the chosen routers and of mixing blindly, on a grid of costs."""
  grid = np.linspace(
    whole.costs.mean(0).min(), whole.costs.mean(0).max(), _GRID
  )
  hulls = {"zero": routing_curves.zero_router(whole.scores, whole.costs)}
  for side in _SIDES:
    for name in said[side]:
      picked = routing_study.choices(
        said[side][name], whole.costs, whole.prices
      )
      curve = routing_curves.curve(
        picked, whole.scores, whole.costs, whole.prices
      )
      hulls[f"{name}/{side}"] = routing_curves.hull(curve.cost, curve.score)
  return {
    "cost": grid,
    "score": {
      name: [None if np.isinf(v) else float(v) for v in front.at(grid)]
      for name, front in hulls.items()
    },
  }


def _draw(data: dict[str, Any], path: str | os.PathLike[str]) -> None:
  with page.style():
    figure = page.figure(4.8)
    left, right = figure.subplots(1, 2, width_ratios=(1.3, 1))
    curves = data["curves"]
    for side in _SIDES:
      left.plot(
        curves["cost"],
        np.array(curves["score"][f"{routing_report.CHOSEN}/{side}"], float),
        color=_COLOURS[side],
        linewidth=2,
        label=f"chosen router, {_WORDS[side]}",
      )
    shuffled = [n for n in curves["score"] if n.endswith("shuffled/known")]
    for name in shuffled:
      left.plot(
        curves["cost"],
        np.array(curves["score"][name], float),
        color="#CC79A7",
        linewidth=1.1,
        label=name.partition("/")[0],
      )
    left.plot(
      curves["cost"],
      np.array(curves["score"]["zero"], float),
      color="#777777",
      linestyle=(0, (1.5, 1.5)),
      label="mixing models blindly",
    )
    left.set_xscale("log")
    ticks = [t for t in (7, 10, 20, 30, 50, 70) if t <= curves["cost"][-1]]
    left.set_xticks(ticks, [str(t) for t in ticks])
    left.minorticks_off()
    left.set_xlabel(f"{data['unit']} a question")
    left.set_ylabel("mean score")
    left.set_title("What a mean cost buys")
    left.legend(loc="lower right", fontsize=8)
    rows = sorted(data["kinds"], key=lambda row: row["questions"])
    places = np.arange(len(rows))
    for shift, side in ((0.18, "known"), (-0.18, "unknown")):
      right.barh(
        places + shift,
        [row[routing_report.CHOSEN][side] for row in rows],
        height=0.34,
        color=_COLOURS[side],
      )
    right.axvline(0, color="#777777", linewidth=0.8)
    right.set_yticks(
      places, [f"{row['kind']} ({row['questions']})" for row in rows]
    )
    right.set_xlabel("points above mixing blindly")
    right.set_title("Kind by kind")
    page.save(figure, path)
