# SPDX-License-Identifier: Apache-2.0
"""The one hardware registry: peaks, memory, power and prices, with sources.

Peaks are dense: vendors' headline figures often assume 2:4 structured
sparsity and are halved here. A figure that its source does not give is None,
and asking for what depends on it raises; nothing is guessed. Prices are list
prices of one device by the hour, on demand, and change: use
`dataclasses.replace` and `register` to bring your own.
"""

from collections.abc import Mapping
import dataclasses
import math
from typing import Any

from jaxttc.cost import hardware_table, registry


@dataclasses.dataclass(frozen=True, kw_only=True)
class Hardware:
  """One device of a kind.

  Attributes:
    name: the registry's name.
    release: year and month of announcement.
    peak_flops: dense peak by dtype name, FLOP/s (operations/s for int8).
    memory_bytes: device memory; None if the source does not say.
    bandwidth_bytes_per_s: peak memory bandwidth.
    watts: board power limit; None if not published.
    dollars_per_hour: list price on demand; None if unknown.
    source: where the figures are from.
    price_source: where the price is from, and for what configuration.
    as_of: day the price was read; empty without a price.
    device_kinds: what JAX calls it in `device.device_kind`.
  """

  name: str
  release: str
  peak_flops: Mapping[str, float]
  memory_bytes: float | None
  bandwidth_bytes_per_s: float
  watts: float | None
  dollars_per_hour: float | None
  source: str
  price_source: str = ""
  as_of: str = ""
  device_kinds: tuple[str, ...] = ()

  def peak(self, dtype: str) -> float:
    """Dense peak FLOP/s in `dtype`.

    Raises:
      ValueError: if this hardware has no published peak for it.
    """
    if dtype not in self.peak_flops:
      raise ValueError(
        f"{self.name} has no peak for dtype {dtype!r}; expected one of "
        f"{sorted(self.peak_flops)}"
      )
    return self.peak_flops[dtype]

  def joules(self, seconds: int | float) -> float:
    """Energy of `seconds` at the board power limit.

    Raises:
      ValueError: if the power is unknown.
    """
    return _known(self, "watts") * seconds

  def dollars(self, seconds: int | float) -> float:
    """Price of `seconds`.

    Raises:
      ValueError: if the price is unknown.
    """
    return _known(self, "dollars_per_hour") * seconds / 3600.0


def _known(hardware: Hardware, field: str) -> float:
  value = getattr(hardware, field)
  if value is None:
    raise ValueError(
      f"{hardware.name} has no known {field}; give it with "
      f"dataclasses.replace(hardware, {field}=...)"
    )
  return value


_REGISTRY = registry.Registry[Hardware]("hardware")


def register(hardware: Hardware, replace: bool = False) -> Hardware:
  """Adds hardware to the registry and returns it.

  Args:
    hardware: the entry.
    replace: whether an entry of that name may be there already.

  Raises:
    ValueError: for a name already taken, an entry without a source, a price
      without a date, or a figure that is not positive and finite.
  """
  if not hardware.source:
    raise ValueError(f"hardware {hardware.name!r} needs a source")
  priced = hardware.dollars_per_hour is not None
  if priced and not (hardware.price_source and hardware.as_of):
    raise ValueError(
      f"the price of {hardware.name!r} needs price_source and as_of"
    )
  figures = {
    "memory_bytes": hardware.memory_bytes,
    "bandwidth_bytes_per_s": hardware.bandwidth_bytes_per_s,
    "watts": hardware.watts,
    "dollars_per_hour": hardware.dollars_per_hour,
    **hardware.peak_flops,
  }
  for field, value in figures.items():
    if value is not None and not 0 < value < math.inf:
      raise ValueError(
        f"{hardware.name}.{field} must be positive and finite, got {value}"
      )
  return _REGISTRY.add(hardware, replace)


def names() -> list[str]:
  """Names in the registry, sorted."""
  return sorted(_REGISTRY.names())


def lookup(name: str) -> Hardware:
  """The entry of that name.

  Raises:
    ValueError: if there is none; the nearest name is suggested.
  """
  return _REGISTRY.lookup(name)


def of_device(device: Any) -> Hardware:
  """The entry of a JAX device, by its `device_kind`.

  Raises:
    ValueError: if no entry lists that kind. JAX calls every processor "cpu",
      which says nothing of its speed: look one up by name, or register yours.
  """
  kind = device.device_kind
  for hardware in _REGISTRY:
    if kind in hardware.device_kinds:
      return hardware
  raise ValueError(
    f"no hardware is registered for device kind {kind!r}; use lookup(name) "
    f"with one of {names()}, or register your own"
  )


def roofline_seconds(
  hardware: Hardware,
  flops: int | float,
  bytes_moved: int | float,
  dtype: str,
) -> float:
  """Least time for `flops` and `bytes_moved` on one device, in seconds.

  The larger of compute and memory time, as if they overlapped fully
  (Williams, Waterman and Patterson, 2009).

  Raises:
    ValueError: for negative amounts, or a dtype without a peak.
  """
  if not (flops >= 0 and bytes_moved >= 0):
    raise ValueError(
      f"roofline needs amounts >= 0, got flops={flops}, bytes={bytes_moved}"
    )
  compute = flops / hardware.peak(dtype)
  return max(compute, bytes_moved / hardware.bandwidth_bytes_per_s)


def utilisation(
  hardware: Hardware, flops: int | float, seconds: int | float, dtype: str
) -> float:
  """Share of the peak that `flops` in `seconds` on one device make up.

  Raises:
    ValueError: if it is above 1, which means that FLOPs, seconds, dtype or
      number of devices are wrong; for `seconds` not positive or `flops`
      negative; for a dtype without a peak.
  """
  if not (seconds > 0 and flops >= 0):
    raise ValueError(
      f"utilisation needs flops >= 0 and seconds > 0, got flops={flops}, "
      f"seconds={seconds}"
    )
  share = flops / (seconds * hardware.peak(dtype))
  if share > 1:
    raise ValueError(
      f"utilisation of {hardware.name} in {dtype} would be {share:.3g} > 1; "
      "check flops, seconds, dtype and the number of devices"
    )
  return share


for _entry in hardware_table.ENTRIES:
  register(Hardware(**_entry))
