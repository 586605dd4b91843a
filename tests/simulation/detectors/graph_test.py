# SPDX-License-Identifier: Apache-2.0
"""Graphs that are none are refused, with the stage and number named."""

import dataclasses

import jax
import numpy as np
import pytest

from jaxttc.simulation.detectors import classifiers, complexity
from jaxttc.simulation.detectors import graph as graph_lib

_GAUSSIAN = classifiers.Gaussian(skill=2.0)


def _sensor(name="sensor", **fields):
  return graph_lib.Stage(**({"name": name, "sample_rate": 100.0} | fields))


def _trigger(name="trigger", **fields):
  base = {"name": name, "reduction": 10, "classifier": _GAUSSIAN}
  return graph_lib.Stage(**(base | fields))


def _link(source, target, **fields):
  return graph_lib.Link(source=source, target=target, **fields)


def _chain(sensor=None, trigger=None, link=None, **options):
  return graph_lib.create(
    [sensor or _sensor(), trigger or _trigger()],
    [link or _link("sensor", "trigger")],
    **options,
  )


def test_stages_come_after_their_senders_and_the_root_last():
  graph = graph_lib.create(
    [graph_lib.Stage(name="store"), _trigger(), _sensor("b"), _sensor("a")],
    [_link("trigger", "store"), _link("a", "trigger"), _link("b", "trigger")],
  )
  names = [stage.name for stage in graph.stages]
  assert names[-2:] == ["trigger", "store"]
  assert graph.senders("trigger") == ("a", "b")
  assert graph.receivers("trigger") == ("store",)
  assert graph.downstream("a") == {"a", "trigger", "store"}


def test_graphs_do_not_change():
  graph = _chain()
  with pytest.raises(dataclasses.FrozenInstanceError):
    graph.year = 2030.0
  with pytest.raises(dataclasses.FrozenInstanceError):
    graph.stages[0].sample_rate = 1.0
  other = graph.updated({"trigger.classifier.skill": 3.0})
  assert graph.parameters()["trigger.classifier.skill"] == 2.0
  assert other.parameters()["trigger.classifier.skill"] == 3.0


def test_every_number_is_a_float_with_a_path():
  numbers = _chain().parameters()
  assert len(numbers) == len(jax.tree.leaves(_chain()))
  assert numbers["trigger.reduction"] == 10.0
  assert numbers["sensor->trigger.latency"] == 900e-9
  assert all(isinstance(x, float) for x in numbers.values())


def test_unknown_paths_suggest_the_nearest():
  with pytest.raises(ValueError, match="mean 'trigger.reduction'"):
    _chain().updated({"trigger.reductions": 3.0})


@pytest.mark.parametrize(
  ("stages", "links", "message"),
  [
    ([], [], "at least one stage"),
    ([_sensor(), _sensor()], [], "more than one stage is named 'sensor'"),
    ([_sensor()], [_link("sensor", "moon")], "there is no stage 'moon'"),
    ([_sensor(), _sensor("b")], [], "exactly one root.*sensor"),
    (
      [_sensor(), _trigger("a"), _trigger("b")],
      [_link("sensor", "a"), _link("a", "b"), _link("b", "a")],
      "cycle: ",
    ),
    (
      [_sensor(), _trigger()],
      [_link("sensor", "trigger"), _link("sensor", "trigger")],
      "more than one link is named 'sensor->trigger'",
    ),
    (
      [_sensor(), _sensor("b")],
      [_link("sensor", "b")],
      "'b' has a sample rate.*receives from 'sensor'",
    ),
    ([_trigger()], [], "neither a sample rate nor a sender"),
    ([_sensor("a->b")], [], "without '->'"),
  ],
)
def test_shapes_that_are_no_pipeline(stages, links, message):
  with pytest.raises(ValueError, match=message):
    graph_lib.create(stages, links)


@pytest.mark.parametrize(
  ("change", "message"),
  [
    ({"sensor": _sensor(sample_rate=0.0)}, r"sensor.sample_rate is 0, .*\(0"),
    ({"sensor": _sensor(data_bytes=-1.0)}, "sensor.data_bytes is -1"),
    ({"sensor": _sensor(compression=1.0)}, r"compression is 1, .*\[0, 1\)"),
    ({"sensor": _sensor(compression=-0.1)}, "compression is -0.1"),
    ({"sensor": _sensor(op_energy=np.nan)}, "sensor.op_energy is nan"),
    ({"trigger": _trigger(reduction=0.5)}, "trigger.reduction is 0.5"),
    ({"trigger": _trigger(reduction=np.inf)}, "trigger.reduction is inf"),
    ({"trigger": _trigger(op_latency=-1.0)}, "trigger.op_latency is -1"),
    ({"trigger": _trigger(parallelism=0)}, "trigger.parallelism is 0"),
    ({"trigger": _trigger(loading=(0.0, 1.0))}, r"loading\[1\] is 1, .*\(-1"),
    (
      {"trigger": _trigger(classifier=classifiers.Gaussian(1.0, 0.0))},
      "trigger.classifier.variance is 0",
    ),
    (
      {"trigger": _trigger(classifier=classifiers.Pass())},
      "'trigger' passes everything, but its reduction is 10",
    ),
    (
      {"link": _link("sensor", "trigger", energy=-1e-12)},
      "sensor->trigger.energy is -1e-12",
    ),
    ({"prevalence": 1.0}, r"prevalence is 1, expected a number in \(0, 1\)"),
    ({"quadrature": 0}, "quadrature must be at least 1"),
  ],
)
def test_numbers_out_of_range(change, message):
  with pytest.raises(ValueError, match=message):
    _chain(**change)


def test_fragments_of_one_event_have_one_rate():
  links = [_link("sensor", "trigger"), _link("slow", "trigger")]
  near = [_sensor(), _sensor("slow", sample_rate=99.95), _trigger()]
  graph_lib.create(near, links)
  far = [_sensor(), _sensor("slow", sample_rate=99.0), _trigger()]
  with pytest.raises(ValueError, match="'trigger' merges.*0.1 %.*slow 99 Hz"):
    graph_lib.create(far, links)


def test_messages_outside_a_table_are_refused():
  table = complexity.table([1.0, 10.0], [1.0, 10.0])
  with pytest.raises(ValueError, match="'trigger': a message of 50 bytes"):
    _chain(_sensor(data_bytes=50.0), _trigger(complexity=table))
