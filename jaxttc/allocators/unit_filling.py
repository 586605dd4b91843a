# SPDX-License-Identifier: Apache-2.0
"""Buying whole units, the best first: the exact greedy split of a budget.

M items; the unit after an item's n-th is worth `gain(n)`, which must not rise
with n (a concave value). Then the units of largest gain are the optimum, and
the optimum is a price: everything that is worth more is bought. The price is
found bit by bit, which is exact in floating point, and how far each item goes
at a price by doubling steps. So a split of B units takes O(M log B) work and
no table, sort or heap; B may be a traced number.

Ties are broken by index, the earlier item first.

References:
  Gross (1956), A class of discrete-type minimization problems (greedy is
    optimal for separable concave values).
  Fisher (1981), The Lagrangian relaxation method for solving integer
    programming problems (prices, the bound that they give, and its gap).
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

Gain = Callable[[Array], Array]  # i32[M], units held -> f[M], next one's worth


class Filled(NamedTuple):
  """Units bought.

  Attributes:
    units: i32[M], in [start, stop].
    price: f[], the least gain that was paid for; infinite if none was.
    next_gain: f[], what one more unit would have gained; 0 if none is left.
  """

  units: Int[Array, " m"]
  price: Float[Array, ""]
  next_gain: Float[Array, ""]


class Priced(NamedTuple):
  """Units bought at differing costs.

  Attributes:
    units: i32[M], in [start, stop].
    cost: i32[], of the units beyond `start`; at most the amount.
    price: f[], the gain a unit of cost below which nothing was bought.
    gap: f[], no split can gain more than this above the one found.
  """

  units: Int[Array, " m"]
  cost: Int[Array, ""]
  price: Float[Array, ""]
  gap: Float[Array, ""]


def fill(
  gain: Gain,
  start: Int[Array, " m"],
  stop: Int[Array, " m"],
  amount: Int[Array, ""],
  most: int,
) -> Filled:
  """Buys `amount` units so that the sum of gains is largest.

  Args:
    gain: i32[M] -> f[M], non-negative and non-increasing; asked only between
      start and stop.
    start: units that every item holds already.
    stop: most units an item may hold; where it is below `start`, the item
      keeps `start`. The room of all items together must fit an int32.
    amount: units to buy; if there are fewer than that, all are bought.
    most: bounds `stop - start`; static.

  Returns:
    The units. More of `amount` never takes a unit from anyone.
  """
  stop = jnp.maximum(stop, start)
  amount = jnp.minimum(amount, (stop - start).sum())
  count = _counter(gain, start, stop, most)
  bought = lambda bits: (count(bits) - start).sum()  # noqa: E731
  bits = _greatest(lambda bits: bought(bits) >= amount, _ordered(gain(start)))
  dearer = count(bits + 1)
  ties = count(bits) - dearer
  left = amount - (dearer - start).sum()
  units = dearer + jnp.clip(left - (jnp.cumsum(ties) - ties), 0, ties)
  dtype = gain(start).dtype
  price = jax.lax.bitcast_convert_type(bits, dtype)
  return Filled(
    units,
    jnp.where(amount > 0, price, jnp.inf),
    _best(gain, units, stop).max(initial=0.0),
  )


def fill_priced(
  gain: Gain,
  start: Int[Array, " m"],
  stop: Int[Array, " m"],
  unit_cost: Int[Array, " m"],
  amount: Int[Array, ""],
  most: int,
) -> Priced:
  """Buys units of differing cost by a price, and bounds what that loses.

  All units are bought that gain more than the price for each unit of cost;
  what is left then goes to the best unit that still fits, again and again.
  The price also bounds every other split, so the loss is known.

  Args:
    gain: as in `fill`.
    start: as in `fill`.
    stop: as in `fill`.
    unit_cost: of each item, positive.
    amount: most that the units beyond `start` may cost. What all room would
      cost must fit an int32.
    most: bounds `stop - start`; static.

  Returns:
    The units, what they cost, and the gap to the dual bound.
  """
  stop = jnp.maximum(stop, start)
  density = lambda units: gain(units) / unit_cost  # noqa: E731
  count = _counter(density, start, stop, most)
  cost = lambda units: ((units - start) * unit_cost).sum()  # noqa: E731
  like = _ordered(density(start))
  # Dearest price at which the amount would not do; one above, it does.
  bits = _greatest(lambda bits: cost(count(bits)) > amount, like)
  within = cost(count(jnp.zeros_like(bits))) <= amount
  at_price = count(bits + 1)
  first = jnp.where(within, stop, at_price)
  units = _fill_rest(density, first, stop, unit_cost, amount - cost(first))
  price = jax.lax.bitcast_convert_type(bits, density(start).dtype)
  price = jnp.where(within, 0.0, price)
  # The bound is what `first` gains, and the rest of the amount at the price.
  bound = price * (amount - cost(first))
  gap = bound - _gained(gain, first, units)
  return Priced(units, cost(units), price, jnp.maximum(gap, 0.0))


def level(
  start: Int[Array, " m"], stop: Int[Array, " m"], amount: Int[Array, ""]
) -> Int[Array, " m"]:
  """Raises the lowest items first, as water does, by `amount` units in all.

  Args:
    start: units held, non-negative.
    stop: most units an item may hold; the sum must fit an int32.
    amount: units to hand out; if there is less room, all of it is filled.

  Returns:
    i32[M]: the items below one level are raised to it, and the earliest of
    them by one more until the amount is spent.
  """
  stop = jnp.maximum(stop, start)
  filled = lambda height: jnp.clip(height, start, stop)  # noqa: E731
  height = _greatest(
    lambda height: (filled(height) - start).sum() <= amount, start
  )
  units = filled(height)
  rising = (units < stop) & (units <= height)
  left = amount - (units - start).sum()
  return units + (rising & (jnp.cumsum(rising) <= left)).astype(units.dtype)


def _counter(gain, start, stop, most):
  """bits -> units that each item holds if all of at least that gain are bought.

  Steps of falling powers of two; the count never rises with the price, even
  where rounding lets two neighbouring gains change places.
  """
  steps = max(int(most), 1).bit_length()

  def count(bits):
    def step(i, units):
      further = units + (jnp.int32(1) << (steps - 1 - i))
      inside = further <= stop
      asked = jnp.where(inside, further - 1, start)
      return jnp.where(inside & (_ordered(gain(asked)) >= bits), further, units)

    return jax.lax.fori_loop(0, steps, step, start)

  return count


def _ordered(gains):
  """Non-negative floats as integers of the same order."""
  kind = jnp.int32 if gains.dtype.itemsize == 4 else jnp.int64
  return jax.lax.bitcast_convert_type(gains, kind)


def _greatest(holds, like):
  """The greatest non-negative integer, of `like`'s type, for which it holds.

  `holds` must be true of 0 or of nothing, and of all below one it is true of.
  """
  top = 8 * like.dtype.itemsize - 2

  def step(i, found):
    further = found | (jnp.ones((), like.dtype) << (top - i))
    return jnp.where(holds(further), further, found)

  return jax.lax.fori_loop(0, top + 1, step, jnp.zeros((), like.dtype))


def _best(gain, units, stop):
  """Gain of each item's next unit; 0 where it may have no more."""
  room = units < stop
  return jnp.where(room, gain(jnp.where(room, units, stop - 1)), 0.0)


def _fill_rest(density, units, stop, unit_cost, left):
  def fits(units, left):
    return (units < stop) & (unit_cost <= left)

  def more(carry):
    return fits(*carry).any()

  def buy(carry):
    units, left = carry
    worth = jnp.where(fits(units, left), density(units), -1.0)
    best = jnp.argmax(worth)
    return units.at[best].add(1), left - unit_cost[best]

  return jax.lax.while_loop(more, buy, (units, left))[0]


def _gained(gain, first, units):
  """Sum of gains of the units from `first` to `units`."""

  def step(carry):
    held, total = carry
    room = held < units
    asked = jnp.where(room, held, first)
    total = total + jnp.where(room, gain(asked), 0.0).sum()
    return held + room.astype(held.dtype), total

  zero = jnp.zeros((), gain(first).dtype)
  return jax.lax.while_loop(
    lambda carry: (carry[0] < units).any(), step, (first, zero)
  )[1]
