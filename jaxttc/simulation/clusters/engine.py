# SPDX-License-Identifier: Apache-2.0
"""The compiled event simulation of serving clusters, many at once.

Each lane is one cluster under one trace. A step advances every lane by its own
next event, so lanes need not agree on time: an arrival (the router picks
machines), the end of a machine's segment, or a KV cache leaving a machine. A
segment is one iteration with prompts in it, or as many decode iterations as
pass until a sequence finishes; what happens in between cuts it at the next
iteration's boundary, which a closed form gives:

    S(j) = j (c0 + c1 b + c2 kv) + c2 b j (j - 1) / 2     seconds of j iterations

of b sequences with kv cached tokens. So a request costs about four steps,
however many tokens it generates and however long queues are, and a step costs
O(machines) for the router and O(sqrt(batch)) for the machine that it touches.

All durations are whole multiples of 2^-33 s, so that float64 adds them exactly
and the plain simulation in `jaxttc.testing.cluster_reference`, which walks
through every iteration, finds the same times to the last bit.
"""

import functools
from typing import Any, NamedTuple

import jax
from jax import lax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from jaxttc.simulation.clusters.cluster import ABSENT, MIXED, PROMPT, TOKEN

NEVER = 2**31 - 1  # the iteration at which nothing finishes
_FIELDS = (
  "start",  # of the segment, seconds; may lie ahead of now
  "iteration",  # how many the machine had run at the segment's start
  "batch",  # sequences that decode in the segment
  "cached",  # their cached tokens at its start
  "finish",  # the first iteration after which one of them has finished
  "length",  # iterations in the segment
  "joining",  # sequences that join at its end
  "joining_cached",
  "occupied",  # slots in use: batch + joining
  "prompts",  # 1 if the segment is an iteration with prompts in it
  "admitted",  # 1 if the head batch of prompts has its memory
  "head",  # first request of the batch of prompts at the queue's head, or -1
  "last",  # first request of the batch at its tail
  "left",  # tokens of the head batch still to be computed
  "begun",  # when its first iteration started
  "prompt_s",  # time spent in iterations with prompts
  "decode_s",  # time spent in iterations without
  "c0",
  "c1",
  "c2",
  "capacity",  # tokens
  "seat",  # the least that a decoding sequence reserves, tokens
  "spec",  # row of the table of prompt times
)
_PACK = 256.0  # keys of the router hold the machine's number below this
_TIER = 2.0**48
_COLUMN = {name: i for i, name in enumerate(_FIELDS)}


class Lanes(NamedTuple):
  """What differs between lanes; L lanes of M machines.

  Attributes:
    trace: which trace, i32[L].
    time_scale: arrivals are the trace's times it, f64[L].
    pool: home of each machine, i32[M, L].
    spec: the kind of each machine, i32[M, L].
    undivided: 0 for the router of split clusters, else 1 f64[L].
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
    prompt_machine, token_machine: i32[L, N].
    prompt_s, decode_s: time in iterations with and without prompts, f64[L, M].
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


class _State(NamedTuple):
  """The lanes' state; flat arrays are indexed by lane * M + machine and so on."""

  times: Array  # f64[2M, L], ends of segments, then departures of caches
  load: Array  # f64[M * L], what the router compares
  reserved: Array  # f64[M * L], tokens
  moved: Array  # bool[M * L], works as mixed until it is empty
  machine: Array  # f64[L * M, fields]
  queue: Array  # i32[L * M, 4]: first, last of those on their way, ready, -
  slots: Array  # i32[L * M * G, W], iteration after which each slot finishes
  groups: Array  # i32[L * M, G], least of each group of slots
  tenant: Array  # i32[L * M * G * W], request in each slot
  free: Array  # i32[L * M * G * W], stack of free slots
  batch: Array  # f64[L * N, 5], tokens, requests, need, next, passing
  batch_s: Array  # f64[L * N, 2], begun, ended
  request: Array  # i32[L * N, 4], batch, prompt machine, token machine, -
  successor: Array  # i32[L * N], next on its machine
  left: Array  # f64[L * N]
  finished: Array  # f64[L * N]
  writes: tuple  # of the last step, by array: ((name, index, value), ...)
  next: Array  # i32[L], next to arrive
  end_s: Array  # f64[L]
  steps: Array  # i32[L]
  alive: Array  # bool, whether any lane had an event


