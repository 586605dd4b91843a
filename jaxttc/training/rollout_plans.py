# SPDX-License-Identifier: Apache-2.0
"""Which tasks a draw has, and how many rollouts each of them gets."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Int
import numpy as np

from jaxttc.allocators import (
  priced_rollouts,
  ragged_groups,
  rollout_allocation,
  rollout_strategies,
)
from jaxttc.inference import rollouts
from jaxttc.predictors import rollout_length, success_rate
from jaxttc.training import rollout_config


class Plan(NamedTuple):
  """Who gets how many of a step's rollouts.

  Attributes:
    groups: the batch's layout.
    keys: key[B].
    figures: metrics of the allocation.
  """

  groups: ragged_groups.RaggedGroups
  keys: Array
  figures: dict[str, Array]


def batches(
  problems: int, config: rollout_config.RolloutConfig, seed: int
) -> Callable[[int], Int[np.ndarray, " m"]]:
  """Tasks of each draw: every epoch has all of them once, in its own order.

  Raises:
    ValueError: if a step has more tasks than there are problems.
  """
  if config.tasks > problems:
    raise ValueError(
      f"rollouts.tasks={config.tasks} a step, of {problems} problems"
    )
  steps = problems // config.tasks

  def batch(draw: int) -> Int[np.ndarray, " m"]:
    epoch, place = divmod(draw, steps)
    order = np.random.default_rng((seed, epoch)).permutation(problems)
    found = order[place * config.tasks : (place + 1) * config.tasks]
    return found.astype(np.int32)

  return batch


def planner(
  config: rollout_config.RolloutConfig, seed: int
) -> Callable[..., Plan]:
  """How rollouts are given out.

  Args:
    config: the strategy and its bounds.
    seed: of the sampling.

  Returns:
    (state of the tracker, that of lengths or None, tasks i32[M], number of the
    draw) -> `Plan`; jitted.
  """
  strategy = rollout_strategies.make(config.strategy, config.rules)
  tracker = success_rate.tracker(config.estimator, window=config.window)
  key = jax.random.key(seed)
  rows = config.rows

  @jax.jit
  def plan(seen, lengths, ids, draw) -> Plan:
    share, sampling = jax.random.split(jax.random.fold_in(key, draw))
    known = tracker.estimate(seen, ids)
    given = (known.p, known.valid)
    more = {}
    if strategy.priced:
      cost = rollout_length.expected(lengths, ids, config.max_tokens)
      counts, more = _priced(config, *given, cost)
    else:
      if strategy.posterior:
        given = tracker.evidence(seen, ids)
      counts = strategy.counts(*given, rows, share)
      if config.strategy == "knapsack":
        more = _bought(known, rows, config.rules)
    groups = ragged_groups.layout(counts, rows)
    figures = {
      "allocation_max": counts.max(),
      "allocation_min": counts.min(),
      "estimates_valid": known.valid.mean(),
    } | more
    keys = rollouts.row_keys(sampling, groups.of_rows(ids), groups.rank)
    return Plan(groups, keys, figures)

  return plan


def _bought(known, rows, rules):
  """Figures of the knapsack."""
  _, info = rollout_allocation.split(known.p, known.valid, rows, rules)
  return {
    "dual_price": jnp.where(jnp.isfinite(info.price), info.price, 0.0),
    "next_gain": info.next_gain,
    "allocation_need": info.need,
    "allocation_surplus": info.surplus,
    "allocation_fallback": info.fallback,
  }


def _priced(config, p, valid, cost):
  """Counts of the knapsack in tokens, and its figures."""
  total = config.tokens
  if total is None:
    total = config.group * cost.sum()
  found = priced_rollouts.split(
    p, valid, cost, total, config.rules, rows=config.rows
  )
  return found.counts, {
    "planned_rollouts": found.counts.sum(),
    "planned_tokens": found.tokens,
    "token_budget": jnp.asarray(total, jnp.int32),
    "token_price": found.price,
    "allocation_need": found.need,
    "allocation_surplus": found.surplus,
    "allocation_fallback": found.fallback,
  }


def told_ranks(
  told: Bool[Array, " b"], groups: ragged_groups.RaggedGroups
) -> Int[Array, " b"]:
  """Each row's place in its group, from 0, among those with a reward.

  Args:
    told: which rows have one.
    groups: the rows' layout.
  """
  before = jnp.cumsum(told) - told
  first = jnp.minimum(groups.start, told.shape[0] - 1)
  return (before - groups.of_rows(before[first])).astype(jnp.int32)
