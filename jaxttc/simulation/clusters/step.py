# SPDX-License-Identifier: Apache-2.0
"""One event of every lane: what happens to the machine that it touches.

A step has phases: which event, which machines, the touched machine advanced to
its next boundary, its prompts, its sequences, its queue, its plan. Each phase
hands on arrays that `_kept` makes real, because XLA would otherwise compute
what two readers share once for each of them. Nothing is written before the next
step begins (`lanes.apply`).
"""

from typing import Any, NamedTuple, TypeVar

import jax
from jax import lax
import jax.numpy as jnp
from jaxtyping import Array

from jaxttc.simulation.clusters import lanes as lanes_lib
from jaxttc.simulation.clusters import router
from jaxttc.simulation.clusters.cluster import PROMPT, TOKEN

_where = jnp.where
_T = TypeVar("_T")


class _Inputs(NamedTuple):
  """What a step reads: the state, and what no event changes."""

  s: lanes_lib.State
  lanes: lanes_lib.Lanes
  tables: lanes_lib.Tables
  fixed: lanes_lib.Fixed

  @property
  def lane(self) -> Array:
    return jnp.arange(self.lanes.trace.shape[0], dtype=jnp.int32)

  @property
  def machines(self) -> int:
    return self.lanes.pool.shape[0]

  @property
  def requests(self) -> int:
    return self.tables.requests.shape[1]

  def asked(self, request: Array) -> Array:
    """Rows of the table of requests, f64[L, 4]."""
    flat = self.tables.requests.reshape(-1, 4)
    return flat[self.lanes.trace * self.requests + request]

  def id(self, request: Array) -> Array:
    """Rows of a request in the flat arrays of requests."""
    return self.lane * self.requests + jnp.maximum(request, 0)

  def row(self, machine: Array) -> Array:
    """Rows of a machine in the flat arrays of rows by machine."""
    return self.lane * self.machines + machine

  def flat(self, machine: Array) -> Array:
    """Places of a machine in the flat [M, L] arrays."""
    return machine * self.lane.shape[0] + self.lane


class _Event(NamedTuple):
  """What happens next in each lane; ends before departures before arrivals."""

  now: Array
  alive: Array
  arrival: Array
  end: Array
  leave: Array
  machine: Array  # whose segment ends or whose cache leaves
  request: Array  # that arrives
  asked: Array


class _Touched(NamedTuple):
  """The machines and the request of an event."""

  a: Array  # the machine that is advanced
  b: Array  # the machine whose queue or caches change
  source: Array
  target: Array
  reserve: Array  # whether memory is reserved ahead on the target
  request: Array
  prompt: Array
  output: Array
  queue: Array  # row of b's queue of caches
  machine: lanes_lib.Machine  # row of a


class _Advanced(NamedTuple):
  """Machine a at its next boundary, where the event can change it."""

  end: Array  # of its segment, before the event
  touch: Array  # whether something is added to it
  wait: Array  # whether that must wait for the segment's end
  start: Array
  joins_at: Array  # the iteration after which a sequence joins
  iteration: Array
  batch: Array
  cached: Array
  prompt_s: Array
  decode_s: Array


class _Prompts(NamedTuple):
  """The head of machine a's queue after the event."""

  head: Array
  done: Array  # whether its batch ended
  batch: Array  # the record of the head before the event
  admitted: Array
  left: Array
  begun: Array


class _Sequences(NamedTuple):
  """The sequences that decode on machine a after the event."""

  joins: Array
  finishes: Array
  finished: Array  # request
  tokens: Array  # cached tokens of the one that finished
  batch: Array
  cached: Array
  least: Array  # iteration after which the next one finishes
  top: Array  # of the stack of free slots
  slot: Array
  slot_row: Array
  slots: Array
  groups: Array


