# SPDX-License-Identifier: Apache-2.0
"""Fair timing of rivals in one process: one core, one thread, by turns.

Times are CPU seconds of the process (`time.process_time`), so a busy machine
lengthens a measurement less than it would wall time. Every rival is run once
before the clock starts (it compiles, allocates, fills caches); then all take
turns, and the least time of each counts.
"""

from collections.abc import Callable, Iterator, Mapping
import contextlib
import dataclasses
import gc
import os
import time
from typing import Any

import jax

_XLA_FLAGS = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"


def use_one_thread() -> None:
  """Holds this process, XLA and torch to one thread on one core.

  Call it before the first JAX operation: XLA reads its flags, and the cores
  it may use, when its backend starts. Where a process cannot be pinned (not
  Linux), the flags alone apply.
  """
  os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {_XLA_FLAGS}"
  if hasattr(os, "sched_setaffinity"):
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
  import torch  # Its threads are set here and nowhere else.

  torch.set_num_threads(1)
  torch.set_num_interop_threads(1)


def by_turns(
  rivals: Mapping[str, Callable[[], Any]], repeats: int
) -> dict[str, list[float]]:
  """CPU seconds of each turn of each rival.

  Args:
    rivals: what to run, by name; arrays they return are waited for.
    repeats: turns of each, after one that is not timed.

  Returns:
    `repeats` times for each name, in seconds.

  Raises:
    ValueError: if `repeats` is below 1.
  """
  if repeats < 1:
    raise ValueError(f"repeats is {repeats}; expected at least 1")
  for run in rivals.values():
    jax.block_until_ready(run())
  seconds = {name: [] for name in rivals}
  gc.collect()
  gc.disable()
  try:
    for _ in range(repeats):
      for name, run in rivals.items():
        start = time.process_time()
        jax.block_until_ready(run())
        seconds[name].append(time.process_time() - start)
  finally:
    gc.enable()
  return seconds


def ratio(
  seconds: Mapping[str, list[float]], slow: str, fast: str
) -> dict[str, float]:
  """How many times faster `fast` is than `slow`.

  Returns:
    `value`, the least time of `slow` over the least of `fast`; `low` and
    `high`, the range of the same ratio within one turn.
  """
  value = min(seconds[slow]) / min(seconds[fast])
  turns = [a / b for a, b in zip(seconds[slow], seconds[fast], strict=True)]
  return {
    "value": value,
    "low": min(value, *turns),
    "high": max(value, *turns),
  }


@dataclasses.dataclass
class Compilations:
  """Programs that XLA has compiled, or fetched from a cache of them."""

  count: int = 0


@contextlib.contextmanager
def counting_compilations() -> Iterator[Compilations]:
  """Counts compilations within the block, of whatever function."""
  seen = Compilations()

  def listen(event: str, duration: float, **details: str) -> None:
    del duration, details
    seen.count += event == "/jax/core/compile/backend_compile_duration"

  jax.monitoring.register_event_duration_secs_listener(listen)
  try:
    yield seen
  finally:
    jax.monitoring.unregister_event_duration_listener(listen)
