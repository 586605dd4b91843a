# SPDX-License-Identifier: Apache-2.0
"""Rollouts of a training step, split over tasks by an exact knapsack.

    rules = RolloutRules(n_min=2, n_max=128)
    counts, info = allocate(success_rates, total=4096, rules=rules)

Tasks whose rate lies strictly between 0 and 1 share what their value says
(`rollout_value`). Tasks that always or never succeed have no value to first
order: they keep a floor, and tasks that never succeeded get what the others
have no need of, since a rate of 0 was measured with few rollouts. Counts always
sum to the total.

`allocate` checks its arguments on the host. `split` is the same as a pure
function, for use inside a training step. Where rates are uncertain,
`split_posterior` takes the expectation of the value under a Beta posterior
instead of its value at an estimate; it needs no special cases.

Reference:
  Li et al. (2025), Knapsack RL, arXiv:2509.25849. The greedy solver, the
  posterior and the order of surplus and floors are ours.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Bool, Float, Int
import numpy as np

from jaxttc.allocators import (
  choice_knapsack,
  rollout_rules,
  rollout_value,
  unit_filling,
)

RolloutRules = rollout_rules.RolloutRules


class AllocationInfo(NamedTuple):
  """What an allocation found.

  Attributes:
    value: f[], sum of the values of all tasks.
    price: f[], the least value that a rollout in the knapsack was bought for;
      infinite if none was bought there.
    next_gain: f[], what one more rollout would be worth. A total is too small
      where this is large.
    need: i32[], rollouts beyond their floors that mixed tasks need.
    surplus: i32[], rollouts beyond that need.
    fallback: bool[], whether surplus went to tasks outside the knapsack.
    tasks: i32[4], how many are unseen, failed, solved, mixed.
  """

  value: Float[Array, ""]
  price: Float[Array, ""]
  next_gain: Float[Array, ""]
  need: Int[Array, ""]
  surplus: Int[Array, ""]
  fallback: Bool[Array, ""]
  tasks: Int[Array, "4"]


def allocate(
  p: rollout_rules.Values,
  total: int | np.integer,
  *,
  valid: rollout_rules.Values | None = None,
  rules: RolloutRules = RolloutRules(),  # noqa: B008 (frozen)
) -> tuple[Int[Array, " m"], AllocationInfo]:
  """Splits a total of rollouts over tasks.

  Compiles once for each number of tasks and rules; the total may change.

  Args:
    p: f[M], success rates; not read where not valid.
    total: rollouts, the sum of the counts.
    valid: bool[M], which rates are known; all, if None.
    rules: bounds and solver.

  Returns:
    i32[M] rollouts of each task, and how they came about.

  Raises:
    ValueError: for rates outside [0, 1], no tasks, or a total that the bounds
      do not allow.
  """
  rates, known = rollout_rules.check_rates(p, valid)
  rollout_rules.check_total(total, rates, known, rules)
  capacity = _capacity(int(total)) if rules.solver == "dp" else 0
  return _split(rates, known, int(total), rules, capacity)


@functools.partial(jax.jit, static_argnames=("rules", "capacity"))
def _split(p, valid, total, rules, capacity):
  return split(p, valid, total, rules, capacity=capacity)


def split(
  p: Float[Array, " m"],
  valid: Bool[Array, " m"],
  total: ArrayLike,
  rules: RolloutRules,
  *,
  capacity: int = 0,
) -> tuple[Int[Array, " m"], AllocationInfo]:
  """`allocate` without checks, traceable.

  Args:
    p: success rates, in [0, 1] where valid.
    valid: which rates are known.
    total: rollouts; within the bounds of the rules.
    rules: bounds and solver; static.
    capacity: for the solver "dp", a static bound of `total`.

  Returns:
    As `allocate`.
  """
  classes = rollout_rules.Classes(p, valid)
  total = jnp.asarray(total, jnp.int32)
  p = jnp.where(valid, p, 0.0)
  ceiling = jnp.full(p.shape, rules.n_max, jnp.int32)
  if rules.solver in ("uniform", "proportional"):
    hard = (
      jnp.ones_like(p)
      if rules.solver == "uniform"
      else (jnp.where(valid, 1 - p, 0.5))
    )
    counts = _proportional(hard, total, ceiling)
    bought = unit_filling.Filled(
      counts, jnp.float32(jnp.inf), _next_gain(counts, p, classes, rules)
    )
    need, surplus, fed = _need(p, classes, total, rules)
    return counts, _info(p, counts, bought, need, surplus, fed & False, classes)
  floors = classes.floors(rules)
  need, surplus, fed = _need(p, classes, total - floors.sum(), rules)
  some_mixed = classes.mixed.any()
  # Without a mixed task everything is surplus: failed tasks have it, or, if
  # there are none, all are raised to one level.
  rest = total - floors.sum()
  outside = jnp.where(some_mixed, jnp.where(fed, surplus, 0), rest)
  counts = _feed(floors, ceiling, outside, classes, some_mixed)
  knapsack = rest - (counts - floors).sum()
  stop = jnp.where(classes.mixed, ceiling, counts)
  bought = _buy(p, counts, stop, knapsack, classes, rules, capacity)
  left = total - bought.units.sum()
  counts = bought.units + unit_filling.level(
    jnp.zeros_like(floors), ceiling - bought.units, left
  )
  return counts, _info(
    p, counts, bought, need, surplus, fed & some_mixed, classes
  )


def split_posterior(
  alpha: Float[Array, " m"],
  beta: Float[Array, " m"],
  total: ArrayLike,
  *,
  n_min: int = 2,
  n_max: int = 128,
) -> unit_filling.Filled:
  """Splits rollouts by the expected value under Beta(alpha, beta) rates.

  A task that failed eight times is not given up: its posterior still has some
  value. Traceable.

  Args:
    alpha: successes, with the prior's; positive.
    beta: failures, with the prior's; positive.
    total: rollouts, between M * n_min and M * n_max.
    n_min: least rollouts of a task, at least 1; static.
    n_max: most rollouts of a task; static.

  Returns:
    The counts, which sum to the total, and their price.

  Raises:
    ValueError: if n_min is below 1 or above n_max.
  """
  if not 1 <= n_min <= n_max:
    raise ValueError(f"n_min is {n_min}; expected 1 to n_max, {n_max}")
  table = rollout_value.posterior_increments(alpha, beta, n_max)
  rows = jnp.arange(alpha.shape[0])
  start = jnp.full(alpha.shape, n_min, jnp.int32)
  return unit_filling.fill(
    lambda n: table[rows, n],
    start,
    jnp.full(alpha.shape, n_max, jnp.int32),
    jnp.asarray(total, jnp.int32) - n_min * alpha.shape[0],
    n_max - n_min,
  )


def _need(p, classes, rest, rules):
  """Rollouts mixed tasks need beyond floors, what is left, and who gets it."""
  each = rollout_rules.needed(p, rules)
  need = jnp.where(classes.mixed, each - rules.n_min, 0).sum()
  surplus = jnp.maximum(rest - need, 0)
  fed = rules.fallback & (surplus > 0) & ~classes.mixed.all()
  return need, surplus, fed


def _feed(floors, ceiling, amount, classes, some_mixed):
  """Gives `amount` to failed tasks, or else to other tasks not mixed."""
  some_failed = classes.failed.any()
  fed = jnp.where(some_failed, classes.failed, ~classes.mixed)
  room = jnp.where(fed, ceiling - floors, 0)
  evenly = floors + unit_filling.level(jnp.zeros_like(floors), room, amount)
  levelled = unit_filling.level(floors, ceiling, amount)
  return jnp.where(some_mixed | some_failed, evenly, levelled)


def _buy(p, start, stop, amount, classes, rules, capacity):
  gain = lambda n: jnp.where(  # noqa: E731
    classes.mixed, rollout_value.value_increment(n, p), 0.0
  )
  if rules.solver == "greedy":
    return unit_filling.fill(gain, start, stop, amount, rules.n_max)
  extra = jnp.arange(rules.n_max + 1, dtype=jnp.int32)[None, :]
  held = start[:, None] + extra
  values = jnp.where(
    classes.mixed[:, None], rollout_value.rollout_value(held, p[:, None]), 0.0
  )
  values = jnp.where(held <= stop[:, None], values, -jnp.inf)
  costs = jnp.broadcast_to(extra, held.shape)
  choice, _ = choice_knapsack.solve(values, costs, amount, capacity)
  units = start + choice
  price = jnp.where(units > start, gain(units - 1), jnp.inf).min()
  more = jnp.where(units < stop, gain(units), 0.0).max()
  return unit_filling.Filled(units, price, more)


def _proportional(weights, total, ceiling):
  """Counts as near to proportional as ceilings allow; largest remainders."""
  exact = total * weights / jnp.maximum(weights.sum(), 1e-30)
  # Rounding must not make the floors sum to more than the total.
  counts = jnp.floor(exact * (1 - 1e-6)).astype(jnp.int32)
  counts = jnp.minimum(counts, ceiling)
  order = jnp.argsort(counts - exact, stable=True)
  rank = jnp.zeros_like(counts).at[order].set(jnp.arange(order.size))
  left = total - counts.sum()
  counts = counts + ((rank < left) & (counts < ceiling)).astype(jnp.int32)
  return counts + unit_filling.level(
    jnp.zeros_like(counts), ceiling - counts, total - counts.sum()
  )


def _next_gain(counts, p, classes, rules):
  room = classes.mixed & (counts < rules.n_max)
  return jnp.where(room, rollout_value.value_increment(counts, p), 0.0).max()


def _info(p, counts, bought, need, surplus, fed, classes):
  kinds = (classes.unseen, classes.failed, classes.solved, classes.mixed)
  return AllocationInfo(
    value=jnp.where(
      classes.mixed, rollout_value.rollout_value(counts, p), 0.0
    ).sum(),
    price=bought.price,
    next_gain=bought.next_gain,
    need=need,
    surplus=surplus,
    fallback=fed,
    tasks=jnp.stack([kind.sum() for kind in kinds]).astype(jnp.int32),
  )


def _capacity(total: int) -> int:
  """The power of two that bounds a total: few capacities, few programs."""
  return 1 << max(total - 1, 0).bit_length()