class _Queued(NamedTuple):
  """Machine a's queue after an arrival."""

  head: Array
  last: Array
  before: Array  # the last batch before the event
  opened: Array  # whether a batch follows it
  joined: Array  # first request of the arrival's batch
  record: Array  # of that batch
  amended: Array  # whether it is the admitted head
  need: Array  # memory of the arrival on its prompt machine
  reserved: Array  # by others, on machine a


class _Plan(NamedTuple):
  """What machine a does next."""

  stop: Array
  prompts: Array
  length: Array
  admitted: Array
  left: Array
  reserved: Array


def step(
  s: lanes_lib.State,
  lanes: lanes_lib.Lanes,
  tables: lanes_lib.Tables,
  fixed: lanes_lib.Fixed,
) -> lanes_lib.State:
  """Advances every lane by one event."""
  i = _Inputs(lanes_lib.apply(s), lanes, tables, fixed)
  event = _kept(i, _next_event(i))
  touched = _kept(i, _touch(i, event))
  advanced = _kept(i, _advance(i, event, touched))
  prompts = _kept(i, _end_prompts(i, event, touched.machine, advanced))
  sequences = _kept(i, _change_slot(i, event, touched, advanced))
  queued = _kept(i, _enqueue(i, event, touched, advanced, prompts))
  plan = _kept(
    i, _plan(i, event, touched, advanced, prompts, sequences, queued)
  )
  writes = _Writes(i.s)
  _write_machine(
    writes, i, event, touched, advanced, prompts, sequences, queued, plan
  )
  _write_loads(writes, i, event, touched, prompts, sequences, plan)
  _write_requests(writes, i, event, touched, prompts, sequences, queued)
  return i.s._replace(
    writes=writes.ordered(),
    next=i.s.next + event.arrival,
    end_s=_where(event.alive, event.now, i.s.end_s),
    steps=i.s.steps + event.alive,
    alive=event.alive.any(),
  )


def _kept(i: _Inputs, values: _T) -> _T:
  """Makes values real: XLA fuses nothing across a branch that it cannot know.

  The branch is always taken, since the loop ends when no lane is alive.
  """
  return lax.cond(
    i.s.alive, lambda v: v, lambda v: jax.tree.map(jnp.zeros_like, v), values
  )


def _first(mask: Array, axis: int) -> Array:
  """Index of the first True along an axis; the last index if there is none."""
  size = mask.shape[axis]
  shape = [1] * mask.ndim
  shape[axis] = size
  index = jnp.arange(size, dtype=jnp.int32).reshape(shape)
  return _where(mask, index, size - 1).min(axis)


def _next_event(i: _Inputs) -> _Event:
  s = i.s
  soonest = s.times.min(0)
  place = _first(s.times == soonest[None], 0)
  request = jnp.minimum(s.next, i.requests - 1)
  asked = i.asked(request)
  # Rounded to whole ticks of 2^-33 s, as durations are.
  ticks = jnp.round(asked[:, 0] * i.lanes.time_scale * 2.0**33)
  time = _where(s.next < i.requests, ticks / 2.0**33, jnp.inf)
  arrival = time < soonest
  now = jnp.minimum(time, soonest)
  alive = now < jnp.inf
  other = alive & ~arrival
  ends = place < i.machines
  machine = _where(ends, place, place - i.machines)
  return _Event(
    now, alive, arrival, other & ends, other & ~ends, machine, request, asked
  )


def _touch(i: _Inputs, event: _Event) -> _Touched:
  source, target, reserve = router.route(i.s, i.lanes, i.fixed, event.asked)
  b = _where(event.arrival, source, event.machine)
  queue = i.s.queue[i.row(b)]
  request = _where(
    event.arrival, event.request, _where(event.leave, queue[:, 0], 0)
  )
  asked = i.asked(request)
  home = i.s.request[i.id(request)]
  target = _where(event.arrival, target, home[:, 2])
  a = _where(event.leave, target, b)
  machine = lanes_lib.Machine(*i.s.machine[i.row(a)].T)
  return _Touched(
    a,
    b,
    source,
    target,
    reserve,
    request,
    asked[:, 1],
    asked[:, 2],
    queue,
    machine,
  )


