# SPDX-License-Identifier: Apache-2.0
"""Traces with the statistics of Google's cell of 2011, of any size and length.

What is taken from publications (Reiss et al. 2012, "Heterogeneity and
dynamicity of clouds at scale", and the trace itself): the ten shapes of
machines and how many there are of each; three quarters of jobs have one task,
and a few have very many; about 6 % of tasks carry constraints; free, batch and
production priorities; users ask for about twice the CPU that they use, and for
memory more nearly; most tasks are short while most of what is used goes to few
long ones; a sample of use every 300 s. What is ours: the families of
distributions, the drift of use (a log-normal autoregression), the day's wave,
and who was recorded where (the roomiest of sixteen machines on which requests
fit).
"""

from collections.abc import Iterator
import dataclasses
import heapq
import operator

import numpy as np

from jaxttc.simulation.placement import constraints as constraints_lib
from jaxttc.simulation.placement import events

# cpu, memory, machines of the shape in the cell of 2011.
SHAPES = (
  (0.50, 0.50, 6732),
  (0.50, 0.25, 3863),
  (0.50, 0.75, 1001),
  (1.00, 1.00, 795),
  (0.25, 0.25, 126),
  (0.50, 0.12, 52),
  (0.50, 0.03, 5),
  (0.50, 0.97, 5),
  (1.00, 0.50, 3),
  (0.50, 0.06, 1),
)
PERIOD = 300.0
_PRIORITIES = ((0, 0.33), (1, 0.07), (2, 0.2), (4, 0.22), (9, 0.17), (10, 0.01))
_DAY = 86400.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Spec:
  """What to generate.

  Attributes:
    machines: machines of the cell.
    hours: length of the trace.
    seed: of everything that is drawn.
    tasks_per_machine: long tasks that run when the trace begins.
    arrivals_per_machine_hour: tasks submitted, on average over a day.
    requested: share of the cell's CPU that the first tasks ask for.
    drift: standard deviation of the logarithm of use from sample to sample.
    spread: standard deviation of the logarithm of use about a task's mean.
    removals_per_machine_day: how often a machine goes away, for half an hour.
  """

  machines: int = 12_500
  hours: float = 4.0
  seed: int = 0
  tasks_per_machine: float = 3.2
  arrivals_per_machine_hour: float = 2.9
  requested: float = 0.8
  drift: float = 0.12
  spread: float = 0.3
  removals_per_machine_day: float = 1 / 30

  def __post_init__(self) -> None:
    for name in ("machines", "hours", "tasks_per_machine"):
      if not getattr(self, name) > 0:
        raise ValueError(f"{name} must be > 0, got {getattr(self, name)}")
    for name in ("arrivals_per_machine_hour", "removals_per_machine_day"):
      if not getattr(self, name) >= 0:
        raise ValueError(f"{name} must be >= 0, got {getattr(self, name)}")
    if not 0 < self.requested <= 1:
      raise ValueError(f"requested must lie in (0, 1], got {self.requested}")
    if not 0 <= self.drift <= self.spread:
      raise ValueError(
        f"drift must lie in [0, spread={self.spread}], got {self.drift}"
      )


def generate(spec: Spec) -> Iterator[events.Event]:
  """The events of a trace, in order of time; the same for the same spec."""
  return _Cell(spec).stream()