# The arrays that a step writes, in this order.
_WRITES = (
  "batch_s", "batch", "batch", "successor", "machine", "times", "times",
  "reserved", "reserved", "load", "load", "moved", "moved", "queue", "slots",
  "groups", "tenant", "free", "request", "left", "finished",
)


class _Fixed(NamedTuple):
  """What the router reads of machines and what never changes; [M, L]."""

  number: Array  # inf where there is no machine
  source_tier: Array
  target_tier: Array
  capacity: Array  # -1 where there is no machine
  seat: Array
  count: Array  # i32[L], machines


def _fixed(lanes: Lanes, tables: Tables) -> _Fixed:
  present = lanes.pool != ABSENT
  number = jnp.arange(lanes.pool.shape[0], dtype=jnp.float64)[:, None]

  def tiers(first: int, last: int) -> Array:
    own = jnp.where(lanes.pool == last, 2 * _TIER, _TIER)
    return jnp.where(lanes.pool == first, 0.0, own)

  return _Fixed(
    jnp.where(present, number, jnp.inf),
    tiers(PROMPT, TOKEN),
    tiers(TOKEN, PROMPT),
    jnp.where(present, tables.machines[:, 3][lanes.spec], -1.0),
    tables.machines[:, 4][lanes.spec],
    present.sum(0, dtype=jnp.int32),
  )


class _Machine(dict):
  """Columns of the touched machine's row, by name."""

  __getattr__ = dict.__getitem__


def _first(mask: Array, axis: int) -> Array:
  """Index of the first True along an axis; its size if there is none."""
  size = mask.shape[axis]
  shape = [1] * mask.ndim
  shape[axis] = size
  index = jnp.arange(size, dtype=jnp.int32).reshape(shape)
  return jnp.where(mask, index, size).min(axis)


def _apply(s: _State) -> _State:
  """Does what the last step left to be written.

  A step only reads, and its writes are done when the next begins: so XLA need
  not keep an old copy of any array for readers that come late.
  """
  arrays = {}
  for name, (index, value) in zip(_WRITES, s.writes, strict=True):
    array = arrays.get(name, getattr(s, name))
    shape = array.shape
    if name == "times":
      array = array.reshape(-1)
    at = array.at[(index, 3) if value.ndim < array.ndim else index]
    array = at.set(value, mode="drop", unique_indices=True)
    arrays[name] = array.reshape(shape)
  return s._replace(**arrays)


def _materialise(true: Array, values: Any) -> Any:
  return lax.cond(
    true, lambda v: v, lambda v: jax.tree.map(jnp.zeros_like, v), values
  )


def _elapsed(m: _Machine, j: Array) -> Array:
  once = m.c0 + m.c1 * m.batch + m.c2 * m.cached
  return j * once + m.c2 * m.batch * (j * (j - 1) / 2)


def _boundary(m: _Machine, past: Array) -> Array:
  """The least j >= 1 with S(j) >= past; exact, whatever sqrt rounds to."""
  half = m.c2 * m.batch / 2
  once = jnp.maximum(m.c0 + m.c1 * m.batch + m.c2 * m.cached - half, 1e-9)
  root = jnp.sqrt(once * once + 4 * half * past)
  j = jnp.maximum(jnp.ceil(2 * past / (once + root)), 1)
  fewer, more = j - 1, j + 1
  enough = _elapsed(m, j) >= past
  return jnp.where(
    enough,
    jnp.where((fewer >= 1) & (_elapsed(m, fewer) >= past), fewer, j),
    more,
  )


def _machine_of(packed: Array) -> tuple[Array, Array]:
  """(machine of the least key of each lane, whether there is one)."""
  least = packed.min(0)
  found = least < jnp.inf
  return (jnp.where(found, least, 0) % _PACK).astype(jnp.int32), found


