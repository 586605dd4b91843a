# SPDX-License-Identifier: Apache-2.0
"""What the study of learned verifiers on a language model found.

Intervals are ranges over seeds. Gaps in reward are in tokens, as the theory has
them; since horizons differ by powers of two, a gap that is a fixed share of the
horizon also widens, so its exponent in the horizon is told, and gaps in points
of accuracy beside it.
"""

import os
from typing import Any

import numpy as np

from jaxttc import page, results, simulation
from jaxttc.evaluation import heterogeneity
from jaxttc.studies import verifier_language_recipe as recipe_lib
from jaxttc.studies import verifier_language_study as study_lib

# matplotlib is optional, so its types cannot be named at import time.
Axes = Any

FREE = "clone_solved"
_KAPPA = 0.25  # at which anti-concentration is told, as in the planted study
_LOOKS = {
  "base": ("base", "#999999", "x"),
  "clone_solved": ("clone n right traces", "#0072B2", "o"),
  "clone_charged": ("clone the right of n", "#56B4E9", "v"),
  "clone_expert": ("clone the ball's best expert", "#009E73", "s"),
  "reweight": ("reweight by n labels", "#E69F00", "D"),
  "policy_gradient": ("policy gradient by n labels", "#D55E00", "^"),
}
_TAKEN = {
  "vote": ("vote of the base", "#999999", "x"),
  "clone_vote": ("vote of the clone", "#0072B2", "o"),
  "best_of_n": ("best by the verifier", "#D55E00", "^"),
  "weighted_vote": ("vote weighted by the verifier", "#E69F00", "D"),
}


class Table:
  """Figures of all runs, by what they are of."""

  def __init__(
    self, recipe: recipe_lib.LanguageVerifierRecipe, found: study_lib.Found
  ):
    """Takes a study and all its runs."""
    self.recipe, self.found = recipe, found
    self.families = list(recipe.families)
    self.steps = np.array(recipe.steps)
    self.longest = recipe.steps[-1]

  def score(
    self, method: str, family: str, field: str = "reward"
  ) -> np.ndarray:
    """A method's means over problems, f64[seeds, horizons]."""
    return self._over_steps(family, lambda run: run["methods"][method][field])

  def taken(self, selection: str, family: str) -> np.ndarray:
    """Points right with one answer out of N, f64[seeds, horizons]."""
    if selection == "clone_vote":
      return 100 * self._over_steps(family, lambda run: run["clone_vote"])
    return 100 * self._over_steps(
      family, lambda run: run["selected"][selection]
    )

  def gap(self, method: str, family: str, field: str = "reward") -> np.ndarray:
    """How much a method is above the clone of right traces."""
    return self.score(method, family, field) - self.score(FREE, family, field)

  def over_traces(self, method: str) -> np.ndarray:
    """Rewards at the longest horizon, first family, f64[seeds, ratios]."""
    runs = [
      self.found.of(self.families[0], self.longest, ratio)
      for ratio in self.recipe.ratios
    ]
    return np.array(
      [[run["methods"][method]["reward"] for run in point] for point in runs]
    ).T

  def judged(self, field: str, family: str) -> np.ndarray:
    """A figure of the verifier, f64[seeds, horizons]."""
    return self._over_steps(family, lambda run: run["verifier"][field])

  def diagnosis(self, family: str) -> list[heterogeneity.Diagnosis]:
    """What samples of the base say of it, horizon by horizon."""
    rng = np.random.default_rng(0)
    return [
      heterogeneity.diagnose(
        np.concatenate([np.array(run["base_rewards"]) for run in runs]),
        _KAPPA,
        rng=rng,
      )
      for runs in (
        self.found.of(family, s, self.recipe.ratio) for s in self.recipe.steps
      )
    ]

  def _over_steps(self, family, figure) -> np.ndarray:
    points = (
      self.found.of(family, s, self.recipe.ratio) for s in self.recipe.steps
    )
    return np.array([[figure(run) for run in point] for point in points]).T


