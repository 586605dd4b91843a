# SPDX-License-Identifier: Apache-2.0
"""Puts what a training run computes into a ledger, counted from its step."""

import time
from typing import Any, Self

import jax

from jaxttc import mesh as mesh_lib
from jaxttc.cost import estimate as estimate_lib
from jaxttc.cost import flop_estimates
from jaxttc.cost import ledger as ledger_lib


class StepAccount:
  """Counts steps while it is open; writes one entry when it closes.

  The step is traced once, before it first runs: forward, backward, optimiser
  and all. Evaluations are left out; of the time they are part. A run that is
  stopped and resumed writes an entry each time; one that diverges is entered
  as failed.
  """

  def __init__(self, ledger: ledger_lib.Ledger | None):
    """Opens nothing yet.

    Args:
      ledger: gets the entry; None counts nothing. Of several processes, the
        first one's.
    """
    self._ledger = ledger if mesh_lib.is_first() else None
    self._flop: estimate_lib.Estimate | None = None
    self._steps = 0

  def __enter__(self) -> Self:
    self._start = time.perf_counter()
    return self

  def count(self, step: Any, *args: Any) -> None:
    """Counts one call `step(*args)`; only shapes of arguments are read.

    Raises:
      ValueError: at the first call, if the step's FLOP cannot be counted.
    """
    if self._ledger is None:
      return
    if self._flop is None:
      shapes = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), args
      )
      self._flop = flop_estimates.from_trace(step, *shapes)
    self._steps += 1

  def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
    if self._ledger is None or self._flop is None:
      return
    seconds = (time.perf_counter() - self._start) * jax.device_count()
    failed = isinstance(error, FloatingPointError)
    self._ledger.add(
      "failed" if failed else self._ledger.current_phase or "pre_training",
      flop=self._flop.scaled(self._steps),
      seconds=estimate_lib.Estimate.exact(
        seconds, "s", "wall clock, evaluations included", "measured"
      ),
      note=f"{self._steps} steps",
    )
