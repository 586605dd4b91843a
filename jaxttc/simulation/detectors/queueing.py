# SPDX-License-Identifier: Apache-2.0
"""Queues of a pipeline: dead time, finite buffers, back-pressure.

The closed forms of `performance` assume that every event finds room. Here
events arrive at random and are followed one by one. Each stage has servers and
slots; an event holds a slot from its arrival until it has left. A stage without
a free slot loses the event; or, under back-pressure, the stage before keeps it,
and its server, until there is room, so that losses move to the front, where the
detector's dead time is too. What a stage hands on leaves in the order in which
it came, as event builders see to; that makes one scan over the events exact.
"""

from collections.abc import Mapping
from typing import NamedTuple

import jax
from jax import lax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float
import numpy as np

from jaxttc.simulation.detectors import graph as graph_lib
from jaxttc.simulation.detectors import performance


class Passage(NamedTuple):
  """What became of N events on a chain of S stages.

  Attributes:
    dead: bool[N], came while the detector was dead: no stage saw it.
    lost: bool[N, S], found no slot at the stage.
    rejected: bool[N, S], was worked on and rejected by the stage.
    stored: bool[N], passed all stages.
    start: f[N, S], when the stage began to work on it, s; NaN if it did not.
    finish: f[N], when it left the pipeline, s; NaN if dead or lost.
  """

  dead: Bool[Array, " N"]
  lost: Bool[Array, "N S"]
  rejected: Bool[Array, "N S"]
  stored: Bool[Array, " N"]
  start: Float[Array, "N S"]
  finish: Float[Array, " N"]


def follow(
  arrivals: Float[Array | np.ndarray, " N"],
  service: Float[Array | np.ndarray, "N S"],
  kept: Bool[Array | np.ndarray, "N S"],
  *,
  servers: tuple[int, ...],
  slots: tuple[int, ...],
  dead_time_s: float = 0.0,
  back_pressure: bool = False,
) -> Passage:
  """Follows events through a chain of stages.

  Args:
    arrivals: when each event happens, s, nondecreasing.
    service: how long each stage works on it, s.
    kept: whether each stage keeps it.
    servers: of each stage; events that it works on at once.
    slots: of each stage, at least its servers; events that it holds.
    dead_time_s: after an event that the first stage takes, the detector sees
      none for so long; events that it misses do not prolong it.
    back_pressure: whether a stage waits for room in the next, or loses the
      event.

  Returns:
    What became of each event; the program is compiled once for a shape.

  Raises:
    ValueError: if shapes do not fit, there are no events, times are negative
      or unordered, or a stage has no server or fewer slots than servers.
  """
  _check_passage(arrivals, service, kept, servers, slots, dead_time_s)
  return _follow(
    jnp.asarray(arrivals),
    jnp.asarray(service),
    jnp.asarray(kept),
    jnp.asarray(dead_time_s, jnp.result_type(arrivals)),
    servers,
    slots,
    back_pressure,
  )


class _Stages(NamedTuple):
  """Clocks of all stages; rows are padded with servers and slots never free.

  Attributes:
    free: f[S, servers], when each server ends its work.
    leave: f[S, slots], when each slot is given up.
    last: f[S], when the stage last handed an event on.
    alive: when the detector sees again.
  """

  free: Float[Array, "S C"]
  leave: Float[Array, "S K"]
  last: Float[Array, " S"]
  alive: Float[Array, ""]