def _route(
  s: _State, lanes: Lanes, fixed: _Fixed, prompt: Array, output: Array, draw
) -> tuple[Array, Array, Array]:
  """Picks machines for the next request of each lane.

  Keys are a tier, then a load, then the machine's number, packed in a float64.

  Returns (prompt machine, token machine, whether memory is reserved there).
  """
  shape = lanes.pool.shape
  load, reserved, moved = (
    a.reshape(shape) for a in (s.load, s.reserved, s.moved)
  )
  key = load * _PACK + fixed.number
  full = (load > 0) & (load + prompt > lanes.queue_limit)
  tier = jnp.where(moved, _TIER, fixed.source_tier)
  source, has_source = _machine_of(
    jnp.where(full & (tier < 2 * _TIER), jnp.inf, key + tier)
  )
  need = jnp.maximum(prompt + output, fixed.seat)
  tier = jnp.where(moved, _TIER, fixed.target_tier)
  target, has_target = _machine_of(
    jnp.where(
      reserved + need <= fixed.capacity,
      reserved * _PACK + fixed.number + tier,
      jnp.inf,
    )
  )
  idlest, _ = _machine_of(key)
  turn = jnp.where(
    lanes.fixed == 1,
    jnp.floor(draw * fixed.count).astype(jnp.int32),
    s.next % fixed.count,
  )
  split = (lanes.undivided == 0) & has_source & has_target
  alone = jnp.where(lanes.fixed > 0, turn, idlest)
  source = jnp.where(split, source, alone)
  target = jnp.where(split & (output > 1), target, source)
  return source, target, split & (target != source)


