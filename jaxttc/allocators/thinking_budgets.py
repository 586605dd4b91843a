# SPDX-License-Identifier: Apache-2.0
"""One number of thinking tokens, split over questions by how hard they are."""

import jax.numpy as jnp
from jaxtyping import Float, Int
import numpy as np

from jaxttc.allocators import choice_knapsack

_UNITS = 4096  # of a total, at most: larger ones are split in coarser units


def assign_budgets(
  curves: Float[np.ndarray, "n _"],
  budgets: Int[np.ndarray, " _"],
  total: int,
) -> Int[np.ndarray, " n"]:
  """Budgets of each question that are expected to answer most of them.

  The best whole choice, by dynamic programming (`choice_knapsack`); a total of
  more than 4,096 tokens is split in units of equal size, each budget rounded
  up to whole ones, so that the total is never exceeded.

  Args:
    curves: chance of a right answer of each question under each budget.
    budgets: tokens, rising from 1 or more.
    total: tokens of all questions together.

  Returns:
    A budget of `budgets` for each question; their sum is at most the total. Of
    equally good ones the smaller.

  Raises:
    ValueError: if shapes disagree, budgets do not rise, a chance is not one, or
      the total does not pay for the smallest budget of each question.
  """
  chances, sizes = np.asarray(curves, np.float64), np.asarray(budgets)
  if chances.ndim != 2 or chances.shape[1:] != sizes.shape or not chances.size:
    raise ValueError(
      f"curves of shape {chances.shape} for {sizes.size} budgets; expected a "
      "row a question, a column a budget"
    )
  if sizes[0] < 1 or (np.diff(sizes) <= 0).any():
    raise ValueError(f"budgets {sizes.tolist()} must rise from 1 or more")
  if not ((chances >= 0) & (chances <= 1)).all():
    raise ValueError("curves: expected chances in [0, 1]")
  unit = max(1, -(-total // _UNITS))
  cost, amount = -(-sizes // unit), total // unit
  if len(chances) * cost[0] > amount:
    raise ValueError(
      f"total={total} does not pay for {len(chances)} budgets of {sizes[0]}"
    )
  taken, _ = choice_knapsack.solve(
    jnp.asarray(chances, jnp.float32),
    jnp.tile(jnp.asarray(cost, jnp.int32), (len(chances), 1)),
    jnp.int32(amount),
    1 << amount.bit_length(),  # so that few are compiled
  )
  return sizes[np.asarray(taken)]
