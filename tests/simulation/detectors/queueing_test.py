# SPDX-License-Identifier: Apache-2.0
"""Queues agree with an event-driven simulation and with closed forms."""

import heapq
import math

import jax
import numpy as np
import pytest

from jaxttc.simulation.detectors import classifiers, complexity, queueing
from jaxttc.simulation.detectors import graph as graph_lib


class _Plant:
  """The same rules, driven by a heap of happenings in the order of time."""

  def __init__(self, service, kept, servers, slots, dead_time, back):
    self.service, self.kept, self.back = service, kept, back
    self.servers, self.slots, self.dead_time = servers, slots, dead_time
    count, stages = service.shape
    self.waiting = [[] for _ in range(stages)]
    self.turns = [[] for _ in range(stages)]
    self.done = [set() for _ in range(stages)]
    self.busy, self.held = [0] * stages, [0] * stages
    self.heap, self.alive = [], -math.inf
    self.dead = np.zeros(count, bool)
    self.lost = np.zeros((count, stages), bool)
    self.finish = np.full(count, np.nan)

  def run(self, arrivals):
    for job, time in enumerate(arrivals):
      heapq.heappush(self.heap, (time, job, -1))
    while self.heap:
      time, job, stage = heapq.heappop(self.heap)
      if stage >= 0:
        self.end(stage, job, time)
      elif time < self.alive:
        self.dead[job] = True
      elif self.enter(0, job, time):
        self.alive = time + self.dead_time
    self.finish[self.lost.any(1)] = np.nan

  def goes_on(self, stage, job):
    return stage + 1 < len(self.servers) and self.kept[job, stage]

  def enter(self, stage, job, time):
    if self.held[stage] == self.slots[stage]:
      self.lost[job, stage] = True
      return False
    self.held[stage] += 1
    self.waiting[stage].append(job)
    if self.goes_on(stage, job):
      self.turns[stage].append(job)
    self.work(stage, time)
    return True

  def work(self, stage, time):
    while self.waiting[stage] and self.busy[stage] < self.servers[stage]:
      job = self.waiting[stage].pop(0)
      self.busy[stage] += 1
      end = time + self.service[job, stage]
      heapq.heappush(self.heap, (end, job, stage))

  def end(self, stage, job, time):
    if self.goes_on(stage, job):
      self.done[stage].add(job)
      if not self.back:
        self.busy[stage] -= 1
      self.hand_on(stage, time)
    else:
      self.busy[stage] -= 1
      self.held[stage] -= 1
      self.finish[job] = time
      if stage:
        self.hand_on(stage - 1, time)
    self.work(stage, time)

  def hand_on(self, stage, time):
    turns = self.turns[stage]
    while turns and turns[0] in self.done[stage]:
      if self.back and self.held[stage + 1] == self.slots[stage + 1]:
        return
      job = turns.pop(0)
      self.held[stage] -= 1
      if self.back:
        self.busy[stage] -= 1
      self.enter(stage + 1, job, time)
      if stage:
        self.hand_on(stage - 1, time)
      self.work(stage, time)


def _draw(seed, count, stages, load):
  rng = np.random.default_rng(seed)
  arrivals = np.cumsum(rng.exponential(1.0, count))
  service = rng.exponential(load, (count, stages))
  return arrivals, service, rng.random((count, stages)) < 0.7


def _follow(*args, **options):
  with jax.enable_x64(True):
    return jax.tree.map(np.asarray, queueing.follow(*args, **options))


@pytest.mark.parametrize("back", [False, True])
@pytest.mark.parametrize(
  ("servers", "slots"), [((1, 1), (2, 3)), ((3, 2, 1), (4, 2, 2))]
)
def test_events_fare_as_in_an_event_driven_simulation(servers, slots, back):
  for seed, load in enumerate((0.4, 1.5, 4.0)):
    arrivals, service, kept = _draw(seed, 300, len(servers), load)
    plant = _Plant(service, kept, servers, slots, 0.3, back)
    plant.run(arrivals)
    found = _follow(
      arrivals,
      service,
      kept,
      servers=servers,
      slots=slots,
      dead_time_s=0.3,
      back_pressure=back,
    )
    np.testing.assert_array_equal(found.dead, plant.dead)
    np.testing.assert_array_equal(found.lost, plant.lost)
    np.testing.assert_allclose(found.finish, plant.finish, rtol=1e-12)
    # Every event has one fate; back-pressure loses at the front only.
    fates = found.dead + found.lost.sum(1) + found.rejected.sum(1)
    assert ((fates + found.stored) == 1).all()
    if back:
      assert not found.lost[:, 1:].any()


def _one_stage(servers, slots, load, dead_time=0.0, count=50_000):
  arrivals, service, kept = _draw(5, count, 1, load)
  return _follow(
    arrivals,
    service,
    kept,
    servers=(servers,),
    slots=(slots,),
    dead_time_s=dead_time,
  )


