# SPDX-License-Identifier: Apache-2.0
"""How much of what a policy samples is right."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np

from jaxttc.inference import bundle, controllers, rollouts
from jaxttc.tasks import prompt_sets


def evaluator(
  policy: bundle.Bundle,
  sets: Mapping[str, prompt_sets.PromptSet],
  *,
  samples: int,
  columns: int,
  temperature: float,
) -> Callable[[Any, int], dict[str, float]]:
  """What `loop.fit(evaluate=)` takes.

  Args:
    policy: the policy; its parameters come with each call.
    sets: problems, by the name that their figure gets.
    samples: solutions a problem.
    columns: longest solution, in tokens.
    temperature: of the sampler.

  Returns:
    (params, step) -> for each set "<name>_success", the share of solutions that
    are right, and "<name>_unsolved", that of problems without a right one; of
    solutions that the grader could tell.
  """
  sampler = controllers.Sampler(temperature=temperature)

  @jax.jit
  def draw(params, prompts, task, rank):
    # The same keys each time: curves differ by the policy alone.
    keys = rollouts.row_keys(jax.random.key(0), task, rank)
    found = rollouts.sample(
      policy.model,
      params,
      prompts,
      task,
      keys,
      policy.stop_rule,
      sampler,
      columns=columns,
    )
    return found.tokens, found.finished

  def score(params, prompts):
    count = len(prompts.problems)
    task = np.repeat(np.arange(count), samples)
    rank = np.tile(np.arange(samples), count)
    table = rollouts.Prompts(prompts.tokens, prompts.length)
    tokens, finished = map(np.asarray, draw(params, table, task, rank))
    right = np.where(finished, prompts.grade(task, tokens), 0.0)
    return right.reshape(count, samples)

  def evaluate(params, step):
    del step
    figures = {}
    for name, prompts in sets.items():
      right = score(params, prompts)
      told = ~np.isnan(right)
      share = np.where(told, right, 0).sum() / max(told.sum(), 1)
      figures[f"{name}_success"] = float(share)
      unsolved = ~(right == 1).any(axis=1)[told.any(axis=1)]
      figures[f"{name}_unsolved"] = (
        float(unsolved.mean()) if unsolved.size else 0.0
      )
    return figures

  return evaluate
