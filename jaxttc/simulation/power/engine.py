# SPDX-License-Identifier: Apache-2.0
"""The compiled steps of rows; `row` says what a step is."""

from collections.abc import Sequence
import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxttc.simulation.power import policies as policies_lib
from jaxttc.simulation.power import server as server_lib

CHUNK = 2048  # steps of one call


class Cell(NamedTuple):
  """A row as numbers; every field has a leading axis of rows outside.

  Attributes:
    trace: i32[], which requests.
    decide: i32[], which policy function.
    instant: bool[], whether its commands take effect at once.
    paces: f[levels, 2, 4], a `model.Pace` by level and priority.
    room_w: f[levels, 2], cap of a server less its idle power.
    exponents: f[2], of speed in power above idle, by phase.
    brake: f[4], the pace under the brake.
    idle_w: f[], what the whole row draws idle.
    budget_w: f[], what it may draw.
    high: bool[servers], whether of high priority.
    telemetry: i32[], steps between readings.
    cap_latency: i32[], steps from a command to its effect.
    brake_latency: i32[], steps from a reading over budget to the brake.
    brake_hold: i32[], steps for which a brake is held.
  """

  trace: Any
  decide: Any
  instant: Any
  paces: Any
  room_w: Any
  exponents: Any
  brake: Any
  idle_w: Any
  budget_w: Any
  high: Any
  telemetry: Any
  cap_latency: Any
  brake_latency: Any
  brake_hold: Any


class Carry(NamedTuple):
  """What a row is between steps.

  Attributes:
    servers: its servers.
    states: the state of every policy function; one of them is in use.
    commands: i32[history], ring of the levels commanded, step by step.
    commanded: i32[], the last of them.
    brake_start: i32[], step at which the last brake starts.
    brake_end: i32[], step at which it is let go.
    power_w: f[], mean power of the last step.
  """

  servers: server_lib.Servers
  states: tuple[Any, ...]
  commands: Any
  commanded: Any
  brake_start: Any
  brake_end: Any
  power_w: Any


class Asked(NamedTuple):
  """The requests of all rows.

  Attributes:
    fields: f[traces, servers, most, 4 or 6], `server.Work`, field by field
      but side by side, so that a request is one place in memory; without
      watts if they are alike for all requests.
    watts: f[2], above idle in the prompt and the token phase, if alike.
  """

  fields: Any
  watts: Any


class Seen(NamedTuple):
  """What a step leaves behind; see `outcome.RowResult`.

  Attributes:
    power_w: f[].
    level: i8[].
    commanded: i8[].
    braked: bool[].
    tripped: bool[].
    finish: f[servers], see `server.advance`.
  """

  power_w: Any
  level: Any
  commanded: Any
  braked: Any
  tripped: Any
  finish: Any


@functools.partial(jax.jit, static_argnames=("decides", "capped"))
def run(
  carry: Carry,
  cells: Cell,
  asked: Asked,
  start: Any,
  dt: Any,
  decides: tuple[policies_lib.Decide, ...],
  capped: bool,
) -> tuple[Carry, Seen]:
  """Moves all rows on by `CHUNK` steps.

  Args:
    carry: the rows, with a leading axis of rows.
    cells: their numbers, likewise.
    asked: the requests.
    start: i32[], the first step.
    dt: f[], length of a step in seconds.
    decides: the policy functions among which rows choose.
    capped: whether a level of some row caps watts.

  Returns:
    The rows after the chunk, and what they left, [CHUNK, rows, ..].
  """
  step = functools.partial(_step, decides=decides, capped=capped)
  rows = jax.vmap(step, in_axes=(0, 0, None, None, None))

  def body(carry: Carry, at: Any) -> tuple[Carry, Seen]:
    return rows(carry, cells, asked, at, dt)

  return jax.lax.scan(body, carry, start + jnp.arange(CHUNK, dtype=jnp.int32))


def _step(
  carry: Carry,
  cell: Cell,
  asked: Asked,
  step: Any,
  dt: Any,
  *,
  decides: tuple[policies_lib.Decide, ...],
  capped: bool,
) -> tuple[Carry, Seen]:
  """Moves one row on by one step."""
  carry, tripped = _govern(carry, cell, step, dt, decides)
  level = _in_effect(carry.commands, cell, step)
  braked = (carry.brake_start <= step) & (step < carry.brake_end)

  def look_up() -> tuple[server_lib.Pace, server_lib.Work]:
    following = _following(carry.servers.index, cell.trace, asked)
    return _pace(cell, level, braked), following

  pace, following = server_lib.once(step, look_up)
  paces = [pace, pace]
  if capped:
    room_w = jnp.where(cell.high, cell.room_w[level, 1], cell.room_w[level, 0])
    exponents = (cell.exponents[0], cell.exponents[1])
    paces = [
      server_lib.cap(pace, room_w, work, exponents)
      for work in (carry.servers.work, following)
    ]
  servers, joules, finish = server_lib.advance(
    carry.servers, following, *paces, step, dt
  )
  power_w = cell.idle_w + _sum(joules) / dt
  seen = Seen(
    power_w,
    level.astype(jnp.int8),
    carry.commanded.astype(jnp.int8),
    braked,
    tripped,
    finish,
  )
  return carry._replace(servers=servers, power_w=power_w), seen


