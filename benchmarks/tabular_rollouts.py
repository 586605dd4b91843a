# SPDX-License-Identifier: Apache-2.0
"""A policy small enough to know its success rates exactly, trained by GRPO.

A task is a string of 1 to 6 right tokens of 6; the policy is a table of logits
a task and position, which leans to the right tokens at first by a draw from
[0, lean). The gradient of a step is summed over its rollouts. So all there is
to training is what the rollouts of a step teach, and every allocation, tracker
and layout of the library takes part: one `lax.scan`, mapped over seeds.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxttc.allocators import ragged_groups, rollout_strategies
from jaxttc.predictors import success_rate
from jaxttc.training import group_advantages

LONGEST, VOCABULARY = 6, 6


class Curves(NamedTuple):
  """Of every step; `finish` is after the last one.

  Attributes:
    success: f[S, T], mean success rate over tasks, exact.
    effective: f[S, T], share of rollouts in mixed groups.
    groups: f[S, T], share of groups that are mixed.
    largest: i[S, T], rollouts of the largest group.
    finish: f[S, M], success rate of each task.
  """

  success: np.ndarray
  effective: np.ndarray
  groups: np.ndarray
  largest: np.ndarray
  finish: np.ndarray


def train(
  name: str,
  seeds: int,
  *,
  tasks: int = 128,
  rollouts: int = 8,
  steps: int = 120,
  rate: float = 0.05,
  lean: float = 3.0,
) -> Curves:
  """Trains the table with one strategy; seeds share tasks between strategies.

  Args:
    name: one of `rollout_strategies.NAMES` that reads rates alone: it does not
      redraw, has no posterior and is not priced in tokens.
    seeds: how many, from 0.
    tasks: in the table; all are visited in each step.
    rollouts: of each task, on average; twice that for "uniform_2x".
    steps: of gradient ascent.
    rate: step size.
    lean: see the module.
  """
  run = functools.partial(
    _train,
    strategy=rollout_strategies.make(name),
    total=tasks * rollouts,
    tasks=tasks,
    steps=steps,
    rate=rate,
    lean=lean,
  )
  keys = jax.vmap(jax.random.key)(jnp.arange(seeds))
  return jax.tree.map(np.asarray, jax.jit(jax.vmap(run))(keys))


def _train(key, *, strategy, total, tasks, steps, rate, lean):
  lengths_key, lean_key, key = jax.random.split(key, 3)
  lengths = jax.random.randint(lengths_key, (tasks, 1), 1, LONGEST + 1)
  needed = jnp.arange(LONGEST)[None, :] < lengths
  first = jax.random.uniform(lean_key, (tasks, LONGEST), maxval=lean)
  table = jnp.zeros((tasks, LONGEST, VOCABULARY)).at[:, :, 0].set(first)
  tracker = success_rate.tracker()
  ids, rows = jnp.arange(tasks), strategy.scale * total

  def step(carry, key):
    table, seen = carry
    counts_key, sample_key = jax.random.split(key)
    known = tracker.estimate(seen, ids)
    counts = strategy.counts(known.p, known.valid, rows, counts_key)
    groups = ragged_groups.layout(counts, rows)
    tokens = jax.random.categorical(sample_key, groups.of_rows(table))
    right = (tokens == 0) | ~groups.of_rows(needed)
    rewards = right.all(axis=1).astype(jnp.float32)
    advantages = group_advantages.group_advantages(rewards, groups.task, tasks)
    taken = jax.nn.one_hot(tokens, VOCABULARY) - groups.of_rows(
      jax.nn.softmax(table)
    )
    taken = taken * advantages[:, None, None]
    ascent = jax.ops.segment_sum(taken, groups.task, num_segments=tasks)
    measured = group_advantages.group_metrics(rewards, groups.task, tasks)
    success = _success(table, needed).mean()
    table = table + rate * jnp.where(needed[:, :, None], ascent, 0.0)
    seen = tracker.update(seen, ids, groups.task, groups.rank, rewards)
    return (table, seen), (
      success,
      measured.effective_gradient_ratio,
      measured.effective_prompt_ratio,
      measured.largest,
    )

  keys = jax.random.split(key, steps)
  (table, _), curves = jax.lax.scan(step, (table, tracker.init(tasks)), keys)
  return Curves(*curves, _success(table, needed))


def _success(table, needed):
  """Exact success rate of each task, f[M]."""
  logs = jax.nn.log_softmax(table)[:, :, 0]
  return jnp.exp(jnp.where(needed, logs, 0.0).sum(axis=1))