def _step(
  s: _State, lanes: Lanes, tables: Tables, fixed: _Fixed
) -> _State:
  """Advances every lane by one event."""
  s = _apply(s)
  writes = []

  def put(name, index, value, mask):
    array = getattr(s, name)
    rows = array.size if name == "times" else array.shape[0]
    writes.append((jnp.where(mask, index, rows), value))
    order.append(name)

  order: list[str] = []
  n_machines, n_lanes = lanes.pool.shape
  n_requests = tables.requests.shape[1]
  lane = jnp.arange(n_lanes, dtype=jnp.int32)
  where = jnp.where

  # Which event: ends before departures before arrivals.
  soonest = s.times.min(0)
  event = _first(s.times == soonest, 0)
  arriving = jnp.minimum(s.next, n_requests - 1)
  flat_requests = tables.requests.reshape(-1, 4)
  row = flat_requests[lanes.trace * n_requests + arriving]
  arrival = where(s.next < n_requests, _tick(row[:, 0] * lanes.time_scale), jnp.inf)
  is_arrival = arrival < soonest
  now = jnp.minimum(arrival, soonest)
  alive = now < jnp.inf
  is_end = alive & ~is_arrival & (event < n_machines)
  is_leave = alive & ~is_arrival & (event >= n_machines)
  event = where(event >= n_machines, event - n_machines, event)
  row, now, is_arrival, is_end, is_leave, event, alive = _materialise(s.alive, 
    (row, now, is_arrival, is_end, is_leave, event, alive)
  )

  # Which request, and which machines: a is advanced, b sends or reserves.
  source, target, reserve = _route(
    s, lanes, fixed, row[:, 1], row[:, 2], row[:, 3]
  )
  b = where(is_arrival, source, event)  # whose queue is touched
  b_row = lane * n_machines + b
  queue = s.queue[b_row]
  r = where(is_arrival, arriving, where(is_leave, queue[:, 0], 0))
  rid = lane * n_requests + r
  asked = flat_requests[lanes.trace * n_requests + r]
  prompt, output = asked[:, 1], asked[:, 2]
  home = s.request[rid]
  target = where(is_arrival, target, home[:, 2])
  single = output == 1
  local = target == b
  a = where(is_leave, target, b)
  a_row = lane * n_machines + a
  m = _Machine(zip(_FIELDS, s.machine[a_row].T, strict=True))
  m, source, target, reserve, b, r, queue, asked, a = _materialise(s.alive, 
    (dict(m), source, target, reserve, b, r, queue, asked, a)
  )
  m = _Machine(m)
  a_row, b_row = lane * n_machines + a, lane * n_machines + b
  rid = lane * n_requests + r
  prompt, output = asked[:, 1], asked[:, 2]
  single = output == 1
  local = target == b
  need_here = where(single, prompt, jnp.maximum(prompt + output, m.seat))
  need_source = where(local, need_here, prompt)

  # Reservations and loads beyond machine a.
  other = where(is_arrival, target, b) * n_lanes + lane
  away = fixed.seat.reshape(-1)[other]
  more = where(is_arrival & reserve, jnp.maximum(prompt + output, away), 0.0)
  tasks = where(is_arrival, 1.0, 0.0) - where(is_leave & single, 1.0, 0.0)
  reserved_other = s.reserved[other] + more
  load_other = s.load[other] + tasks

  # Advance machine a to its next boundary.
  a_flat = a * n_lanes + lane
  same = a_flat == other
  end = s.times.reshape(-1)[a_flat]
  idle = end == jnp.inf
  started = ~idle & (now > m.start)
  decoding = m.prompts == 0
  j = _boundary(m, jnp.maximum(now - m.start, 0))
  touch = is_arrival | (is_leave & ~single)
  wait = touch & started & (~decoding | (j >= m.length))
  cut = touch & started & ~wait
  iterations = where(is_end, m.length, where(cut, j, 0.0))
  start = where(
    is_end, end, where(cut, m.start + _elapsed(m, j), where(idle, now, m.start))
  )
  start = where(touch | is_end, start, m.start)
  passed = where(is_end | cut, start - m.start, 0.0)
  prompt_s = m.prompt_s + where(decoding, 0.0, passed)
  decode_s = m.decode_s + where(decoding, passed, 0.0)
  computed = jnp.minimum(m.left, jnp.maximum(lanes.chunk - m.batch, 1.0))
  iteration = m.iteration + iterations
  cached = m.cached + m.batch * iterations + where(is_end, m.joining_cached, 0.0)
  batch = m.batch + where(is_end, m.joining, 0.0)
  joining = where(is_end, 0.0, m.joining)
  joining_cached = where(is_end, 0.0, m.joining_cached)

  (
    j, wait, cut, start, prompt_s, decode_s, computed, iteration, cached, batch,
    end, idle,
  ) = _materialise(s.alive, (
    j, wait, cut, start, prompt_s, decode_s, computed, iteration, cached, batch,
    end, idle,
  ))
  # The end of an iteration with prompts.
  head = m.head.astype(jnp.int32)
  head_id = lane * n_requests + jnp.maximum(head, 0)
  head_batch = s.batch[head_id]
  prompts_end = is_end & ~decoding
  fresh = m.left == head_batch[:, 0]
  begun = where(prompts_end & fresh, m.start, m.begun)
  left = m.left - where(prompts_end, computed, 0.0)
  batch_end = prompts_end & (left <= 0)
  put("batch_s", head_id, jnp.stack([begun, end], 1), batch_end)
  head = where(batch_end, head_batch[:, 3].astype(jnp.int32), head)
  admitted = where(batch_end, 0.0, m.admitted)

  # A sequence joins or finishes: one slot changes.
  joins = is_leave & ~single
  finishes = is_end & decoding
  finish_at = (
    m.iteration + where(wait, m.length, where(cut, j, 0.0)) + output - 1
  ).astype(jnp.int32)
  groups = s.groups[a_row]
  n_groups = groups.shape[1]
  width = s.slots.shape[1]
  least = m.finish.astype(jnp.int32)
  occupied = m.occupied.astype(jnp.int32)
  top = a_row * (n_groups * width) + where(finishes, occupied - 1, occupied)
  group = _first(groups == least[:, None], 1)
  free = s.free[top]
  group = where(joins, free // width, jnp.minimum(group, n_groups - 1))
  slot_row = a_row * n_groups + group
  slots = s.slots[slot_row]
  place = where(
    joins, free % width, jnp.minimum(_first(slots == least[:, None], 1), width - 1)
  )
  value = where(joins, finish_at, NEVER)
  change = joins | finishes
  slots = where(
    (jnp.arange(width) == place[:, None]) & change[:, None], value[:, None], slots
  )
  groups = where(
    jnp.arange(n_groups) == group[:, None], slots.min(1)[:, None], groups
  )
  slot = a_row * (n_groups * width) + group * width + place
  f = s.tenant[slot]
  fid = lane * n_requests + f
  least = groups.min(1)
  gone = flat_requests[lanes.trace * n_requests + f]
  gone_tokens = gone[:, 1] + gone[:, 2]
  batch = batch + where(joins & ~wait, 1.0, 0.0) - where(finishes, 1.0, 0.0)
  cached = (
    cached + where(joins & ~wait, prompt + 1, 0.0)
    - where(finishes, gone_tokens, 0.0)
  )
  joining = joining + where(joins & wait, 1.0, 0.0)
  joining_cached = joining_cached + where(joins & wait, prompt + 1, 0.0)
  occupied = occupied + joins - finishes

  (
    batch, cached, least, gone_tokens, slots, groups, group, place, head, left,
    batch_end, head_batch, admitted, begun, f,
  ) = _materialise(s.alive, (
    batch, cached, least, gone_tokens, slots, groups, group, place, head, left,
    batch_end, head_batch, admitted, begun, f,
  ))
  fid = lane * n_requests + f
  # An arrival joins the last batch of its machine's queue, or opens one.
  last = m.last.astype(jnp.int32)
  empty = head < 0
  last = where(empty, arriving, last)
  last_id = lane * n_requests + last
  last_batch = s.batch[last_id]
  is_head = (last == head) & (m.admitted > 0)
  here = s.reserved[a_flat] + where(same, more, 0.0)
  closed = is_head & (
    wait & ~decoding | (m.left != last_batch[:, 0])
    | (here + need_source > m.capacity)
  )
  in_last = (
    ~empty & ~closed & (last_batch[:, 0] + prompt <= lanes.batch_tokens)
    & (last_batch[:, 2] + need_source <= m.capacity)
  )
  amended = is_arrival & in_last & is_head
  rep = where(in_last, last, arriving)
  one = jnp.stack(
    [
      prompt,
      jnp.ones_like(prompt),
      need_source,
      jnp.full_like(prompt, -1.0),
      where(single | ~local, prompt, 0.0),
    ],
    1,
  )
  merged = last_batch + one * jnp.array([1.0, 1.0, 1.0, 0.0, 1.0])
  rep_id = lane * n_requests + rep
  record = where(in_last[:, None], merged, one)
  put("batch", rep_id, record, is_arrival)
  opened = is_arrival & ~in_last & ~empty
  put("batch", last_id, rep.astype(jnp.float64), opened)
  head = where(is_arrival & empty, arriving, head)
  last = where(is_arrival, rep, m.last.astype(jnp.int32))
  left = left + where(amended, prompt, 0.0)

  head, last, left, here, amended, record, rep, opened = _materialise(s.alive, 
    (head, last, left, here, amended, record, rep, opened)
  )
  # What the machine does next.
  coming = s.batch[lane * n_requests + jnp.maximum(head, 0)]
  head_batch_next = where(
    (is_arrival & (head == rep))[:, None], record, coming
  )
  need_head = head_batch_next[:, 2]
  capacity = m.capacity
  reserve_now = (
    where(amended, need_source, 0.0)
    - where(finishes, jnp.maximum(gone_tokens, m.seat), 0.0)
    - where(batch_end, head_batch[:, 4], 0.0)
  )
  here = here + reserve_now
  due = (batch > 0) & (least == iteration.astype(jnp.int32))
  may = (head >= 0) & ((admitted > 0) | (here + need_head <= capacity))
  plan = (is_end | touch) & ~wait
  starts = may & ~due
  admits = plan & starts & (admitted == 0)
  here = here + where(admits, need_head, 0.0)
  admitted = where(admits, 1.0, admitted)
  left = where(admits, head_batch_next[:, 0], left)
  chunk = jnp.minimum(left, jnp.maximum(lanes.chunk - batch, 1.0))
  width_p = tables.prompt_s.shape[1]
  spec = m.spec.astype(jnp.int32) * width_p
  # Which is read twice: alone, and with the sequences that ride along.
  alone = tables.prompt_s.reshape(-1)[spec + _index(chunk, width_p)]
  mixed = tables.mixed_s.reshape(-1)[spec + _index(chunk + batch, width_p)]
  planned = _Machine(m, batch=batch, cached=cached)
  length = where(due, 0.0, where(starts, 1.0, least.astype(jnp.float64) - iteration))
  ride = jnp.maximum(mixed, _elapsed(planned, jnp.ones_like(batch)))
  stop = start + where(
    due,
    0.0,
    where(
      starts,
      where(batch > 0, ride, alone),
      where(batch > 0, _elapsed(planned, where(batch > 0, length, 0.0)), jnp.inf),
    ),
  )
  prompts = where(starts, 1.0, 0.0)
  stop = where(plan, stop, end)
  prompts = where(plan, prompts, m.prompts)
  length = where(plan, where(batch > 0, length, 1.0), m.length)
  length = where(plan & starts, 1.0, length)

  stop, prompts, length, here, admitted, left = _materialise(s.alive, 
    (stop, prompts, length, here, admitted, left)
  )
  # Queues of caches that leave.
  count = where(batch_end, head_batch[:, 1], 0.0).astype(jnp.int32)
  ready = queue[:, 2] + count - is_leave
  follow = s.successor[lane * n_requests + jnp.maximum(queue[:, 0], 0)]
  first = where(is_leave, follow, queue[:, 0])
  first = where(is_arrival & (first < 0), r, first)
  tail = queue[:, 1]
  put(
    "successor", lane * n_requests + tail, r, is_arrival & (queue[:, 0] >= 0)
  )
  tail = where(is_arrival, r, tail)
  b_flat = b * n_lanes + lane
  leaves = s.times.reshape(-1)[n_machines * n_lanes + b_flat]
  relaunch = is_leave | (batch_end & (queue[:, 2] == 0))
  f_id = lane * n_requests + jnp.maximum(first, 0)
  f_target = s.request[f_id][:, 2]
  f_prompt = flat_requests[lanes.trace * n_requests + jnp.maximum(first, 0)][:, 1]
  travel = where(f_target == b, 0.0, f_prompt * lanes.transfer_s)
  leaves = where(
    relaunch, where(ready > 0, now + travel, jnp.inf), leaves
  )

  # Write it all back.
  write = is_end | touch
  values = dict(
    start=start, iteration=iteration, batch=batch, cached=cached,
    finish=least.astype(jnp.float64), length=length, joining=joining,
    joining_cached=joining_cached, occupied=occupied.astype(jnp.float64),
    prompts=prompts, admitted=admitted, head=head.astype(jnp.float64),
    last=last.astype(jnp.float64), left=left, begun=begun, prompt_s=prompt_s,
    decode_s=decode_s,
  )
  row = jnp.stack([values.get(name, m[name]) for name in _FIELDS], 1)
  put("machine", a_row, row, write)
  put("times", a_flat, stop, write)
  put("times", n_machines * n_lanes + b_flat, leaves, relaunch)
  put("reserved", other, reserved_other, is_arrival)
  put("reserved", a_flat, here, write)
  spent = where(
    is_arrival,
    prompt * lanes.prompt_weight,
    -where(batch_end, head_batch[:, 0] * lanes.prompt_weight, 0.0)
    - where(finishes, 1.0, 0.0),
  )
  load_a = s.load[a_flat] + where(same, tasks, 0.0) + spent
  put("load", other, load_other, is_arrival | is_leave)
  put("load", a_flat, load_a, is_arrival | is_end)
  away = is_leave & ~same
  drained = where(
    away, (load_other == 0) & (reserved_other == 0), (load_a == 0) & (here == 0)
  )
  pools = lanes.pool.reshape(-1)
  lent = is_arrival & (pools[b_flat] == TOKEN)
  put("moved", b_flat, lent, lent | (alive & drained))
  lent = is_arrival & ~single & (pools[other] == PROMPT)
  put("moved", other, lent, lent)
  put("queue", b_row, jnp.stack([first, tail, ready, queue[:, 3]], 1), alive)
  put("slots", slot_row, slots, change)
  put("groups", a_row, groups, change)
  put("tenant", slot, r, joins)
  put("free", top, slot - a_row * (n_groups * width), finishes)
  put("request", rid, jnp.stack([rep, source, target, jnp.zeros_like(rep)], 1), is_arrival)
  put("left", rid, now, is_leave)
  put("finished", fid, now, finishes)
  assert tuple(order) == _WRITES, order
  return s._replace(
    writes=tuple(writes),
    next=s.next + is_arrival,
    end_s=where(alive, now, s.end_s),
    steps=s.steps + alive,
    alive=alive.any(),
  )


def _tick(seconds: Array) -> Array:
  return jnp.round(seconds * 2.0**33) / 2.0**33


def _index(tokens: Array, size: int) -> Array:
  return jnp.clip(tokens, 0, size - 1).astype(jnp.int32)


def _initial(
  lanes: Lanes, tables: Tables, groups: int, width: int
) -> _State:
  n_machines, n_lanes = lanes.pool.shape
  n_requests = tables.requests.shape[1]
  rows = n_lanes * n_machines
  spec = lanes.spec.T.reshape(-1)
  fields = {name: jnp.zeros(rows) for name in _FIELDS}
  for name in ("head", "last"):
    fields[name] = jnp.full(rows, -1.0)
  fields["finish"] = jnp.full(rows, float(NEVER))
  for i, name in enumerate(("c0", "c1", "c2", "capacity", "seat")):
    fields[name] = tables.machines[:, i][spec]
  fields["spec"] = spec.astype(jnp.float64)
  total = n_lanes * n_requests
  s = _State(
    times=jnp.full((2 * n_machines, n_lanes), jnp.inf),
    load=jnp.zeros(rows),
    reserved=jnp.zeros(rows),
    moved=jnp.zeros(rows, bool),
    machine=jnp.stack([fields[name] for name in _FIELDS], 1),
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
  writes = []
  for i, name in enumerate(_WRITES):
    array = getattr(s, name)
    rows = array.size if name == "times" else array.shape[0]
    shape = array.shape[1:] if name != "times" else ()
    if name == "batch" and _WRITES[i - 1] == "batch":
      shape = ()  # the link only
    index = jnp.full(n_lanes, rows, jnp.int32)
    writes.append((index, jnp.zeros((n_lanes, *shape), array.dtype)))
  return s._replace(writes=tuple(writes))


@functools.partial(jax.jit, static_argnames=("groups", "width"))
def run(lanes: Lanes, tables: Tables, *, groups: int, width: int) -> Outcome:
  """Simulates every lane until its last request has finished.

  To be traced with 64-bit types enabled.

  Args:
    lanes: what differs between lanes.
    tables: what they share.
    groups: groups of slots of a machine.
    width: slots of a group; groups * width sequences decode at most.
  """
  n_machines, n_lanes = lanes.pool.shape
  n_requests = tables.requests.shape[1]

  fixed = _fixed(lanes, tables)
  s = lax.while_loop(
    lambda s: s.alive,
    lambda s: _step(s, lanes, tables, fixed),
    _initial(lanes, tables, groups, width),
  )
  s = _apply(s)
  shape = (n_lanes, n_requests)
  offset = jnp.arange(n_lanes, dtype=jnp.int32)[:, None] * n_requests
  request = s.request.reshape(*shape, 4)
  of_batch = s.batch_s[offset + request[..., 0]]
  single = tables.requests[lanes.trace][:, :, 2] == 1
  first = of_batch[..., 1]
  machine = s.machine.reshape(n_lanes, n_machines, -1)
  return Outcome(
    begun=of_batch[..., 0],
    first=first,
    left=s.left.reshape(shape),
    finished=jnp.where(single, first, s.finished.reshape(shape)),
    prompt_machine=request[..., 1],
    token_machine=request[..., 2],
    prompt_s=machine[..., _COLUMN["prompt_s"]],
    decode_s=machine[..., _COLUMN["decode_s"]],
    end_s=s.end_s,
    steps=s.steps,
  )