def test_one_server_and_few_slots_lose_as_in_m_m_1_k():
  load, slots = 0.8, 4
  lost = _one_stage(1, slots, load).lost.mean()
  expected = (1 - load) * load**slots / (1 - load ** (slots + 1))
  assert lost == pytest.approx(expected, rel=0.05)


def test_servers_without_queue_lose_as_erlang_says():
  load, servers = 3.0, 4
  lost = _one_stage(servers, servers, load).lost.mean()
  terms = [load**k / math.factorial(k) for k in range(servers + 1)]
  assert lost == pytest.approx(terms[-1] / sum(terms), rel=0.03)


def test_dead_time_that_misses_do_not_prolong():
  dead = _one_stage(1, 1, 0.0, dead_time=0.5).dead.mean()
  assert dead == pytest.approx(0.5 / 1.5, rel=0.02)


def _graph(**options):
  return graph_lib.create(
    [
      graph_lib.Stage(name="sensor", sample_rate=1e6),
      graph_lib.Stage(
        name="trigger",
        reduction=10.0,
        classifier=classifiers.Gaussian(2.0),
        complexity=complexity.Linear(0.0, 2.0),
        op_latency=0.25e-6,
        **options,
      ),
      graph_lib.Stage(name="store"),
    ],
    [
      graph_lib.Link(source="sensor", target="trigger"),
      graph_lib.Link(source="trigger", target="store"),
    ],
    prevalence=0.05,
  )


def test_a_graph_is_drawn_and_followed():
  def run(slots, **options):
    return queueing.simulate(
      _graph(),
      jax.random.key(0),
      events=20_000,
      servers={"trigger": 1, "store": 1},
      slots={"trigger": slots, "store": 1},
      **options,
    )

  roomy, tight = run(64), run(1, dead_time_s=1e-6)
  assert roomy.stages == ("trigger", "store")
  assert roomy.lost_share == {"trigger": 0, "store": 0}
  assert roomy.stored_share == pytest.approx(0.1, rel=0.1)
  assert roomy.utilisation["trigger"] == pytest.approx(0.5, rel=0.05)
  assert len(roomy.latencies_s) == round(roomy.stored_share * 20_000)
  assert roomy.latencies_s.min() == pytest.approx(0.5e-6)
  # While the detector is dead, the one slot is given up.
  assert tight.dead_share == pytest.approx(0.5, rel=0.05)
  assert tight.lost_share["trigger"] == 0
  assert tight.recall == pytest.approx(roomy.recall / 2, rel=0.1)
  noisy = run(64, random_service=True)
  assert noisy.latencies_s.std() > roomy.latencies_s.std()


def _times(**change):
  fields = {
    "arrivals": np.asarray([0.0, 1.0]),
    "service": np.ones((2, 1)),
    "kept": np.ones((2, 1), bool),
    "servers": (1,),
    "slots": (1,),
  }
  return queueing.follow(**(fields | change))


@pytest.mark.parametrize(
  ("change", "message"),
  [
    ({"arrivals": np.asarray([1.0, 0.5])}, "row 1: expected times in order"),
    ({"arrivals": np.asarray([-1.0, 0.5])}, "row 0: expected times in order"),
    ({"arrivals": np.asarray([0.0, np.nan])}, "row 1: expected times"),
    ({"servers": (1, 1), "slots": (1, 1)}, r"of shape \(2, 2\)"),
    ({"service": -np.ones((2, 1))}, "must not be negative"),
    ({"dead_time_s": -1.0}, "must not be negative"),
    ({"servers": (2,)}, "a slot or more for each"),
    ({"servers": (0,)}, "a server or more"),
  ],
)
def test_passages_that_cannot_be(change, message):
  with pytest.raises(ValueError, match=message):
    _times(**change)


@pytest.mark.parametrize(
  ("change", "message"),
  [
    ({"servers": {"trigger": 1}}, "servers: expected those of .*store"),
    ({"slots": {"x": 1}}, "slots: expected those of"),
    ({"events": 0}, "at least one event"),
  ],
)
def test_simulations_that_cannot_be(change, message):
  fields = {
    "events": 10,
    "servers": {"trigger": 1, "store": 1},
    "slots": {"trigger": 1, "store": 1},
  }
  with pytest.raises(ValueError, match=message):
    queueing.simulate(_graph(), jax.random.key(0), **(fields | change))


def test_classifiers_side_by_side_are_no_chain():
  stages = [graph_lib.Stage(name="store")]
  links = []
  for name in "ab":
    stages.append(
      graph_lib.Stage(
        name=name,
        sample_rate=1.0,
        reduction=2.0,
        classifier=classifiers.Gaussian(1.0),
      )
    )
    links.append(graph_lib.Link(source=name, target="store"))
  graph = graph_lib.create(stages, links)
  with pytest.raises(ValueError, match="classify side by side: no chain"):
    queueing.simulate(graph, jax.random.key(0), events=1, servers={}, slots={})
