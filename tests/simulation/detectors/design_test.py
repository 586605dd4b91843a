# SPDX-License-Identifier: Apache-2.0
"""Sweeps, derivatives and optima agree with one graph at a time."""

import jax
import numpy as np
import pytest

from jaxttc.simulation.detectors import (
  classifiers,
  complexity,
  design,
  performance,
)
from jaxttc.simulation.detectors import graph as graph_lib


def _graph():
  return graph_lib.create(
    [
      graph_lib.Stage(name="sensor", sample_rate=1e6, data_bytes=1e5),
      graph_lib.Stage(
        name="first",
        reduction=20.0,
        classifier=classifiers.Gaussian(1.5),
        complexity=complexity.Linear(1e-6),
        op_energy=1e-3,
        op_latency=1e-3,
      ),
      graph_lib.Stage(
        name="second",
        reduction=10.0,
        classifier=classifiers.Gaussian(3.0, 2.0),
        complexity=complexity.Polynomial(np.asarray([0.0, 1.0, 0.5]), 1e5),
        op_energy=2.0,
        price=1e-2,
      ),
    ],
    [
      graph_lib.Link(source="sensor", target="first", energy=1e-11),
      graph_lib.Link(source="first", target="second", energy=1e-11),
    ],
    dollars_per_kwh=0.1,
  )


def test_sweep_is_each_variant_alone():
  ratios = np.asarray([2.0, 20.0, 150.0])
  skills = np.asarray([0.5, 1.0, 4.0])
  columns = {"first.reduction": ratios, "second.classifier.skill": skills}
  with jax.enable_x64(True):
    together = design.sweep(_graph(), columns)
    for i in range(3):
      values = {path: float(column[i]) for path, column in columns.items()}
      alone = performance.evaluate(_graph().updated(values))
      jax.tree.map(
        lambda a, b, i=i: np.testing.assert_allclose(a[i], b, rtol=1e-12),
        together,
        alone,
      )


def test_sweeps_of_arrays():
  tables = np.asarray([[0.0, 1.0, 0.5], [0.0, 2.0, 1.0]])
  path = "second.complexity.coefficients"
  power = design.sweep(_graph(), {path: tables}).power_by_node["second"]
  assert power[1] == pytest.approx(2 * float(power[0]), rel=1e-5)


@pytest.mark.parametrize("metric", ["f1", "relevant_per_joule", "latency"])
def test_gradients_are_central_differences(metric):
  graph = _graph()
  with jax.enable_x64(True):
    slopes = design.gradients(graph, metric)
    paths = [
      path
      for path, value in graph.parameters().items()
      if np.ndim(value) == 0
      and "loading" not in path
      # Not free: passing stages, and a boost of the same as the skill.
      and path != "sensor.reduction"
    ]
    numbers = graph.parameters()
    steps = [1e-5 * max(abs(float(numbers[path])), 1e-3) for path in paths]
    for path, step in zip(paths, steps, strict=True):
      ends = np.asarray([1.0, -1.0]) * step + float(numbers[path])
      if ends[1] < 0 or path == "year":
        continue
      found = getattr(_swept(graph, path, ends), metric)
      expected = float(found[0] - found[1]) / (2 * step)
      scale = abs(float(found[0])) / max(abs(float(numbers[path])), 1e-3)
      assert float(slopes[path]) == pytest.approx(
        expected, rel=1e-4, abs=1e-6 * scale
      )


def _swept(graph, path, ends):
  """A sweep of any number in one program: which it is, is an argument."""
  columns = {
    key: np.full(2, value)
    for key, value in graph.parameters().items()
    if np.ndim(value) == 0 and key != "sensor.reduction"
  }
  return design.sweep(graph, columns | {path: ends})


def test_elasticities_are_per_cent_of_per_cent():
  graph = _graph()
  with jax.enable_x64(True):
    found = design.elasticities(graph, "power")
    share = performance.evaluate(graph).power_by_node["second"]
    whole = performance.evaluate(graph).power
  assert float(found["second.op_energy"]) == pytest.approx(float(share / whole))
  assert float(found["sensor.sample_rate"]) == pytest.approx(1.0)


def test_optimum_is_that_of_a_grid():
  graph = _graph()
  total = 200.0
  with jax.enable_x64(True):
    first = np.geomspace(2.0, 100.0, 4001)
    grid = design.sweep(
      graph, {"first.reduction": first, "second.reduction": total / first}
    )
    power = np.asarray(grid.power)
    cap = float(np.quantile(power, 0.4))
    best = float(np.asarray(grid.f1)[power <= cap].max())
  found = design.optimise(
    graph,
    {"first.reduction": (2.0, 100.0), "second.reduction": (2.0, 100.0)},
    maximise="f1",
    at_most={"power": cap, "stored_rate": 1e6 / total},
    at_least={"stored_rate": 1e6 / total},
    starts=3,
  )
  assert float(found.report.f1) == pytest.approx(best, rel=1e-3)
  assert float(found.report.power) <= cap * (1 + 1e-5)
  product = found.values["first.reduction"] * found.values["second.reduction"]
  assert product == pytest.approx(total, rel=1e-5)
  assert found.graph.parameters()["first.reduction"] > 20


def test_limits_on_latency_and_money_bind():
  graph = _graph()
  free = {"first.op_latency": (1e-5, 1e-2), "second.price": (1e-4, 1.0)}
  found = design.optimise(
    graph,
    free,
    maximise="latency",
    at_most={"latency": 2e-4, "dollars_per_s": 1e-2},
    starts=2,
  )
  assert float(found.report.latency) == pytest.approx(2e-4, rel=1e-4)
  assert float(found.report.dollars_per_s) <= 1e-2 * (1 + 1e-6)


def test_limits_that_nothing_meets_are_told():
  with pytest.raises(ValueError, match="recall must be at least 0.999"):
    design.optimise(
      _graph(),
      {"second.reduction": (5.0, 50.0)},
      at_least={"recall": 0.999},
      starts=2,
    )


@pytest.mark.parametrize(
  ("change", "message"),
  [
    ({"maximise": "speed"}, "unknown metric 'speed'; expected one of prec"),
    ({"at_most": {"watts": 1.0}}, "unknown metric 'watts'"),
    ({"over": {}}, "at least one number"),
    ({"over": {"first.reductio": (1, 2)}}, "mean 'first.reduction'"),
    ({"over": {"first.reduction": (0.5, 2)}}, "reduction is 0.5"),
    ({"over": {"first.reduction": (3.0, 2.0)}}, "range .* is empty"),
    ({"over": {"sensor.reduction": (1.0, 2.0)}}, "passes everything"),
    ({"starts": 0}, "starts must be at least 1"),
  ],
)
def test_optima_that_cannot_be(change, message):
  fields = {"over": {"first.reduction": (2.0, 50.0)}}
  with pytest.raises(ValueError, match=message):
    design.optimise(_graph(), **(fields | change))


@pytest.mark.parametrize(
  ("values", "message"),
  [
    ({}, "at least one number"),
    ({"first.reduction": np.asarray([])}, "one value or more"),
    ({"first.reduction": np.asarray([0.5])}, "reduction is 0.5"),
    ({"third.reduction": np.asarray([2.0])}, "no number 'third.reduction'"),
    (
      {"first.reduction": np.ones(2), "second.reduction": np.ones(3)},
      "as many values",
    ),
    ({"first.reduction": np.ones((2, 2))}, "got shape"),
  ],
)
def test_sweeps_that_cannot_be(values, message):
  with pytest.raises(ValueError, match=message):
    design.sweep(_graph(), values)
