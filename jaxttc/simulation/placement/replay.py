# SPDX-License-Identifier: Apache-2.0
"""Replays a trace under a policy, event by event, and measures every period.

The host reads the trace and hands its changes, a period at a time, to compiled
programs: tasks come, are placed and end one after the other in their order; at
the end of a period samples of use are taken over, migrations arrive, the cell
is measured, waiting tasks are tried again, and the policy may balance. It is
measured before it may react, so that what is reported is what machines went
through. The same trace, policy and seed give the same result.
"""

from collections.abc import Callable, Iterable, Iterator
import dataclasses
import functools
import time as clock
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int
import numpy as np

from jaxttc.simulation.placement import cluster as cluster_lib
from jaxttc.simulation.placement import events, policies, tape

_RETRIES = 256  # waiting tasks that are tried again a period


class Counts(NamedTuple):
  """What placing came to, i32 each."""

  placed: Int[Array, ""]
  refused: Int[Array, ""]
  messages: Int[Array, ""]


class Record(NamedTuple):
  """One period, or an array of them.

  Attributes:
    time: seconds at its end.
    machines: machines there.
    running, waiting: tasks.
    overloaded: machines asked for more than they have.
    overload: sum over machines and resources of max(0, use / capacity - 1).
    used: f[R], used share of the cell.
    spread: f[R], standard deviation of it over machines.
    idle: machines that run nothing.
    submitted, ended, placed: tasks in this period.
    refused: tasks that found no machine when they came.
    migrations, forced, failed, bytes, decisions: what balancing did.
    messages: of placing and of balancing.
    place_seconds, balance_seconds: CPU seconds of this process for deciding.
  """

  time: float
  machines: int
  running: int
  waiting: int
  overloaded: int
  overload: float
  used: np.ndarray
  spread: np.ndarray
  idle: int
  submitted: int
  ended: int
  placed: int
  refused: int
  migrations: int
  forced: int
  failed: int
  bytes: float
  decisions: int
  messages: int
  place_seconds: float
  balance_seconds: float


def replay(
  trace: Iterable[events.Event],
  policy: policies.Policy,
  *,
  seed: int = 0,
  period: float = 300.0,
  memory_bytes: float = 256 * 2.0**30,
  watch: Callable[[Record], None] | None = None,
) -> list[Record]:
  """Replays a trace under a policy.

  Args:
    trace: events in order of time.
    policy: where tasks go.
    seed: of everything that the policy draws.
    period: seconds between two looks at the cell.
    memory_bytes: memory of the largest machine, which traces call 1.
    watch: called with each record as it is made.

  Returns:
    One record a period.

  Raises:
    ValueError: if the trace has no machine, or a reader refuses a row.
  """
  made = [
    record
    for record, _ in steps(
      trace, policy, seed=seed, period=period, memory_bytes=memory_bytes
    )
    if watch is None or watch(record) is None
  ]
  if not any(record.machines for record in made):
    raise ValueError("the trace has no machine that could run a task")
  return made


def steps(
  trace: Iterable[events.Event],
  policy: policies.Policy,
  *,
  seed: int = 0,
  period: float = 300.0,
  memory_bytes: float = 256 * 2.0**30,
) -> Iterator[tuple[Record, cluster_lib.Cluster]]:
  """Like `replay`: each record, beside it the cell at the end of its period."""
  if not memory_bytes > 0:
    raise ValueError(f"memory_bytes must be > 0, got {memory_bytes}")
  key = jax.random.key(seed)
  cell = memory = None
  for number, cut in enumerate(
    tape.periods(trace, recorded=policy.recorded, seconds=period)
  ):
    if cell is None:
      cell = dataclasses.replace(
        cluster_lib.empty(
          resources=len(events.RESOURCES), **cut.sizes._asdict()
        ),
        memory_bytes=jnp.float32(memory_bytes),
      )
      memory = policy.init(cell)
    elif not _fits(cell, cut.sizes):
      cell = _grown(cell, cut.sizes)
      # What a policy knows of machines is by their rows, which stay.
      memory = _refit(policy.init(cell), memory)
    memory, cell, record = _period(policy, key, memory, cell, cut, number)
    yield record, cell


def _period(policy, key, memory, cell, cut: tape.Period, number: int):
  """One period; returns memory, cell, and record."""
  counts, submitted, ended = np.zeros(3, np.int64), 0, 0
  start = clock.process_time()
  for part in cut.parts:
    if isinstance(part, tape.Machines):
      cell = _set_machines(cell, part.capacity, part.eligible)
      continue
    memory, cell, found = _apply(policy.place, key, memory, cell, part)
    counts += np.array(found)
    submitted += int(np.isin(part.code, (tape.QUEUE, tape.PLACE)).sum())
    ended += int((part.code == tape.END).sum())
  jax.block_until_ready(cell.load)
  placing = clock.process_time() - start
  cell, seen = _measure(cell, cut.samples, np.float32(cut.time))
  if not policy.recorded:
    memory, cell, found = _retry(
      policy.place, key, memory, cell, np.int32(number)
    )
    # Who waits was refused when it came: it is not refused once more.
    counts += np.array([found.placed, 0, found.messages])
  jax.block_until_ready(cell.load)
  start = clock.process_time()
  balance_key = jax.random.fold_in(jax.random.fold_in(key, 1), number)
  memory, cell, moves = policy.balance(memory, cell, balance_key)
  jax.block_until_ready(cell.load)
  balancing = clock.process_time() - start
  record = _record(
    cut, seen, counts, submitted, ended, moves, placing, balancing
  )
  return memory, cell, record