@jax.jit(static_argnums=(4, 5, 6))
def _follow(
  arrivals: jax.Array,
  service: jax.Array,
  kept: jax.Array,
  dead_time: jax.Array,
  servers: tuple[int, ...],
  slots: tuple[int, ...],
  back_pressure: bool,
) -> Passage:
  count, dtype = len(servers), arrivals.dtype
  nan = jnp.asarray(jnp.nan, dtype)

  def event(stages: _Stages, happened):
    arrival, times, keeps = happened
    dead = arrival < stages.alive
    here, now = ~dead, arrival
    lost, rejected, starts = [], [], []
    finish = nan
    free, leave, last = stages.free, stages.leave, stages.last
    for i in range(count):
      slot, server = jnp.argmin(leave[i]), jnp.argmin(free[i])
      room = leave[i, slot] <= now
      lost.append(here & ~room)
      here &= room
      start = jnp.maximum(now, free[i, server])
      end = start + times[i]
      goes_on = keeps[i] if i + 1 < count else jnp.zeros((), bool)
      # Handing on waits for its turn and, under back-pressure, for room.
      handed = jnp.maximum(end, last[i])
      if back_pressure and i + 1 < count:
        handed = jnp.maximum(handed, leave[i + 1].min())
      left = jnp.where(goes_on, handed, end)
      # Under back-pressure the server stays with what it cannot hand on.
      busy = left if back_pressure else end
      free = free.at[i, server].set(jnp.where(here, busy, free[i, server]))
      leave = leave.at[i, slot].set(jnp.where(here, left, leave[i, slot]))
      last = last.at[i].set(jnp.where(here & goes_on, left, last[i]))
      starts.append(jnp.where(here, start, nan))
      rejected.append(here & ~keeps[i])
      finish = jnp.where(here, left, finish)
      if i == 0:
        alive = jnp.where(here, arrival + dead_time, stages.alive)
      stored = here & keeps[i]
      here, now = stored, left
    finish = jnp.where(jnp.stack(lost).any(), nan, finish)
    outcome = (
      dead,
      jnp.stack(lost),
      jnp.stack(rejected),
      stored,
      jnp.stack(starts),
      finish,
    )
    return _Stages(free, leave, last, alive), outcome

  idle = _Stages(
    _clocks(servers, dtype),
    _clocks(slots, dtype),
    jnp.full(count, -jnp.inf, dtype),
    jnp.asarray(-jnp.inf, dtype),
  )
  _, outcome = lax.scan(event, idle, (arrivals, service, kept))
  return Passage(*outcome)


def _clocks(counts: tuple[int, ...], dtype) -> jax.Array:
  """-inf for what is there and free, inf for padding."""
  there = np.arange(max(counts)) < np.asarray(counts)[:, None]
  return jnp.asarray(np.where(there, -np.inf, np.inf), dtype)


class QueueReport(NamedTuple):
  """What `simulate` finds; stages are those from the first that classifies.

  Attributes:
    stages: their names.
    dead_share: share of events that came while the detector was dead.
    lost_share: share of events lost for want of a slot, by stage.
    stored_share: share of events stored.
    recall: share of relevant events that are stored; NaN if there were none.
    latencies_s: f[M], from arrival to store, of the M stored events.
    utilisation: share of server time at work, by stage.
  """

  stages: tuple[str, ...]
  dead_share: float
  lost_share: dict[str, float]
  stored_share: float
  recall: float
  latencies_s: np.ndarray
  utilisation: dict[str, float]


def simulate(
  graph: graph_lib.PipelineGraph,
  key: jax.Array,
  *,
  events: int,
  servers: Mapping[str, int],
  slots: Mapping[str, int],
  dead_time_s: float = 0.0,
  back_pressure: bool = False,
  random_service: bool = False,
) -> QueueReport:
  """Draws events of a graph, with its rates and shares, and follows them.

  Arrivals are Poisson at the rate that reaches the first classifying stage; a
  stage works `op_latency * ops / parallelism` seconds on an event. In float64.

  Args:
    graph: from its first classifying stage on, a chain.
    key: of the draw.
    events: to draw.
    servers: by stage of the chain.
    slots: by stage of the chain.
    dead_time_s: see `follow`.
    back_pressure: see `follow`.
    random_service: whether times are exponential with that mean.

  Raises:
    ValueError: if the graph does not classify or is not a chain from there on,
      a stage of the chain has no servers or slots, or there are no events.
  """
  names = _chain(graph)
  for kind, given in (("servers", servers), ("slots", slots)):
    if set(given) != set(names):
      raise ValueError(f"{kind}: expected those of {names}, got {list(given)}")
  if events < 1:
    raise ValueError(f"expected at least one event, got {events}")
  with jax.enable_x64(True):
    report = performance.evaluate(graph)
    arrivals, relevant, kept = _draw(report, names, key, events)
    mean = _service_s(graph, report, names)
    service = jnp.broadcast_to(mean[None], kept.shape)
    if random_service:
      noise = jax.random.fold_in(key, 1)
      service = service * jax.random.exponential(noise, kept.shape)
    passage = follow(
      arrivals,
      service,
      kept,
      servers=tuple(servers[name] for name in names),
      slots=tuple(slots[name] for name in names),
      dead_time_s=dead_time_s,
      back_pressure=back_pressure,
    )
    worked = np.where(np.isnan(passage.start), 0.0, service).sum(0)
  stored = np.asarray(passage.stored)
  relevant = np.asarray(relevant)
  span = float(np.nanmax(np.append(passage.finish, arrivals[-1])))
  lost = np.asarray(passage.lost).mean(0)
  return QueueReport(
    stages=names,
    dead_share=float(np.mean(passage.dead)),
    lost_share=dict(zip(names, lost.tolist(), strict=True)),
    stored_share=float(stored.mean()),
    recall=float(stored[relevant].mean()) if relevant.any() else float("nan"),
    latencies_s=np.asarray(passage.finish - arrivals)[stored],
    utilisation={
      name: float(worked[i] / (span * servers[name]))
      for i, name in enumerate(names)
    },
  )


