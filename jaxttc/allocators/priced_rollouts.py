# SPDX-License-Identifier: Apache-2.0
"""Rollouts that cost tokens: some tasks are longer than others.

The total is in tokens, a rollout of task i costs `unit_cost[i]` of them, and
counts cost the total at most. Two methods:

*  "dp", exact on a grid of tokens: costs are rounded up to whole cells, so
   the total holds whatever the grid, and the grid 1 is exact,
*  "price", a bisection on the value of a token, in microseconds; it says by
   how much another split could be better at most.

Only tasks with a rate strictly between 0 and 1 have a value. All others keep
their floors, and tokens that buy nothing are left unspent.

`split` is the method "price" as a pure function, for use inside a training
step, whose batch has only so many rows; it also says who gets what mixed tasks
do not need.
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

METHODS = ("dp", "price")


class PricedInfo(NamedTuple):
  """What an allocation by tokens found.

  Attributes:
    value: f[], sum of the values of all tasks.
    tokens: i32[], what the counts cost.
    price: f[], value that a token had to bring; NaN for the method "dp".
    gap: f[], most that any other split could be better by; for the method
      "dp", 0, which a grid above 1 makes untrue.
  """

  value: Float[Array, ""]
  tokens: Int[Array, ""]
  price: Float[Array, ""]
  gap: Float[Array, ""]


class TokenSplit(NamedTuple):
  """A step's rollouts under a total of tokens.

  Attributes:
    counts: i32[M], rollouts of each task.
    tokens: i32[], what they are expected to cost.
    price: f[], value that a token had to bring.
    gap: f[], most that other counts could be better by, if every rollout costs
      at least a row's share of the tokens.
    need: i32[], tokens beyond the floors that mixed tasks need.
    surplus: i32[], tokens beyond that need.
    fallback: bool[], whether surplus went to failed tasks.
  """

  counts: Int[Array, " m"]
  tokens: Int[Array, ""]
  price: Float[Array, ""]
  gap: Float[Array, ""]
  need: Int[Array, ""]
  surplus: Int[Array, ""]
  fallback: Bool[Array, ""]


def split(
  p: Float[Array, " m"],
  valid: Bool[Array, " m"],
  unit_cost: Int[Array, " m"],
  total: ArrayLike,
  rules: rollout_rules.RolloutRules,
  *,
  rows: int,
) -> TokenSplit:
  """Splits tokens over tasks, into at most `rows` rollouts; traceable.

  Each task gets its floor, but one not yet seen `n_min`, and what of
  `n_default` the total has tokens for. Then failed tasks get what mixed ones
  do not need, if the rules say so, and mixed tasks buy by value for each token.
  So that rows cannot run out before tokens do, no rollout counts as cheaper
  than one row's share of the tokens to be spent.

  Args:
    p: success rates; not read where not valid.
    valid: which rates are known.
    unit_cost: tokens that a rollout of each task is expected to cost, at
      least 1.
    total: tokens, at least what floors cost with `n_min` for unseen tasks. M
      times `n_max` times the dearest rollout, or row's share, must fit an
      int32.
    rules: bounds, at least 1; the solver is not read. Static.
    rows: most rollouts, at least the sum of floors; static.
  """
  classes = rollout_rules.Classes(p, valid)
  p = jnp.where(valid, p, 0.0)
  floors = jnp.where(classes.unseen, rules.n_min, classes.floors(rules))
  spare = jnp.asarray(total, jnp.int32) - (floors * unit_cost).sum()
  free = jnp.maximum(rows - floors.sum(), 1)
  share = (spare + free - 1) // free
  cost = jnp.maximum(unit_cost, share)

  def evenly(which, most, amount):
    """As many more for each, and what they count as."""
    each = jnp.where(which, cost, 0).sum()
    more = jnp.clip(amount // jnp.maximum(each, 1), 0, most)
    return jnp.where(which, more, 0), more * each

  usual = max(rules.n_default - rules.n_min, 0)
  more, spent = evenly(classes.unseen, usual, spare)
  start, left = floors + more, spare - spent
  wanted = rollout_rules.needed(p, rules) - rules.n_min
  need = jnp.where(classes.mixed, wanted * cost, 0).sum()
  surplus = jnp.maximum(left - need, 0)
  fed = rules.fallback & (surplus > 0) & classes.failed.any()
  more, spent = evenly(
    classes.failed & fed, rules.n_max - rules.n_failed, surplus
  )
  start, left = start + more, left - spent
  stop = jnp.where(classes.mixed, rules.n_max, start)
  stop = jnp.minimum(stop, start + left // cost)
  bought = unit_filling.fill_priced(
    _gain(p, classes), start, stop, cost, left, rules.n_max
  )
  counts = bought.units
  return TokenSplit(
    counts,
    (counts * unit_cost).sum(),
    bought.price,
    bought.gap,
    need,
    surplus,
    fed,
  )


def allocate_priced(
  p: rollout_rules.Values,
  unit_cost: rollout_rules.Values,
  total: int,
  *,
  valid: rollout_rules.Values | None = None,
  rules: rollout_rules.RolloutRules = rollout_rules.RolloutRules(),  # noqa: B008
  method: str = "price",
  grid: int = 1,
) -> tuple[Int[Array, " m"], PricedInfo]:
  """Splits a total of tokens over tasks whose rollouts differ in length.

  Args:
    p: f[M], success rates; not read where not valid.
    unit_cost: i[M], tokens that a rollout of each task costs, positive.
    total: tokens, at most 2^30.
    valid: bool[M], which rates are known; all, if None.
    rules: bounds; the solver of `rules` is not read.
    method: one of `METHODS`.
    grid: tokens a cell, for the method "dp", whose time is in proportion to
      total / grid.

  Returns:
    i32[M] rollouts, and what they are worth and cost.

  Raises:
    ValueError: for rates outside [0, 1], costs that are not whole positive
      numbers, floors that cost more than the total, a total above 2^30, an
      unknown method, a grid below 1, or n_min = 0 with the method "price".
  """
  rates, known = rollout_rules.check_rates(p, valid)
  costs = _check_costs(unit_cost, rates)
  if method not in METHODS:
    raise ValueError(f"method {method!r} is not one of {', '.join(METHODS)}")
  if grid < 1:
    raise ValueError(f"grid is {grid} tokens; expected at least 1")
  if method == "price" and rules.n_min == 0:
    raise ValueError("n_min is 0, where a price is not enough; use method='dp'")
  classes = rollout_rules.Classes(jnp.asarray(rates), jnp.asarray(known))
  floors = np.asarray(classes.floors(rules), np.int64)
  spare = int(total) - int(floors @ costs)
  if not 0 <= spare <= total <= 1 << 30:
    raise ValueError(
      f"total is {total} tokens; expected at least {floors @ costs}, the cost "
      "of the floors, and at most 2^30"
    )
  if int(costs.max()) * rules.n_max * rates.size > np.iinfo(np.int32).max:
    # No more than the spare tokens are ever bought; sums must fit an int32.
    most = np.minimum(rules.n_max, floors + spare // costs)
    if int((most - floors) @ costs) > np.iinfo(np.int32).max:
      raise ValueError(
        f"costs of up to {costs.max()} tokens x {rules.n_max} rollouts x "
        f"{rates.size} tasks overflow; count in larger units than tokens"
      )
  cells = spare // grid
  capacity = 1 << max(cells - 1, 0).bit_length() if method == "dp" else 0
  return _solve(
    rates,
    known,
    costs.astype(np.int32),
    spare,
    rules,
    method,
    grid,
    capacity,
  )


@functools.partial(
  jax.jit, static_argnames=("rules", "method", "grid", "capacity")
)
def _solve(p, valid, unit_cost, spare, rules, method, grid, capacity):
  classes = rollout_rules.Classes(p, valid)
  start = classes.floors(rules)
  stop = jnp.where(classes.mixed, rules.n_max, start)
  stop = jnp.minimum(stop, start + spare // unit_cost)
  if method == "price":
    found = unit_filling.fill_priced(
      _gain(p, classes), start, stop, unit_cost, spare, rules.n_max
    )
    units, price, gap = found.units, found.price, found.gap
  else:
    units = _by_cells(
      p, classes, start, stop, unit_cost, spare, rules, grid, capacity
    )
    price, gap = jnp.float32(jnp.nan), jnp.float32(0)
  value = jnp.where(classes.mixed, rollout_value.rollout_value(units, p), 0.0)
  return units, PricedInfo(value.sum(), (units * unit_cost).sum(), price, gap)


def _gain(p, classes):
  """i32[M], rollouts held -> f[M], what one more is worth."""
  return lambda n: jnp.where(
    classes.mixed, rollout_value.value_increment(n, p), 0.0
  )


def _by_cells(p, classes, start, stop, unit_cost, spare, rules, grid, capacity):
  extra = jnp.arange(rules.n_max + 1, dtype=jnp.int32)[None, :]
  held = start[:, None] + extra
  allowed = held <= stop[:, None]
  values = jnp.where(
    classes.mixed[:, None], rollout_value.rollout_value(held, p[:, None]), 0.0
  )
  costs = jnp.where(allowed, extra, 0) * unit_cost[:, None]
  choice, _ = choice_knapsack.solve(
    jnp.where(allowed, values, -jnp.inf),
    (costs + grid - 1) // grid,
    jnp.asarray(spare // grid, jnp.int32),
    capacity,
  )
  return start + choice


def _check_costs(
  unit_cost: rollout_rules.Values, rates: np.ndarray
) -> np.ndarray:
  costs = np.asarray(unit_cost)
  if costs.shape != rates.shape:
    raise ValueError(
      f"unit_cost has shape {costs.shape}; expected {rates.shape}"
    )
  bad = ~((costs >= 1) & (costs <= 1 << 30) & (costs == np.floor(costs)))
  if bad.any():
    task = int(np.argmax(bad))
    raise ValueError(
      f"unit_cost[{task}] is {costs[task]}; expected whole tokens, at least 1"
    )
  return costs.astype(np.int64)
