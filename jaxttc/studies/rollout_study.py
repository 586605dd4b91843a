# SPDX-License-Identifier: Apache-2.0
"""Strategies of giving out rollouts, trained side by side over seeds.

All arms start from one policy, see the same tasks in the same order and draw
equally many rollouts a step, whatever they throw away; only the arms
"uniform_Bx" draw B times as many, which says what more rollouts are worth.
Every arm has the learning rate that serves it best in runs of a seed of its
own, whose problems are others. Every arm and seed is a training run in a
folder: a study that is stopped, or killed, goes on within the run that it was
in.
"""

import dataclasses
import json
import pathlib
from typing import Any, NamedTuple

import numpy as np

from jaxttc.allocators import rollout_strategies
from jaxttc.training import metrics, rollout_recipes

UNIFORM, KNAPSACK = "uniform", "knapsack"
_TUNING_SEED = 1_000_000


@dataclasses.dataclass(kw_only=True)
class StudyRecipe:
  """What is compared.

  Attributes:
    arm: the run that arms are variants of; its strategy, seed and learning rate
      are set by the study.
    strategies: arms of equal rollouts; "uniform" and "knapsack" among them.
    budgets: arms of uniform groups with more rollouts: how many times more,
      ascending, so that groups stay whole.
    seeds: how many.
    first_seed: the least of them.
    rates: learning rates to choose from, for each arm.
    tuning_steps: length of the runs that they are chosen by.
    tuned_on: the success that they are chosen by, "train_success" or
      "held_out_success".
    last: evaluations at the end of a run whose mean is its final success.
  """

  arm: rollout_recipes.RolloutRecipe
  strategies: tuple[str, ...] = (
    UNIFORM,
    KNAPSACK,
    "posterior",
    "dynamic_sampling",
    "proportional",
  )
  budgets: tuple[float, ...] = (1.5, 2.0, 3.0)
  seeds: int = 3
  first_seed: int = 0
  rates: tuple[float, ...] = (1e-4, 3e-4, 1e-3, 2e-3)
  tuning_steps: int = 32
  tuned_on: str = "train_success"
  last: int = 2

  def validate(self) -> None:
    """Raises ValueError, naming the field, for what cannot be studied."""
    self.arm.validate()
    for name in self.strategies:
      rollout_strategies.make(name)
    missing = {UNIFORM, KNAPSACK} - set(self.strategies)
    if missing:
      raise ValueError(f"strategies lack {', '.join(sorted(missing))}")
    if len(set(self.strategies)) != len(self.strategies):
      raise ValueError(f"strategies={self.strategies}: one comes twice")
    self._check_budgets()
    for name in ("seeds", "tuning_steps", "last"):
      if getattr(self, name) < 1:
        raise ValueError(
          f"{name} must be at least 1, got {getattr(self, name)}"
        )
    if not self.rates or not min(self.rates) > 0:
      raise ValueError(f"rates={self.rates}: expected positive numbers")
    if self.tuned_on not in ("train_success", "held_out_success"):
      raise ValueError(
        f"tuned_on={self.tuned_on!r}: expected 'train_success' or "
        "'held_out_success'"
      )
    if self.first_seed < 0:
      raise ValueError(f"first_seed must be 0 or more, got {self.first_seed}")
    train = self.arm.train
    if train.log_every != 1:
      raise ValueError("arm.train.log_every must be 1: every step is counted")
    for steps in (train.steps, self.tuning_steps):
      if self.last > steps // train.evaluate_every:
        raise ValueError(
          f"last={self.last} evaluations, of {steps} steps with one every "
          f"{train.evaluate_every}"
        )

  def _check_budgets(self) -> None:
    if not self.budgets or list(self.budgets) != sorted(set(self.budgets)):
      raise ValueError(f"budgets={self.budgets}: expected ascending numbers")
    for times in self.budgets:
      group = times * self.arm.rollouts.group
      whole = group == round(group) <= self.arm.rollouts.n_max
      if times <= 1 or not whole:
        raise ValueError(
          f"budgets={self.budgets}: {times:g} times groups of "
          f"{self.arm.rollouts.group}; expected more than 1, and whole groups "
          f"of at most arm.rollouts.n_max={self.arm.rollouts.n_max}"
        )

  def arms(self) -> dict[str, tuple[str, float]]:
    """Strategy, and rollouts as a multiple, of each arm, by its name."""
    equal = {name: (name, 1.0) for name in self.strategies}
    more = {budget_arm(times): (UNIFORM, times) for times in self.budgets}
    return equal | more


def budget_arm(times: float) -> str:
  """The name of the arm of uniform groups with so many times the rollouts."""
  return f"{UNIFORM}_{times:g}x"


class Run(NamedTuple):
  """What one training run logged.

  Attributes:
    steps: figures of each step, f[T] each, by name.
    evaluations: `step`, `train_success`, `held_out_success`,
      `train_unsolved` and `held_out_unsolved`, f[E] each.
  """

  steps: dict[str, np.ndarray]
  evaluations: dict[str, np.ndarray]

  def final(self, name: str, last: int) -> float:
    """Mean of the last evaluations of a figure."""
    return float(self.evaluations[name][-last:].mean())


