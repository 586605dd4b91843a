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
  sampler: controllers.Sampler,
) -> Callable[[Any, int], dict[str, float]]:
  """What `loop.fit(evaluate=)` takes.

  Args:
    policy: the policy; its parameters come with each call.
    sets: problems, by the name that their figure gets.
    samples: solutions a problem.
    columns: longest solution, in tokens.
    sampler: how tokens are drawn.

  Returns:
    (params, step) -> "<name>_success", the share of solutions that are right,
    of those that the grader could tell, and "<name>_unsolved", the share of
    problems without a right one.
  """

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
      told = right[~np.isnan(right)]
      figures[f"{name}_success"] = float(told.mean()) if told.size else 0.0
      figures[f"{name}_unsolved"] = float((right != 1).all(axis=1).mean())
    return figures

  return evaluate