@functools.partial(jax.jit, static_argnames="place")
def _apply(place, key, memory, cell, ops):
  """Runs the changes of tasks one after the other.

  What tasks are is written before and wiped after, for all of them at once; the
  tape gives no slot to two tasks in one part. Only what placing changes is
  carried from one to the next, so that nothing large is ever copied.
  """
  cell = _arrive(cell, ops)

  def step(carry, op):
    memory, running, counts = carry
    now = dataclasses.replace(cell, **running)
    starts = (op.code == tape.PLACE) | (op.code == tape.START)
    # A task runs once: a second start of one that runs is no start.
    before = now.node[op.slot]
    starts &= before < 0
    choice = place(
      memory, now, op.slot, op.where, jax.random.fold_in(key, op.order)
    )
    node = jnp.where(starts, choice.node, -1)
    # What the policy passed on as it was is not even looked at.
    memory = jax.tree.map(
      lambda new, old: old if new is old else jnp.where(starts, new, old),
      choice.memory,
      memory,
    )
    running = _changed(now, op, before, node, choice.node)
    counts = Counts(
      counts.placed + (node >= 0),
      counts.refused + (starts & (node < 0)),
      counts.messages + jnp.where(starts, choice.messages, 0),
    )
    return (memory, running, counts), None

  zero = jnp.int32(0)
  running = {name: getattr(cell, name) for name in _RUNNING}
  carry = (memory, running, Counts(zero, zero, zero))
  (memory, running, counts), _ = jax.lax.scan(
    step, carry, jax.tree.map(jnp.asarray, ops)
  )
  return memory, _wipe(dataclasses.replace(cell, **running), ops), counts


_RUNNING = ("node", "load", "reserved", "promised")
_FAR = 2**30  # a row that no array has: writes to it are dropped


def _changed(now: cluster_lib.Cluster, op: tape.Ops, before, node, chosen):
  """What one change does to `_RUNNING`: a task starts on `node`, or ends.

  Every row depends on what the policy read, `chosen`: arrays are then written
  after all reads, in place.
  """
  usage, request = now.usage[op.slot], now.request[op.slot]
  ends = op.code == tape.END
  sign = jnp.where(ends, -1.0, 1.0)
  row = jnp.where(ends, before, node)
  row = jnp.where((row >= 0) & (chosen > -2), row, _FAR)
  slot = jnp.where(ends | (node >= 0), op.slot, _FAR)
  heading = now.heading[op.slot]
  ahead = jnp.where(ends & (heading >= 0) & (chosen > -2), heading, _FAR)
  return {
    "node": now.node.at[slot].set(node, mode="drop"),
    "load": now.load.at[row].add(sign * usage, mode="drop"),
    "reserved": now.reserved.at[row].add(sign * request, mode="drop"),
    "promised": now.promised.at[ahead].add(-usage, mode="drop"),
  }


def _arrive(cell: cluster_lib.Cluster, ops: tape.Ops):
  """Writes new tasks into their slots."""
  comes = (ops.code == tape.QUEUE) | (ops.code == tape.PLACE)
  row = jnp.where(comes, ops.slot, _FAR)
  job = jnp.where(comes & (ops.job >= 0), ops.job, _FAR)

  def put(held, value):
    return held.at[row].set(value, mode="drop")

  return dataclasses.replace(
    cell,
    live=put(cell.live, True),
    usage=put(cell.usage, ops.request),
    request=put(cell.request, ops.request),
    kind=put(cell.kind, ops.kind),
    job=put(cell.job, ops.job),
    order=put(cell.order, ops.order),
    roster=cell.roster.at[job, ops.peer].set(ops.slot, mode="drop"),
  )


def _wipe(cell: cluster_lib.Cluster, ops: tape.Ops):
  """Frees the slots of tasks that ended; changes what others ask for."""
  ends = ops.code == tape.END
  row = jnp.where(ends, ops.slot, _FAR)
  job = jnp.where(ends & (ops.job >= 0), ops.job, _FAR)
  update = jnp.where(ops.code == tape.UPDATE, ops.slot, _FAR)
  node = cell.node[ops.slot]
  on = jnp.where((ops.code == tape.UPDATE) & (node >= 0), node, _FAR)
  more = ops.request - cell.request[ops.slot]
  return dataclasses.replace(
    cell,
    live=cell.live.at[row].set(False, mode="drop"),
    heading=cell.heading.at[row].set(-1, mode="drop"),
    usage=cell.usage.at[row].set(0.0, mode="drop"),
    request=cell.request.at[update]
    .set(ops.request, mode="drop")
    .at[row]
    .set(0.0, mode="drop"),
    reserved=cell.reserved.at[on].add(more, mode="drop"),
    roster=cell.roster.at[job, ops.peer].set(-1, mode="drop"),
  )