def _govern(
  carry: Carry,
  cell: Cell,
  step: Any,
  dt: Any,
  decides: tuple[policies_lib.Decide, ...],
) -> tuple[Carry, Any]:
  """Reads the row's power and commands a level and, if need be, a brake."""
  reading = policies_lib.Reading(
    carry.power_w / cell.budget_w,
    _in_effect(carry.commands, cell, step - 1),
    step < carry.brake_end,
    _forced(carry.servers, cell, step),
  )
  asked = cell.instant | (step % cell.telemetry == 0)
  time_s = step.astype(dt.dtype) * dt
  made = [
    decide(time_s, reading, state)
    for decide, state in zip(decides, carry.states, strict=True)
  ]
  states = jax.tree.map(
    lambda new, old: jnp.where(asked, new, old),
    tuple(state for _, state in made),
    carry.states,
  )
  level = _of(cell.decide, [decision.level for decision, _ in made])
  brake = _of(cell.decide, [decision.brake for decision, _ in made])
  commanded = jnp.where(asked, level, carry.commanded)
  tripped = asked & brake & (step >= carry.brake_end)
  start = jnp.where(tripped, step + cell.brake_latency, carry.brake_start)
  end = jnp.where(tripped, start + cell.brake_hold, carry.brake_end)
  slot = step % carry.commands.shape[0]
  carry = carry._replace(
    states=states,
    commands=carry.commands.at[slot].set(commanded),
    commanded=commanded,
    brake_start=start,
    brake_end=end,
  )
  return carry, tripped


def _of(which: Any, values: Sequence[Any]) -> Any:
  """The value of the policy function that a row has."""
  chosen = jnp.asarray(values[0])
  for at, value in enumerate(values[1:], 1):
    chosen = jnp.where(which == at, value, chosen)
  return chosen


def _in_effect(commands: Any, cell: Cell, step: Any) -> Any:
  """The level that was commanded one latency before a step."""
  latency = jnp.where(cell.instant, 0, cell.cap_latency)
  return commands[(step - latency) % commands.shape[0]]


def _forced(servers: server_lib.Servers, cell: Cell, step: Any) -> Any:
  """f[levels]: row power over budget at each level, phases as they are."""
  shares = []
  for level in range(cell.paces.shape[0]):
    pace = _at_level(cell, level)
    watts = server_lib.phase_watts(servers, step)
    room_w = jnp.where(cell.high, cell.room_w[level, 1], cell.room_w[level, 0])
    drawn = watts[0] * pace.prompt_watts + watts[1] * pace.token_watts
    drawn = _sum(jnp.minimum(drawn, room_w))
    shares.append((cell.idle_w + drawn) / cell.budget_w)
  return jnp.stack(shares)


def _at_level(cell: Cell, level: Any) -> server_lib.Pace:
  low, high = cell.paces[level, 0], cell.paces[level, 1]
  return server_lib.Pace(
    *(jnp.where(cell.high, high[at], low[at]) for at in range(4))
  )


def _pace(cell: Cell, level: Any, braked: Any) -> server_lib.Pace:
  free = _at_level(cell, level)
  return server_lib.Pace(
    *(jnp.where(braked, cell.brake[at], free[at]) for at in range(4))
  )


def _following(index: Any, trace: Any, asked: Asked) -> server_lib.Work:
  """Each server's next request."""
  lanes = jnp.arange(index.shape[0])
  found = asked.fields.at[trace, lanes, index + 1].get(mode="promise_in_bounds")
  return unpack(found, asked.watts)


def unpack(fields: Any, watts: Any) -> server_lib.Work:
  """Requests from what `Asked` holds of them; fields is f[.., 4 or 6]."""
  columns = [fields[..., at] for at in range(fields.shape[-1])]
  if len(columns) == 4:
    columns += [jnp.full_like(columns[0], watts[at]) for at in range(2)]
  return server_lib.Work(*columns)


def _sum(values: Any) -> Any:
  """Sums by halves, in an order that padding does not change."""
  size = 1 << (values.shape[0] - 1).bit_length()
  values = jnp.pad(values, (0, size - values.shape[0]))
  while size > 1:
    size //= 2
    values = values[:size] + values[size:]
  return values[0]
