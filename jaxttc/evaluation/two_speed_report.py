# SPDX-License-Identifier: Apache-2.0
"""What the study of SCALE found: figures, claims, and their picture."""

from collections.abc import Mapping
import os
from typing import Any

import numpy as np

from jaxttc import page, results, simulation
from jaxttc.evaluation import statistics, two_speed_study

_STRONG = "probe-0.4"  # a threshold fixed beforehand

_FRONTS = {
  "probe": ("difficulty read off the state", "#D55E00", "o"),
  "oracle": ("true failure rate of the step", "#000000", "s"),
  "disagreement": ("disagreement of samples, paid for", "#009E73", "^"),
  "budgeted": ("knapsack over known rates", "#CC79A7", "D"),
  "random": ("random, equally many hard steps", "#999999", "v"),
}
_POINTS = {
  "fast": "all at once",
  "slow": "all worked out",
  "vote": "all at once, 8 votes",
}


def report(
  recipe: two_speed_study.StudyRecipe, found: two_speed_study.Found
) -> simulation.Study:
  """Figures and claims of a study.

  Args:
    recipe: that it was run by.
    found: by `two_speed_study.run`.
  """
  rng = np.random.default_rng(0)
  calibration = found.calibration
  kinds = sorted(set(recipe.additions))
  data: dict[str, Any] = {
    "mix": (
      f"{recipe.steps} steps a chain; additions of a step drawn uniformly from"
      f" {', '.join(map(str, recipe.additions))}; what can be saved depends on"
      " it"
    ),
    "chains_a_seed": recipe.chains,
    "steps": [
      {
        "additions": kind,
        "fast_accuracy": float(calibration.rates[row, 0]),
        "slow_accuracy": float(calibration.rates[row, 1]),
        "fast_tokens": float(calibration.tokens[row, 0]),
        "slow_tokens": float(calibration.tokens[row, 1]),
      }
      for row, kind in enumerate(kinds)
    ],
    "probe_auc": calibration.auc,
    "calibrated_tau": calibration.tau,
    "arms": [
      _figures(name, by_seed, recipe, rng)
      for name, by_seed in found.arms.items()
    ],
  }
  claims = _claims(recipe, found, rng)
  return simulation.Study(
    recipe.seeds, data, claims, lambda path: draw(data, path)
  )


def _column(by_seed, field: str) -> np.ndarray:
  return np.concatenate(
    [np.asarray(getattr(o, field), float) for o in by_seed.values()]
  )


def _figures(name, by_seed, recipe, rng) -> dict[str, Any]:
  accuracy = statistics.bootstrap(
    _column(by_seed, "right"), resamples=recipe.resamples, rng=rng
  )
  means = {
    field: float(_column(by_seed, field).mean())
    for field in two_speed_study.Outcome._fields
    if field != "right"
  }
  return {"arm": name, "accuracy": accuracy._asdict()} | means


def _claims(recipe, found, rng) -> list[results.Claim]:
  def points(a: str, b: str) -> statistics.Interval:
    return statistics.Interval(
      *(
        100 * end
        for end in statistics.paired_difference(
          _column(found.arms[a], "right"),
          _column(found.arms[b], "right"),
          resamples=recipe.resamples,
          rng=rng,
        )
      )
    )

  def claim(name, interval, bar=None, comparison=">="):
    return results.Claim(name, *interval, bar=bar, comparison=comparison)

  slight = f"probe-{found.calibration.tau}"
  share = statistics.ratio_of_means(
    _column(found.arms[slight], "tokens"),
    _column(found.arms["slow"], "tokens"),
    resamples=recipe.resamples,
    rng=rng,
  )
  rates = found.calibration.rates
  return [
    claim("points_over_random_routing", points(_STRONG, "random-0.4"), 15),
    claim("tokens_over_uniform_system2", share, 0.9, "<="),
    claim("points_below_uniform_system2", points("slow", slight), 3, "<="),
    claim("points_over_uniform_system1", points(_STRONG, "fast")),
    claim("points_over_voting_system1", points(_STRONG, "vote")),
    claim("points_below_oracle_difficulty", points("oracle-0.4", _STRONG)),
    claim(
      "points_lost_without_answers", points("slow", "slow_without_answers")
    ),
    claim(
      "points_lost_without_answers_independent",
      points("slow_independent", "slow_independent_without_answers"),
    ),
    results.Claim("calibrated_tau", found.calibration.tau),
    results.Claim("probe_auc", found.calibration.auc),
    results.Claim("fast_accuracy_easiest", rates[0, 0]),
    results.Claim("fast_accuracy_hardest", rates[-1, 0]),
    results.Claim("slow_accuracy_worst", rates[:, 1].min()),
  ]


