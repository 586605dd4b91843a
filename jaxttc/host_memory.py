# SPDX-License-Identifier: Apache-2.0
"""Memory that a process on a CPU keeps between two steps."""

import ctypes

_TRIM_THRESHOLD, _MMAP_MAX, _ARENA_MAX = -1, -4, -8  # of mallopt(3)
_NEVER = 2**31 - 1  # bytes; the largest int


def keep() -> bool:
  """Lets the C library keep memory that is freed, for the next to ask.

  On a CPU, XLA asks for all of a step's temporary memory at once and frees it
  after the step. By default glibc hands so large a piece back to the system,
  and every step waits for the system to map it again and fill it with zeros. As
  a result of this call the process stays as large as it once was. It holds for
  the process: all of its allocations by malloc, from now on.

  Returns:
    Whether the C library took it: glibc does, others have no such thing.
  """
  try:
    library = ctypes.CDLL(None)
    option = library.mallopt
  except (AttributeError, OSError, TypeError):
    return False
  # One arena, since only the main one may be larger than 64 MiB.
  settings = ((_MMAP_MAX, 0), (_TRIM_THRESHOLD, _NEVER), (_ARENA_MAX, 1))
  return all([option(name, value) == 1 for name, value in settings])
