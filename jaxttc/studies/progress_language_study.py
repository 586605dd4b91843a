# SPDX-License-Identifier: Apache-2.0
"""Progress against outcomes as rewards of a language model that searches.

One model that tries numbers without a plan is where all methods start
(`tasks.hidden_numbers`):

*  outcome: GRPO on whether the answer is right.
*  length penalty: the same, and every token costs something.
*  progress: each attempt is also paid what it added to the chance of a right
   answer (MRT). Answers are forced after each to estimate that, and their
   tokens count: the methods without them take as many steps more as to have
   sampled at least as many tokens.

Each has the learning rate that gave it the least regret on a seed of its own.
A trained model is judged on problems that it has not seen: its traces are
stopped after each attempt and made to answer. Every run is a folder: a study
that is stopped, or killed, goes on within the run that it was in.
"""

from collections.abc import Mapping
import dataclasses
import json
import pathlib
from typing import Any

import numpy as np

from jaxttc.evaluation import regret
from jaxttc.inference import bundle
from jaxttc.tasks import hidden_numbers
from jaxttc.training import (
  metrics,
  rollout_recipes,
  stopped_traces,
)

OUTCOME, PENALTY, PROGRESS = "outcome", "length penalty", "progress"
METHODS = (OUTCOME, PENALTY, PROGRESS)
UNTRAINED = "untrained"


@dataclasses.dataclass(kw_only=True)
class StudyRecipe:
  """What is compared.

  Attributes:
    arm: the run with rewards of progress; the study sets its seed, learning
      rate and, for other methods, its rewards and steps.
    methods: some of `METHODS`; "outcome" and "progress" among them.
    times: how many times the steps methods without forced answers take.
    rates: learning rates to choose from, for each method.
    tuning_seed: of the runs that they are chosen by; not reported.
    tuning_steps: length of those runs, with rewards of progress.
    seeds: reported.
    judged: problems of the test split that a model is judged on.
    samples: traces a problem, of a judgement.
    branches: answers forced at each stop, of a judgement.
    budgets: tokens at which regret is told, rising.
    level: accuracy at which token efficiency is told.
    other_levels: further ones.
  """

  arm: rollout_recipes.RolloutRecipe
  methods: tuple[str, ...] = METHODS
  times: float = 2.0
  rates: tuple[float, ...] = (1e-3, 2e-3)
  tuning_seed: int = 100
  tuning_steps: int = 32
  seeds: tuple[int, ...] = (0, 1, 2)
  judged: int = 80
  samples: int = 6
  branches: int = 4
  budgets: tuple[int, ...] = (16, 32, 48, 64)
  level: float = 0.9
  other_levels: tuple[float, ...] = (0.7, 0.8)

  def validate(self) -> None:
    """Raises ValueError, naming the field, for what cannot be studied."""
    self.arm.validate()
    if self.arm.progress is None or self.arm.rollouts.updates != 1:
      raise ValueError("arm: expected rewards of progress, and one update")
    if not isinstance(self.arm.task, hidden_numbers.HiddenTask):
      raise ValueError("arm.task: expected a hidden_numbers.HiddenTask")
    given = set(self.methods)
    known = {OUTCOME, PROGRESS} <= given <= set(METHODS)
    if not known or len(given) < len(self.methods):
      raise ValueError(
        f"methods={self.methods}: expected {OUTCOME!r}, {PROGRESS!r} and some"
        f" of {', '.join(METHODS)}, each once"
      )
    if not self.times >= 1:
      raise ValueError(f"times must be at least 1, got {self.times}")
    if not self.rates or not min(self.rates) > 0:
      raise ValueError(f"rates={self.rates}: expected positive numbers")
    if not self.seeds or self.tuning_seed in self.seeds:
      raise ValueError(
        f"seeds={self.seeds}: expected some, without tuning_seed="
        f"{self.tuning_seed}"
      )
    for name in ("judged", "samples", "branches", "tuning_steps"):
      if getattr(self, name) < 1:
        raise ValueError(
          f"{name} must be at least 1, got {getattr(self, name)}"
        )
    for level in (self.level, *self.other_levels):
      if not 0 < level <= 1:
        raise ValueError(f"level={level}: expected more than 0, at most 1")
    regret.normalised_regret(
      np.array([1.0]), np.array([1.0]), np.array(self.budgets, float)
    )

  @property
  def longest(self) -> int:
    """Most tokens of a trace with a forced answer."""
    progress = self.arm.progress
    return self.arm.rollouts.max_tokens + progress.answer_tokens + 1


def run(recipe: StudyRecipe, workdir: str) -> dict[str, Any]:
  """Trains and judges what is missing.

  Args:
    recipe: what is compared.
    workdir: a folder a run; the study goes on from what is there.

  Returns:
    Tidy data: `runs`, rows as `judge` returns them with `method`, `seed`,
    `rate` and `training_tokens`; `tuning`, rows of method, rate and regret;
    `untrained`, a row as `judge` returns it for each seed.

  Raises:
    ValueError: if the recipe cannot be, or `workdir` holds another study.
  """
  recipe.validate()
  folder = pathlib.Path(workdir)
  start = _start(recipe, folder)
  tuning, rates = [], {}
  for method in recipe.methods:
    found = {}
    for rate in recipe.rates:
      short = dataclasses.replace(recipe, arm=_shortened(recipe))
      row = _run(short, folder, start, method, recipe.tuning_seed, rate)
      found[rate] = row["regret"][-1]
      tuning.append({"method": method, "rate": rate, "regret": found[rate]})
    rates[method] = min(found, key=lambda rate: found[rate])
  rows = [
    _run(recipe, folder, start, method, seed, rates[method])
    for seed in recipe.seeds
    for method in recipe.methods
  ]
  return {
    "runs": rows,
    "tuning": tuning,
    "untrained": [
      _kept(
        folder / f"untrained-{seed}.json",
        lambda seed=seed: judge(recipe, bundle.load(start), seed),
      )
      for seed in recipe.seeds
    ],
  }


