# SPDX-License-Identifier: Apache-2.0
"""Reads the energy counters that a machine has: NVML's and RAPL's.

A counter counts up from a start that nobody knows; energy is the difference of
two readings. RAPL's wrap around at a range that they tell. A counter that falls
and tells no range is broken, and is not guessed at. Counters are brought up to
date every few tens of milliseconds: windows should last longer.
"""

from collections.abc import Mapping, Sequence
import importlib
import os
import pathlib
from typing import Protocol, runtime_checkable

_RAPL = "/sys/class/powercap"
_RAPL_DOMAINS = ("package", "dram")  # core and uncore are parts of a package


@runtime_checkable
class Counter(Protocol):
  """Energy counters of one kind."""

  name: str

  def read(self) -> dict[str, float]:
    """Joules by domain, since an unknown start."""
    ...

  def ranges(self) -> dict[str, float]:
    """Joules at which a domain's counter begins anew, where that is known."""
    ...


class RaplCounter:
  """Running average power limit: packages and memory of Intel's and AMD's."""

  name = "RAPL"

  def __init__(self, root: str | os.PathLike[str] = _RAPL):
    """Finds the domains under a folder.

    Raises:
      ValueError: if there is none that may be read.
    """
    self._files: dict[str, pathlib.Path] = {}
    self._ranges: dict[str, float] = {}
    folder = pathlib.Path(root)
    for zone in sorted(folder.glob("*rapl:*")) if folder.is_dir() else ():
      try:
        kind = (zone / "name").read_text().strip()
        float((zone / "energy_uj").read_text())
      except (OSError, ValueError):
        continue  # not for us to read
      if kind.startswith(_RAPL_DOMAINS):
        domain = f"{kind} {zone.name}"
        self._files[domain] = zone / "energy_uj"
        try:
          most = float((zone / "max_energy_range_uj").read_text())
          self._ranges[domain] = most / 1e6
        except (OSError, ValueError):
          pass
    if not self._files:
      raise ValueError(
        f"{folder}: no energy counter of a package or of memory that this "
        "user may read"
      )

  def read(self) -> dict[str, float]:
    """Joules by domain."""
    return {
      domain: float(file.read_text()) / 1e6
      for domain, file in self._files.items()
    }

  def ranges(self) -> dict[str, float]:
    """Joules at which each domain begins anew."""
    return dict(self._ranges)


class NvmlCounter:
  """Total energy of NVIDIA cards since their driver was loaded."""

  name = "NVML"

  def __init__(self, indices: Sequence[int] | None = None):
    """Opens the cards.

    Args:
      indices: which cards; all if None.

    Raises:
      ValueError: if NVML is not installed, or no card tells its energy.
    """
    try:
      pynvml = importlib.import_module("pynvml")  # optional
    except ImportError:
      raise ValueError(
        "reading NVIDIA cards needs nvidia-ml-py; install it with: pip install "
        "'jaxttc[energy]'"
      ) from None
    self._nvml = pynvml
    try:
      pynvml.nvmlInit()
      if indices is None:
        indices = range(pynvml.nvmlDeviceGetCount())
      self._cards = {
        f"gpu {i}": pynvml.nvmlDeviceGetHandleByIndex(i) for i in indices
      }
      found = self.read()
    except pynvml.NVMLError as error:
      raise ValueError(f"no NVIDIA card tells its energy: {error}") from None
    if not found:
      raise ValueError("no NVIDIA card tells its energy: there is no card")

  def read(self) -> dict[str, float]:
    """Joules by card."""
    total = self._nvml.nvmlDeviceGetTotalEnergyConsumption
    return {name: total(card) / 1e3 for name, card in self._cards.items()}

  def ranges(self) -> dict[str, float]:
    """Of 64 bits; nothing begins anew."""
    return {}


def available() -> list[Counter]:
  """The counters that this machine has; none is no error."""
  found: list[Counter] = []
  for kind in (NvmlCounter, RaplCounter):
    try:
      found.append(kind())
    except ValueError:
      continue
  return found


def joules(
  before: Mapping[str, float],
  after: Mapping[str, float],
  ranges: Mapping[str, float],
) -> float:
  """Energy between two readings of a counter, over all its domains.

  Args:
    before: joules by domain.
    after: the same, later; at most one wrap-around later.
    ranges: of `Counter.ranges`.

  Raises:
    ValueError: if a counter fell and tells no range, fell by more than its
      range allows, or a domain is missing.
  """
  if set(before) != set(after):
    odd = sorted(set(before) ^ set(after))
    raise ValueError(f"energy counter {odd[0]!r} is in one reading only")
  total = 0.0
  for domain, start in before.items():
    used = after[domain] - start
    if used < 0:
      if domain not in ranges or start > ranges[domain]:
        raise ValueError(
          f"energy counter {domain!r} fell from {start} to {after[domain]} J, "
          "and does not tell where it begins anew"
        )
      used += ranges[domain]
    total += used
  return total
