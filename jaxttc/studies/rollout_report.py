# SPDX-License-Identifier: Apache-2.0
"""What a study of rollout strategies says: figures, claims and a picture."""

from collections.abc import Sequence
import math
import os
import time
from typing import Any

import jax
import numpy as np

from jaxttc import page, results, simulation
from jaxttc.allocators import rollout_allocation, rollout_rules
from jaxttc.studies import rollout_study

# matplotlib is optional, so its types cannot be named at import time.
Axes = Any

_TASKS, _TOTAL, _TURNS = 512, 4096, 30
_POSTERIOR = "posterior"
_LOOK = {
  "uniform": ("#777777", "uniform"),
  "knapsack": ("#0072B2", "knapsack"),
  "posterior": ("#56B4E9", "knapsack, posterior"),
  "uniform_1.5x": ("#F0C080", "uniform, 1.5 times"),
  "uniform_2x": ("#E69F00", "uniform, 2 times"),
  "uniform_3x": ("#D55E00", "uniform, 3 times"),
  "dynamic_sampling": ("#009E73", "dynamic sampling"),
  "proportional": ("#CC79A7", "by difficulty"),
  "skip_uninformative": ("#8C564B", "skip uninformative"),
}


def report(
  recipe: rollout_study.StudyRecipe, found: rollout_study.Found
) -> simulation.Study:
  """Figures, claims and picture of a study."""
  ms = allocation_ms()
  return simulation.Study(
    seeds=rollout_study.seeds(recipe),
    data={
      "start": found.start,
      "learning_rates": found.rates,
      "tuning": {
        name: {f"{rate:g}": success for rate, success in got.items()}
        for name, got in found.tuning.items()
      },
      "aggregation": recipe.arm.loss.aggregation,
      "rollouts_a_step": recipe.arm.rollouts.tasks * recipe.arm.rollouts.group,
      "allocation_ms": np.round(ms, 4),
      "runs": rollout_study.table(found),
    },
    claims=claims(recipe, found, ms),
    draw=lambda path: draw(recipe, found, path),
  )


def allocation_ms() -> list[float]:
  """CPU milliseconds of allocating 4,096 rollouts over 512 tasks, by turn.

  Checks and copies are part of it, compiling is not.
  """
  rng = np.random.default_rng(0)
  rates = rng.beta(0.3, 0.3, _TASKS).clip(1e-4, 1 - 1e-4).astype(np.float32)
  rules = rollout_rules.RolloutRules(fallback=False)
  spent = []
  for _ in range(_TURNS + 1):
    start = time.process_time()
    jax.block_until_ready(
      rollout_allocation.allocate(rates, _TOTAL, rules=rules)[0]
    )
    spent.append(1e3 * (time.process_time() - start))
  return spent[1:]


def budget_to_match(
  budgets: Sequence[float], successes: Sequence[float], wanted: float
) -> float:
  """How many times the rollouts uniform groups need to be as good.

  Read off the curve of success over the logarithm of the budget, straight
  between the budgets that were run: the least budget at which it reaches what
  is wanted. Nothing is read beyond the last budget; below the first, what the
  slope from there says, as far down as the second lies above.

  Args:
    budgets: multiples of the rollouts of the arm that is to be matched,
      ascending from 1; two or more.
    successes: of uniform groups with each.
    wanted: success that is to be matched.

  Returns:
    At most the last budget, which is what it is where none reached `wanted`; 1
    where more rollouts made nothing better and `wanted` is no better either.
  """
  curve = np.maximum.accumulate(np.asarray(successes, float))
  if wanted > curve[-1]:
    return float(budgets[-1])
  if wanted <= curve[0] == curve[1]:
    return float(budgets[0])
  after = max(int(np.argmax(curve >= wanted)), 1)
  share = (wanted - curve[after - 1]) / (curve[after] - curve[after - 1])
  low, high = np.log(budgets[after - 1]), np.log(budgets[after])
  return float(np.exp(low + max(share, -1.0) * (high - low)))


