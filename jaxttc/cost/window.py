# SPDX-License-Identifier: Apache-2.0
"""Window: measures what runs while it is open, and says how it knows.

    with window.Window("decode", hardware=h100) as w:
      for batch in batches:
        out = step(batch)
        w.step(tokens_out=out.size, flop=flops_a_step)
    w.record()                       # a CostRecord
    w.record().per("joules", "tokens_out")

Windows nest. At both edges all devices are waited for, so work that was only
dispatched is not lost. Compiling is told apart from running. Energy comes from
the counters that there are, else from the power model, else there is none. A
budget ends a run at a step's edge.
"""

from collections.abc import Callable, Sequence
import contextvars
import functools
import os
import time
from typing import Any, Self

import jax

from jaxttc.cost import budget as budget_lib
from jaxttc.cost import cost_record, costs, energy_counters, memory
from jaxttc.cost import energy as energy_lib
from jaxttc.cost import estimate as estimate_lib
from jaxttc.cost import hardware as hardware_lib
from jaxttc.cost import ledger as ledger_lib

Estimate = estimate_lib.Estimate
_COMPILING = (
  "/jax/core/compile/jaxpr_trace_duration",
  "/jax/core/compile/jaxpr_to_mlir_module_duration",
  "/jax/core/compile/backend_compile_duration",
)
_open: contextvars.ContextVar[tuple["Window", ...]] = contextvars.ContextVar(
  "open windows", default=()
)


