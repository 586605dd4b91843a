# SPDX-License-Identifier: Apache-2.0
"""Budget: a limit on any field of Cost. Meter: a Budget and the Cost so far.

There is one rule: a run never spends more than its budget, on any field. So a
request is priced before it is sent: ask the meter how many copies of the
request's largest possible cost it can fund, send that many, then charge what
they truly cost.

    meter = Meter.start(Budget(generated_tokens=500, verifier_calls=64))
    sent = meter.fundable(bound, wanted=8)
    meter = meter.charge(spent)

Counts, FLOPs, bytes and dollars are known before a request is sent, and are
never overrun. Seconds, and joules where they are metered, are known only
afterwards: they are checked between engine segments, so they overrun by at
most one segment. A meter whose seconds or joules have run out affords
nothing more, not even what is free.

On the host a meter is a few Python numbers, and no call touches JAX. In a
compiled program its fields are arrays of any batch shape, and the same
methods are branchless; make one with `to_arrays`. There float32 amounts are
rounded so that they can never allow an overspend (`rounding`).
"""

from collections.abc import Mapping
import decimal
import math
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp

from jaxttc.cost import costs, limits

# Powers of ten, by the suffix of a number in `Budget.parse`.
_SUFFIXES = {"k": 3, "M": 6, "G": 9, "T": 12}


class BudgetExceeded(RuntimeError):
  """A charge that the meter could not afford: the caller did not ask first.

  Attributes:
    field: the field of `Cost` that would have been overrun.
  """

  def __init__(self, field: str, meter: "Meter", cost: costs.Cost):
    super().__init__(
      f"charging {field}={getattr(cost, field)} on top of "
      f"{getattr(meter.spent, field)} exceeds the budget of "
      f"{getattr(meter.budget, field)}; ask `affords` or `fundable` first"
    )
    self.field = field


@flax.struct.dataclass(kw_only=True)
class Budget:
  """Limits on the fields of `Cost`, in the same units; None is unlimited.

  Zero is a limit like any other: nothing of that field may be spent. As
  arrays, unlimited counts are `rounding.UNLIMITED_COUNT` and unlimited
  amounts infinite.
  """

  prompt_tokens: costs.Quantity = None
  cached_tokens: costs.Quantity = None
  generated_tokens: costs.Quantity = None
  verifier_tokens: costs.Quantity = None
  verifier_calls: costs.Quantity = None
  tool_calls: costs.Quantity = None
  flops: costs.Quantity = None
  bytes: costs.Quantity = None
  joules: costs.Quantity = None
  dollars: costs.Quantity = None
  seconds: costs.Quantity = None

  @classmethod
  def parse(cls, text: str) -> "Budget":
    """Reads "generated_tokens=500,verifier_calls=64,flops=1e9".

    Numbers may end in k, M, G or T (powers of 1000). Text that is blank is
    the unlimited budget. Whole numbers become exact ints.

    Raises:
      ValueError: for a malformed item, an unknown field (the nearest is
        named), a field given twice, or a number that is negative, not
        finite, not a number, or not whole where a count is meant.
    """
    found: dict[str, costs.Quantity] = {}
    for item in filter(None, (part.strip() for part in text.split(","))):
      name, equals, number = (part.strip() for part in item.partition("="))
      if not equals:
        raise ValueError(
          f"budget item {item!r} is not of the form field=number"
        )
      costs.check_field(name, "Budget")
      if name in found:
        raise ValueError(f"budget field {name!r} is given twice in {text!r}")
      found[name] = _parse_number(name, number)
    return cls(**found).validate()

  @classmethod
  def from_dict(cls, fields: Mapping[str, costs.Quantity]) -> "Budget":
    """Inverse of `as_dict`.

    Raises:
      ValueError: for unknown fields (the nearest is named) or bad limits.
    """
    for name in fields:
      costs.check_field(name, "Budget")
    return cls(**fields).validate()

  def as_dict(self) -> dict[str, costs.Quantity]:
    """The fields that are limited, by name."""
    pairs = zip(costs.FIELDS, costs.quantities(self), strict=True)
    return {name: limit for name, limit in pairs if limit is not None}

  def validate(self) -> "Budget":
    """Returns the budget itself if every host limit in it is legal.

    Raises:
      TypeError: for a limit that is neither None, a number nor an array.
      ValueError: for a negative, NaN or infinite limit, or a broken count.
    """
    for name, limit in self.as_dict().items():
      costs.check_quantity(name, limit, "Budget")
    return self

  def tightest(self, other: "Budget") -> "Budget":
    """The field-wise smaller limit: a slice that fits what is left.

    Args:
      other: limits of the same kind; both on the host, or both arrays.
    """
    pairs = zip(costs.quantities(self), costs.quantities(other), strict=True)
    return _build(Budget, [limits.smaller(a, b) for a, b in pairs])

  def to_arrays(self) -> "Budget":
    """int32 counts and float32 amounts, host amounts rounded down."""
    pairs = zip(limits.KINDS, costs.quantities(self), strict=True)
    return _build(Budget, [limits.as_limit(*pair) for pair in pairs])


