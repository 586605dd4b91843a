# SPDX-License-Identifier: Apache-2.0
"""Holding each step of a plan to its own budget, and what becomes of the rest.

A plan's steps run in order. Before a step its cap is asked for; after it, what
it spent is charged. Steps seldom spend what they were given, and the rule of
roll-over says who may have the rest:

*  none: nobody. A step that needs more than its share fails.
*  next: the next step, and on.
*  spread: all steps that are left, in proportion to their shares.
*  pool: there are no shares, only what is left of the whole.

Whatever the rule, the steps together never spend more than the sum of shares.
What finishes under `none` finishes under `next` and `spread` too, step by
step; a plan that finishes whole under `next` does under `pool`. A pool lets an
early step starve the later ones, so there it is not step by step.

All is integer arithmetic on arrays: it can be jitted, scanned and mapped.
"""

from typing import NamedTuple

import flax.struct
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Int

ROLL_OVERS = ("none", "next", "spread", "pool")


@flax.struct.dataclass
class LocalBudgets:
  """Shares of steps, and how far the plan has come.

  Attributes:
    shares: i32[M], tokens of each step; 0 for padding.
    spent: i32[M], of steps that ran.
    step: i32[], the step whose turn it is.
  """

  shares: Int[Array, " m"]
  spent: Int[Array, " m"]
  step: Int[Array, ""]


class Run(NamedTuple):
  """What became of a plan.

  Attributes:
    finished: bool[M], whether the step had as much as it needed.
    spent: i32[M].
    caps: i32[M], what each step might have spent.
  """

  finished: Bool[Array, " m"]
  spent: Int[Array, " m"]
  caps: Int[Array, " m"]


def start(shares: Int[Array, " m"]) -> LocalBudgets:
  """A plan of which nothing has run; shares are not negative."""
  shares = jnp.asarray(shares, jnp.int32)
  return LocalBudgets(shares, jnp.zeros_like(shares), jnp.int32(0))


def cap(budgets: LocalBudgets, roll_over: str) -> Int[Array, ""]:
  """Most tokens that the step whose turn it is may spend.

  Raises:
    ValueError: for an unknown rule.
  """
  check_roll_over(roll_over)
  place = jnp.arange(budgets.shares.shape[0])
  share = jnp.where(place == budgets.step, budgets.shares, 0).sum()
  left = budgets.shares.sum() - budgets.spent.sum()
  if roll_over == "none":
    return share
  if roll_over == "pool":
    return left
  to_come = jnp.where(place >= budgets.step, budgets.shares, 0).sum()
  carried = left - to_come
  if roll_over == "spread":
    # In float32 the part may be a token off; it never exceeds the whole.
    part = share / jnp.maximum(to_come, 1)
    part = jnp.floor(carried * part).astype(jnp.int32)
    carried = jnp.where(share == to_come, carried, jnp.minimum(part, carried))
  return share + carried


def charge(budgets: LocalBudgets, tokens: Int[Array, ""]) -> LocalBudgets:
  """Books what the step spent, at most its cap, and goes to the next one."""
  here = jnp.arange(budgets.shares.shape[0]) == budgets.step
  spent = budgets.spent + jnp.where(here, tokens, 0).astype(jnp.int32)
  return LocalBudgets(budgets.shares, spent, budgets.step + 1)


def run(
  shares: Int[Array, " m"], needs: Int[Array, " m"], roll_over: str
) -> Run:
  """Runs a plan whose steps need known numbers of tokens.

  A step spends what it needs, or its whole cap if that is less, and then has
  not finished. Padding is a share and a need of 0.

  Args:
    shares: tokens of each step.
    needs: tokens that each step takes to finish.
    roll_over: one of `ROLL_OVERS`.

  Raises:
    ValueError: for an unknown rule.
  """

  def turn(budgets, need):
    most = cap(budgets, roll_over)
    tokens = jnp.minimum(need, most)
    return charge(budgets, tokens), (need <= most, tokens, most)

  _, found = jax.lax.scan(turn, start(shares), needs)
  return Run(*found)


def check_roll_over(roll_over: str) -> None:
  """Raises ValueError unless the name is one of `ROLL_OVERS`."""
  if roll_over not in ROLL_OVERS:
    raise ValueError(
      f"roll-over {roll_over!r} is not one of {', '.join(ROLL_OVERS)}"
    )