def claims(
  recipe: rollout_study.StudyRecipe,
  found: rollout_study.Found,
  ms: Sequence[float],
) -> list[results.Claim]:
  """Every figure beside its bar; intervals are the range over seeds.

  Success is that of fresh samples on the training problems, all weighed alike,
  since those are what rollouts were given out for; on held-out ones it is a
  claim of its own.
  """
  final = _final(found, "train_success", recipe.last)
  unseen = _final(found, "held_out_success", recipe.last)
  unsolved = _final(found, "train_unsolved", recipe.last)
  effective = _mean_step(found, "effective_gradient_ratio")
  prompts = _mean_step(found, "effective_prompt_ratio")
  uniform, ours = rollout_study.UNIFORM, rollout_study.KNAPSACK
  curve = [uniform, *map(rollout_study.budget_arm, recipe.budgets)]
  most = rollout_study.budget_arm(recipe.budgets[-1])
  over = lambda what, arm=ours: 100 * (what[arm] - what[uniform])  # noqa: E731
  match = lambda name, arm, bar=None: _matched(  # noqa: E731
    name,
    (1.0, *recipe.budgets),
    np.stack([final[name] for name in curve], axis=1),
    final[arm],
    bar,
  )
  made = [
    results.claim_over("effective_ratio_gain_points", over(effective), 15.0),
    results.claim_over("points_over_uniform", over(final), 0.0, ">"),
    match("uniform_budget_to_match", ours, 1.5),
    results.claim_over(
      f"allocate_ms_{_TASKS}x{_TOTAL}", ms, 10.0, "<=", np.median
    ),
    results.claim_over("held_out_points_over_uniform", over(unseen), 0.0, ">"),
    results.claim_over(f"{most}_points_over_uniform", over(final, most)),
    results.claim_over("start_success", found.start["train_success"]),
    results.claim_over("start_unsolved", found.start["train_unsolved"]),
  ]
  for arm in found.runs:
    made += [
      results.claim_over(f"{arm}_effective_ratio", effective[arm]),
      results.claim_over(f"{arm}_effective_prompts", prompts[arm]),
      results.claim_over(f"{arm}_success", final[arm]),
      results.claim_over(f"{arm}_held_out_success", unseen[arm]),
      results.claim_over(f"{arm}_unsolved", unsolved[arm]),
    ]
  if _POSTERIOR in found.runs:
    made += [
      results.claim_over(
        "posterior_points_over_uniform", over(final, _POSTERIOR)
      ),
      match("uniform_budget_to_match_posterior", _POSTERIOR),
    ]
  return made + _checks(found)


def _final(found, name, last) -> dict[str, np.ndarray]:
  """Success at the end of each seed's run, by arm."""
  return {
    arm: np.array([run.final(name, last) for run in runs])
    for arm, runs in found.runs.items()
  }


def _mean_step(found, name) -> dict[str, np.ndarray]:
  """Mean of a figure over the steps of each seed's run, by arm."""
  return {
    arm: np.array([run.steps[name].mean() for run in runs])
    for arm, runs in found.runs.items()
  }


def _checks(found) -> list[results.Claim]:
  runs = [run for runs in found.runs.values() for run in runs]
  ours = found.runs[rollout_study.KNAPSACK]
  largest = max(run.steps["allocation_max"].max() for run in ours)
  gap = max(run.steps["logprob_difference"].max() for run in runs)
  return [
    results.Claim("largest_group", largest),
    results.Claim(
      "logprob_difference_engine_trainer", gap, bar=1e-4, comparison="<="
    ),
  ]


def _matched(name, budgets, curves, wanted, bar=None):
  """Of the means over seeds, and the range of the seeds' own."""
  each = [
    budget_to_match(budgets, list(curve), float(level))
    for curve, level in zip(curves, wanted, strict=True)
  ]
  mean = list(curves.mean(0))
  whole = budget_to_match(budgets, mean, float(wanted.mean()))
  low, high = min(whole, *each), max(whole, *each)
  return results.Claim(name, whole, low, high, bar=bar)


