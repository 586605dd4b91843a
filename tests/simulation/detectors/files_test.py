# SPDX-License-Identifier: Apache-2.0
"""Graphs survive their files, and files that hold none are told why."""

import json

import jax
import numpy as np
import pytest

from jaxttc.simulation.detectors import classifiers, complexity, files
from jaxttc.simulation.detectors import graph as graph_lib

_YAML = """
year: 2032
stages:
  - {name: sensor, sample_rate: 4.0e+7, data_bytes: 1000}
  - name: trigger
    reduction: 400
    classifier: {kind: gaussian, skill: 2.0}
    complexity: {kind: linear, per_byte: 5.0e-7}
links:
  - {source: sensor, target: trigger, energy: 2.0e-11}
"""


def _everything():
  tools = {
    "a": (classifiers.Gaussian(2.0, 1.5, 0.5), complexity.Linear(2.0, 1.0)),
    "b": (
      classifiers.empirical([0, 1, 2], [0, 0.9, 1], [0, 0.2, 1], 0.3),
      complexity.table([1.0, 1e7], [1.0, 5.0], extrapolate=True),
    ),
    "c": (
      classifiers.from_roc([0, 0.2, 1], [0, 0.9, 1]),
      complexity.fit_polynomial([1, 2, 3], [1, 4, 9], 2),
    ),
  }
  stages = [graph_lib.Stage(name="sensor", sample_rate=1e3, data_bytes=10.0)]
  for name, (classifier, ops) in tools.items():
    stages.append(
      graph_lib.Stage(
        name=name,
        reduction=3.0,
        classifier=classifier,
        complexity=ops,
        loading=(0.1, 0.2),
      )
    )
  links = [
    graph_lib.Link(source=source, target=target, energy=1e-12)
    for source, target in (("sensor", "a"), ("a", "b"), ("b", "c"))
  ]
  return graph_lib.create(stages, links, prevalence=0.1, quadrature=4)


def test_json_holds_every_number(tmp_path):
  graph = _everything()
  files.write(graph, tmp_path / "graph.json")
  again = files.read(tmp_path / "graph.json")
  assert jax.tree.structure(again) == jax.tree.structure(graph)
  jax.tree.map(np.testing.assert_array_equal, again, graph)


def test_yaml_is_read(tmp_path):
  (tmp_path / "graph.yaml").write_text(_YAML)
  numbers = files.read(tmp_path / "graph.yaml").parameters()
  assert numbers["sensor.sample_rate"] == 4e7
  assert numbers["trigger.classifier.skill"] == 2.0
  assert numbers["trigger.complexity.per_byte"] == 5e-7
  assert numbers["year"] == 2032.0


def _content(**stage):
  trigger = {
    "name": "trigger",
    "reduction": 5,
    "classifier": {"kind": "gaussian", "skill": 1.0},
  }
  return {
    "stages": [{"name": "sensor", "sample_rate": 1.0}, trigger | stage],
    "links": [{"source": "sensor", "target": "trigger"}],
  }


@pytest.mark.parametrize(
  ("content", "message"),
  [
    ([], "graph: expected fields"),
    ({"stage": []}, "graph: unknown field 'stage'"),
    ({"stages": {}}, "stages: expected a list"),
    ({"stages": [3]}, r"stages\[0\]: expected fields"),
    ({"stages": [{}]}, r"stages\[0\]: expected a name"),
    (_content() | {"year": "soon"}, "graph: year: expected a number"),
    (_content() | {"links": [{}]}, r"links\[0\]: expected a source"),
    (_content(reductoin=3), "'trigger': unknown field 'reductoin'.*reduction"),
    (_content(reduction="4e7"), "reduction: .*write 4.0e"),
    (_content(reduction=True), "reduction: expected a number, got True"),
    (_content(reduction=0.5), "trigger.reduction is 0.5"),
    (_content(classifier=3), "trigger': classifier: expected fields"),
    (_content(classifier={"kind": "oracle"}), "a kind among pass, gaussian"),
    (_content(classifier={"kind": "gaussian"}), "classifier: .*skill"),
    (
      _content(classifier={"kind": "gaussian", "skil": 1}),
      "unknown field 'skil'; did you mean 'skill'",
    ),
    (
      _content(
        classifier={
          "kind": "roc",
          "false_positives": [0, 1],
          "true_positives": [0, 0.5],
        }
      ),
      "trigger': classifier: ROC: true_positives must run",
    ),
    (
      _content(complexity={"kind": "table", "sizes": ["a"], "measured": [1]}),
      "complexity: sizes: expected a number, got 'a'",
    ),
    (_content(loading=[0.1]), "loading: expected two numbers"),
  ],
)
def test_contents_that_are_no_graph(content, message):
  with pytest.raises(ValueError, match=message):
    files.from_dict(content)


@pytest.mark.parametrize(
  ("name", "text", "message"),
  [
    ("a.json", "{", "a.json: line 1, column 2: expected JSON"),
    ("a.yaml", "a: [", "a.yaml: line 1, column 5: expected YAML"),
    ("a.yml", "3", "a.yml: graph: expected fields"),
    ("a.txt", "", "a.txt: expected a .json, .yaml or .yml"),
    ("a.json", json.dumps({"stages": []}), "a.json: expected at least one"),
  ],
)
def test_files_that_hold_no_graph(tmp_path, name, text, message):
  (tmp_path / name).write_text(text)
  with pytest.raises(ValueError, match=message):
    files.read(tmp_path / name)


def test_missing_file(tmp_path):
  with pytest.raises(ValueError, match="none.json: cannot be read"):
    files.read(tmp_path / "none.json")
