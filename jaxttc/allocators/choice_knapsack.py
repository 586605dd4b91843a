# SPDX-License-Identifier: Apache-2.0
"""The multiple-choice knapsack, exactly, by dynamic programming.

Each of M items takes one of K choices, each with a value and a whole cost; the
costs may sum to a given amount at most. Values need not be concave nor costs
regular. One `lax.scan` over the items, O(M K capacity); where values are
concave and costs uniform, `unit_filling.fill` finds the same in far less.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int


def solve(
  values: Float[Array, "m k"],
  costs: Int[Array, "m k"],
  amount: Int[Array, ""],
  capacity: int,
) -> tuple[Int[Array, " m"], Float[Array, ""]]:
  """Chooses the affordable choices of largest total value.

  Args:
    values: f[M, K]; -inf forbids a choice.
    costs: i32[M, K], non-negative.
    amount: most that the choices may cost, in [0, capacity].
    capacity: bounds `amount`; static.

  Returns:
    The choice of each item i32[M], and their value f[]. If nothing is
    affordable the value is -inf and the choices mean nothing. Of equal
    choices the first is taken.

  References:
    Sinha and Zoltners (1979), The multiple-choice knapsack problem.
  """
  left = jnp.arange(capacity + 1, dtype=jnp.int32)

  def add_item(best, item):
    value, cost = item
    rest = left[:, None] - cost[None, :]
    total = jnp.where(rest >= 0, best[jnp.maximum(rest, 0)], -jnp.inf)
    total = total + value[None, :]
    choice = jnp.argmax(total, axis=1)
    return total.max(axis=1), choice.astype(jnp.int32)

  none = jnp.zeros(capacity + 1, values.dtype)
  best, choices = jax.lax.scan(add_item, none, (values, costs))

  def read_back(held, item):
    choice, cost = item
    taken = choice[held]
    return jnp.maximum(held - cost[taken], 0), taken

  _, taken = jax.lax.scan(
    read_back, amount.astype(jnp.int32), (choices, costs), reverse=True
  )
  return taken, best[amount]