def draw(
  recipe: rollout_study.StudyRecipe,
  found: rollout_study.Found,
  path: str | os.PathLike[str],
) -> None:
  """Draws success and effective ratio over training, and the group sizes.

  Raises:
    ImportError: if matplotlib is not installed.
  """
  with page.style():
    figure = page.figure(6.4)
    (learnt, unseen), (useful, given) = figure.subplots(2, 2)
    _draw_success(learnt, found, "train_success", "Training")
    _draw_success(unseen, found, "held_out_success", "Held out")
    _draw_effective(useful, found)
    _draw_sizes(given, found)
    handles, labels = learnt.get_legend_handles_labels()
    figure.legend(
      handles, labels, loc="outside lower center", ncols=len(labels), fontsize=8
    )
    figure.suptitle(
      f"{recipe.arm.rollouts.tasks * recipe.arm.rollouts.group} rollouts a "
      f"step; mean and range of {recipe.seeds} seeds",
      x=0.01,
      ha="left",
      fontsize=11,
    )
    page.save(figure, path)


def _draw_success(axes: Axes, found, name: str, title: str) -> None:
  """Paired by seed: each has problems of its own, which differ by far more."""
  uniform = found.runs[rollout_study.UNIFORM]
  for arm, runs in found.runs.items():
    colour, label = _look(arm)
    steps = np.append(0, runs[0].evaluations["step"])
    over = np.stack(
      [
        np.append(0, 100 * (run.evaluations[name] - base.evaluations[name]))
        for run, base in zip(runs, uniform, strict=True)
      ]
    )
    _band(axes, steps, over, colour, label)
  last = np.mean([run.evaluations[name][-1] for run in uniform])
  _dress(
    axes,
    f"{title}: uniform goes from {found.start[name].mean():.2f} to {last:.2f}",
    "points over uniform, same seed",
  )


def _draw_effective(axes: Axes, found) -> None:
  for arm, runs in found.runs.items():
    colour, label = _look(arm)
    curves = np.stack([r.steps["effective_gradient_ratio"] for r in runs])
    width = max(1, curves.shape[1] // 10)
    kernel = np.ones(width) / width
    smooth = np.stack([np.convolve(row, kernel, "valid") for row in curves])
    steps = np.arange(smooth.shape[1]) + (width + 1) / 2
    _band(axes, steps, smooth, colour, label)
  _dress(axes, "Rollouts in mixed groups", "share")


def _draw_sizes(axes: Axes, found) -> None:
  runs = found.runs[rollout_study.KNAPSACK]
  colour, _ = _look(rollout_study.KNAPSACK)
  curves = np.stack([run.steps["allocation_max"] for run in runs])
  steps = np.arange(1, curves.shape[1] + 1)
  _band(axes, steps, curves, colour, "knapsack")
  uniform = found.runs[rollout_study.UNIFORM][0].steps["allocation_max"]
  axes.plot(steps, uniform, color=_look(rollout_study.UNIFORM)[0])
  axes.set_ylim(0, 1.1 * math.ceil(curves.max()))
  _dress(axes, "Largest group", "rollouts")


def _band(axes, x, rows, colour, label) -> None:
  axes.plot(x, rows.mean(0), color=colour, label=label, lw=1.6)
  axes.fill_between(x, rows.min(0), rows.max(0), color=colour, alpha=0.13, lw=0)


def _dress(axes, title, what) -> None:
  axes.set(title=title, xlabel="training step", ylabel=what)
  axes.grid(axis="y", color="#E6E6E6", linewidth=0.8)
  axes.set_axisbelow(True)


def _look(arm: str) -> tuple[str, str]:
  return _LOOK.get(arm, ("#000000", arm))
