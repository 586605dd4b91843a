# SPDX-License-Identifier: Apache-2.0
"""Generated traces have the statistics that they promise."""

import collections

import numpy as np
import pytest

from jaxttc.simulation.placement import events, generator


def _of(trace, kind):
  return [event for event in trace if isinstance(event, kind)]


@pytest.fixture(scope="module")
def trace():
  spec = generator.Spec(
    machines=150, hours=1.0, seed=3, removals_per_machine_day=1.0
  )
  return list(generator.generate(spec))


def test_shapes_are_those_of_2011():
  made = generator.shapes(12_583)
  kinds, counts = np.unique(made, axis=0, return_counts=True)
  published = {(cpu, memory): count for cpu, memory, count in generator.SHAPES}
  found = {
    tuple(kind): count
    for kind, count in zip(kinds.tolist(), counts, strict=True)
  }
  assert found == published
  assert generator.shapes(100).shape == (100, 2)


def test_events_are_in_order_and_the_same_for_a_seed(trace):
  times = [event.time for event in trace]
  assert times == sorted(times)
  spec = generator.Spec(machines=5, hours=0.2, seed=3)
  assert list(generator.generate(spec)) == list(generator.generate(spec))


def test_tasks_follow_the_life_of_a_task(trace):
  state = collections.defaultdict(lambda: "gone")
  for event in _of(trace, events.TaskEvent):
    before = state[event.task]
    if event.kind == "submit":
      assert before == "gone"
      state[event.task] = "waiting"
    elif event.kind == "schedule":
      assert before == "waiting" and event.machine is not None
      state[event.task] = "running"
    else:
      assert before in ("running", "waiting")
      state[event.task] = "gone"
  reasons = {event.reason for event in _of(trace, events.TaskEvent)}
  assert {"finish", "evict"} <= reasons


def test_samples_lie_in_the_life_of_their_task(trace):
  born = {
    event.task: event.time
    for event in _of(trace, events.TaskEvent)
    if event.kind == "submit"
  }
  samples = _of(trace, events.UsageSample)
  assert samples
  for sample in samples:
    assert 0 < sample.end - sample.time <= generator.PERIOD
    assert sample.task in born
    assert min(sample.usage) > 0


def test_statistics(trace):
  submitted = [
    event for event in _of(trace, events.TaskEvent) if event.kind == "submit"
  ]
  first = [event for event in submitted if event.time == 0]
  capacity = generator.shapes(150).sum(0)
  asked = np.sum([event.request for event in first], axis=0) / capacity
  assert 0.4 < asked[0] < 1.2 and 0.3 < asked[1] < 1.1
  used = np.sum(
    [
      sample.usage
      for sample in _of(trace, events.UsageSample)
      if sample.time == 0
    ],
    axis=0,
  )
  # Users ask for about twice the CPU that they use, memory is nearer.
  ratio = used / np.sum([event.request for event in first], axis=0)
  assert 0.4 < ratio[0] < 0.75 and 0.5 < ratio[1] < 0.8
  sizes = collections.Counter(event.task[0] for event in submitted)
  single = np.mean([size == 1 for size in sizes.values()])
  assert 0.65 < single < 0.85
  levels = {event.priority for event in submitted}
  assert levels <= set(range(12)) and {0, 9} <= levels


@pytest.mark.parametrize(
  ("field", "value"),
  [("machines", 0), ("hours", -1.0), ("requested", 1.5), ("drift", 0.5)],
)
def test_bad_specs(field, value):
  with pytest.raises(ValueError, match=field):
    generator.Spec(**{field: value})
