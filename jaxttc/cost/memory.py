# SPDX-License-Identifier: Apache-2.0
"""Peak memory: what a compiled program takes, and what a process has taken."""

import dataclasses
import sys
from typing import Any

import jax

from jaxttc.cost import estimate as estimate_lib

Estimate = estimate_lib.Estimate


@dataclasses.dataclass(frozen=True, kw_only=True)
class ProgramMemory:
  """Bytes of one compiled program on one device.

  Attributes:
    arguments: of what goes in.
    outputs: of what comes out.
    aliased: of outputs that reuse arguments (donated).
    temporary: of all in between.
    code: of the program.
  """

  arguments: int
  outputs: int
  aliased: int
  temporary: int
  code: int

  @property
  def peak(self) -> int:
    """Bytes that must be there at once, beside the code."""
    return self.temporary + self.arguments + self.outputs - self.aliased


def of_program(compiled: Any) -> ProgramMemory:
  """Memory of a compiled program: `jax.jit(f).lower(..).compile()`.

  Raises:
    ValueError: if the backend does not tell.
  """
  stats = compiled.memory_analysis()
  if stats is None:
    raise ValueError("this backend does not tell a program's memory")
  return ProgramMemory(
    arguments=stats.argument_size_in_bytes,
    outputs=stats.output_size_in_bytes,
    aliased=stats.alias_size_in_bytes,
    temporary=stats.temp_size_in_bytes,
    code=stats.generated_code_size_in_bytes,
  )


def of_devices() -> Estimate | None:
  """The largest peak of this process' devices; None where they do not tell.

  CPUs do not.
  """
  found = [device.memory_stats() for device in jax.local_devices()]
  peaks = [stats["peak_bytes_in_use"] for stats in found if stats]
  if not peaks:
    return None
  return Estimate.exact(max(peaks), "B", "device's allocator", "measured")


def of_process() -> Estimate | None:
  """Most memory that this process has had since it began; None on Windows.

  Compiler and allocator caches are in it: an upper bound of what a run needs.
  """
  try:
    import resource
  except ImportError:
    return None
  peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
  unit = 1 if sys.platform == "darwin" else 1024
  return Estimate.exact(peak * unit, "B", "largest resident set", "measured")
