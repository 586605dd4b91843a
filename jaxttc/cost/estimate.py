# SPDX-License-Identifier: Apache-2.0
"""Estimate: a quantity, its unit, where it is from, and how sure it is.

What a run cost is often not known but inferred: from sizes, from hours on
hardware of unknown utilisation, from a power model. An estimate says so. It is
a log-normal with a half of its own on each side: the value is the median, and
the truth is as likely below `low` as above `high`, one in twenty each.

    FLOP is a number of operations, FLOP/s a rate; they do not add.
"""

from collections.abc import Sequence
import dataclasses
import math
from typing import Any
import zlib

from jaxtyping import Float
import numpy as np

UNITS = (
  "FLOP",
  "FLOP/s",
  "B",
  "J",
  "s",
  "USD",
  "kgCO2e",
  "token",
  "query",
  "1",
)
# From the surest to the least sure; a sum is as sure as its worst part.
PROVENANCES = ("measured", "counted", "modelled", "assumed")
_NORMAL_95 = 1.6448536269514722  # a normal's 95th percentile


@dataclasses.dataclass(frozen=True, kw_only=True)
class Estimate:
  """A quantity with a 90 % interval.

  Attributes:
    value: the median.
    low: 5th percentile; `value` itself if nothing is unknown.
    high: 95th percentile.
    unit: one of `UNITS`.
    method: how it was found, in a few words.
    provenance: one of `PROVENANCES`: read from an instrument, counted by a
      rule that is exact, computed by a model of the machine, or supposed.
    shared: names the unknown behind the interval. Estimates that share one err
      together, and their errors do not average out.

  Raises:
    ValueError: for numbers that are negative, NaN or infinite, an interval
      that does not hold the value, or a unit or provenance that is unknown.
  """

  value: float
  low: float
  high: float
  unit: str
  method: str
  provenance: str = "counted"
  shared: str = ""

  def __post_init__(self):
    if self.unit not in UNITS:
      raise ValueError(
        f"unknown unit {self.unit!r}; expected one of {', '.join(UNITS)}"
      )
    if self.provenance not in PROVENANCES:
      raise ValueError(
        f"unknown provenance {self.provenance!r}; expected one of "
        f"{', '.join(PROVENANCES)}"
      )
    for name in ("value", "low", "high"):
      number = getattr(self, name)
      plain = isinstance(number, int | float | np.number)
      if not plain or isinstance(number, bool) or not 0 <= number < math.inf:
        raise ValueError(
          f"{self.unit} of {self.method!r}: {name} must be finite and not "
          f"negative, got {number!r}"
        )
      if isinstance(number, np.number):  # JSON knows none of NumPy's
        object.__setattr__(self, name, number.item())
    if not self.low <= self.value <= self.high:
      raise ValueError(
        f"{self.unit} of {self.method!r}: the interval [{self.low:.4g}, "
        f"{self.high:.4g}] must hold the value, {self.value:.4g}"
      )
    if self.low == 0 < self.high:
      raise ValueError(
        f"{self.unit} of {self.method!r}: low is 0 where high is "
        f"{self.high:.4g}; a log-normal has no such interval"
      )

  @classmethod
  def exact(
    cls,
    value: float | int,
    unit: str,
    method: str,
    provenance: str = "counted",
  ) -> "Estimate":
    """A quantity that is known.

    Raises:
      ValueError: as the class does.
    """
    return cls(
      value=value,
      low=value,
      high=value,
      unit=unit,
      method=method,
      provenance=provenance,
    )

  @property
  def is_exact(self) -> bool:
    """Whether nothing is unknown."""
    return self.low == self.high

  def scaled(self, factor: int | float) -> "Estimate":
    """The estimate times a known number.

    Raises:
      ValueError: if the factor is negative or not finite.
    """
    if not 0 <= factor < math.inf:
      raise ValueError(
        f"an estimate is scaled by a finite number >= 0, got {factor}"
      )
    return dataclasses.replace(
      self,
      value=self.value * factor,
      low=self.low * factor,
      high=self.high * factor,
    )

  def __add__(self, other: "Estimate") -> "Estimate":
    """The sum; errors add in squares, or plainly where they are shared.

    Raises:
      ValueError: for different units.
    """
    if not isinstance(other, Estimate):
      return NotImplemented
    if self.unit != other.unit:
      raise ValueError(
        f"cannot add {other.unit} ({other.method}) to {self.unit} "
        f"({self.method})"
      )
    together = bool(self.shared) and self.shared == other.shared
    join = (lambda a, b: a + b) if together else math.hypot
    value = self.value + other.value
    down = join(self.value - self.low, other.value - other.low)
    up = join(self.high - self.value, other.high - other.value)
    floor = self.low + other.low  # rounding must not pass what is certain
    methods = dict.fromkeys((*self.method.split(" + "), other.method))
    return Estimate(
      value=value,
      low=min(max(value - down, floor), value),
      high=max(value + up, value),
      unit=self.unit,
      method=" + ".join(methods),
      provenance=weakest(self, other),
      shared=self.shared if together else "",
    )

  def draws(self, count: int, seed: int, name: str) -> Float[np.ndarray, " N"]:
    """Values that it may have.

    Args:
      count: how many.
      seed: of all draws of an account.
      name: of what is estimated; `shared` goes before it. The same seed and
        name give the same draws, in whatever order entries come.

    Returns:
      f64[count].
    """
    if self.is_exact:
      return np.full(count, float(self.value))
    key = zlib.crc32((self.shared or name).encode())
    z = np.random.default_rng([seed, key]).standard_normal(count)
    down = math.log(self.value / self.low) / _NORMAL_95
    up = math.log(self.high / self.value) / _NORMAL_95
    return self.value * np.exp(z * np.where(z < 0, down, up))

  def as_dict(self) -> dict[str, Any]:
    """The fields, JSON-ready."""
    return dataclasses.asdict(self)

  @property
  def text(self) -> str:
    """Such as "3.15e23 FLOP [2.9e+23, 3.4e+23]"."""
    plain = f"{self.value:.4g} {self.unit}"
    if self.is_exact:
      return plain
    return f"{plain} [{self.low:.3g}, {self.high:.3g}]"


