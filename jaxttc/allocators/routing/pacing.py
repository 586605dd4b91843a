# SPDX-License-Identifier: Apache-2.0
"""One total budget over a stream of questions, by a price that adapts.

Questions come one at a time and must be routed before the next is seen. The
price of cost rises when money goes too fast and falls when it goes too slowly
(dual ascent); whatever the price, a model is only chosen if what would be left
still pays the cheapest model for every question to come. The budget is
therefore never exceeded.

Reference: Balseiro et al. (2020), Dual mirror descent for online allocation,
arXiv:2002.10421.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from jaxttc.allocators.routing import choice


class Paced(NamedTuple):
  """How a stream was served.

  Attributes:
    choices: i32[n].
    prices: f32[n], at which each question was routed.
    spent: f32[], in all.
  """

  choices: Int[Array, " n"]
  prices: Float[Array, " n"]
  spent: Float[Array, ""]


def pace(
  quality: Float[Array, "n K"],
  cost: Float[Array, "n K"],
  budget: float | int,
  *,
  price: float = 0.0,
  rate: float | None = None,
) -> Paced:
  """Routes a stream within a total budget.

  Args:
    quality: f32[n, K], expected scores, in order of arrival.
    cost: f32[n, K], what each call costs.
    budget: of all questions together.
    price: to start with; `calibration.price_for_budget` on a sample gives a
      good one.
    rate: how fast the price moves; None: 1 / sqrt(n), over the mean cost.

  Raises:
    ValueError: if the budget does not pay the cheapest model for each question.
  """
  floor = cost.min(1)
  # What the questions after each one cost at least.
  owed = jnp.cumsum(floor[::-1])[::-1] - floor
  least = float(floor.sum())
  if not budget >= least:
    raise ValueError(
      f"budget {budget:g} does not pay the cheapest model for each question; "
      f"that costs {least:g}"
    )
  if rate is None:
    rate = float(1 / (len(cost) ** 0.5 * cost.mean() ** 2))
  return _pace(quality, cost, owed, budget, price, rate)


@jax.jit
def _pace(quality, cost, owed, budget, price, rate):
  left = len(cost) - jnp.arange(len(cost))

  def step(carried, question):
    price, money = carried
    quality, cost, owed, left = question
    # The cheapest is always affordable, whatever rounding says.
    affordable = (cost <= money - owed) | (cost <= cost.min())
    chosen = choice.choose(quality[None], cost[None], price, affordable)[0]
    spent = cost[chosen]
    move = rate * (spent - money / left)
    carried = jnp.maximum(price + move, 0.0), money - spent
    return carried, (chosen, price)

  start = jnp.asarray(price, jnp.float32), jnp.asarray(budget, jnp.float32)
  stream = quality, cost, owed, left
  (_, money), (choices, prices) = jax.lax.scan(step, start, stream)
  return Paced(choices, prices, budget - money)