def draw(data: Mapping[str, Any], path: str | os.PathLike[str]) -> None:
  """Writes the picture of a study.

  Args:
    data: as `report` makes it.
    path: the file; its suffix names the format.

  Raises:
    ImportError: if matplotlib is not installed.
  """
  arms = {row["arm"]: row for row in data["arms"]}
  with page.style():
    figure = page.figure(7.6)
    (top, gate), (share, caps) = figure.subplots(2, 2, width_ratios=(1.5, 1))
    _draw_front(top, arms)
    _draw_gate(gate, data["steps"])
    _draw_hard(share, arms)
    _draw_caps(caps, arms)
    page.save(figure, path)


def _series(arms, kind) -> list[dict[str, Any]]:
  rows = [row for name, row in arms.items() if name.split("-")[0] == kind]
  return sorted(rows, key=lambda row: row["tokens"])


def _draw_front(axes, arms) -> None:
  for kind, (label, colour, marker) in _FRONTS.items():
    rows = _series(arms, kind)
    x = [row["tokens"] for row in rows]
    value = np.array([row["accuracy"]["value"] for row in rows])
    low = np.array([row["accuracy"]["low"] for row in rows])
    high = np.array([row["accuracy"]["high"] for row in rows])
    axes.plot(
      x,
      value,
      color=colour,
      marker=marker,
      markersize=4,
      linewidth=1.4,
      label=label,
    )
    axes.fill_between(x, low, high, color=colour, alpha=0.12, linewidth=0)
  for name, label in _POINTS.items():
    x, y = arms[name]["tokens"], arms[name]["accuracy"]["value"]
    axes.plot(x, y, "*", color="#0072B2", markersize=11, zorder=4)
    right = name != "fast"
    axes.annotate(
      label,
      (x, y),
      xytext=(-8 if right else 8, -12 if right else -3),
      textcoords="offset points",
      ha="right" if right else "left",
      color="#0072B2",
      fontsize=9,
    )
  axes.set_xlabel("tokens sampled a chain, difficulty included")
  axes.set_ylabel("accuracy")
  axes.set_title("Which steps to think through")
  axes.grid(axis="y", color="#E6E6E6", linewidth=0.8)
  axes.legend(loc="upper left", fontsize=8)


def _draw_gate(axes, steps) -> None:
  x = [row["additions"] for row in steps]
  for mode, label, colour in (
    ("slow", "worked out", "#0072B2"),
    ("fast", "at once", "#E69F00"),
  ):
    axes.plot(
      x,
      [row[f"{mode}_accuracy"] for row in steps],
      color=colour,
      marker="o",
      markersize=4,
      label=label,
    )
  axes.set_xticks(x)
  axes.set_ylim(0, 1.03)
  axes.set_xlabel("additions in the step")
  axes.set_ylabel("accuracy of one step")
  axes.set_title("What the modes can do")
  axes.legend(loc="center left")


def _draw_hard(axes, arms) -> None:
  for kind in ("probe", "random"):
    label, colour, marker = _FRONTS[kind]
    rows = sorted(_series(arms, kind), key=lambda row: row["hard"])
    axes.plot(
      [row["hard"] for row in rows],
      [row["accuracy"]["value"] for row in rows],
      color=colour,
      marker=marker,
      markersize=4,
      label=label,
    )
    for row in rows:
      if kind == "probe":
        axes.annotate(
          row["arm"].partition("-")[2],
          (row["hard"], row["accuracy"]["value"]),
          xytext=(0, 6),
          textcoords="offset points",
          ha="center",
          fontsize=7.5,
          color=colour,
        )
  axes.set_xlabel("share of steps worked out (numbers: threshold)")
  axes.set_ylabel("accuracy")
  axes.set_title("At the same share of hard steps")
  axes.grid(axis="y", color="#E6E6E6", linewidth=0.8)


def _draw_caps(axes, arms) -> None:
  for kind, label, colour in (
    ("cap_easy", "easy steps", "#56B4E9"),
    ("cap_hard", "hard steps", "#0072B2"),
  ):
    rows = [
      (int(n.partition("-")[2]), r)
      for n, r in arms.items()
      if n.split("-")[0] == kind
    ]
    rows.sort(key=lambda pair: pair[0])
    axes.plot(
      [cap for cap, _ in rows],
      [row["accuracy"]["value"] for _, row in rows],
      color=colour,
      marker="o",
      markersize=4,
      label=label,
    )
  axes.set_xlabel("most tokens of a worked-out step")
  axes.set_ylabel("accuracy")
  axes.set_title("What a cap costs")
  axes.legend(loc="lower right")