class Found(NamedTuple):
  """What a study found.

  Attributes:
    start: success of the policy that all began with, one a seed, by set of
      problems: a seed has problems of its own.
    rates: the learning rate chosen, by arm.
    tuning: final success of each rate, by arm.
    runs: by arm, one a seed.
  """

  start: dict[str, np.ndarray]
  rates: dict[str, float]
  tuning: dict[str, dict[float, float]]
  runs: dict[str, list[Run]]


def run(recipe: StudyRecipe, workdir: str) -> Found:
  """Trains what is missing, and reads what was logged.

  Args:
    recipe: what is compared.
    workdir: a folder a run; the study goes on from what is there.

  Raises:
    ValueError: if the recipe cannot be, or `workdir` holds another study.
  """
  recipe.validate()
  folder = pathlib.Path(workdir)
  start = _policy(recipe, folder)
  tuning: dict[str, dict[float, float]] = {}
  for name in recipe.arms():
    tuning[name] = {}
    for rate in recipe.rates:
      steps = recipe.tuning_steps
      tried = _variant(recipe, start, name, _TUNING_SEED, rate, steps)
      logged = _trained(tried, folder / f"rate-{name}-{rate:g}")
      tuning[name][rate] = logged.final(recipe.tuned_on, recipe.last)
  rates = {name: max(got, key=lambda r: got[r]) for name, got in tuning.items()}
  runs: dict[str, list[Run]] = {name: [] for name in recipe.arms()}
  # Seed by seed, so that a study cut short has all arms of some seeds.
  for seed in seeds(recipe):
    for name in recipe.arms():
      steps = recipe.arm.train.steps
      arm = _variant(recipe, start, name, seed, rates[name], steps)
      runs[name].append(_trained(arm, folder / f"{name}-{seed}"))
  return Found(_started(recipe, start, folder), rates, tuning, runs)


def seeds(recipe: StudyRecipe) -> range:
  """The seeds that are reported."""
  return range(recipe.first_seed, recipe.first_seed + recipe.seeds)


def _policy(recipe: StudyRecipe, folder: pathlib.Path) -> str:
  """The file of the policy that all arms begin with; trained if need be."""
  if recipe.arm.start is not None:
    return recipe.arm.start
  path = folder / "base.safetensors"
  described = folder / "base.json"
  wanted = recipe.arm.base.describe()
  if path.exists() and described.exists():
    if json.loads(described.read_text(encoding="utf-8")) != wanted:
      raise ValueError(
        f"{path} was trained by another recipe; choose another --workdir"
      )
    return str(path)
  params = recipe.arm.base.run(str(folder / "base"))
  recipe.arm.base.export(params, str(path))
  described.write_text(json.dumps(wanted), encoding="utf-8")
  return str(path)


def _variant(recipe, start, name, seed, rate, steps):
  arm = recipe.arm
  strategy, times = recipe.arms()[name]
  group = round(times * arm.rollouts.group)
  return dataclasses.replace(
    arm,
    start=start,
    rollouts=dataclasses.replace(arm.rollouts, strategy=strategy, group=group),
    train=dataclasses.replace(
      arm.train, seed=seed, learning_rate=rate, steps=steps
    ),
  )


def _trained(arm: rollout_recipes.RolloutRecipe, folder: pathlib.Path) -> Run:
  """Trains an arm, unless its folder says that it is done; what it logged."""
  done = folder / "done.json"
  wanted = arm.describe()
  if not done.exists():
    arm.run(str(folder))
    done.write_text(json.dumps(wanted), encoding="utf-8")
  elif json.loads(done.read_text(encoding="utf-8")) != wanted:
    raise ValueError(
      f"{folder} holds a run of another recipe; choose another --workdir"
    )
  return read(str(folder))


def read(folder: str) -> Run:
  """What the run in a folder logged."""
  records = metrics.read(folder)
  columns = lambda rows: {  # noqa: E731
    name: np.array([row[name] for row in rows]) for name in rows[0]
  }
  return Run(
    columns([row for row in records if "reward" in row]),
    columns([row for row in records if "held_out_success" in row]),
  )


def _started(recipe, start, folder) -> dict[str, np.ndarray]:
  """Success before the first step, measured as an evaluation does."""
  found = []
  for seed in seeds(recipe):
    path = folder / f"start-{seed}.json"
    if not path.exists():
      arm = _variant(recipe, start, UNIFORM, seed, 1e-3, 1)
      path.write_text(json.dumps(arm.measure(str(folder))), encoding="utf-8")
    found.append(json.loads(path.read_text(encoding="utf-8")))
  return {
    name: np.array([figures[name] for figures in found]) for name in found[0]
  }


def table(found: Found) -> dict[str, Any]:
  """The curves of all runs, as JSON holds them."""
  keep = (
    "effective_gradient_ratio",
    "effective_prompt_ratio",
    "allocation_max",
    "reward",
    "rollouts",
    "sampled_tokens",
    "read_rows",
    "logprob_difference",
    "difficulty_0",
    "difficulty_1",
  )
  rounded = lambda values: np.round(values.astype(float), 6)  # noqa: E731
  return {
    name: [
      {
        "steps": {key: rounded(run.steps[key]) for key in keep}
        | {
          key: rounded(run.steps[key])
          for key in ("dual_price", "allocation_fallback")
          if key in run.steps
        },
        "evaluations": {k: rounded(v) for k, v in run.evaluations.items()},
      }
      for run in runs
    ]
    for name, runs in found.runs.items()
  }