@functools.partial(jax.jit, static_argnames="place")
def _retry(place, key, memory, cell, number):
  """Tries waiting tasks again, those first that came first."""
  slots = cell.live.shape[0]
  size = min(_RETRIES, slots)
  late = jnp.iinfo(jnp.int32).max
  queue = jnp.where(cluster_lib.waiting(cell), cell.order, late)
  _, first = jax.lax.top_k(-queue, size)
  count = jnp.minimum(cluster_lib.waiting(cell).sum(), size)
  key = jax.random.fold_in(key, number)

  def step(state):
    i, memory, cell, placed, messages = state
    slot = first[i].astype(jnp.int32)
    choice = place(
      memory, cell, slot, jnp.int32(-1), jax.random.fold_in(key, slot)
    )
    cell = cluster_lib.place(cell, slot, choice.node)
    return (
      i + 1,
      choice.memory,
      cell,
      placed + (choice.node >= 0),
      messages + choice.messages,
    )

  zero = jnp.int32(0)
  _, memory, cell, placed, messages = jax.lax.while_loop(
    lambda state: state[0] < count, step, (zero, memory, cell, zero, zero)
  )
  return memory, cell, Counts(placed, zero, messages)


@jax.jit
def _set_machines(cell, capacity, eligible):
  return cluster_lib.set_machines(cell, capacity, eligible)


@jax.jit
def _measure(
  cell: cluster_lib.Cluster,
  samples: tape.Samples,
  time: Float[Array, ""] | np.float32,
):
  """Takes samples of use over, lets migrations arrive, and looks."""
  cell = dataclasses.replace(
    cell,
    usage=cell.usage.at[samples.slot].set(samples.usage, mode="drop"),
    time=jnp.float32(time),
  )
  cell = cluster_lib.land(cell)
  there = cluster_lib.present(cell)
  count = jnp.maximum(there.sum(), 1)
  safe = jnp.where(cell.capacity > 0, cell.capacity, 1.0)
  used = jnp.where(cell.capacity > 0, cell.load / safe, 0.0)
  mean = used.sum(0) / count
  off = jnp.where(there[:, None], used - mean[None], 0.0)
  total = jnp.maximum(cell.capacity.sum(0), 1e-9)
  running = cell.live & (cell.node >= 0)
  busy = jnp.zeros(there.shape, bool)
  busy = busy.at[jnp.where(running, cell.node, _FAR)].set(True, mode="drop")
  return cell, {
    "machines": there.sum(),
    "running": running.sum(),
    "waiting": cluster_lib.waiting(cell).sum(),
    "overloaded": cluster_lib.overloaded(cell).sum(),
    "overload": jnp.maximum(used - 1.0, 0.0).sum(),
    "used": cell.load.sum(0) / total,
    "spread": jnp.sqrt((off**2).sum(0) / count),
    "idle": (there & ~busy).sum(),
  }


def _record(cut, seen, counts, submitted, ended, moves, placing, balancing):
  host = {name: np.asarray(value) for name, value in seen.items()}
  plain = {
    name: value if value.ndim else value.item() for name, value in host.items()
  }
  return Record(
    time=cut.time,
    **plain,
    submitted=submitted,
    ended=ended,
    placed=int(counts[0]),
    refused=int(counts[1]),
    migrations=int(moves.started),
    forced=int(moves.forced),
    failed=int(moves.failed),
    bytes=float(moves.bytes),
    decisions=int(moves.decisions),
    messages=int(counts[2]) + int(moves.messages),
    place_seconds=placing,
    balance_seconds=balancing,
  )


def _fits(cell: cluster_lib.Cluster, sizes: tape.Sizes) -> bool:
  held = tape.Sizes(
    cell.capacity.shape[0],
    cell.live.shape[0],
    cell.eligible.shape[0],
    *cell.roster.shape,
  )
  return held == sizes


def _grown(cell: cluster_lib.Cluster, sizes: tape.Sizes) -> cluster_lib.Cluster:
  """The same cell in larger arrays; machines are set again by what follows."""
  new = cluster_lib.empty(resources=cell.usage.shape[1], **sizes._asdict())
  grown = _refit(new, cell)
  return cluster_lib.set_machines(grown, grown.capacity, grown.eligible)


def _refit(new, old):
  """Puts the old arrays into the first corner of the new ones."""

  def put(large, small):
    corner = tuple(slice(0, size) for size in jnp.shape(small))
    return jnp.asarray(large).at[corner].set(small)

  return jax.tree.map(put, new, old)
