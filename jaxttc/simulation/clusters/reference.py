# SPDX-License-Identifier: Apache-2.0
"""A plain event simulation of serving clusters, one iteration at a time.

The rules of `jaxttc.simulation.clusters` written a second time, as one would
without arrays: a heap of events and objects for machines. The compiled engine
must find the same times to the last bit, and is timed against this one.
"""

import collections
import heapq
import math
from typing import NamedTuple

import numpy as np

from jaxttc.simulation import traces
from jaxttc.simulation.clusters import cluster as cluster_lib
from jaxttc.simulation.clusters import sweeps

# At one instant: iterations end, caches leave, requests arrive, then machines
# start. Machines and requests go by their numbers.
_END, _LEAVE, _ARRIVE, _START = range(4)
_NEVER = math.inf


class ReferenceOutcome(NamedTuple):
  """What came of each request; times in s, inf if never.

  `longest_gap` is the longest wait between two tokens of a request, which only
  a simulation of every iteration sees. The rest is as the engine's Outcome.
  """

  begun: np.ndarray
  first: np.ndarray
  left: np.ndarray
  finished: np.ndarray
  longest_gap: np.ndarray
  prompt_machine: np.ndarray
  token_machine: np.ndarray
  prompt_s: np.ndarray
  decode_s: np.ndarray
  end_s: float
  events: int


class _Request:
  __slots__ = (
    "id",
    "prompt",
    "output",
    "draw",
    "source",
    "target",
    "last_token",
    "need",
  )

  def __init__(self, number: int, prompt: int, output: int, draw: float):
    self.id, self.prompt, self.output, self.draw = number, prompt, output, draw


class _Batch:
  """Prompts that one iteration takes, or several if they are cut to chunks."""

  __slots__ = ("requests", "tokens", "need", "left", "begun")

  def __init__(self) -> None:
    self.requests: list[_Request] = []
    self.tokens = self.need = self.left = 0
    self.begun = _NEVER


class _Machine:
  """One machine: its queue, its sequences, and the iteration it runs."""

  def __init__(self, number: int, pool: int, kind: cluster_lib.CompiledKind):
    self.id, self.home, self.kind = number, pool, kind
    self.moved = False
    self.load = self.reserved = 0
    self.waiting: collections.deque[_Batch] = collections.deque()
    self.admitted: _Batch | None = None
    self.leaving: collections.deque[_Request] = collections.deque()
    self.sequences: list[tuple[int, int, _Request]] = []  # a heap
    self.joining: list[_Request] = []
    self.batch = self.cached = self.iteration = 0
    self.running = self.starting = False
    self.begun = 0.0
    self.chunk = 0  # prompt tokens of the iteration that runs
    self.prompt_s = self.decode_s = 0.0

  @property
  def pool(self) -> int:
    return cluster_lib.MIXED if self.moved else self.home


