# SPDX-License-Identifier: Apache-2.0
"""Turns a trace into what compiled programs take: one period after the other.

Tasks get slots, machines get rows, sets of constraints and jobs whose tasks
must be apart get numbers. All are given back when they are over, so that arrays
grow with what is there at one time and not with the length of the trace; they
grow by doubling, and a period's changes are padded to a power of two, so that
few shapes are ever compiled.
"""

from collections.abc import Iterable, Iterator
import heapq
from typing import NamedTuple

from jaxtyping import Bool, Float, Int
import numpy as np

from jaxttc.simulation.placement import constraints as constraints_lib
from jaxttc.simulation.placement import events

NOTHING, QUEUE, PLACE, START, END, UPDATE = range(6)
PART = 256  # changes of tasks that are handed over together
_RESOURCES = len(events.RESOURCES)


class Ops(NamedTuple):
  """Changes to tasks, in order.

  Attributes:
    code: i32[E], one of the numbers above: a task comes and waits, comes and is
      to be placed, starts where it was recorded, ends, or asks for something
      else; 0 for nothing.
    slot: i32[E].
    where: i32[E], row of the recorded machine; -1 for none.
    request: f32[E, R].
    kind: i32[E], set of constraints.
    job: i32[E], row of the roster; -1 for none.
    peer: i32[E], column of the roster.
    order: i32[E], number of the submission.
  """

  code: Int[np.ndarray, " E"]
  slot: Int[np.ndarray, " E"]
  where: Int[np.ndarray, " E"]
  request: Float[np.ndarray, "E R"]
  kind: Int[np.ndarray, " E"]
  job: Int[np.ndarray, " E"]
  peer: Int[np.ndarray, " E"]
  order: Int[np.ndarray, " E"]


class Machines(NamedTuple):
  """The cell from now on: f32[N, R], and bool[G, N]."""

  capacity: Float[np.ndarray, "N R"]
  eligible: Bool[np.ndarray, "G N"]


class Samples(NamedTuple):
  """What tasks used: i32[U] slots (beyond the last for none), f32[U, R]."""

  slot: Int[np.ndarray, " U"]
  usage: Float[np.ndarray, "U R"]


class Sizes(NamedTuple):
  """Capacities of the arrays that the parts refer to."""

  nodes: int
  slots: int
  kinds: int
  jobs: int
  peers: int


class Period(NamedTuple):
  """One period.

  Attributes:
    time: seconds at its end.
    sizes: how large the cell's arrays must be.
    parts: changes of machines and of tasks, in order.
    samples: the last use of each task that was sampled.
    skipped: events so far that made no sense, such as the end of a task that
      never came; traces have them where data is missing.
  """

  time: float
  sizes: Sizes
  parts: list[Machines | Ops]
  samples: Samples
  skipped: int


def periods(
  trace: Iterable[events.Event],
  *,
  recorded: bool = False,
  seconds: float = 300.0,
) -> Iterator[Period]:
  """Cuts a trace into periods.

  Args:
    trace: events in order of time.
    recorded: whether tasks wait for their recorded start, instead of being
      placed when they are submitted.
    seconds: length of a period.

  Raises:
    ValueError: if the length is not > 0, or time goes backwards.
  """
  if not seconds > 0:
    raise ValueError(f"a period must last > 0 s, got {seconds}")
  tape, last = _Tape(recorded), 0.0
  until = seconds
  for event in trace:
    if event.time < last:
      raise ValueError(
        f"{type(event).__name__} at {event.time} s comes after one at {last} "
        "s: events must be in order of time"
      )
    last = event.time
    while event.time >= until:
      yield tape.cut(until)
      until += seconds
    tape.take(event)
  yield tape.cut(until)


class _Free:
  """Numbers that are given out, the least first, and given back.

  What is given back is given out again after `release` only.
  """

  def __init__(self) -> None:
    self._free: list[int] = []
    self._back: list[int] = []
    self.used = 0

  def take(self) -> int:
    """A number that is free."""
    if self._free:
      return heapq.heappop(self._free)
    self.used += 1
    return self.used - 1

  def give(self, number: int) -> None:
    """Gives a number back."""
    self._back.append(number)

  def release(self) -> None:
    """Lets numbers that came back be given out again."""
    for number in self._back:
      heapq.heappush(self._free, number)
    self._back = []