def study(
  recipe: recipe_lib.LanguageVerifierRecipe, found: study_lib.Found
) -> simulation.Study:
  """Figures, claims and picture of all runs."""
  table = Table(recipe, found)
  said = {family: table.diagnosis(family) for family in table.families}
  data = {
    "families": recipe.families,
    "steps": recipe.steps,
    "tokens_a_step": recipe.tokens_a_step,
    "samples": recipe.samples,
    "rates": found.rates,
    "tuning": {
      name: {f"{rate:g}": round(got, 4) for rate, got in tried.items()}
      for name, tried in found.tuning.items()
    },
    "measured": {
      family: [row._asdict() for row in rows] for family, rows in said.items()
    },
    "runs": [_rounded(run) for run in found.runs],
  }
  return simulation.Study(
    range(recipe.seeds),
    data,
    claims(table, said),
    lambda path: draw(table, said, path),
  )


def claims(table: Table, said) -> list[results.Claim]:
  """Every figure, with a bar where the theory or the contrast has one."""
  over = results.claim_over
  first, at = table.families[0], f"at_{table.longest}_steps"
  doublings = np.log2(table.steps)

  def slope(rows):
    return np.polyfit(doublings, rows.T, 1)[0]

  made = []
  for method, name in (
    ("policy_gradient", "gap"),
    ("reweight", "reweight_gap"),
  ):
    gap = table.gap(method, first)
    made += [
      over(f"{name}_{at}", gap[:, -1], 0.0, ">"),
      over(f"{name}_slope_in_horizon", slope(gap), 0.0, ">"),
      over(
        f"{name}_points_{at}",
        100 * table.gap(method, first, "accuracy")[:, -1],
      ),
    ]
    if (gap > 0).all():
      power = np.polyfit(doublings, np.log2(gap).T, 1)[0]
      made.append(over(f"{name}_exponent_in_horizon", power, 0.5, ">="))
    for family in table.families[1:]:
      other = table.gap(method, family)
      made += [
        over(f"{family}_{name}_{at}", other[:, -1]),
        over(f"{family}_{name}_slope_in_horizon", slope(other)),
        over(f"{name}_over_{family}_{at}", (gap - other)[:, -1], 0.0, ">"),
      ]
  expert = table.score("policy_gradient", first) - table.score(
    "clone_expert", first
  )
  made.append(over(f"gap_to_clone_of_best_expert_{at}", expert[:, -1]))
  for family in table.families:
    vote, clone = (table.taken(s, family) for s in ("vote", "clone_vote"))
    best, weighed = (
      table.taken(s, family) for s in ("best_of_n", "weighted_vote")
    )
    n = table.recipe.samples
    made += [
      over(
        f"{family}_best_of_{n}_points_over_clone_vote_{at}",
        (best - clone)[:, -1],
        0.0,
        ">",
      ),
      over(
        f"{family}_best_of_{n}_points_over_clone_vote_slope",
        slope(best - clone),
      ),
      over(
        f"{family}_weighted_vote_points_over_vote_{at}",
        (weighed - vote)[:, -1],
        0.0,
        ">",
      ),
      over(f"{family}_verifier_auc_{at}", table.judged("auc", family)[:, -1]),
      over(
        f"{family}_verifier_calibration_error_{at}",
        table.judged("error", family)[:, -1],
      ),
      _measured(
        f"sigma_over_horizon_{family}",
        said[family][-1].sigma,
        table.longest * table.recipe.tokens_a_step,
      ),
      _measured(
        f"anti_concentration_{family}", said[family][-1].concentration, 1
      ),
    ]
  fewest = table.over_traces("policy_gradient") - table.over_traces(FREE)
  made.append(
    over(f"gap_with_{table.recipe.ratios[0]}_traces_a_step_{at}", fewest[:, 0])
  )
  return made