def _elapsed(
  m: lanes_lib.Machine, batch: Array, cached: Array, j: Array
) -> Array:
  """S(j), seconds of j decode iterations; see `engine`."""
  once = m.c0 + m.c1 * batch + m.c2 * cached
  return j * once + m.c2 * batch * (j * (j - 1) / 2)


def _boundary(m: lanes_lib.Machine, past: Array) -> Array:
  """The least j >= 1 with S(j) >= past; exact, whatever sqrt rounds to."""
  half = m.c2 * m.batch / 2
  once = jnp.maximum(m.c0 + m.c1 * m.batch + m.c2 * m.cached - half, 1e-9)
  j = 2 * past / (once + jnp.sqrt(once * once + 4 * half * past))
  j = jnp.maximum(jnp.ceil(j), 1)
  enough = _elapsed(m, m.batch, m.cached, j) >= past
  fewer = (j > 1) & (_elapsed(m, m.batch, m.cached, j - 1) >= past)
  return _where(enough, _where(fewer, j - 1, j), j + 1)


def _advance(i: _Inputs, event: _Event, t: _Touched) -> _Advanced:
  m = t.machine
  end = i.s.times.reshape(-1)[i.flat(t.a)]
  idle = end == jnp.inf
  started = ~idle & (event.now > m.start)
  decoding = m.prompts == 0
  j = _boundary(m, jnp.maximum(event.now - m.start, 0))
  touch = event.arrival | (event.leave & (t.output > 1))
  wait = touch & started & (~decoding | (j >= m.length))
  cut = touch & started & ~wait
  iterations = _where(event.end, m.length, _where(cut, j, 0.0))
  at_cut = m.start + _elapsed(m, m.batch, m.cached, j)
  start = _where(cut, at_cut, _where(idle & touch, event.now, m.start))
  start = _where(event.end, end, start)
  passed = _where(event.end | cut, start - m.start, 0.0)
  return _Advanced(
    end=end,
    touch=touch,
    wait=wait,
    start=start,
    joins_at=m.iteration + _where(wait, m.length, _where(cut, j, 0.0)),
    iteration=m.iteration + iterations,
    batch=m.batch + _where(event.end, m.joining, 0.0),
    cached=m.cached
    + m.batch * iterations
    + _where(event.end, m.joining_cached, 0.0),
    prompt_s=m.prompt_s + _where(decoding, 0.0, passed),
    decode_s=m.decode_s + _where(decoding, passed, 0.0),
  )


def _end_prompts(
  i: _Inputs, event: _Event, m: lanes_lib.Machine, at: _Advanced
) -> _Prompts:
  """The end of an iteration with prompts, which may end their batch."""
  del at
  head = m.head.astype(jnp.int32)
  batch = i.s.batch[i.id(head)]
  ended = event.end & (m.prompts > 0)
  computed = jnp.minimum(m.left, jnp.maximum(i.lanes.chunk - m.batch, 1.0))
  begun = _where(ended & (m.left == batch[:, 0]), m.start, m.begun)
  left = m.left - _where(ended, computed, 0.0)
  done = ended & (left <= 0)
  head = _where(done, batch[:, 3].astype(jnp.int32), head)
  admitted = _where(done, 0.0, m.admitted)
  return _Prompts(head, done, batch, admitted, left, begun)