def variant(
  recipe: StudyRecipe, start: str, method: str, seed: int, rate: float
) -> rollout_recipes.RolloutRecipe:
  """The run of a method.

  Args:
    recipe: what is compared.
    start: file of the policy that all begin with.
    method: one of the recipe's.
    seed: of problems and sampling.
    rate: learning rate.
  """
  arm = recipe.arm
  steps, rewards = arm.train.steps, arm.rewards
  if method != PROGRESS:
    steps = round(recipe.times * steps)
  if method == PENALTY:
    rewards = dataclasses.replace(rewards, overlong=arm.rollouts.max_tokens)
  return dataclasses.replace(
    arm,
    start=start,
    base=None,
    rewards=rewards,
    progress=arm.progress if method == PROGRESS else None,
    train=dataclasses.replace(
      arm.train, seed=seed, learning_rate=rate, steps=steps
    ),
  )


def judge(
  recipe: StudyRecipe, policy: bundle.Bundle, seed: int
) -> dict[str, Any]:
  """How good a policy's traces are wherever they are stopped.

  Args:
    recipe: how many problems, traces and answers.
    policy: the model.
    seed: of problems and sampling.

  Returns:
    `accuracy`, f[longest + 1], of traces stopped within 0, 1, .. tokens;
    `regret` at each budget; `success`, the share of traces that end right by
    themselves; `tokens`, their mean length; `attempts` of a trace, and the
    share of them that are `repeats`; `first`, the share of first attempts at
    each number; `at_once`, accuracy without an attempt.
  """
  arm = recipe.arm
  prompts = arm.task.prompt_set(
    "test",
    recipe.judged,
    seed,
    policy,
    width=arm.train.length - arm.rollouts.max_tokens,
    check_steps=False,
  )
  traces = stopped_traces.draw(
    policy,
    prompts,
    dataclasses.replace(arm.progress, branches=recipe.branches),
    samples=recipe.samples,
    columns=arm.rollouts.max_tokens,
    temperature=arm.rollouts.temperature,
    seed=seed,
  )
  tried = [
    hidden_numbers.attempts(text)
    for _, text in prompts.texts(traces.which, traces.written)
  ]
  count = sum(map(len, tried))
  first = np.bincount(
    [numbers[0] for numbers in tried if numbers], minlength=arm.task.modulus
  )
  budgets = np.array(recipe.budgets, float)
  return {
    "accuracy": regret.stopped_accuracy(
      traces.tokens, traces.values, np.arange(recipe.longest + 1.0)
    ).tolist(),
    "regret": traces.regret(budgets).mean(0).tolist(),
    "success": float(traces.right.mean()),
    "tokens": float((traces.written >= 0).sum(1).mean()),
    "attempts": count / len(tried),
    "repeats": 1 - sum(len(set(numbers)) for numbers in tried) / max(count, 1),
    "first": (first / max(first.sum(), 1)).tolist(),
    "at_once": float(traces.values[:, 0].mean()),
  }


def _shortened(recipe: StudyRecipe) -> rollout_recipes.RolloutRecipe:
  train = dataclasses.replace(recipe.arm.train, steps=recipe.tuning_steps)
  return dataclasses.replace(recipe.arm, train=train)


def _start(recipe: StudyRecipe, folder: pathlib.Path) -> str:
  """The file of the policy that all begin with; trained if need be."""
  if recipe.arm.start is not None:
    return recipe.arm.start
  path = folder / "base.safetensors"
  base = recipe.arm.base
  described = _kept(folder / "base.json", base.describe)
  if described != base.describe():
    raise ValueError(
      f"{path} is of another recipe's base; choose another --workdir"
    )
  if not path.exists():
    base.export(base.run(str(folder / "base")), str(path))
  return str(path)


def _run(recipe, folder, start, method, seed, rate) -> dict[str, Any]:
  """Trains and judges a method, unless its folder says that it is done."""
  arm = variant(recipe, start, method, seed, rate)
  here = folder / f"{method.replace(' ', '_')}-{seed}-{rate:g}"
  described = _kept(here / "recipe.json", arm.describe)
  if described != arm.describe():
    raise ValueError(
      f"{here} holds a run of another recipe; choose another --workdir"
    )

  def judged() -> dict[str, Any]:
    policy = bundle.load(start)
    params = arm.run(str(here))
    return {
      "method": method,
      "seed": seed,
      "rate": rate,
      "training_tokens": _spent(here),
    } | judge(recipe, dataclasses.replace(policy, params=params), seed)

  return _kept(here / "judged.json", judged)


def _spent(folder: pathlib.Path) -> float:
  """Tokens that a run has sampled."""
  logged = [r for r in metrics.read(str(folder)) if "sampled_tokens" in r]
  return logged[-1]["sampled_tokens"]


def _kept(path: pathlib.Path, make: Any) -> Mapping[str, Any]:
  """What a file holds; made and written if there is none."""
  if not path.exists():
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(make())
    path.write_text(text, encoding="utf-8")
  return json.loads(path.read_text(encoding="utf-8"))
