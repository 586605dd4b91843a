# SPDX-License-Identifier: Apache-2.0
"""Counts and sums over whole test sets, in compiled programs of 32 bits.

Counts are exact below 2^51 (`WideCount`). Sums carry the rounding error of
their additions along (Knuth's two-sum), so thousands of batches add up as well
as one.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from jaxttc.cost import wide_count

WideCount = wide_count.WideCount


class WideSum(NamedTuple):
  """A sum of float32 numbers: `value + rest`.

  Attributes:
    value: f32[...], the rounded sum.
    rest: f32[...], what its roundings left out.
  """

  value: Float[Array, "..."]
  rest: Float[Array, "..."]


def no_sum(shape: tuple[int, ...] = ()) -> WideSum:
  """Sums of nothing."""
  return WideSum(jnp.zeros(shape), jnp.zeros(shape))


def no_count(shape: tuple[int, ...] = ()) -> WideCount:
  """Counts of nothing."""
  return WideCount.zeros(shape)


def add(total: WideSum, amount: Float[Array, "..."]) -> WideSum:
  """The sum with an amount of its shape added."""
  value = total.value + amount
  part = value - total.value
  rest = (total.value - (value - part)) + (amount - part)
  return WideSum(value, total.rest + rest)


def count(total: WideCount, amount: Int[Array, "..."]) -> WideCount:
  """The counts with amounts of their shape added, each >= 0."""
  return total.add(amount.astype(jnp.uint32)[..., None])


def number(total: WideCount | WideSum) -> Float[Array, "..."]:
  """A count or a sum as float32."""
  if isinstance(total, WideSum):
    return total.value + total.rest
  high = total.high.astype(jnp.float32) * (1 << wide_count.LOW_BITS)
  return high + total.low.astype(jnp.float32)


def merge(a: Any, b: Any) -> Any:
  """What one pass over the examples of both states would have collected.

  Args:
    a: a pytree of `WideCount` and `WideSum`.
    b: another of the same structure and shapes.
  """
  return jax.tree.map(_merged, a, b, is_leaf=_is_total)


def share(part: Array, whole: Array) -> Array:
  """part / whole, 0 where the whole is."""
  return part / jnp.where(whole > 0, whole, 1.0)


def sum_over(valid: Bool[Array, "*N"], each: Array) -> Array:
  """Sum of each[..., M] over the valid places."""
  return (
    jnp.where(valid[..., None], each, 0.0).reshape(-1, each.shape[-1]).sum(0)
  )


def histogram(
  bins: Int[Array, "*N"], valid: Bool[Array, "*N"], size: int
) -> Int[Array, " size"]:
  """How many valid places fall into each of `size` bins."""
  # Places that do not count fall behind the last bin, and are dropped.
  bins = jnp.where(valid & (bins >= 0), bins, size).reshape(-1)
  return jnp.zeros(size, jnp.int32).at[bins].add(1, mode="drop")


def _merged(a: WideCount | WideSum, b: Any) -> WideCount | WideSum:
  if isinstance(a, WideSum):
    total = add(a, b.value)
    return WideSum(total.value, total.rest + b.rest)
  return count(WideCount(a.high + b.high, a.low), b.low)


def _is_total(node: Any) -> bool:
  return isinstance(node, (WideCount, WideSum))
