# SPDX-License-Identifier: Apache-2.0
"""The arithmetic of one limited field, for numbers and for arrays.

A field is a limit (None for none), what was spent so far and what a charge
would add. If all three are plain numbers the answer is one, by exact integer
or float64 arithmetic and without JAX; else it is an array, by the directed
rounding of `rounding`.
"""

import enum
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxttc.cost import costs, rounding


class Kind(enum.Enum):
  """How a field behaves."""

  COUNT = "whole units, known before they are spent"
  AMOUNT = "a real number, known before it is spent"
  MEASURED = "a real number, known only afterwards"


_MEASURED = ("joules", "seconds")
KINDS = tuple(
  Kind.COUNT
  if name in costs.COUNTS
  else Kind.MEASURED
  if name in _MEASURED
  else Kind.AMOUNT
  for name in costs.FIELDS
)
# Host floats add with a relative error of 2^-53. A total this close to its
# limit (0.1 + 0.1 + 0.1 against 0.3) is at the limit, not over it.
_ROUNDING = 2.0**-36
_MOST = 2**30  # what an array of wanted requests is searched up to


def smaller(a: costs.Quantity, b: costs.Quantity) -> costs.Quantity:
  """The tighter of two limits."""
  if a is None or b is None:
    return b if a is None else a
  if rounding.is_host(a) and rounding.is_host(b):
    return min(a, b)
  return jnp.minimum(a, b)


def as_limit(kind: Kind, limit: costs.Quantity) -> jax.Array:
  """A limit as int32 or float32: rounded down, None as unlimited."""
  if kind is not Kind.COUNT:
    return rounding.as_limit(np.inf if limit is None else limit)
  if limit is None:
    return jnp.int32(rounding.UNLIMITED_COUNT)
  if rounding.is_host(limit):  # the largest int32 means unlimited
    limit = min(int(limit), rounding.UNLIMITED_COUNT - 1)
  return jnp.asarray(limit, jnp.int32)


def total(kind: Kind, limit: Any, spent: Any, extra: Any) -> Any:
  """`spent + extra` as a meter records it; None if it overruns on the host.

  Raises:
    ValueError: if `extra` is a negative or NaN host number.
  """
  if type(extra) is int and extra == 0:  # most fields of most charges
    return spent
  if not _on_host(limit, spent, extra):
    _, spent, extra = _arrays(kind, limit, spent, extra)
    if kind is Kind.COUNT:
      return rounding.add_count(spent, extra)
    return rounding.add_up(spent, extra)
  if not extra >= 0:
    raise ValueError(f"a charge must not be negative, got {extra}")
  if isinstance(extra, np.generic):
    extra = extra.item()  # a float32 would make the whole total a float32
  result = spent + extra
  if limit is None or result <= limit or kind is Kind.MEASURED:
    return result
  inexact = isinstance(result, float) or isinstance(limit, float)
  return limit if inexact and result - limit <= limit * _ROUNDING else None


def left(kind: Kind, limit: Any, spent: Any) -> Any:
  """What remains of a limit, at least zero, rounded down; None if unlimited."""
  if limit is None:
    return None
  if rounding.is_host(limit) and rounding.is_host(spent):
    return max(limit - spent, 0)
  limit, spent, _ = _arrays(kind, limit, spent, 0)
  room = limit - spent
  if kind is Kind.COUNT:
    room = jnp.where(limit == rounding.UNLIMITED_COUNT, limit, room)
  else:
    over = rounding.add_up(room, spent) > limit
    room = jnp.where(over, jnp.nextafter(room, jnp.float32(0)), room)
  return jnp.maximum(room, 0)


def fits(kind: Kind, limit: Any, spent: Any, extra: Any) -> Any:
  """Whether one `extra` can be charged."""
  if limit is None:
    return True
  if _on_host(limit, spent, extra):
    return _host_fits(kind, limit, spent, extra)
  limit, spent, extra = _arrays(kind, limit, spent, extra)
  if kind is Kind.COUNT:
    return rounding.counts_fitting(limit, spent, extra) > 0
  affordable = (extra >= 0) & (rounding.add_up(spent, extra) <= limit)
  if kind is Kind.MEASURED:
    affordable = affordable & (spent < limit)
  return affordable


def times(kind: Kind, limit: Any, spent: Any, extra: Any, wanted: Any) -> Any:
  """How many `extra`, of `wanted`, can be charged."""
  if limit is None:
    return wanted
  if _on_host(limit, spent, extra):
    if rounding.is_host(wanted):
      return _host_times(kind, limit, spent, extra, wanted)
    count = _host_times(kind, limit, spent, extra, _MOST)
    return jnp.minimum(wanted, count)
  affordable = fits(kind, limit, spent, extra)
  limit, spent, extra = _arrays(kind, limit, spent, extra)
  if kind is Kind.COUNT:
    count = rounding.counts_fitting(limit, spent, extra)
  else:
    count = jnp.maximum(rounding.times_fitting(limit, spent, extra), 1)
  return jnp.minimum(wanted, jnp.where(affordable, count, 0))


def _on_host(limit: Any, spent: Any, extra: Any) -> bool:
  return (
    rounding.is_host(extra)
    and rounding.is_host(spent)
    and (limit is None or rounding.is_host(limit))
  )


def _arrays(
  kind: Kind, limit: Any, spent: Any, extra: Any
) -> tuple[jax.Array, jax.Array, jax.Array]:
  convert = rounding.as_count if kind is Kind.COUNT else rounding.as_amount
  return as_limit(kind, limit), convert(spent), convert(extra)


def _host_fits(kind: Kind, limit: Any, spent: Any, extra: Any) -> bool:
  if kind is Kind.MEASURED and spent >= limit:
    return False
  return extra >= 0 and spent + extra <= limit


def _host_times(
  kind: Kind, limit: Any, spent: Any, extra: Any, wanted: int
) -> int:
  """The largest n of 0..wanted with spent + n * extra <= limit."""
  if not _host_fits(kind, limit, spent, extra):
    return 0
  if extra == 0:
    return wanted
  if type(limit) is type(spent) is type(extra) is int:
    return min(wanted, (limit - spent) // extra)
  low, high = 0, wanted  # the answer lies in low..high
  guess = min(wanted, (limit - spent) / extra)
  for probe in (int(guess), int(guess) + 1):  # right but for rounding
    if low <= probe <= high:
      low, high = _halve(limit, spent, extra, probe, low, high)
  while low < high:
    middle = (low + high + 1) // 2
    low, high = _halve(limit, spent, extra, middle, low, high)
  return low


def _halve(
  limit: Any, spent: Any, extra: Any, probe: int, low: int, high: int
) -> tuple[int, int]:
  """Narrows low..high by whether `probe` charges fit."""
  if spent + probe * extra <= limit:
    return probe, high
  return low, probe - 1
