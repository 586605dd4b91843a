# SPDX-License-Identifier: Apache-2.0
"""Arrays of the compiled simulation: what goes in, its state, what comes out.

L lanes of M machines serve N requests. Arrays that events touch at one place
are flat, so that a step gathers and scatters one row a lane.
"""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from jaxttc.simulation.clusters.cluster import ABSENT, PROMPT, TOKEN

NEVER = 2**31 - 1  # the iteration at which nothing finishes
PACK = 256.0  # keys of the router hold the machine's number below this
TIER = 2.0**48


class Lanes(NamedTuple):
  """What differs between lanes.

  Attributes:
    trace: which trace, i32[L].
    time_scale: arrivals are the trace's times it, f64[L].
    pool: home of each machine, i32[M, L].
    spec: the kind of each machine, i32[M, L].
    undivided: 0 for the router of split clusters, else 1, f64[L].
    prompt_weight: weight of a prompt token in a machine's load, f64[L].
    fixed: machine given by the trace's draw (1), by turns (2), or by the
      router (0), i32[L].
    chunk: tokens of an iteration with prompts, inf for whole prompts, f64[L].
    transfer_s: seconds a token of KV cache travels, f64[L].
    queue_limit: tokens above which a prompt machine is full, f64[L].
    batch_tokens: prompt tokens of one batch, f64[L].
  """

  trace: Int[Array, " L"]
  time_scale: Float[Array, " L"]
  pool: Int[Array, "M L"]
  spec: Int[Array, "M L"]
  undivided: Float[Array, " L"]
  prompt_weight: Float[Array, " L"]
  fixed: Int[Array, " L"]
  chunk: Float[Array, " L"]
  transfer_s: Float[Array, " L"]
  queue_limit: Float[Array, " L"]
  batch_tokens: Float[Array, " L"]


class Tables(NamedTuple):
  """What lanes share.

  Attributes:
    requests: arrival s, prompt, output, draw in [0, 1) of each request of each
      trace, f64[T, N, 4].
    machines: c0, c1, c2, capacity, seat of each kind, f64[S, 5].
    prompt_s: seconds of so many prompt tokens alone, f64[S, P].
    mixed_s: seconds of so many tokens with decodes among them, f64[S, P].
  """

  requests: Float[Array, "T N 4"]
  machines: Float[Array, "S 5"]
  prompt_s: Float[Array, "S P"]
  mixed_s: Float[Array, "S P"]


class Outcome(NamedTuple):
  """What came of the requests and machines; times in s, inf if never.

  Attributes:
    begun: start of the first iteration of its prompt, f64[L, N].
    first: its first token, f64[L, N].
    left: when its KV cache was where it decodes, f64[L, N].
    finished: its last token, f64[L, N].
    prompt_machine: i32[L, N].
    token_machine: i32[L, N].
    prompt_s: time in iterations with prompts, f64[L, M].
    decode_s: time in iterations without, f64[L, M].
    end_s: time of the last event, f64[L].
    steps: events, i32[L].
  """

  begun: Float[Array, "L N"]
  first: Float[Array, "L N"]
  left: Float[Array, "L N"]
  finished: Float[Array, "L N"]
  prompt_machine: Int[Array, "L N"]
  token_machine: Int[Array, "L N"]
  prompt_s: Float[Array, "L M"]
  decode_s: Float[Array, "L M"]
  end_s: Float[Array, " L"]
  steps: Int[Array, " L"]


class Machine(NamedTuple):
  """One row of the machines' state, as columns of f64[L]."""

  start: Array  # of the segment, seconds; may lie ahead of now
  iteration: Array  # how many the machine had run at the segment's start
  batch: Array  # sequences that decode in the segment
  cached: Array  # their cached tokens at its start
  finish: Array  # the first iteration after which one of them has finished
  length: Array  # iterations in the segment
  joining: Array  # sequences that join at its end
  joining_cached: Array
  occupied: Array  # slots in use: batch + joining
  prompts: Array  # 1 if the segment is an iteration with prompts in it
  admitted: Array  # 1 if the head batch of prompts has its memory
  head: Array  # first request of the batch at the queue's head, or -1
  last: Array  # first request of the batch at its tail
  left: Array  # tokens of the head batch still to be computed
  begun: Array  # when its first iteration started
  prompt_s: Array  # time spent in iterations with prompts
  decode_s: Array  # time spent in iterations without
  c0: Array
  c1: Array
  c2: Array
  capacity: Array  # tokens
  seat: Array  # the least that a decoding sequence reserves, tokens
  spec: Array  # row of the table of prompt times


class State(NamedTuple):
  """The lanes' state. G groups of W slots hold a machine's sequences."""

  times: Array  # f64[2M, L], ends of segments, then departures of caches
  load: Array  # f64[M * L], what the router compares
  reserved: Array  # f64[M * L], tokens
  moved: Array  # bool[M * L], works as mixed until it is empty
  machine: Array  # f64[L * M, fields of Machine]
  queue: Array  # i32[L * M, 4], first, last and number of caches to leave, -
  slots: Array  # i32[L * M * G, W], iteration after which each slot finishes
  groups: Array  # i32[L * M, G], least of each group of slots
  tenant: Array  # i32[L * M * G * W], request in each slot
  free: Array  # i32[L * M * G * W], stack of free slots
  batch: Array  # f64[L * N, 5], tokens, requests, need, next batch, passing
  batch_s: Array  # f64[L * N, 2], begun, ended
  request: Array  # i32[L * N, 4], batch, prompt machine, token machine, -
  successor: Array  # i32[L * N], next on its machine
  left: Array  # f64[L * N]
  finished: Array  # f64[L * N]
  writes: tuple[tuple[Array, Array], ...]  # (index, value), see WRITES
  next: Array  # i32[L], next to arrive
  end_s: Array  # f64[L]
  steps: Array  # i32[L]
  alive: Array  # bool, whether any lane had an event