class _Simulation:
  def __init__(
    self,
    cluster: cluster_lib.Cluster,
    trace: traces.Trace,
    seed: int,
    gaps: bool,
  ):
    compiled = cluster_lib.compile_cluster(cluster, trace)
    self.rules = compiled.rules
    self.gaps = gaps
    self.machines = [
      _Machine(i, pool, compiled.kinds[kind])
      for i, (pool, kind) in enumerate(compiled.machines)
    ]
    draws = cluster_lib.draws(len(trace), seed)
    self.requests = [
      _Request(i, p, g, u)
      for i, (p, g, u) in enumerate(
        zip(
          trace.prompt_tokens.tolist(),
          trace.output_tokens.tolist(),
          draws.tolist(),
          strict=True,
        )
      )
    ]
    n = len(trace)
    self.begun = [_NEVER] * n
    self.first = [_NEVER] * n
    self.left = [_NEVER] * n
    self.finished = [_NEVER] * n
    self.gap = [0.0] * n
    times = cluster_lib.ticks(trace.arrival_s).tolist()
    # Arrivals are sorted, which makes the list a heap.
    self.heap = [(time, _ARRIVE, i) for i, time in enumerate(times)]
    self.events = 0

  def run(self) -> ReferenceOutcome:
    heap, now = self.heap, 0.0
    handle = (self._end, self._leave, self._arrive, self._start)
    while heap:
      now, kind, number = heapq.heappop(heap)
      handle[kind](now, number)
      self.events += 1
    machines = self.machines
    return ReferenceOutcome(
      np.array(self.begun),
      np.array(self.first),
      np.array(self.left),
      np.array(self.finished),
      np.array(self.gap),
      np.array([request.source.id for request in self.requests]),
      np.array([request.target.id for request in self.requests]),
      np.array([machine.prompt_s for machine in machines]),
      np.array([machine.decode_s for machine in machines]),
      now,
      self.events,
    )

  # Routing.

  def _route(self, r: _Request) -> tuple[_Machine, _Machine, bool]:
    """(prompt machine, token machine, whether memory is reserved there)."""
    rules, machines = self.rules, self.machines
    if rules.router == cluster_lib.SPLIT:
      source = self._least_source(r)
      target = self._least_target(r) if source else None
      # Else both could queue prompts and hold memory for others' prompts.
      if (
        source
        and target
        and (
          source.pool == cluster_lib.PROMPT
          or target.pool == cluster_lib.TOKEN
          or source is target
        )
      ):
        if r.output == 1:
          target = source
        return source, target, source is not target
    if rules.router == cluster_lib.RANDOM:
      alone = machines[int(r.draw * len(machines))]
    elif rules.router == cluster_lib.TURNS:
      alone = machines[r.id % len(machines)]
    else:
      alone = min(machines, key=lambda m: (m.load, m.id))
    return alone, alone, False

  def _least_source(self, r: _Request) -> _Machine | None:
    limit = self.rules.queue_limit
    best, found = (3, 0, 0), None
    for m in self.machines:
      tier = (0, 2, 1)[m.pool]
      if tier == 2 or m.load == 0 or m.load + r.prompt <= limit:
        key = (tier, m.load, m.id)
        if key < best:
          best, found = key, m
    return found

  def _least_target(self, r: _Request) -> _Machine | None:
    best, found = (3, 0, 0), None
    tokens = r.prompt + r.output
    for m in self.machines:
      if m.reserved + max(tokens, m.kind.seat) <= m.kind.capacity:
        key = ((2, 0, 1)[m.pool], m.reserved, m.id)
        if key < best:
          best, found = key, m
    return found

  def _arrive(self, now: float, number: int) -> None:
    r = self.requests[number]
    source, target, reserve = self._route(r)
    r.source, r.target = source, target
    if source.home == cluster_lib.TOKEN:
      source.moved = True
    if r.output > 1 and target.home == cluster_lib.PROMPT:
      target.moved = True
    target.load += 1
    source.load += r.prompt * self.rules.prompt_weight
    if reserve:
      target.reserved += max(r.prompt + r.output, target.kind.seat)
    if source is target and r.output > 1:
      r.need = max(r.prompt + r.output, source.kind.seat)
    else:
      r.need = r.prompt
    self._enqueue(now, source, r)
    self._admit(now, source)

  def _enqueue(self, now: float, m: _Machine, r: _Request) -> None:
    """Appends a prompt to a queue's last batch if it fits, else opens one."""
    capacity = m.kind.capacity
    last = m.waiting[-1] if m.waiting else None
    fits = (
      last is not None
      and last.tokens + r.prompt <= self.rules.batch_tokens
      and last.need + r.need <= capacity
    )
    if fits and last is m.admitted:
      # It has its memory; it takes more only before its first iteration.
      started = last.left != last.tokens or last.begun < now
      fits = not started and m.reserved + r.need <= capacity
      if fits:
        m.reserved += r.need
        last.left += r.prompt
    if not fits:
      last = _Batch()
      m.waiting.append(last)
    last.requests.append(r)
    last.tokens += r.prompt
    last.need += r.need

  # Iterations.

  def _admit(self, now: float, m: _Machine) -> None:
    """Gives the head of the queue its memory, and sees that the machine runs.

    Not while prompts are computed, nor in an iteration that finishes a
    sequence: then its end decides.
    """
    if m.running:
      finishing = m.sequences and m.sequences[0][0] == m.iteration + 1
      if m.chunk or finishing:
        return
    if m.admitted is None and m.waiting:
      head = m.waiting[0]
      if m.reserved + head.need <= m.kind.capacity:
        m.reserved += head.need
        head.left = head.tokens
        m.admitted = head
    self._wake(now, m)

  def _wake(self, now: float, m: _Machine) -> None:
    if not m.running and not m.starting:
      m.starting = True
      heapq.heappush(self.heap, (now, _START, m.id))

  def _start(self, now: float, number: int) -> None:
    """Starts the next iteration of a machine, if there is anything to do."""
    m = self.machines[number]
    m.starting = False
    kind = m.kind
    for r in m.joining:
      self._join(m, r)
    m.joining.clear()
    if m.admitted is not None:
      head = m.admitted
      m.chunk = min(head.left, max(self.rules.chunk - m.batch, 1))
      if head.begun == _NEVER:
        head.begun = now
      if m.batch:
        length = max(
          kind.mixed_s[m.chunk + m.batch],
          kind.c0 + kind.c1 * m.batch + kind.c2 * m.cached,
        )
      else:
        length = kind.prompt_s[m.chunk]
      m.prompt_s += length
    elif m.batch:
      m.chunk = 0
      length = kind.c0 + kind.c1 * m.batch + kind.c2 * m.cached
      m.decode_s += length
    else:
      return
    m.running, m.begun = True, now
    heapq.heappush(self.heap, (now + length, _END, number))

  def _join(self, m: _Machine, r: _Request) -> None:
    m.batch += 1
    m.cached += r.prompt + 1
    heapq.heappush(m.sequences, (m.iteration + r.output - 1, r.id, r))

  def _end(self, now: float, number: int) -> None:
    m = self.machines[number]
    m.running = False
    m.iteration += 1
    m.cached += m.batch
    if self.gaps:
      for _, i, r in m.sequences:
        self.gap[i] = max(self.gap[i], now - r.last_token)
        r.last_token = now
    if m.chunk:
      self._prompts_end(now, m)
    while m.sequences and m.sequences[0][0] == m.iteration:
      _, i, r = heapq.heappop(m.sequences)
      self.finished[i] = now
      m.batch -= 1
      m.cached -= r.prompt + r.output
      m.reserved -= max(r.prompt + r.output, m.kind.seat)
      m.load -= 1
    self._settle(m)
    self._admit(now, m)

  def _prompts_end(self, now: float, m: _Machine) -> None:
    head = m.admitted
    head.left -= m.chunk
    if head.left:
      return
    m.waiting.popleft()
    m.admitted = None
    m.load -= head.tokens * self.rules.prompt_weight
    for r in head.requests:
      self.begun[r.id] = head.begun
      self.first[r.id] = r.last_token = now
      if r.output == 1 or r.target is not m:
        m.reserved -= r.prompt
    if not m.leaving:
      self._send(now, m, head.requests[0])
    m.leaving.extend(head.requests)

  # Caches on their way.

  def _send(self, now: float, m: _Machine, r: _Request) -> None:
    travel = 0.0 if r.target is m else r.prompt * self.rules.transfer_s
    heapq.heappush(self.heap, (now + travel, _LEAVE, m.id))

  def _leave(self, now: float, number: int) -> None:
    m = self.machines[number]
    r = m.leaving.popleft()
    self.left[r.id] = now
    if r.output == 1:
      self.finished[r.id] = self.first[r.id]
      m.load -= 1
    else:
      r.target.joining.append(r)
      self._admit(now, r.target)
    if m.leaving:
      self._send(now, m, m.leaving[0])
    self._settle(m)

  def _settle(self, m: _Machine) -> None:
    """An empty machine goes back to its pool."""
    if m.load == 0 and m.reserved == 0:
      m.moved = False