class _Job:
  """A job whose tasks must be apart: its row, and who has which column."""

  def __init__(self, row: int):
    self.row, self.tasks = row, 0
    # Columns come back one part later, like slots.
    self.columns = _Free()


class _Tape:
  """What is known while a trace is read."""

  def __init__(self, recorded: bool):
    self.recorded = recorded
    self.rows: dict[int, int] = {}
    self.capacity: list[tuple[float, ...]] = []
    self.attributes: list[dict[str, str]] = []
    self.kinds: dict[frozenset, int] = {frozenset(): 0}
    self.eligible = np.ones((1, 0), bool)
    self.stale: set[int] = set()
    self.slots, self.jobs = _Free(), _Free()
    self.held: dict[events.Task, tuple[int, int, int, int]] = {}
    self.apart: dict[int, _Job] = {}
    self.shared: dict[int, _Free] = {}
    self.peers, self.order, self.skipped = 1, 0, 0
    self.started: set[events.Task] = set()
    self.parts: list[Machines | Ops] = []
    self.ops: list[tuple] = []
    self.samples: dict[int, tuple[float, float]] = {}
    self.changed = False

  def take(self, event: events.Event) -> None:
    """Notes one event."""
    if isinstance(event, events.UsageSample):
      held = self.held.get(event.task)
      if held is None:
        self.skipped += 1
      else:
        self.samples[held[0]] = event.usage
    elif isinstance(event, events.TaskEvent):
      self._task(event)
    else:
      self._machine(event)

  def cut(self, time: float) -> Period:
    """Ends a period."""
    self._close_ops()
    self._close_machines()
    sizes = Sizes(
      max(len(self.rows), 1),
      # Some more than are used: to grow is to compile anew.
      _power(self.slots.used * 5 // 4),
      _power(len(self.kinds)),
      _power(self.jobs.used),
      _power(self.peers),
    )
    parts = [_padded(part, sizes) for part in self.parts]
    samples = _samples(self.samples, sizes.slots)
    self.parts, self.samples = [], {}
    return Period(time, sizes, parts, samples, self.skipped)

  def _machine(self, event: events.MachineEvent | events.AttributeEvent):
    self._close_ops()
    row = self.rows.setdefault(event.machine, len(self.rows))
    if row == len(self.capacity):
      self.capacity.append((0.0,) * _RESOURCES)
      self.attributes.append({})
    if isinstance(event, events.AttributeEvent):
      if event.value is None:
        self.attributes[row].pop(event.name, None)
      else:
        self.attributes[row][event.name] = event.value
    else:
      # A machine of unknown capacity takes nothing.
      self.capacity[row] = event.capacity or (0.0,) * _RESOURCES
    self.stale.add(row)
    self.changed = True

  def _task(self, event: events.TaskEvent) -> None:
    known = event.task in self.held
    if event.kind == "end":
      self._end(event)
    elif event.kind == "update" and known:
      if event.request is not None:
        self._op(UPDATE, event, *self.held[event.task])
    elif event.kind in ("submit", "schedule") and not known:
      self._come(event)
    elif event.kind == "schedule" and known:
      if self.recorded and event.task not in self.started:
        self.started.add(event.task)
        self._op(START, event, *self.held[event.task])
    else:
      self.skipped += 1

  def _come(self, event: events.TaskEvent) -> None:
    """A task that was not here; where data is missing it starts at once."""
    kinds = frozenset(event.constraints)
    if kinds not in self.kinds:
      self._close_ops()
      self.kinds[kinds] = len(self.kinds)
      self.changed = True
    row = column = -1
    if event.apart:
      job = self.apart.get(event.task[0])
      if job is None:
        job = self.apart[event.task[0]] = _Job(self.jobs.take())
      row, column = job.row, job.columns.take()
      job.tasks += 1
      self.peers = max(self.peers, job.columns.used)
    held = (self.slots.take(), self.kinds[kinds], row, column)
    self.held[event.task] = held
    self.order += 1
    starts = event.kind == "schedule"
    if starts:
      self.started.add(event.task)
    waits = self.recorded and not starts
    self._op(QUEUE if waits else PLACE, event, *held)

  def _end(self, event: events.TaskEvent) -> None:
    held = self.held.pop(event.task, None)
    if held is None:
      self.skipped += 1
      return
    self.started.discard(event.task)
    slot, _, row, column = held
    self._op(END, event, *held)
    self.slots.give(slot)
    self.samples.pop(slot, None)
    if row >= 0:
      job = self.apart[event.task[0]]
      job.columns.give(column)
      self.shared[event.task[0]] = job.columns
      job.tasks -= 1
      if not job.tasks:
        self.jobs.give(row)
        del self.apart[event.task[0]]

  def _op(self, code, event, slot, kind, row, column) -> None:
    self._close_machines()
    where = -1 if event.machine is None else self.rows.get(event.machine, -1)
    request = event.request or (0.0,) * _RESOURCES
    self.ops.append((code, slot, where, kind, row, column, self.order, request))
    # What a task asks for changes at the end of a part.
    if len(self.ops) == PART or code == UPDATE:
      self._close_ops()

  def _close_ops(self) -> None:
    if not self.ops:
      return
    *columns, request = zip(*self.ops, strict=True)
    code, slot, where, kind, job, peer, order = (
      np.array(column, np.int32) for column in columns
    )
    asked = np.array(request, np.float32)
    self.parts.append(Ops(code, slot, where, asked, kind, job, peer, order))
    self.ops = []
    # No slot, row or column has two owners in one part.
    for free in (self.slots, self.jobs, *self.shared.values()):
      free.release()
    self.shared = {}

  def _close_machines(self) -> None:
    if not self.changed:
      return
    self.changed = False
    self._update_eligible()
    capacity = np.array(self.capacity, np.float32).reshape(-1, _RESOURCES)
    self.parts.append(Machines(capacity, self.eligible.copy()))

  def _update_eligible(self) -> None:
    """Looks at new sets of constraints, and at machines that changed."""
    kinds, rows = list(self.kinds), len(self.rows)
    old, columns = self.eligible.shape
    grown = np.ones((len(kinds), rows), bool)
    grown[:old, :columns] = self.eligible
    stale = sorted(self.stale)
    look = constraints_lib.eligibility
    changed = [self.attributes[row] for row in stale]
    grown[:old, stale] = look(changed, kinds[:old])
    grown[old:] = look(self.attributes, kinds[old:])
    self.eligible, self.stale = grown, set()


def _padded(part: Machines | Ops, sizes: Sizes) -> Machines | Ops:
  """Pads a part: machines to the cell's arrays, changes to their length."""
  if isinstance(part, Machines):
    rows, kinds = part.capacity.shape[0], part.eligible.shape[0]
    capacity = np.pad(part.capacity, ((0, sizes.nodes - rows), (0, 0)))
    eligible = np.pad(
      part.eligible, ((0, sizes.kinds - kinds), (0, sizes.nodes - rows))
    )
    return Machines(capacity, eligible)
  extra = PART - part.code.shape[0]

  def pad(values):
    widths = ((0, extra),) + ((0, 0),) * (values.ndim - 1)
    return np.pad(values, widths)

  return Ops(*(pad(values) for values in part))


def _samples(held: dict[int, tuple[float, float]], slots: int) -> Samples:
  count = len(held)
  slot = np.full(slots, slots, np.int32)
  usage = np.zeros((slots, _RESOURCES), np.float32)
  slot[:count] = list(held)
  if count:
    usage[:count] = list(held.values())
  return Samples(slot, usage)


def _power(count: int) -> int:
  """The least power of two that is at least `count`, and 16."""
  return max(16, 1 << max(count - 1, 0).bit_length())