def _change_slot(
  i: _Inputs, event: _Event, t: _Touched, at: _Advanced
) -> _Sequences:
  """A sequence joins or finishes: one slot changes."""
  m = t.machine
  joins = event.leave & (t.output > 1)
  finishes = event.end & (m.prompts == 0)
  change = joins | finishes
  groups = i.s.groups[i.row(t.a)]
  n_groups, width = groups.shape[1], i.s.slots.shape[1]
  base = i.row(t.a) * (n_groups * width)
  occupied = m.occupied.astype(jnp.int32)
  top = base + _where(finishes, occupied - 1, occupied)
  free = i.s.free[top]
  least = m.finish.astype(jnp.int32)[:, None]
  group = _where(joins, free // width, _first(groups == least, 1))
  slot_row = i.row(t.a) * n_groups + group
  slots = i.s.slots[slot_row]
  place = _where(joins, free % width, _first(slots == least, 1))
  finish = (at.joins_at + t.output - 1).astype(jnp.int32)
  value = _where(joins, finish, lanes_lib.NEVER)
  here = (jnp.arange(width)[None] == place[:, None]) & change[:, None]
  slots = _where(here, value[:, None], slots)
  here = jnp.arange(n_groups)[None] == group[:, None]
  groups = _where(here, slots.min(1)[:, None], groups)
  slot = base + group * width + place
  finished = i.s.tenant[slot]
  gone = i.asked(finished)
  tokens = gone[:, 1] + gone[:, 2]
  now = joins & ~at.wait
  return _Sequences(
    joins,
    finishes,
    finished,
    tokens,
    at.batch + _where(now, 1.0, 0.0) - _where(finishes, 1.0, 0.0),
    at.cached + _where(now, t.prompt + 1, 0.0) - _where(finishes, tokens, 0.0),
    groups.min(1),
    top,
    slot,
    slot_row,
    slots,
    groups,
  )


def _enqueue(
  i: _Inputs, event: _Event, t: _Touched, at: _Advanced, p: _Prompts
) -> _Queued:
  """An arrival joins the last batch of its machine's queue, or opens one."""
  m, prompt = t.machine, t.prompt
  stays = (t.target == t.b) & (t.output > 1)
  need = _where(stays, jnp.maximum(prompt + t.output, m.seat), prompt)
  reserved = i.s.reserved[i.flat(t.a)]
  empty = p.head < 0
  before = _where(empty, t.request, m.last.astype(jnp.int32))
  batch = i.s.batch[i.id(before)]
  is_head = (before == p.head) & (m.admitted > 0)
  begun = (at.wait & (m.prompts > 0)) | (m.left != batch[:, 0])
  closed = is_head & (begun | (reserved + need > m.capacity))
  joins = (
    ~empty
    & ~closed
    & (batch[:, 0] + prompt <= i.lanes.batch_tokens)
    & (batch[:, 2] + need <= m.capacity)
  )
  one = jnp.ones_like(prompt)
  alone = [prompt, one, need, -one, _where(stays, 0.0, prompt)]
  alone = jnp.stack(alone, 1)
  merged = batch + alone * jnp.array([[1.0, 1.0, 1.0, 0.0, 1.0]])
  joined = _where(joins, before, t.request)
  arrival = event.arrival
  return _Queued(
    head=_where(arrival & empty, t.request, p.head),
    last=_where(arrival, joined, m.last.astype(jnp.int32)),
    before=before,
    opened=arrival & ~joins & ~empty,
    joined=joined,
    record=_where(joins[:, None], merged, alone),
    amended=arrival & joins & is_head,
    need=need,
    reserved=reserved,
  )


def _plan(
  i: _Inputs,
  event: _Event,
  t: _Touched,
  at: _Advanced,
  p: _Prompts,
  q: _Sequences,
  u: _Queued,
) -> _Plan:
  """What machine a does next, if it is at a boundary."""
  m, batch = t.machine, q.batch
  fresh = (event.arrival & (u.head == u.joined))[:, None]
  head = _where(fresh, u.record, i.s.batch[i.id(u.head)])
  reserved = (
    u.reserved
    + _where(u.amended, u.need, 0.0)
    - _where(q.finishes, jnp.maximum(q.tokens, m.seat), 0.0)
    - _where(p.done, p.batch[:, 4], 0.0)
  )
  plan = (event.end | at.touch) & ~at.wait
  due = (batch > 0) & (q.least == at.iteration.astype(jnp.int32))
  fits = (p.admitted > 0) | (reserved + head[:, 2] <= m.capacity)
  starts = (u.head >= 0) & fits & ~due
  admits = plan & starts & (p.admitted == 0)
  left = p.left + _where(u.amended, t.prompt, 0.0)
  left = _where(admits, head[:, 0], left)
  chunk = jnp.minimum(left, jnp.maximum(i.lanes.chunk - batch, 1.0))
  size = i.tables.prompt_s.shape[1]
  row = m.spec.astype(jnp.int32) * size

  def seconds(table: Array, tokens: Array) -> Array:
    tokens = jnp.clip(tokens, 0, size - 1).astype(jnp.int32)
    return table.reshape(-1)[row + tokens]

  decode = _elapsed(m, batch, q.cached, jnp.ones_like(batch))
  mixed = jnp.maximum(seconds(i.tables.mixed_s, chunk + batch), decode)
  alone = seconds(i.tables.prompt_s, chunk)
  ahead = _where(batch > 0, q.least.astype(jnp.float64) - at.iteration, 1.0)
  decode = _elapsed(m, batch, q.cached, ahead)
  takes = _where(batch > 0, decode, jnp.inf)
  takes = _where(starts, _where(batch > 0, mixed, alone), takes)
  length = _where(starts, 1.0, ahead)  # 0 if one is due
  takes = _where(due, 0.0, takes)
  return _Plan(
    stop=_where(plan, at.start + takes, at.end),
    prompts=_where(plan, _where(starts, 1.0, 0.0), m.prompts),
    length=_where(plan, length, m.length),
    admitted=_where(admits, 1.0, p.admitted),
    left=left,
    reserved=reserved + _where(admits, head[:, 2], 0.0),
  )


class _Writes:
  """Collects what a step leaves to be written, in the order of WRITES."""

  def __init__(self, s: lanes_lib.State):
    self._s = s
    self._made: dict[str, list[Any]] = {}

  def put(self, name: str, index: Array, value: Array, where: Array) -> None:
    index = _where(where, index, lanes_lib.rows(self._s, name))
    self._made.setdefault(name, []).append((index, value))

  def ordered(self) -> tuple[tuple[Array, Array], ...]:
    return tuple(self._made[name].pop(0) for name in lanes_lib.WRITES)


def _write_machine(
  writes: _Writes,
  i: _Inputs,
  event: _Event,
  t: _Touched,
  at: _Advanced,
  p: _Prompts,
  q: _Sequences,
  u: _Queued,
  plan: _Plan,
) -> None:
  m = t.machine
  waits = q.joins & at.wait
  joining = _where(event.end, 0.0, m.joining) + _where(waits, 1.0, 0.0)
  cached = _where(event.end, 0.0, m.joining_cached)
  row = m._replace(
    start=at.start,
    iteration=at.iteration,
    batch=q.batch,
    cached=q.cached,
    finish=q.least.astype(jnp.float64),
    length=plan.length,
    joining=joining,
    joining_cached=cached + _where(waits, t.prompt + 1, 0.0),
    occupied=m.occupied + q.joins - q.finishes,
    prompts=plan.prompts,
    admitted=plan.admitted,
    head=u.head.astype(jnp.float64),
    last=u.last.astype(jnp.float64),
    left=plan.left,
    begun=p.begun,
    prompt_s=at.prompt_s,
    decode_s=at.decode_s,
  )
  write = event.end | at.touch
  writes.put("machine", i.row(t.a), jnp.stack(row, 1), write)
  writes.put("times", i.flat(t.a), plan.stop, write)
  change = q.joins | q.finishes
  groups, width = i.s.groups.shape[1], i.s.slots.shape[1]
  writes.put("slots", q.slot_row, q.slots, change)
  writes.put("groups", i.row(t.a), q.groups, change)
  writes.put("tenant", q.slot, t.request, q.joins)
  own = q.slot - i.row(t.a) * (groups * width)
  writes.put("free", q.top, own, q.finishes)


def _write_loads(
  writes: _Writes,
  i: _Inputs,
  event: _Event,
  t: _Touched,
  p: _Prompts,
  q: _Sequences,
  plan: _Plan,
) -> None:
  """What the router compares, on machine a and on the other one."""
  single = t.output == 1
  a = i.flat(t.a)
  other = i.flat(_where(event.arrival, t.target, t.b))
  same = a == other
  seat = i.fixed.seat.reshape(-1)[other]
  more = _where(
    event.arrival & t.reserve, jnp.maximum(t.prompt + t.output, seat), 0.0
  )
  reserved_other = i.s.reserved[other] + more
  tasks = _where(event.arrival, 1.0, 0.0)
  tasks = tasks - _where(event.leave & single, 1.0, 0.0)
  load_other = i.s.load[other] + tasks
  prompts = _where(event.arrival, t.prompt, 0.0)
  prompts = prompts - _where(p.done, p.batch[:, 0], 0.0)
  load_a = i.s.load[a] + _where(same, tasks, 0.0)
  load_a = load_a + prompts * i.lanes.prompt_weight
  load_a = load_a - _where(q.finishes, 1.0, 0.0)
  write = event.end | event.arrival | (event.leave & ~single)
  writes.put("reserved", other, reserved_other, event.arrival)
  writes.put("reserved", a, plan.reserved, write)
  writes.put("load", other, load_other, event.arrival | event.leave)
  writes.put("load", a, load_a, event.arrival | event.end)
  # An empty machine goes back to its pool; one that helps out leaves it.
  away = event.leave & ~same
  load_b = _where(away, load_other, load_a)
  reserved_b = _where(away, reserved_other, plan.reserved)
  empty = (load_b == 0) & (reserved_b == 0)
  b, pools = i.flat(t.b), i.lanes.pool.reshape(-1)
  lent = event.arrival & (pools[b] == TOKEN)
  writes.put("moved", b, lent, lent | (event.alive & empty))
  lent = event.arrival & ~single & (pools[other] == PROMPT)
  writes.put("moved", other, lent, lent)


def _write_requests(
  writes: _Writes,
  i: _Inputs,
  event: _Event,
  t: _Touched,
  p: _Prompts,
  q: _Sequences,
  u: _Queued,
) -> None:
  """Batches, the caches that leave machine b, and what is reported."""
  head = t.machine.head.astype(jnp.int32)
  span = jnp.stack([p.begun, event.now], 1)
  writes.put("batch_s", i.id(head), span, p.done)
  writes.put("batch", i.id(u.joined), u.record, event.arrival)
  link = u.joined.astype(jnp.float64)
  writes.put("batch", i.id(u.before), link, u.opened)
  first, tail, ready = t.queue[:, 0], t.queue[:, 1], t.queue[:, 2]
  follows = event.arrival & (first >= 0)
  writes.put("successor", i.id(tail), t.request, follows)
  launch = event.leave | (p.done & (ready == 0))
  count = _where(p.done, p.batch[:, 1], 0.0).astype(jnp.int32)
  ready = ready + count - event.leave
  first = _where(event.leave, i.s.successor[i.id(first)], first)
  first = _where(event.arrival & (first < 0), t.request, first)
  tail = _where(event.arrival, t.request, tail)
  target = i.s.request[i.id(first)][:, 2]
  tokens = i.asked(jnp.maximum(first, 0))[:, 1]
  travel = _where(target == t.b, 0.0, tokens * i.lanes.transfer_s)
  leaves = _where(ready > 0, event.now + travel, jnp.inf)
  place = i.machines * i.lane.shape[0] + i.flat(t.b)
  writes.put("times", place, leaves, launch)
  zero = jnp.zeros_like(ready)
  queue = jnp.stack([first, tail, ready, zero], 1)
  writes.put("queue", i.row(t.b), queue, event.alive)
  request = jnp.stack([u.joined, t.source, t.target, zero], 1)
  writes.put("request", i.id(t.request), request, event.arrival)
  writes.put("left", i.id(t.request), event.now, event.leave)
  writes.put("finished", i.id(q.finished), event.now, q.finishes)