def _measured(name, interval, unit) -> results.Claim:
  value, low, high = (x / unit for x in interval)
  return results.Claim(name, value, min(low, value), max(high, value))


def draw(table: Table, said, path: str | os.PathLike[str]) -> None:
  """Draws gaps, rewards over traces, answers out of N, and what decides.

  Raises:
    ImportError: if matplotlib is not installed.
  """
  recipe, first = table.recipe, table.families[0]
  with page.style():
    figure = page.figure(7.2)
    panels = figure.subplots(2, 2)
    gaps, traces, taken, base = panels.ravel()
    for method in recipe_lib.VERIFIED:
      for family, line in zip(table.families, ("-", "--", ":"), strict=False):
        label, colour, marker = _LOOKS[method]
        _curve(
          gaps,
          table.steps,
          table.gap(method, family),
          f"{label}, {family}",
          colour,
          marker,
          line,
        )
    gaps.axhline(0, color="#666666", lw=0.8)
    _dress(gaps, table.steps, "steps of a problem", "gap, tokens of reward")
    gaps.set_title("Over cloning n right traces")
    counts = np.array(recipe.ratios) * table.longest
    for method, look in _LOOKS.items():
      _curve(traces, counts, table.over_traces(method), *look)
    _dress(traces, counts, "traces n", "reward, tokens")
    traces.set_title(f"{table.longest} steps, {first}")
    for selection, look in _TAKEN.items():
      _curve(taken, table.steps, table.taken(selection, first), *look)
    _dress(taken, table.steps, "steps of a problem", "points right")
    taken.set_title(f"One answer out of {recipe.samples}, {first}")
    shades = ("#D55E00", "#666666", "#0072B2")
    for family, colour in zip(table.families, shades, strict=False):
      rows = said[family]
      horizon = table.steps * recipe.tokens_a_step
      sigma = [row.sigma.value for row in rows] / horizon
      base.plot(table.steps, sigma, "o-", ms=4, color=colour, label=family)
      base.plot(
        table.steps,
        [row.concentration.value for row in rows],
        "--",
        color=colour,
      )
    base.plot([], [], color="#222222", label="heterogeneity over H")
    base.plot([], [], "--", color="#222222", label="anti-concentration c")
    _dress(base, table.steps, "steps of a problem", "")
    base.set_title(f"What decides, at kappa = {_KAPPA:g}")
    for axes in panels.ravel():
      low, high = axes.get_ylim()
      axes.set_ylim(low, high + 0.6 * (high - low))
      axes.legend(
        loc="upper left", fontsize=7, ncols=2 if axes is traces else 1
      )
    figure.suptitle(
      f"A learned verifier on a language model, n = {recipe.ratio} a step "
      f"(mean and range of {recipe.seeds} seeds)",
      x=0.01,
      ha="left",
      fontsize=11,
    )
    page.save(figure, path)


def _curve(axes: Axes, x, rows, label, colour, marker, line="-") -> None:
  """Means of rows [S, X] over seeds, with their ranges."""
  axes.plot(
    x, rows.mean(0), marker=marker, ls=line, ms=4, color=colour, label=label
  )
  axes.vlines(x, rows.min(0), rows.max(0), color=colour, alpha=0.35, lw=1.5)


def _dress(axes: Axes, ticks, what: str, unit: str) -> None:
  axes.set_xscale("log", base=2)
  axes.set_xticks(ticks, [str(tick) for tick in ticks])
  axes.minorticks_off()
  axes.set(xlabel=what, ylabel=unit)
  axes.grid(axis="y", color="#E6E6E6", linewidth=0.8)
  axes.set_axisbelow(True)


def _rounded(value: Any) -> Any:
  """Floats to five digits, in whatever holds them; base rewards left out."""
  if isinstance(value, dict):
    return {k: _rounded(v) for k, v in value.items() if k != "base_rewards"}
  return round(value, 5) if isinstance(value, float) else value
