# SPDX-License-Identifier: Apache-2.0
"""Rows as arrays of one shape, which the engine steps side by side."""

from collections.abc import Sequence
import math
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxttc.simulation.power import engine as engine_lib
from jaxttc.simulation.power import policies as policies_lib
from jaxttc.simulation.power import requests as requests_lib
from jaxttc.simulation.power import server as server_lib

if TYPE_CHECKING:
  from jaxttc.simulation.power import row as row_lib

# Shapes are padded to multiples, so that few programs are compiled.
_SERVERS = 8
_REQUESTS = 256
_COMMANDS = 128


def steps(seconds: float, dt: float) -> int:
  """Steps that cover a time; the last bits of a division do not count."""
  return math.ceil(seconds / dt - 1e-9)


def pack(
  rows: "Sequence[row_lib.Row]", dt: float
) -> tuple[
  engine_lib.Cell,
  engine_lib.Carry,
  server_lib.Work,
  tuple[policies_lib.Decide, ...],
]:
  """Packs rows.

  Args:
    rows: at least one, valid.
    dt: length of a step in seconds.

  Returns:
    The rows' numbers, where they start, the requests of all of them, and the
    policy functions among which they choose.
  """
  keys = [(id(row.requests), row.power.idle_w) for row in rows]
  traces = dict(zip(keys, rows, strict=True))
  which = {key: at for at, key in enumerate(traces)}
  decides = tuple(dict.fromkeys(row.policy.decide for row in rows))
  levels = max(len(row.policy.plan.levels) for row in rows)
  lanes = _padded(max(len(row.requests.high) for row in rows), _SERVERS)
  cells = [
    _cell(row, which[key], decides, levels, lanes, dt)
    for row, key in zip(rows, keys, strict=True)
  ]
  stacked = engine_lib.Cell(
    *(_array(np.stack(leaf)) for leaf in zip(*cells, strict=True))
  )
  work = _work(
    [(row.requests, row.power.idle_w) for row in traces.values()], lanes, dt
  )
  longest = max(int(cell.cap_latency) for cell in cells)
  carry = _start(
    stacked,
    work,
    tuple(_states(rows, decide) for decide in decides),
    _padded(longest + 2, _COMMANDS),
  )
  return stacked, carry, work, decides


def _padded(count: int, multiple: int) -> int:
  return -(-count // multiple) * multiple


def _array(values: np.ndarray) -> jax.Array:
  """An array of the precision in force."""
  return jnp.asarray(values, jax.dtypes.canonicalize_dtype(values.dtype))


def _cell(
  row: "row_lib.Row",
  trace: int,
  decides: tuple[policies_lib.Decide, ...],
  levels: int,
  lanes: int,
  dt: float,
) -> engine_lib.Cell:
  clock, idle_w = row.power.clock, row.power.idle_w
  servers = len(row.requests.high)
  # Levels that a plan lacks are its last one again; no policy commands them.
  level = np.minimum(np.arange(levels), len(row.policy.plan.levels) - 1)
  exponents = [
    time / power if power else 0.0
    for time, power in (
      (clock.prompt_time, clock.prompt_power),
      (clock.token_time, clock.token_power),
    )
  ]
  times = {
    name: np.int32(steps(getattr(row.control, f"{name}_s"), dt))
    for name in ("telemetry", "cap_latency", "brake_latency", "brake_hold")
  }
  return engine_lib.Cell(
    trace=np.int32(trace),
    decide=np.int32(decides.index(row.policy.decide)),
    instant=np.bool_(row.policy.instant),
    paces=row.policy.plan.paces(clock)[level],
    room_w=row.policy.plan.caps(idle_w)[level] - idle_w,
    exponents=np.array(exponents),
    brake=np.array(clock.pace(clock.brake_mhz)),
    idle_w=np.float64(servers * idle_w),
    budget_w=np.float64(row.budget_w),
    high=np.pad(row.requests.high, (0, lanes - servers)),
    **times,
  )


def _states(rows: "Sequence[row_lib.Row]", decide: policies_lib.Decide) -> Any:
  """States of one policy function; rows of another hold a copy, unused."""
  own = [row.policy for row in rows if row.policy.decide is decide]
  states = [
    row.policy.state if row.policy.decide is decide else own[0].state
    for row in rows
  ]
  return jax.tree.map(
    lambda *leaves: _array(np.stack([np.asarray(leaf) for leaf in leaves])),
    *states,
  )


def _work(
  traces: Sequence[tuple[requests_lib.Requests, float]], lanes: int, dt: float
) -> server_lib.Work:
  """Requests side by side: [traces, lanes, most].

  Beyond a server's last request are two that never come: one to be its head,
  one to follow. Watts that are alike for all requests are held once.
  """
  most = max(trace.arrival_s.shape[1] for trace, _ in traces)
  shape = (len(traces), lanes, _padded(most + 2, _REQUESTS))
  made = server_lib.Work(
    np.full(shape, server_lib.NEVER, np.int32),
    np.zeros(shape),
    np.ones(shape),
    np.zeros(shape),
    np.zeros(shape),
    np.zeros(shape),
  )
  for at, (trace, idle_w) in enumerate(traces):
    real = np.isfinite(trace.arrival_s)
    arrival = np.where(real, trace.arrival_s, 0)
    step = np.floor(arrival / dt).astype(np.int32)
    here = (at, slice(len(trace.high)), slice(trace.arrival_s.shape[1]))
    made.step[here] = np.where(real, step, server_lib.NEVER)
    made.offset[here] = np.where(real, arrival - step * dt, 0)
    made.prompt[here] = np.where(real, trace.prompt_s, 1)
    made.token[here] = np.where(real, trace.token_s, 0)
    made.prompt_w[here] = np.where(real, trace.prompt_w - idle_w, np.nan)
    made.token_w[here] = np.where(real, trace.token_w - idle_w, np.nan)
  real = made.step != server_lib.NEVER
  watts = {
    name: _once(getattr(made, name), real) for name in ("prompt_w", "token_w")
  }
  return jax.tree.map(_array, made._replace(**watts))


def _once(values: np.ndarray, real: np.ndarray) -> np.ndarray:
  found = values[real]
  if found.size and (found == found[0]).all():
    return found[:1].reshape(1, 1, 1)
  return np.where(real, values, 0.0)


def _start(
  cells: engine_lib.Cell,
  work: server_lib.Work,
  states: tuple[Any, ...],
  commands: int,
) -> engine_lib.Carry:
  rows, lanes = cells.high.shape

  def first(field: jax.Array) -> jax.Array:
    if field.size == 1:
      return jnp.broadcast_to(field.reshape(1, 1), (rows, lanes))
    return field[cells.trace, :, 0]

  zero = jnp.zeros(rows, jnp.int32)
  return engine_lib.Carry(
    servers=server_lib.Servers(
      jnp.zeros((rows, lanes), jnp.int32), jax.tree.map(first, work)
    ),
    states=states,
    commands=jnp.zeros((rows, commands), jnp.int32),
    commanded=zero,
    brake_start=zero,
    brake_end=zero,
    power_w=cells.idle_w,
  )