def _chain(graph: graph_lib.PipelineGraph) -> tuple[str, ...]:
  """The stages from the first that classifies to the root."""
  first = next((x.name for x in graph.stages if x.active), None)
  if first is None:
    raise ValueError("no stage classifies, so no event is ever rejected")
  names = [x.name for x in graph.stages if x.name in graph.downstream(first)]
  for name in names[:-1]:
    if len(graph.receivers(name)) != 1:
      raise ValueError(f"stage {name!r} has more than one output: no chain")
  for stage in graph.stages:
    if stage.active and stage.name not in names:
      raise ValueError(
        f"stages {first!r} and {stage.name!r} classify side by side: no chain"
      )
  return tuple(names)


def _draw(
  report: performance.Report,
  names: tuple[str, ...],
  key: jax.Array,
  events: int,
) -> tuple[jax.Array, jax.Array, jax.Array]:
  """Arrival times, truths and what each stage would keep."""
  keys = jax.random.split(key, 3)
  rates = report.input_rates[names[0]]
  gaps = jax.random.exponential(keys[0], (events,)) / rates.sum()
  truth = jax.random.uniform(keys[1], (events,)) < rates[1] / rates.sum()
  shares = jnp.stack(
    [report.output_rates[x] / report.input_rates[x] for x in names], -1
  )
  noise = jax.random.uniform(keys[2], (events, len(names)))
  return jnp.cumsum(gaps), truth, noise < shares[truth.astype(int)]


def _service_s(
  graph: graph_lib.PipelineGraph,
  report: performance.Report,
  names: tuple[str, ...],
) -> Float[Array, " S"]:
  by_name = {stage.name: stage for stage in graph.stages}
  return jnp.stack(
    [
      by_name[x].op_latency * report.ops[x] / by_name[x].parallelism
      for x in names
    ]
  )


def _check_passage(arrivals, service, kept, servers, slots, dead_time_s):
  shape = (len(arrivals), len(servers))
  if not shape[0] or np.shape(service) != shape or np.shape(kept) != shape:
    raise ValueError(
      f"expected service and kept of shape {shape}, one event or more, got "
      f"{np.shape(service)} and {np.shape(kept)}"
    )
  if len(slots) != len(servers) or any(
    not 1 <= c <= k for c, k in zip(servers, slots, strict=True)
  ):
    raise ValueError(
      "expected a server or more in each stage and a slot or more for each "
      f"server, got {servers} servers and {slots} slots"
    )
  gaps = np.diff(np.asarray(arrivals), prepend=0.0)
  if not (gaps >= 0).all():
    row = int(np.flatnonzero(~(gaps >= 0))[0])
    raise ValueError(f"arrivals, row {row}: expected times in order, from 0 on")
  if not (np.asarray(service) >= 0).all() or not dead_time_s >= 0:
    raise ValueError("service and dead times must not be negative")
