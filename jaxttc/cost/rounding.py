# SPDX-License-Identifier: Apache-2.0
"""Rounding that can only ever cost us, never the budget.

On the host a cost is a Python number and sums of integers are exact. In a
compiled program FLOPs, bytes, joules, dollars and seconds are float32, whose
sums round: ten million charges of 1.0 leave a round-to-nearest float32 total
stuck at 2^24, and the meter would grant the rest for free. So a compiled
meter rounds every amount spent up and every limit down. What it records is
then never less than what was truly spent, and a recorded total within the
limit proves that the true total is.

Counts (tokens, calls) are int32 and exact. `UNLIMITED_COUNT` stands for
"no limit" in an int32 array, as infinity does in a float32 one.
"""

from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float, Int
import numpy as np

UNLIMITED_COUNT = np.iinfo(np.int32).max
# Above the rounding of the few float32 operations that make up one price.
_PRICE_MARGIN = np.float32(1 + 2.0**-20)
_MOST = 2.0**30  # largest count that `times_fitting` answers


def float32_up(value: Any) -> np.float32:
  """The least float32 that is at least `value`."""
  with np.errstate(over="ignore"):
    nearest = np.float32(float(value))
  # Python compares integers with floats exactly, whatever their size.
  if float(nearest) < value:
    return np.nextafter(nearest, np.float32(np.inf))
  return nearest


def float32_down(value: Any) -> np.float32:
  """The greatest float32 that is at most `value`."""
  with np.errstate(over="ignore"):
    nearest = np.float32(float(value))
  if float(nearest) > value:
    return np.nextafter(nearest, np.float32(-np.inf))
  return nearest


def price_up(price: Float[Array, "..."]) -> Float[Array, "..."]:
  """A float32 price raised by a millionth: at least its exact value.

  Sound for a sum of up to four products of non-negative numbers: its float32
  rounding is below 8 * 2^-24, the margin is 16 * 2^-24.
  """
  return price * _PRICE_MARGIN


def add_up(
  total: Float[Array, "..."], extra: Float[Array, "..."]
) -> Float[Array, "..."]:
  """`total + extra` in float32, rounded up; exact when it can be.

  The rounding error of a float32 sum is itself a float32 (Dekker, 1971,
  fast two-sum), so the sum is raised by one unit in the last place only
  where bits were in fact lost.
  """
  high = jnp.maximum(total, extra)
  low = jnp.minimum(total, extra)
  nearest = high + low
  lost = low - (nearest - high)
  return jnp.where(lost > 0, jnp.nextafter(nearest, jnp.inf), nearest)


def times_fitting(
  limit: Float[Array, "..."],
  spent: Float[Array, "..."],
  bound: Float[Array, "..."],
) -> Int[Array, "..."]:
  """How often `bound` can be charged with `add_up` within `limit`.

  Args:
    limit: f32[...], the limit; infinite for none.
    spent: f32[...], spent so far, finite, non-negative.
    bound: f32[...], one charge, non-negative.

  Returns:
    i32[...], at most 2^30. Maximal if the three are multiples of the unit in
    the last place just below the limit; else each charge is taken to cost a
    unit more, which is the most that rounding up can add to it.
  """
  unit = limit - jnp.nextafter(limit, jnp.float32(0))
  exact = (bound % unit == 0) & (spent % unit == 0)
  room = limit - spent
  quotient = jnp.where(
    exact, room / bound, room / (bound + unit) * (1 - 2.0**-20)
  )
  free = (bound == 0) | jnp.isposinf(limit)
  quotient = jnp.where(free, _MOST, quotient)
  quotient = jnp.where((room >= 0) & (bound >= 0), quotient, 0.0)
  times = jnp.clip(jnp.floor(quotient), 0, _MOST)
  # Division need not be correctly rounded on every accelerator.
  times -= (times * bound > room) & ~free
  return jnp.maximum(times, 0).astype(jnp.int32)


def counts_fitting(
  limit: Int[Array, "..."], spent: Int[Array, "..."], bound: Int[Array, "..."]
) -> Int[Array, "..."]:
  """How often a count can be charged within its limit, exactly.

  Args:
    limit: i32[...], the limit; `UNLIMITED_COUNT` for none.
    spent: i32[...], spent so far, non-negative.
    bound: i32[...], one charge; negative ones never fit.

  Returns:
    i32[...], `UNLIMITED_COUNT` where nothing holds the charge back.
  """
  free = (bound == 0) | (limit == UNLIMITED_COUNT)
  times = jnp.maximum(limit - spent, 0) // jnp.maximum(bound, 1)
  fits = (bound >= 0) & ((bound == 0) | (spent <= limit))
  return jnp.where(fits, jnp.where(free, UNLIMITED_COUNT, times), 0)


def add_count(
  total: Int[Array, "..."], extra: Int[Array, "..."]
) -> Int[Array, "..."]:
  """`total + extra` in int32, held at the largest int32 on overflow."""
  return total + jnp.minimum(extra, UNLIMITED_COUNT - total)


def is_host(value: object) -> bool:
  """Whether `value` is a plain number rather than an array or tracer."""
  return type(value) in _HOST_TYPES


_HOST_TYPES = frozenset(
  {int, float, bool, np.float64, np.float32, np.int64, np.int32}
)


def as_count(value: Any) -> Int[Array, "..."]:
  """`value` as int32.

  Raises:
    ValueError: if a host number is not whole or does not fit.
  """
  if is_host(value) and not (
    value == int(value) and 0 <= value <= UNLIMITED_COUNT
  ):
    raise ValueError(
      f"count {value} does not fit an int32 array: expected a whole number "
      f"from 0 to {UNLIMITED_COUNT}"
    )
  return jnp.asarray(value, jnp.int32)


def as_amount(value: Any) -> Float[Array, "..."]:
  """A spent amount as float32, host numbers rounded up."""
  return jnp.asarray(
    float32_up(value) if is_host(value) else value, jnp.float32
  )


def as_limit(value: Any) -> Float[Array, "..."]:
  """A limit as float32, host numbers rounded down."""
  value = float32_down(value) if is_host(value) else value
  return jnp.asarray(value, jnp.float32)