class Window:
  """See the module docstring. Opened once, closed once."""

  def __init__(
    self,
    name: str,
    *,
    hardware: hardware_lib.Hardware | None = None,
    devices: int = 1,
    dtype: str = "float32",
    counters: Sequence[energy_counters.Counter] | None = None,
    budget: budget_lib.Budget | None = None,
    ledger: ledger_lib.Ledger | None = None,
    phase: str | None = None,
  ):
    """Describes what will be measured; nothing starts yet.

    Args:
      name: what runs.
      hardware: for the power model and rent; None for neither.
      devices: how many of it.
      dtype: of the products, for the share of the peak.
      counters: of energy; None for all that the machine has, () for none.
      budget: a step that overspends it raises `BudgetExceeded`.
      ledger: gets an entry when the window closes.
      phase: of the entry; None for the ledger's own.
    """
    self.name = name
    self._hardware, self._devices, self._dtype = hardware, devices, dtype
    self._counters = counters
    self._meter = budget_lib.Meter.start(budget or budget_lib.Budget())
    self._ledger, self._phase = ledger, phase
    self._state = "new"
    self._compiling: list[tuple[float, float]] = []
    self._counted = dict.fromkeys(
      ("tokens_in", "tokens_out", "examples", "flop"), 0.0
    )

  def __enter__(self) -> Self:
    if self._state != "new":
      raise ValueError(f"window {self.name!r} is {self._state}; open it once")
    if self._counters is None:
      self._counters = energy_counters.available()
    jax.monitoring.register_event_duration_secs_listener(self._listen)
    self._state = "open"
    self._token = _open.set((*_open.get(), self))
    _wait()
    self._readings = [counter.read() for counter in self._counters]
    self._cpu, self._start = time.process_time(), time.perf_counter()
    return self

  def __exit__(self, *exception: object) -> None:
    if self._state != "open":
      raise ValueError(f"window {self.name!r} is {self._state}; close it once")
    if _open.get()[-1] is not self:
      raise ValueError(
        f"window {self.name!r} closes before {_open.get()[-1].name!r}, which "
        "was opened inside it"
      )
    _wait()
    self._seconds = time.perf_counter() - self._start
    self._cpu = time.process_time() - self._cpu
    self._joules = self._measured()
    self._state = "closed"
    _open.reset(self._token)
    jax.monitoring.unregister_event_duration_listener(self._listen)
    if self._ledger is not None and exception[0] is None:
      self._enter_ledger()

  def __call__(self, fn: Callable[..., Any]) -> Callable[..., Any]:
    """As a decorator: each call is a window of its own."""

    @functools.wraps(fn)
    def measured(*args: Any, **fields: Any) -> Any:
      window = Window(
        self.name,
        hardware=self._hardware,
        devices=self._devices,
        dtype=self._dtype,
        counters=self._counters,
        budget=self._meter.budget,
        ledger=self._ledger,
        phase=self._phase,
      )
      with window:
        return fn(*args, **fields)

    return measured

  def step(
    self,
    *,
    tokens_in: int = 0,
    tokens_out: int = 0,
    examples: int = 0,
    flop: int | float = 0,
  ) -> None:
    """Counts what a step has done.

    Raises:
      BudgetExceeded: if the window's budget does not have it, or its measured
        fields (seconds, joules) have run out; what was counted stays.
      ValueError: for negative numbers, or a window that is not open.
    """
    if self._state != "open":
      raise ValueError(f"window {self.name!r} is {self._state}; steps need it")
    amounts = (tokens_in, tokens_out, examples, flop)
    if min(amounts) < 0:
      raise ValueError(f"a step counts nothing negative, got {amounts}")
    for name, amount in zip(self._counted, amounts, strict=True):
      self._counted[name] += amount
    spent = costs.Cost(
      prompt_tokens=tokens_in, generated_tokens=tokens_out, flops=flop
    )
    self._meter = self._meter.charge(spent)
    now = self._so_far()
    for field in ("seconds", "joules"):
      limit = getattr(self._meter.budget, field)
      if limit is not None and getattr(now, field) > limit:
        raise budget_lib.BudgetExceeded(field, self._meter, now)

  def record(self) -> cost_record.CostRecord:
    """What was measured, of a window that is closed.

    Seconds are without compiling, energy is with it. Time that another window
    took inside this one is in this one, too.

    Raises:
      ValueError: if the window is not closed.
    """
    if self._state != "closed":
      raise ValueError(f"window {self.name!r} is {self._state}; close it first")
    measured = lambda x, unit, method: Estimate.exact(  # noqa: E731
      x, unit, method, "measured"
    )
    compiling = _covered(
      self._compiling, self._start, self._start + self._seconds
    )
    figures = {
      "seconds": measured(
        self._seconds - compiling, "s", "wall clock without compiling"
      ),
      "compile_seconds": measured(compiling, "s", "JAX's compile events"),
      "cpu_seconds": measured(self._cpu, "s", "process time"),
      "tokens_in": Estimate.exact(
        self._counted["tokens_in"], "token", "counted by steps"
      ),
      "tokens_out": Estimate.exact(
        self._counted["tokens_out"], "token", "counted by steps"
      ),
      "examples": Estimate.exact(
        self._counted["examples"], "1", "counted by steps"
      ),
      "flop": Estimate.exact(self._counted["flop"], "FLOP", "counted by steps"),
    }
    peak = memory.of_devices() or memory.of_process()
    if peak is not None:
      figures["peak_bytes"] = peak
    figures |= self._energy() | self._rent()
    machine = self._hardware.name if self._hardware else "this machine"
    return cost_record.CostRecord(
      name=self.name, machine=f"{self._devices} x {machine}", figures=figures
    )

  def _listen(self, event: str, duration: float, **details: Any) -> None:
    del details
    if event in _COMPILING:  # told at its end
      now = time.perf_counter()
      self._compiling.append((now - duration, now))

  def _measured(self) -> float | None:
    """Joules of all counters; None without counters."""
    if not self._counters:
      return None
    return sum(
      energy_counters.joules(before, counter.read(), counter.ranges())
      for before, counter in zip(self._readings, self._counters, strict=True)
    )

  def _utilisation(self) -> float:
    """Share of the peak, or of this process' cores where no FLOP are known."""
    device = self._hardware
    seconds = max(self._seconds, 1e-9)
    if device is not None and self._counted["flop"]:
      peak = self._devices * device.peak(self._dtype) * seconds
      return min(self._counted["flop"] / peak, 1.0)
    return min(self._cpu / (seconds * (os.cpu_count() or 1)), 1.0)

  def _energy(self) -> dict[str, Estimate]:
    if self._joules is not None:
      names = ", ".join(counter.name for counter in self._counters)
      return {"joules": Estimate.exact(self._joules, "J", names, "measured")}
    if self._hardware is None or self._hardware.watts is None:
      return {}
    found = energy_lib.modelled(
      self._hardware, self._devices, self._seconds, self._utilisation()
    )
    return {"joules": found.total, "marginal_joules": found.marginal}

  def _rent(self) -> dict[str, Estimate]:
    if self._hardware is None or self._hardware.dollars_per_hour is None:
      return {}
    seconds = Estimate.exact(
      self._devices * self._seconds, "s", "wall clock", "measured"
    )
    return {"dollars": energy_lib.rent(self._hardware, seconds)}

  def _so_far(self) -> costs.Cost:
    """Measured fields, of a window that is open."""
    limits = self._meter.budget
    seconds = time.perf_counter() - self._start
    joules = 0.0
    if limits.joules is not None:
      self._seconds, self._joules = seconds, self._measured()
      found = self._energy().get("joules")
      joules = found.value if found else 0.0
    return costs.Cost(seconds=seconds, joules=joules)

  def _enter_ledger(self) -> None:
    found = self.record().figures
    self._ledger.add(
      self._phase,
      flop=found["flop"],
      seconds=found["seconds"].scaled(self._devices),
      joules=found.get("joules"),
      dollars=found.get("dollars"),
      note=self.name,
    )


def _covered(
  stretches: list[tuple[float, float]], first: float, last: float
) -> float:
  """Seconds from `first` to `last` within stretches, which may overlap."""
  total, reached = 0.0, first
  for start, end in sorted(stretches):
    start, end = max(start, reached), min(end, last)
    total += max(end - start, 0.0)
    reached = max(reached, end)
  return total


def _wait() -> None:
  """Waits for what was dispatched to every device of this process."""
  probes = [jax.device_put(0.0, device) + 1 for device in jax.local_devices()]
  jax.block_until_ready(probes)
