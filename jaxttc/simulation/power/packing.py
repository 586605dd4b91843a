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

# Shapes are padded, so that few programs are compiled: servers, commands and
# levels to multiples, requests a server to a power of two.
_SERVERS = 32
_REQUESTS = 2048
_COMMANDS = 128
_LEVELS = 4


def steps(seconds: float, dt: float) -> int:
  """Steps that cover a time; the last bits of a division do not count."""
  return math.ceil(seconds / dt - 1e-9)


def pack(
  rows: "Sequence[row_lib.Row]", dt: float
) -> tuple[
  engine_lib.Cell,
  engine_lib.Carry,
  engine_lib.Asked,
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
  levels = _padded(max(len(row.policy.plan.levels) for row in rows), _LEVELS)
  lanes = _padded(max(len(row.requests.high) for row in rows), _SERVERS)
  cells = [
    _cell(row, which[key], decides, levels, lanes, dt)
    for row, key in zip(rows, keys, strict=True)
  ]
  stacked = engine_lib.Cell(
    *(_array(np.stack(leaf)) for leaf in zip(*cells, strict=True))
  )
  asked = _asked(
    [(row.requests, row.power.idle_w) for row in traces.values()], lanes, dt
  )
  longest = max(int(cell.cap_latency) for cell in cells)
  carry = _start(
    stacked,
    asked,
    tuple(_states(rows, decide) for decide in decides),
    _padded(longest + 2, _COMMANDS),
  )
  return stacked, carry, asked, decides


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


def _asked(
  traces: Sequence[tuple[requests_lib.Requests, float]], lanes: int, dt: float
) -> engine_lib.Asked:
  """Requests side by side.

  Beyond a server's last request are two that never come: one to be its head,
  one to follow.
  """
  most = 2 + max(of.arrival_s.shape[1] for of, _ in traces)
  most = max(_REQUESTS, 1 << (most - 1).bit_length())
  fields = np.zeros((len(traces), lanes, most, 6))
  fields[..., :3] = (server_lib.NEVER, 0, 1)
  for at, (of, idle_w) in enumerate(traces):
    real = np.isfinite(of.arrival_s)
    step = np.floor(of.arrival_s[real] / dt)
    fields[at, : real.shape[0], : real.shape[1]][real] = np.stack(
      [
        step,
        of.arrival_s[real] - step * dt,
        of.prompt_s[real],
        of.token_s[real],
        of.prompt_w[real] - idle_w,
        of.token_w[real] - idle_w,
      ],
      axis=-1,
    )
  found = fields[fields[..., 0] != server_lib.NEVER][:, 4:]
  watts = found[0] if len(found) else np.zeros(2)
  if (found == watts).all():
    fields = fields[..., :4]
  return engine_lib.Asked(_array(fields), _array(watts))


def _start(
  cells: engine_lib.Cell,
  asked: engine_lib.Asked,
  states: tuple[Any, ...],
  commands: int,
) -> engine_lib.Carry:
  rows, lanes = cells.high.shape
  zero = jnp.zeros(rows, jnp.int32)
  heads = engine_lib.unpack(asked.fields[cells.trace, :, 0], asked.watts)
  return engine_lib.Carry(
    servers=server_lib.Servers(jnp.zeros((rows, lanes), jnp.int32), heads),
    states=states,
    commands=jnp.zeros((rows, commands), jnp.int32),
    commanded=zero,
    brake_start=zero,
    brake_end=zero,
    power_w=cells.idle_w,
  )