def simulate(
  cluster: cluster_lib.Cluster,
  trace: traces.Trace,
  *,
  seed: int = 0,
  gaps: bool = False,
) -> ReferenceOutcome:
  """Simulates a cluster under a trace, in plain Python.

  Args:
    cluster: the cluster and its rules.
    trace: its requests.
    seed: of the draws of a random router.
    gaps: also finds each request's longest wait between two tokens, which
      takes a visit to every sequence in every iteration.

  Raises:
    ValueError: as `cluster_lib.compile_cluster` does.
  """
  return _Simulation(cluster, trace, seed, gaps).run()


def request_table(
  cluster: cluster_lib.Cluster,
  trace: traces.Trace,
  *,
  seed: int = 0,
  gaps: bool = False,
) -> sweeps.RequestTable:
  """What came of each request, as `sweeps.simulate` reports it.

  Args:
    cluster: the cluster and its rules.
    trace: its requests.
    seed: of the draws of a random router.
    gaps: whether the longest gap of each request is found, too.

  Raises:
    ValueError: as `cluster_lib.compile_cluster` does.
  """
  out = simulate(cluster, trace, seed=seed, gaps=gaps)
  return sweeps.table(
    cluster_lib.ticks(trace.arrival_s),
    trace.output_tokens,
    *out[:4],
    out.prompt_machine,
    out.token_machine,
    out.longest_gap if gaps else None,
  )