@flax.struct.dataclass(kw_only=True)
class Meter:
  """What may be spent and what has been; see the module docstring.

  Attributes:
    budget: the limits.
    spent: the cost so far.
  """

  budget: Budget
  spent: costs.Cost

  @classmethod
  def start(cls, budget: Budget) -> "Meter":
    """A meter with nothing spent.

    Raises:
      TypeError, ValueError: if the budget is not legal.
    """
    return cls(budget=budget.validate(), spent=costs.Cost())

  def to_arrays(self) -> "Meter":
    """The meter for a compiled program: limits round down, spending up."""
    return Meter(budget=self.budget.to_arrays(), spent=self.spent.to_arrays())

  def charge(self, cost: costs.Cost) -> "Meter":
    """Records a cost.

    On the host, seconds and joules are recorded as they come, and any other
    field that would overrun raises; float totals within 2^-36 of the limit
    are recorded as the limit. A compiled program cannot raise: it records
    amounts rounded up (counts stick at the largest int32), and the caller
    sees to it that the cost was affordable.

    Raises:
      BudgetExceeded: naming the field, if the cost was not affordable.
      ValueError: if the cost has a negative or NaN field.
    """
    totals = [limits.total(kind, *row) for kind, row in self._rows(cost)]
    for name, total in zip(costs.FIELDS, totals, strict=True):
      if total is None:
        raise BudgetExceeded(name, self, cost)
    return Meter(budget=self.budget, spent=_build(costs.Cost, totals))

  def remaining(self) -> Budget:
    """What is left of every limited field, at least zero."""
    rows = self._rows(self.spent)
    left = [limits.left(kind, limit, spent) for kind, (limit, spent, _) in rows]
    return _build(Budget, left)

  def affords(self, cost: costs.Cost) -> Any:
    """Whether `cost` can be charged: a bool, or bool[...] for arrays."""
    affords = True
    for kind, row in self._rows(cost):
      affords = affords & limits.fits(kind, *row)
    return affords

  def fundable(self, bound: costs.Cost, wanted: Any) -> Any:
    """How many requests can be sent that cost at most `bound` each.

    Args:
      bound: the most that one request can cost.
      wanted: how many are wanted; an int, or i32[...].

    Returns:
      The largest n in 0..wanted such that n charges of `bound` fit on every
      field. For float32 amounts it may be smaller by one, never larger.
    """
    times = wanted
    for kind, row in self._rows(bound):
      times = limits.times(kind, *row, times)
    return times

  def exhausted_by(self, bound: costs.Cost) -> str | None:
    """The first field on which not even one `bound` fits, for stop reasons.

    Returns:
      A field of `Cost`, or None if the bound is affordable. Host only: a
      compiled program uses `exhausted_index`.
    """
    index = int(self.exhausted_index(bound))
    return costs.FIELDS[index] if index >= 0 else None

  def exhausted_index(self, bound: costs.Cost) -> Any:
    """Like `exhausted_by`, as an index into `FIELDS`, or -1 for none."""
    first: Any = -1
    for index, (kind, row) in reversed(list(enumerate(self._rows(bound)))):
      fits = limits.fits(kind, *row)
      if isinstance(fits, jax.Array):
        first = jnp.where(fits, first, jnp.int32(index))
      elif not fits:
        first = index
    return first

  def _rows(self, cost: costs.Cost) -> Any:
    """(kind, (limit, spent, extra)) of every field."""
    return zip(
      limits.KINDS,
      zip(
        costs.quantities(self.budget),
        costs.quantities(self.spent),
        costs.quantities(cost),
        strict=True,
      ),
      strict=True,
    )


def _build(kind: Any, values: list[costs.Quantity]) -> Any:
  return kind(**dict(zip(costs.FIELDS, values, strict=True)))


def _parse_number(name: str, text: str) -> int | float:
  exponent = _SUFFIXES.get(text[-1:], 0)
  digits = text[:-1] if exponent else text
  try:
    value = decimal.Decimal(digits).scaleb(exponent)
  except decimal.DecimalException:
    raise ValueError(
      f"Budget.{name} must be a number such as 500, 2.5k or 1e9, got {text!r}"
    ) from None
  if not math.isfinite(float(value)):
    raise ValueError(
      f"Budget.{name} must be finite, got {text!r}; leave an unlimited field "
      "out"
    )
  return int(value) if value == value.to_integral_value() else float(value)
