# SPDX-License-Identifier: Apache-2.0
"""Energy, emissions and money of machine time.

Energy is measured where a counter can be read, else modelled from a device's
power limit:

    P = P_idle + (P_limit - P_idle) * utilisation

The *marginal* energy is what the work added, the *total* what the machine drew
while it lasted; both are told, and neither is called the energy.
"""

import dataclasses
import math

from jaxttc.cost import estimate as estimate_lib
from jaxttc.cost import hardware as hardware_lib

Estimate = estimate_lib.Estimate

JOULES_A_KWH = 3.6e6
# Idle draw over the power limit: data-centre cards lie around a tenth.
IDLE_SHARE = Estimate(
  value=0.1,
  low=0.06,
  high=0.2,
  unit="1",
  method="idle power of data-centre cards, over their limit",
  provenance="assumed",
  shared="idle power",
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Energy:
  """Joules of a stretch of time.

  Attributes:
    total: all that was drawn.
    marginal: of that, what an idle machine would not have drawn.
  """

  total: Estimate
  marginal: Estimate


def modelled(
  device: hardware_lib.Hardware,
  count: int,
  seconds: int | float,
  utilisation: Estimate | int | float,
  idle_share: Estimate = IDLE_SHARE,
) -> Energy:
  """Energy of devices by the power model.

  A share of peak FLOP/s understates power: a card that is short of memory
  bandwidth draws nearly its limit. The interval's upper end is the limit.

  Args:
    device: with a known power limit.
    count: of devices.
    seconds: of wall-clock time, on all of them.
    utilisation: in [0, 1]: busy share of the time, or of the peak.
    idle_share: idle power over the limit, in [0, 1].

  Raises:
    ValueError: if the power is unknown, or a number is out of range.
  """
  if count < 1 or not 0 <= seconds < math.inf:
    raise ValueError(
      f"energy needs devices >= 1 and finite seconds >= 0, got {count} and "
      f"{seconds}"
    )
  if not isinstance(utilisation, Estimate):
    utilisation = Estimate.exact(utilisation, "1", "utilisation given")
  for name, share in (("utilisation", utilisation), ("idle_share", idle_share)):
    estimate_lib.require(share, "1", name)
    if share.high > 1:
      raise ValueError(f"{name} must be at most 1, got {share.high:g}")
  limit = count * device.joules(seconds)
  idle, busy = idle_share.value, utilisation.value
  marginal = limit * (1 - idle) * busy
  total = limit * idle + marginal
  method = f"power model ({count} x {device.name}, {device.watts:g} W limit)"
  least = limit * (
    idle_share.low + (1 - idle_share.low) * min(utilisation.low, busy)
  )

  def estimate(
    value: int | float, low: int | float, high: int | float
  ) -> Estimate:
    return Estimate(
      value=value,
      low=min(low, value),
      high=max(high, value),
      unit="J",
      method=method,
      provenance="modelled",
      shared="power",
    )

  return Energy(
    total=estimate(total, least, limit),
    marginal=estimate(
      marginal,
      limit * (1 - idle_share.high) * utilisation.low,
      limit * (1 - idle_share.low) if busy > 0 else 0.0,
    ),
  )


def constant(watts: int | float, seconds: int | float) -> Estimate:
  """Energy at a power that somebody supposes.

  Raises:
    ValueError: if either is negative or not finite.
  """
  if not (0 <= watts < math.inf and 0 <= seconds < math.inf):
    raise ValueError(
      f"energy needs finite watts and seconds >= 0, got {watts} and {seconds}"
    )
  return Estimate.exact(
    watts * seconds, "J", f"{watts:g} W throughout", "assumed"
  )


def check_pue(pue: int | float) -> None:
  """Raises ValueError unless a power usage effectiveness can be."""
  if not 1 <= pue < math.inf:
    raise ValueError(
      f"PUE is all power over that of the machines, at least 1; got {pue}"
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Prices:
  """What is paid for.

  Attributes:
    dollars_per_kwh: of electricity; None where machine time includes it.
    pue: power usage effectiveness of the building.
    storage_dollars_per_gb_month: of what is kept.
    egress_dollars_per_gb: of what leaves.
    source: where the prices are from.
  """

  dollars_per_kwh: float | None = None
  pue: float = 1.0
  storage_dollars_per_gb_month: float = 0.0
  egress_dollars_per_gb: float = 0.0
  source: str = ""

  def __post_init__(self):
    check_pue(self.pue)
    for field in ("storage_dollars_per_gb_month", "egress_dollars_per_gb"):
      if not 0 <= getattr(self, field) < math.inf:
        raise ValueError(
          f"Prices.{field} must be finite and not negative, got "
          f"{getattr(self, field)}"
        )
    price = self.dollars_per_kwh
    if price is not None and not 0 <= price < math.inf:
      raise ValueError(
        f"Prices.dollars_per_kwh must be finite and not negative, got {price}"
      )

  def electricity(self, joules: Estimate) -> Estimate:
    """Dollars of energy, the building's share included.

    Raises:
      ValueError: if the price is not known.
    """
    estimate_lib.require(joules, "J", "joules")
    if self.dollars_per_kwh is None:
      raise ValueError(
        "dollars of energy need Prices.dollars_per_kwh, which is not given"
      )
    dollars = joules.scaled(self.pue * self.dollars_per_kwh / JOULES_A_KWH)
    return dataclasses.replace(dollars, unit="USD")

  def kept(self, gigabytes: int | float, months: int | float) -> Estimate:
    """Dollars of storage."""
    return Estimate.exact(
      gigabytes * months * self.storage_dollars_per_gb_month,
      "USD",
      "storage",
      "modelled",
    )

  def sent(self, gigabytes: int | float) -> Estimate:
    """Dollars of egress."""
    return Estimate.exact(
      gigabytes * self.egress_dollars_per_gb, "USD", "egress", "modelled"
    )


def rent(device: hardware_lib.Hardware, device_seconds: Estimate) -> Estimate:
  """Dollars of rented machine time, electricity included.

  Raises:
    ValueError: if the registry knows no price.
  """
  estimate_lib.require(device_seconds, "s", "device_seconds")
  dollars = device_seconds.scaled(device.dollars(1.0))
  return dataclasses.replace(
    dollars,
    unit="USD",
    method=f"{device.name} at ${device.dollars_per_hour:g} an hour, read "
    f"{device.as_of}",
    provenance="modelled",
  )


def purchased(
  price: int | float, lifetime_hours: int | float, device_seconds: Estimate
) -> Estimate:
  """Dollars of machine time of a device that was bought, spread over its life.

  Raises:
    ValueError: for a price or a lifetime that cannot be.
  """
  estimate_lib.require(device_seconds, "s", "device_seconds")
  if not (0 <= price < math.inf and 0 < lifetime_hours < math.inf):
    raise ValueError(
      f"a purchase needs a price >= 0 and a lifetime > 0, got {price} and "
      f"{lifetime_hours} hours"
    )
  dollars = device_seconds.scaled(price / (lifetime_hours * 3600))
  return dataclasses.replace(
    dollars, unit="USD", method="purchase, spread over its life"
  )
