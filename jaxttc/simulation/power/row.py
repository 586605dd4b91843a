# SPDX-License-Identifier: Apache-2.0
"""A row of servers under one power budget: one scan over time, many rows.

Each step of `dt` seconds:

1. At a telemetry reading the policy sees the mean power of the last step and
   commands a level. Commands take effect in order, one latency later. Over
   budget, a brake is scheduled unless one is pending or held.
2. Locks, caps and the brake give every server its pace.
3. Servers move on (`server.advance`); their joules are the row's power.

Rows are independent: they differ in requests, policy, power model, budget and
actuators, are padded to one shape and run as one program. Time is cut into
chunks, so memory on the device does not grow with the horizon, and what
servers finished is collected on the host meanwhile.
"""

from collections.abc import Callable, Sequence
import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np

from jaxttc.simulation.power import engine as engine_lib
from jaxttc.simulation.power import model as model_lib
from jaxttc.simulation.power import outcome as outcome_lib
from jaxttc.simulation.power import packing as packing_lib
from jaxttc.simulation.power import policies as policies_lib
from jaxttc.simulation.power import requests as requests_lib

_MOST_STEPS = 2**24  # They are counted in float32.


@dataclasses.dataclass(frozen=True)
class Control:
  """How fast a row is seen and governed.

  Latencies are rounded up to whole steps.

  Attributes:
    telemetry_s: time between readings.
    cap_latency_s: from a command to its effect.
    brake_latency_s: from the reading over budget to the brake.
    brake_hold_s: how long a brake is held.

  Raises:
    ValueError: if a time is negative or not finite, or telemetry or hold is 0.
  """

  telemetry_s: float = 2.0
  cap_latency_s: float = 40.0
  brake_latency_s: float = 5.0
  brake_hold_s: float = 30.0

  def __post_init__(self) -> None:
    for name in ("telemetry_s", "brake_hold_s"):
      model_lib.positive(name, getattr(self, name))
    for name in ("cap_latency_s", "brake_latency_s"):
      value = getattr(self, name)
      if not (math.isfinite(value) and value >= 0):
        raise ValueError(f"{name} is {value}; expected at least 0")


@dataclasses.dataclass(frozen=True)
class Row:
  """One row to simulate.

  Attributes:
    requests: what its servers are asked to do.
    policy: how it is governed.
    power: idle power and clock of its servers.
    budget_w: what the row may draw.
    control: telemetry and actuators.

  Raises:
    ValueError: if the budget is below the row's idle power, a lock or cap of
      the plan cannot be, or a request draws less than an idle server.
  """

  requests: requests_lib.Requests
  policy: policies_lib.Policy
  power: model_lib.PowerModel
  budget_w: float
  control: Control = Control()

  def __post_init__(self) -> None:
    servers = len(self.requests.high)
    idle_w = servers * self.power.idle_w
    if not (math.isfinite(self.budget_w) and self.budget_w >= idle_w):
      raise ValueError(
        f"a budget of {self.budget_w:g} W; {servers} servers draw {idle_w:g} W "
        "even idle"
      )
    self.policy.plan.paces(self.power.clock)
    self.policy.plan.caps(self.power.idle_w)
    real = np.isfinite(self.requests.arrival_s)
    idle = self.power.idle_w
    low = real & ~(
      (self.requests.token_w >= idle)
      & (self.requests.prompt_w >= self.requests.token_w)
    )
    if low.any():
      server, at = np.argwhere(low)[0]
      raise ValueError(
        f"server {server}, request {at}: prompt "
        f"{self.requests.prompt_w[server, at]:g} W, token "
        f"{self.requests.token_w[server, at]:g} W, idle {idle:g} W; expected "
        "idle <= token <= prompt"
      )


def simulate_row(
  row: Row, *, horizon_s: float, dt: float = 0.5
) -> outcome_lib.RowResult:
  """Simulates one row; see `simulate_rows`."""
  return simulate_rows([row], horizon_s=horizon_s, dt=dt)[0]


def simulate_rows(
  rows: Sequence[Row],
  *,
  horizon_s: float,
  dt: float = 0.5,
  progress: Callable[[float], None] | None = None,
) -> list[outcome_lib.RowResult]:
  """Simulates rows side by side, as one compiled program.

  Runs in float32, or in float64 within `jax.enable_x64(True)`. A row's result
  does not depend on what it is run beside.

  Args:
    rows: the rows; they may share requests, which are then held once.
    horizon_s: how long to simulate, rounded up to whole steps.
    dt: length of a step; also the resolution of power.
    progress: is called with the seconds simulated so far.

  Returns:
    A result a row.

  Raises:
    ValueError: if there are no rows, `dt` is longer than a telemetry period
      or than a request, a telemetry period is not a whole number of steps,
      or there are more than 2**24 steps.
  """
  if not rows:
    raise ValueError("no rows to simulate")
  model_lib.positive("horizon_s", horizon_s)
  model_lib.positive("dt", dt)
  if horizon_s / dt > _MOST_STEPS:
    raise ValueError(
      f"{horizon_s:g} s in steps of {dt:g} s; expected at most {_MOST_STEPS} "
      "steps"
    )
  for at, row in enumerate(rows):
    try:
      _check_steps(row, dt)
    except ValueError as error:
      raise ValueError(f"row {at}: {error}") from None
  cells, carry, asked, decides = packing_lib.pack(rows, dt)
  capped = any(row.policy.plan.capped for row in rows)
  steps = packing_lib.steps(horizon_s, dt)
  collected = outcome_lib.Collector(rows, steps, dt)
  time_step = jnp.asarray(dt, cells.budget_w.dtype)
  for start in range(0, steps, engine_lib.CHUNK):
    carry, seen = engine_lib.run(
      carry, cells, asked, jnp.int32(start), time_step, decides, capped
    )
    collected.add(start, jax.tree.map(np.asarray, seen._asdict()))
    if progress is not None:
      progress(min(start + engine_lib.CHUNK, steps) * dt)
  return collected.results()


def _check_steps(row: Row, dt: float) -> None:
  control = row.control
  period = control.telemetry_s / dt
  if period < 1:
    raise ValueError(
      f"dt is {dt:g} s, longer than the telemetry period of "
      f"{control.telemetry_s:g} s"
    )
  if abs(period - round(period)) > 1e-9:
    raise ValueError(
      f"a telemetry period of {control.telemetry_s:g} s is not a whole number "
      f"of steps of {dt:g} s"
    )
  asked = row.requests
  service = np.where(
    np.isfinite(asked.arrival_s), asked.prompt_s + asked.token_s, math.inf
  )
  if service.min() < dt:
    server, at = np.unravel_index(np.argmin(service), service.shape)
    raise ValueError(
      f"server {server}, request {at} takes {service.min():g} s, less than a "
      f"step of {dt:g} s; take a shorter dt"
    )
