# SPDX-License-Identifier: Apache-2.0
"""What widths cost, in the unit that a budget is given in."""

import math
import re

import jax.numpy as jnp
import numpy as np

from jaxttc.cost import hardware as hardware_lib
from jaxttc.models.slimmable import costs, network

UNITS = (
  "macs",
  "flops",
  "fraction",
  "parameters",
  "activations",
  "bytes",
  "latency_ms",
  "joules",
)

_THOUSANDS = {"": 1.0, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12}
_OF_BYTES = {"": 1.0, "B": 1.0} | {
  f"{prefix}{unit}": base ** (i + 1)
  for base, unit, prefixes in ((1e3, "B", "kMGT"), (1024.0, "iB", "KMGT"))
  for i, prefix in enumerate(prefixes)
}
# What a budget in text may end in, and what that multiplies it with.
_SUFFIXES = dict.fromkeys(UNITS, _THOUSANDS) | {
  "fraction": {"": 1.0, "%": 0.01},
  "bytes": _OF_BYTES,
  "latency_ms": {"": 1.0, "us": 1e-3, "ms": 1.0, "s": 1e3},
  "joules": {"": 1.0, "mJ": 1e-3, "J": 1.0},
}
_NUMBER = re.compile(r"\s*([+-]?(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?)\s*(\S*)\s*")


class WidthPrices:
  """Prices of a network's configurations, in any unit.

  macs and flops are an example's, two flops a multiply-add; fraction is of the
  full network's multiply-adds; parameters and activations are numbers; bytes
  hold both for one example, which bounds the memory of a pass from above, as
  activations need not all live at once; latency_ms is what a table of
  measurements says (`inference.width_latency`); joules follow from flops and
  a chip's power.
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
      dtype: whose peak, and bytes a number.
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
    if unit == "bytes":
      size = jnp.dtype(self._dtype).itemsize
      return size * np.asarray(found.parameters + found.activations, np.float64)
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


def parse_budget(text: str, unit: str | None = None) -> tuple[float, str]:
  """Reads a budget: "0.5", "50%", "200M", "512MiB", "2ms".

  Args:
    text: a number, and a suffix of its unit: k, M, G or T (powers of 1000)
      for counts; B, kB.. and KiB.. (powers of 1024) for bytes; us, ms or s for
      latency_ms; mJ or J for joules; % for a fraction.
    unit: one of `UNITS`. None takes the only unit that has the suffix, and a
      fraction for a plain number.

  Returns:
    The budget in its unit, and the unit.

  Raises:
    ValueError: if the text is no number with a suffix of the unit, several
      units have the suffix and none is given, or the budget cannot be.
  """
  if unit is not None and unit not in UNITS:
    raise ValueError(f"budget unit {unit!r} is not one of {', '.join(UNITS)}")
  match = _NUMBER.fullmatch(text)
  if match is None:
    raise ValueError(
      f"budget {text!r} is not a number with a suffix, as 0.5, 50%, 200M or "
      "512MiB"
    )
  number, suffix = match.groups()
  if unit is None and not suffix:
    unit = "fraction"
  elif unit is None:
    having = [name for name in UNITS if suffix in _SUFFIXES[name]]
    if len(having) != 1:
      raise ValueError(
        f"budget {text!r}: "
        + (
          f"{suffix!r} may be of {', '.join(having)}; say which unit"
          if having
          else f"no unit has the suffix {suffix!r}; known are "
          + ", ".join(
            dict.fromkeys(x for u in UNITS for x in _SUFFIXES[u] if x)
          )
        )
      )
    unit = having[0]
  if suffix not in _SUFFIXES[unit]:
    known = ", ".join(x for x in _SUFFIXES[unit] if x)
    raise ValueError(
      f"budget {text!r}: {unit} have no suffix {suffix!r}; expected a number, "
      f"or one that ends in {known}"
    )
  return check_budget(float(number) * _SUFFIXES[unit][suffix], unit), unit
