# SPDX-License-Identifier: Apache-2.0
"""What widths cost, in the unit that a budget is given in."""

import math

import numpy as np

from jaxttc.cost import hardware as hardware_lib
from jaxttc.models.slimmable import costs, network

UNITS = (
  "macs",
  "flops",
  "fraction",
  "parameters",
  "activations",
  "latency_ms",
  "joules",
)


class WidthPrices:
  """Prices of a network's configurations, in any unit.

  macs and flops are an example's, two flops a multiply-add; fraction is of the
  full network's multiply-adds; parameters and activations are numbers, not
  bytes; latency_ms is what a table of measurements says
  (`inference.width_latency`); joules follow from flops and a chip's power.
  """

  def __init__(
    self,
    net: network.MultiTaskNetwork,
    *,
    latency_ms=None,
    hardware: hardware_lib.Hardware | None = None,
    dtype: str = "float32",
  ):
    """Takes what the two last units need.

    Args:
      net: the network.
      latency_ms: i32[N, groups] -> f64[N], measured on this machine.
      hardware: the chip whose power at full load, and peak, give joules.
      dtype: whose peak.
    """
    self._net = net
    self._latency = latency_ms
    self._hardware = hardware
    self._dtype = dtype
    self._known: dict[bytes, costs.WidthCosts] = {}
    top = np.full((1, len(net.space.groups)), len(net.space.menu) - 1, np.int32)
    self.ends = {"low": 0 * top, "high": top}

  def __call__(self, indices: np.ndarray, unit: str) -> np.ndarray:
    """Prices f64[N] of configurations at menu indices i32[N, groups].

    Raises:
      ValueError: if the unit is unknown, or needs what was not given.
    """
    if unit == "latency_ms":
      if self._latency is None:
        raise ValueError(
          "a budget of latency_ms needs a table measured on this machine: "
          "inference.width_latency.measure"
        )
      return np.asarray(self._latency(indices), np.float64)
    found = self._costs(np.ascontiguousarray(indices, np.int32))
    if unit in ("macs", "parameters", "activations"):
      return np.asarray(getattr(found, unit), np.float64)
    if unit == "flops":
      return 2.0 * found.macs
    if unit == "fraction":
      return found.macs / self._costs(self.ends["high"]).macs
    if unit == "joules":
      if self._hardware is None:
        raise ValueError("a budget of joules needs hardware")
      peak = self._hardware.peak(self._dtype)
      return np.array(
        [self._hardware.joules(2.0 * m / peak) for m in found.macs]
      )
    raise ValueError(f"budget unit {unit!r} is not one of {', '.join(UNITS)}")

  def _costs(self, indices):
    key = indices.tobytes()
    if key not in self._known:
      if len(self._known) >= 64:
        self._known.pop(next(iter(self._known)))
      self._known[key] = costs.tabulate(self._net, indices)
    return self._known[key]


def check_budget(budget: float, unit: str) -> float:
  """Refuses budgets that cannot be.

  Raises:
    ValueError: naming the budget and its unit.
  """
  if unit not in UNITS:
    raise ValueError(f"budget unit {unit!r} is not one of {', '.join(UNITS)}")
  number = isinstance(budget, int | float | np.number)
  if not number or isinstance(budget, bool) or not 0 < budget < math.inf:
    raise ValueError(
      f"a budget must be a positive number of {unit}, got {budget!r}"
    )
  return float(budget)