def shapes(machines: int) -> np.ndarray:
  """f64[machines, 2]: cpu and memory, in the proportions of 2011.

  Every shape is rounded down, and the commonest fills up.
  """
  total = sum(count for *_, count in SHAPES)
  counts = [machines * count // total for *_, count in SHAPES]
  counts[0] += machines - sum(counts)
  kinds = np.array([(cpu, memory) for cpu, memory, _ in SHAPES])
  return np.repeat(kinds, counts, axis=0)


@dataclasses.dataclass
class _Running:
  """A task: what it asks for, how it uses that, and where it was recorded."""

  event: events.TaskEvent
  ends: float
  share: np.ndarray
  wave: np.ndarray
  machine: int | None = None


class _Cell:
  """The cell while it is generated, period by period."""

  def __init__(self, spec: Spec):
    self.spec = spec
    self.rng = np.random.default_rng(spec.seed)
    self.capacity = shapes(spec.machines)
    self.rng.shuffle(self.capacity)
    self.platform = self.rng.choice(3, spec.machines, p=(0.93, 0.05, 0.02))
    self.kernel = self.rng.integers(1, 5, spec.machines)
    self.there = np.ones(spec.machines, bool)
    self.reserved = np.zeros_like(self.capacity)
    self.running: dict[events.Task, _Running] = {}
    self.ends: list[tuple[float, events.Task]] = []
    self.back: list[tuple[float, int]] = []
    self.jobs = 0
    # Mean requests that ask for `requested` of the cell, memory a bit less.
    mean = self.capacity.mean(0) / spec.tasks_per_machine
    self.request_mean = mean * (spec.requested, 0.85 * spec.requested)

  def stream(self) -> Iterator[events.Event]:
    """All events, sorted within each period."""
    for number in range(self.spec.machines):
      yield self._machine(0.0, number, "add")
      yield events.AttributeEvent(
        0.0, number + 1, "kernel", str(self.kernel[number])
      )
    start = 0.0
    end = self.spec.hours * 3600.0
    made = self._first_tasks()
    while start < end:
      stop = min(start + PERIOD, end)
      made += self._arrivals(start, stop)
      made += self._removals(start, stop)
      made += self._returns(stop)
      alive = list(self.running.values())
      made += self._endings(stop)
      made += self._samples(alive, start, stop)
      # Sorting is stable: at one time events keep the order of causes.
      made.sort(key=operator.itemgetter(0))
      yield from made
      made, start = [], stop

  def _machine(self, time: float, number: int, kind: str) -> events.Event:
    capacity = None
    if kind != "remove":
      cpu, memory = self.capacity[number].tolist()
      capacity = (cpu, memory)
    platform = "ABC"[self.platform[number]]
    return events.MachineEvent(time, number + 1, kind, capacity, platform)

  def _first_tasks(self) -> list[events.Event]:
    wanted = round(self.spec.machines * self.spec.tasks_per_machine)
    made: list[events.Event] = []
    count = 0
    while count < wanted:
      tasks = min(self._job_size(), wanted - count)
      # Long tasks: days, so that few of them end within hours.
      made += self._job(0.0, tasks, lambda: self.rng.exponential(8 * _DAY))
      count += tasks
    return made

  def _arrivals(self, start: float, stop: float) -> list[events.Event]:
    wave = 1.0 + 0.3 * np.sin(2 * np.pi * start / _DAY)
    rate = self.spec.arrivals_per_machine_hour * self.spec.machines / 3600.0
    left = self.rng.poisson(rate * wave * (stop - start))
    made: list[events.Event] = []
    while left > 0:
      tasks = min(self._job_size(), left)
      time = _micro(self.rng.uniform(start, stop))
      # Minutes, with a tail of hours.
      made += self._job(time, tasks, lambda: self.rng.lognormal(5.7, 1.4))
      left -= tasks
    return made

  def _job_size(self) -> int:
    if self.rng.random() < 0.75:
      return 1
    return int(min(2 + self.rng.pareto(1.1) * 3, 200))

  def _job(self, time, tasks, duration) -> list[events.Event]:
    """The tasks of a job, which ask for the same."""
    self.jobs += 1
    rng = self.rng
    levels, odds = zip(*_PRIORITIES, strict=True)
    priority = int(rng.choice(levels, p=odds))
    request = self.request_mean * rng.lognormal(-0.32, 0.8, 2)
    # No task asks for more than half of a common machine.
    cpu, memory = np.clip(request, 1e-4, 0.25).tolist()
    asked = ()
    if rng.random() < 0.06:
      name, value = ("kernel", str(rng.integers(1, 4)))
      asked = (constraints_lib.Constraint(">", name, value),)
    apart = 1 < tasks <= 16 and rng.random() < 0.15
    made: list[events.Event] = []
    for index in range(tasks):
      event = events.TaskEvent(
        time,
        (self.jobs, index),
        "submit",
        None,
        (cpu, memory),
        priority,
        apart,
        asked,
      )
      used = rng.lognormal((-0.75, -0.55), (0.45, 0.25))
      wave = rng.normal(0.0, self.spec.spread, 2) * (1.0, 0.3)
      ends = _micro(time + max(duration(), 5.0))
      one = _Running(event, ends, np.minimum(used, 1.6), wave)
      made += self._submit(one, time)
    return made

  def _submit(self, one: _Running, time: float) -> list[events.Event]:
    """The task asks to run, and is recorded where there is room."""
    task = one.event.task
    self.running[task] = one
    heapq.heappush(self.ends, (one.ends, task))
    submitted = one.event._replace(time=time)
    one.machine = self._room(one.event)
    if one.machine is None:
      return [submitted]
    self.reserved[one.machine] += one.event.request
    scheduled = submitted._replace(
      kind="schedule", machine=one.machine + 1, constraints=()
    )
    return [submitted, scheduled]

  def _room(self, event: events.TaskEvent) -> int | None:
    """The roomiest of sixteen machines that may take the task."""
    for _ in range(4):
      some = self.rng.integers(0, self.spec.machines, 16)
      left = self.capacity[some] - self.reserved[some] - event.request
      may = self.there[some] & (left >= 0).all(1)
      for one in event.constraints:
        may &= self.kernel[some] > int(one.value)
      if may.any():
        return int(some[np.argmax(np.where(may, left.min(1), -1.0))])
    return None

  def _removals(self, start: float, stop: float) -> list[events.Event]:
    """Machines go away; their tasks are evicted and submitted again."""
    rate = self.spec.removals_per_machine_day / _DAY * (stop - start)
    made: list[events.Event] = []
    for number in np.flatnonzero(
      self.there & (self.rng.random(self.spec.machines) < rate)
    ):
      time = _micro(self.rng.uniform(start, stop))
      self.there[number] = False
      heapq.heappush(self.back, (_micro(time + 1800.0), int(number)))
      lost = [
        one
        for one in self.running.values()
        if one.machine == number and one.event.time <= time < one.ends
      ]
      made += [self._end(one, time, "evict") for one in lost]
      made.append(self._machine(time, int(number), "remove"))
      for one in lost:
        made += self._submit(one, time)
    return made

  def _returns(self, stop: float) -> list[events.Event]:
    made = []
    while self.back and self.back[0][0] < stop:
      time, number = heapq.heappop(self.back)
      self.there[number] = True
      made.append(self._machine(time, number, "add"))
    return made

  def _endings(self, stop: float) -> list[events.Event]:
    made = []
    while self.ends and self.ends[0][0] < stop:
      time, task = heapq.heappop(self.ends)
      # An evicted task is in the heap twice; the second time it is gone.
      if task in self.running and self.running[task].ends == time:
        made.append(self._end(self.running[task], time, "finish"))
    return made

  def _end(self, one: _Running, time: float, reason: str) -> events.Event:
    machine = None if one.machine is None else one.machine + 1
    if one.machine is not None:
      self.reserved[one.machine] -= one.event.request
      one.machine = None
    del self.running[one.event.task]
    return events.TaskEvent(
      time,
      one.event.task,
      "end",
      machine,
      None,
      one.event.priority,
      one.event.apart,
      (),
      reason,
    )

  def _samples(
    self, alive: list[_Running], start: float, stop: float
  ) -> list[events.Event]:
    """What each task used; the logarithm of use drifts about its mean."""
    if not alive:
      return []
    spec = self.spec
    keep = np.sqrt(1.0 - (spec.drift / spec.spread) ** 2) if spec.drift else 1.0
    noise = self.rng.normal(0.0, spec.drift, (len(alive), 2)) * (1.0, 0.3)
    wave = keep * np.stack([one.wave for one in alive]) + noise
    request = np.array([one.event.request for one in alive])
    share = np.stack([one.share for one in alive])
    used = np.minimum(request * share * np.exp(wave), 0.4)
    made: list[events.Event] = []
    for one, row, values in zip(alive, wave, used.tolist(), strict=True):
      one.wave = row
      begin = max(start, one.event.time)
      end = min(stop, one.ends)
      if end > begin:
        machine = None if one.machine is None else one.machine + 1
        cpu, memory = values
        made.append(
          events.UsageSample(begin, end, one.event.task, machine, (cpu, memory))
        )
    return made


def _micro(time: float) -> float:
  """Traces count microseconds."""
  return round(time * 1e6) / 1e6
