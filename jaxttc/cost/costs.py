# SPDX-License-Identifier: Apache-2.0
"""Cost: what was spent, field by field, as a value.

The same class serves the host, where its fields are Python numbers and counts
are exact integers of any size, and compiled programs, where they are arrays
(int32 counts, float32 amounts; see `rounding`).
"""

from collections.abc import Iterable, Mapping
import difflib
import functools
import math
import operator
from typing import Any

import flax.struct
import jax
import numpy as np

from jaxttc.cost import rounding

# A Python or NumPy number on the host, an array or tracer in a program.
Quantity = Any

COUNTS = (
  "prompt_tokens",
  "cached_tokens",
  "generated_tokens",
  "verifier_tokens",
  "verifier_calls",
  "tool_calls",
)
AMOUNTS = ("flops", "bytes", "joules", "dollars", "seconds")
FIELDS = COUNTS + AMOUNTS

# All fields at once: the meter's hot path.
quantities = operator.attrgetter(*FIELDS)


def check_field(name: str, where: str) -> None:
  """Raises ValueError, naming the nearest field, unless `name` is one."""
  if name in FIELDS:
    return
  near = difflib.get_close_matches(name, FIELDS, n=1, cutoff=0.4)
  hint = f"did you mean {near[0]!r}?" if near else f"expected {list(FIELDS)}"
  raise ValueError(f"{where} has no field {name!r}; {hint}")


def check_quantity(name: str, value: Quantity, where: str) -> None:
  """Refuses host numbers that no field can hold; lets arrays pass.

  Raises:
    TypeError: if `value` is neither a number nor an array.
    ValueError: if it is negative, NaN or infinite, or a count that is not
      whole.
  """
  if isinstance(value, jax.Array | np.ndarray):
    return
  if not rounding.is_host(value) or isinstance(value, bool):
    raise TypeError(
      f"{where}.{name} must be a number or an array, got {value!r}"
    )
  if not 0 <= value < math.inf:
    raise ValueError(
      f"{where}.{name} must be finite and not negative, got {value}"
    )
  if name in COUNTS and value != int(value):
    raise ValueError(f"{where}.{name} counts whole units, got {value}")


@flax.struct.dataclass(kw_only=True)
class Cost:
  """What was spent. Adds, subtracts, scales and compares field by field.

  Attributes:
    prompt_tokens: tokens of prompts and prefixes sent to a policy.
    cached_tokens: how many of the prompt tokens were served from a cache.
    generated_tokens: tokens sampled from a policy.
    verifier_tokens: tokens processed by a verifier.
    verifier_calls: calls of a verifier.
    tool_calls: calls of a tool.
    flops: floating-point operations; a multiply-add is two.
    bytes: bytes moved between memory and processor.
    joules: energy.
    dollars: money, in US dollars.
    seconds: wall-clock time.

  Absent fields are zero. Nothing is checked at construction, which happens
  inside traces too: call `validate` on what comes from outside.
  """

  prompt_tokens: Quantity = 0
  cached_tokens: Quantity = 0
  generated_tokens: Quantity = 0
  verifier_tokens: Quantity = 0
  verifier_calls: Quantity = 0
  tool_calls: Quantity = 0
  flops: Quantity = 0
  bytes: Quantity = 0
  joules: Quantity = 0
  dollars: Quantity = 0
  seconds: Quantity = 0

  @classmethod
  def zero(cls) -> "Cost":
    """Nothing spent."""
    return cls()

  @classmethod
  def sum(cls, costs: Iterable["Cost"]) -> "Cost":
    """Field-wise sum; zero for no costs."""
    return functools.reduce(operator.add, costs, cls())

  @classmethod
  def from_dict(cls, fields: Mapping[str, Quantity]) -> "Cost":
    """Inverse of `as_dict`; absent fields are zero.

    Raises:
      ValueError: for unknown fields (the nearest is named) or bad values.
    """
    for name in fields:
      check_field(name, "Cost")
    return cls(**fields).validate()

  def as_dict(self) -> dict[str, Quantity]:
    """All eleven fields by name."""
    return dict(zip(FIELDS, quantities(self), strict=True))

  def validate(self) -> "Cost":
    """Returns the cost itself if every host number in it is a legal amount.

    Raises:
      TypeError: for a field that is neither a number nor an array.
      ValueError: for a negative, NaN or infinite field, or a broken count.
    """
    for name, value in self.as_dict().items():
      check_quantity(name, value, "Cost")
    return self

  def __add__(self, other: "Cost") -> "Cost":
    if not isinstance(other, Cost):
      return NotImplemented
    return _build(map(operator.add, quantities(self), quantities(other)))

  def __sub__(self, other: "Cost") -> "Cost":
    if not isinstance(other, Cost):
      return NotImplemented
    return _build(map(operator.sub, quantities(self), quantities(other)))

  def __mul__(self, factor: Quantity) -> "Cost":
    if isinstance(factor, Cost):
      return NotImplemented
    return _build(value * factor for value in quantities(self))

  __rmul__ = __mul__

  def fits_within(self, limit: Any) -> Any:
    """Whether no field exceeds that of `limit`.

    Args:
      limit: a `Cost` or a `Budget`; fields that are None do not limit.

    Returns:
      A bool on the host, bool[...] for arrays.
    """
    fits = True
    for value, most in zip(quantities(self), quantities(limit), strict=True):
      if most is not None:
        fits = fits & (value <= most)
    return fits

  def to_arrays(self) -> "Cost":
    """int32 counts and float32 amounts, host amounts rounded up.

    Raises:
      ValueError: if a count does not fit an int32.
    """
    return Cost(
      **{name: rounding.as_count(getattr(self, name)) for name in COUNTS},
      **{name: rounding.as_amount(getattr(self, name)) for name in AMOUNTS},
    )

  def to_numbers(self) -> "Cost":
    """Python numbers from scalar arrays: ints for counts, else floats.

    Raises:
      TypeError: inside a trace, or if a field is not a scalar.
    """
    return _build(
      value if rounding.is_host(value) else value.item()
      for value in quantities(self)
    )


def _build(values: Iterable[Quantity]) -> Cost:
  return Cost(**dict(zip(FIELDS, values, strict=True)))