def weakest(*estimates: Estimate) -> str:
  """The least sure provenance."""
  return max((e.provenance for e in estimates), key=PROVENANCES.index)


def require(estimate: Any, unit: str, where: str) -> Estimate:
  """The estimate itself, if it is one of that unit.

  Raises:
    ValueError: for a bare number, and for another unit.
  """
  if not isinstance(estimate, Estimate):
    raise ValueError(
      f"{where} must be an Estimate in {unit}, got {estimate!r}; "
      f"Estimate.exact(value, {unit!r}, method) makes one"
    )
  if estimate.unit != unit:
    hint = ""
    if (unit, estimate.unit) == ("FLOP", "FLOP/s"):
      hint = "; a rate is no amount: multiply it by seconds"
    raise ValueError(f"{where} must be in {unit}, got {estimate.unit}{hint}")
  return estimate


def monte_carlo(
  named: Sequence[tuple[str, Estimate]], count: int, seed: int
) -> Float[np.ndarray, " N"]:
  """Draws of a sum, whatever the order of its parts.

  Args:
    named: (unique name, estimate) of each part, all of one unit.
    count: draws.
    seed: of all of them.

  Returns:
    f64[count]; exactly the sum of the values if all parts are exact.

  Raises:
    ValueError: for different units, or fewer than one draw.
  """
  if count < 1:
    raise ValueError(f"expected at least one draw, got {count}")
  units = sorted({estimate.unit for _, estimate in named})
  if len(units) > 1:
    raise ValueError(f"cannot add {' and '.join(units)}")
  known = math.fsum(e.value for _, e in named if e.is_exact)
  total = np.full(count, known)
  for name, estimate in sorted(named, key=lambda pair: pair[0]):
    if not estimate.is_exact:
      total += estimate.draws(count, seed, name)
  return total
