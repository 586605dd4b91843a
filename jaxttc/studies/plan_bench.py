# SPDX-License-Identifier: Apache-2.0
"""The model of the study of split budgets, and pools of its samples.

Samples of a sum are drawn once; the chance that a vote of k of them is right is
then exact (`estimators.maj_at_k`).
"""

from collections.abc import Sequence
import random
from typing import Any, NamedTuple

import numpy as np

from jaxttc.agents import two_speed
from jaxttc.evaluation import estimators
from jaxttc.inference import bundle, controllers, local_engine
from jaxttc.predictors import step_failure
from jaxttc.runtime import programs
from jaxttc.studies import plan_recipe
from jaxttc.tasks import digit_chains

_FAST = digit_chains.INSTRUCTIONS["fast"]


class Sums(NamedTuple):
  """Pools of samples of some sums.

  Attributes:
    kind: i64[M], index of the number of additions.
    curve: f64[M, K + 1], chance that a vote of k samples is right; 0 at 0.
    tokens: f64[M], mean of a sample.
    failure: f64[M], what the probe says.
  """

  kind: np.ndarray
  curve: np.ndarray
  tokens: np.ndarray
  failure: np.ndarray


class Bench:
  """The model, and what is asked of it."""

  def __init__(self, recipe: plan_recipe.StudyRecipe):
    """Loads the model of a recipe that has been checked."""
    self._recipe = recipe
    policy = bundle.load(recipe.model)
    self._engine = local_engine.LocalEngine(
      policy,
      sampler=controllers.Sampler(temperature=recipe.temperature),
      groups=recipe.slots,
      rows=1,
      slots=64,
      steps=8,
    )
    self._read = step_failure.StateReader(policy)
    self._probe: step_failure.Probe | None = None

  def pools(self, count: int, label: str) -> Sums:
    """Pools of `count` problems' sums; the first call fits the probe."""
    recipe = self._recipe
    rng = random.Random(f"plans-{label}")
    chains = [
      digit_chains.draw(rng, 1, (additions,))
      for _ in range(count)
      for additions in recipe.additions
    ]
    system = two_speed.System(
      _FAST, 6, digit_chains.content, samples=recipe.pool
    )
    queries = [chain.text for chain in chains]
    drawn = self.serve([_sample(q, system) for q in queries], label)
    curves, tokens, failed = [], [], []
    for chain, done in zip(chains, drawn, strict=True):
      said = [system.content(reply.text) for reply in done.value]
      gold = str(chain.answers[0])
      curves.append(_curve(said, gold, recipe.pool))
      tokens.append(np.mean([reply.tokens for reply in done.value]))
      failed.append(said[0] != gold)
    states = self._read([query + _FAST for query in queries])
    if self._probe is None:
      self._probe = step_failure.fit(states, np.array(failed))
    kinds = np.tile(np.arange(len(recipe.additions)), count)
    return Sums(
      kinds, np.array(curves), np.array(tokens), self._probe.failure(states)
    )

  def serve(self, tasks: Sequence[Any], label: str) -> list[programs.Done]:
    """Runs programs, in order; what they sample depends on label and place."""
    names = [f"{label}-{i}" for i in range(len(tasks))]
    served = programs.serve(tasks, {"policy": self._engine}, names)
    return sorted(served, key=lambda done: done.index)


def _sample(query: str, system: two_speed.System):
  return (yield system.ask(query))


def _curve(said: Sequence[str | None], gold: str, most: int) -> np.ndarray:
  """Chance that the vote of k samples is right, k = 0 .. most."""
  names = sorted({answer for answer in said if answer is not None})
  counts = [said.count(name) for name in names]
  correct = [name == gold for name in names]
  silent = sum(answer is None for answer in said)
  if not any(correct):
    return np.zeros(most + 1)
  votes = [
    estimators.maj_at_k(counts, correct, k, silent) for k in range(1, most + 1)
  ]
  return np.array([0.0, *votes])