# The arrays that a step writes, in this order. The second write of a batch is
# of its link only.
WRITES = (
  "batch_s",
  "batch",
  "batch",
  "successor",
  "machine",
  "times",
  "times",
  "reserved",
  "reserved",
  "load",
  "load",
  "moved",
  "moved",
  "queue",
  "slots",
  "groups",
  "tenant",
  "free",
  "request",
  "left",
  "finished",
)
_LINK = 3  # column of a batch that holds the next one


class Fixed(NamedTuple):
  """What the router reads of machines and what never changes; f64[M, L]."""

  number: Array  # inf where there is no machine
  source_tier: Array
  target_tier: Array
  capacity: Array  # -1 where there is no machine
  seat: Array
  count: Array  # i32[L], machines


def fixed(lanes: Lanes, tables: Tables) -> Fixed:
  """Lays out what the router reads."""
  present = lanes.pool != ABSENT
  number = jnp.arange(lanes.pool.shape[0], dtype=jnp.float64)[:, None]

  def tiers(first: int, last: int) -> Array:
    own = jnp.where(lanes.pool == last, 2 * TIER, TIER)
    return jnp.where(lanes.pool == first, 0.0, own)

  return Fixed(
    jnp.where(present, number, jnp.inf),
    tiers(PROMPT, TOKEN),
    tiers(TOKEN, PROMPT),
    jnp.where(present, tables.machines[:, 3][lanes.spec], -1.0),
    tables.machines[:, 4][lanes.spec],
    present.sum(0, dtype=jnp.int32),
  )


def initial(lanes: Lanes, tables: Tables, groups: int, width: int) -> State:
  """The state before the first arrival."""
  n_machines, n_lanes = lanes.pool.shape
  rows, total = n_lanes * n_machines, n_lanes * tables.requests.shape[1]
  s = State(
    times=jnp.full((2 * n_machines, n_lanes), jnp.inf),
    load=jnp.zeros(rows),
    reserved=jnp.zeros(rows),
    moved=jnp.zeros(rows, bool),
    machine=_idle(lanes, tables),
    queue=jnp.tile(jnp.array([-1, -1, 0, 0], jnp.int32), (rows, 1)),
    slots=jnp.full((rows * groups, width), NEVER, jnp.int32),
    groups=jnp.full((rows, groups), NEVER, jnp.int32),
    tenant=jnp.zeros(rows * groups * width, jnp.int32),
    free=jnp.tile(jnp.arange(groups * width, dtype=jnp.int32), rows),
    batch=jnp.zeros((total, 5)),
    batch_s=jnp.full((total, 2), jnp.inf),
    request=jnp.zeros((total, 4), jnp.int32),
    successor=jnp.full(total, -1, jnp.int32),
    left=jnp.full(total, jnp.inf),
    finished=jnp.full(total, jnp.inf),
    writes=(),
    next=jnp.zeros(n_lanes, jnp.int32),
    end_s=jnp.zeros(n_lanes),
    steps=jnp.zeros(n_lanes, jnp.int32),
    alive=jnp.array(True),
  )
  return s._replace(writes=_nothing(s))


def _idle(lanes: Lanes, tables: Tables) -> Array:
  spec = lanes.spec.T.reshape(-1)
  zero = jnp.zeros(spec.shape)
  kind = dict(
    zip(
      ("c0", "c1", "c2", "capacity", "seat"),
      tables.machines[spec].T,
      strict=True,
    )
  )
  columns = dict.fromkeys(Machine._fields, zero) | kind
  columns |= {
    "head": zero - 1,
    "last": zero - 1,
    "finish": zero + NEVER,
    "spec": spec.astype(jnp.float64),
  }
  return jnp.stack([columns[name] for name in Machine._fields], 1)


def rows(s: State, name: str) -> int:
  """How many rows an array has; an index of that many writes nowhere."""
  array = getattr(s, name)
  return array.size if name == "times" else array.shape[0]


def _nothing(s: State) -> tuple[tuple[Array, Array], ...]:
  n_lanes = s.next.shape[0]
  writes = []
  for i, name in enumerate(WRITES):
    array = getattr(s, name)
    shape = () if name == "times" else array.shape[1:]
    if name == "batch" and WRITES[i - 1] == "batch":
      shape = ()
    index = jnp.full(n_lanes, rows(s, name), jnp.int32)
    writes.append((index, jnp.zeros((n_lanes, *shape), array.dtype)))
  return tuple(writes)


def apply(s: State) -> State:
  """Does what the last step left to be written.

  A step only reads, and its writes are done when the next begins: so XLA need
  not keep an old copy of any array for readers that come late.
  """
  arrays: dict[str, Array] = {}
  for name, (index, value) in zip(WRITES, s.writes, strict=True):
    array = arrays.get(name, getattr(s, name))
    flat = array.reshape(-1) if name == "times" else array
    place = flat.at[(index, _LINK) if value.ndim < flat.ndim else index]
    # No two lanes share a row; those that write nothing point past the end.
    flat = place.set(value, mode="drop", unique_indices=True)
    arrays[name] = flat.reshape(array.shape)
  return s._replace(**arrays)
