# SPDX-License-Identifier: Apache-2.0
"""Sums worked out under hard caps, with every rule for what is left over.

Kinds of sums are drawn anew for each problem, so problems differ in what they
need, while all have the same budget: a plan may run out under any rule.
"""

from collections.abc import Sequence
import itertools
import random
from typing import Any

import numpy as np

from jaxttc.allocators import (
  decay_schedules,
  executors,
  local_budgets,
  plans,
)
from jaxttc.evaluation import thrift
from jaxttc.runtime import programs
from jaxttc.studies import plan_bench, plan_recipe
from jaxttc.tasks import digit_chains

BY_LENGTH = "credits by length"
"""Hard caps in proportion to how many numbers a sum has; nothing rolls over."""
_UNCAPPED = 96  # tokens; no sum that is worked out takes as many


def measure(
  recipe: plan_recipe.StudyRecipe, bench: plan_bench.Bench, seed: int
) -> list[dict[str, Any]]:
  """A row of each rule and budget: accuracy, tokens and E^3."""
  steps = len(recipe.additions)
  rng = random.Random(f"plans-caps-{seed}")
  problems = [
    [digit_chains.draw(rng, 1, recipe.additions) for _ in range(steps)]
    for _ in range(recipe.capped)
  ]

  def work_out(shares, rule):
    tasks = [
      _capped(problem, given, rule)
      for problem, given in zip(problems, shares, strict=True)
    ]
    return [
      {"right": done.value, "tokens": sum(done.tokens.values())}
      for done in bench.serve(tasks, f"caps-{seed}")
    ]

  free = work_out([np.full(steps, _UNCAPPED)] * len(problems), "none")
  need = float(np.mean([row["tokens"] for row in free]))
  rows = [_summary("uncapped", 0.0, free)]
  for share, rule in itertools.product(recipe.shares, local_budgets.ROLL_OVERS):
    each = decay_schedules.uniform_tokens(steps, int(share * need))
    found = work_out([each] * len(problems), rule)
    rows.append(_summary(rule, share, found))
  for share in recipe.shares:
    shares = [_by_length(problem, int(share * need)) for problem in problems]
    rows.append(_summary(BY_LENGTH, share, work_out(shares, "none")))
  return [row | {"seed": seed} for row in rows]


def _by_length(problem: Sequence[digit_chains.Chain], total: int) -> np.ndarray:
  credits = np.array([1.0 + chain.steps[0].additions for chain in problem])
  return decay_schedules.allocate_tokens(
    100 * credits / credits.sum(), total, "constant", floor=1
  )


def _capped(problem: Sequence[digit_chains.Chain], shares, rule: str):
  """Carries a plan out with an executor, whose requests become asks."""
  plan = plans.Plan(
    steps=tuple(chain.text for chain in problem),
    credits=(1.0,) * len(problem),
  )
  slow = digit_chains.INSTRUCTIONS["slow"]
  executor = executors.sequential(
    "sums",
    plan,
    shares,
    rule,
    prompt=lambda at, before: plan.steps[at] + slow,
  )
  said = []
  request = next(executor)
  while True:
    if request.cap < 1:
      outcome = executors.StepOutcome("", 0, False)
    else:
      (reply,) = yield programs.Ask(request.prompt, request.cap)
      outcome = executors.StepOutcome(reply.text, reply.tokens, reply.finished)
    said.append(
      digit_chains.content(outcome.text) if outcome.finished else None
    )
    try:
      request = executor.send(outcome)
    except StopIteration:
      break
  gold = [str(chain.answers[0]) for chain in problem]
  return said == gold


def _summary(rule, share, found) -> dict[str, Any]:
  right = float(np.mean([row["right"] for row in found]))
  tokens = float(np.mean([row["tokens"] for row in found]))
  return {
    "rule": rule,
    "share": share,
    "accuracy": right,
    "tokens": tokens,
    "e3": thrift.e3(100 * right, tokens) if tokens else 0.0,
  }
