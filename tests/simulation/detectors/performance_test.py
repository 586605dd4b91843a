# SPDX-License-Identifier: Apache-2.0
"""Reports agree with the model in plain Python, and with what must be so."""

import math

import hypothesis
from hypothesis import strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import optimize, stats

from jaxttc.simulation.detectors import classifiers, complexity, performance
from jaxttc.simulation.detectors import graph as graph_lib


def reference(nodes, edges, year=2022.0, prevalence=None):
  """Nodes: dict of dicts; edges: {(source, target): J per bit}.

  A node has rate (detectors), bytes, ratio, skill (None: passes all), sd,
  compression, ops (function of bytes), energy, op_s.
  """
  inputs = {v: [a for a, b in edges if b == v] for v in nodes}
  output = {a: b for a, b in edges}  # trees only
  root = next(v for v in nodes if v not in output)

  def ratio_to_root(v):
    down = ratio_to_root(output[v]) if v in output else 1.0
    return nodes[v]["ratio"] * down

  def message(v):
    received = sum(sent(u) for u in inputs[v])
    return received + nodes[v]["bytes"]

  def sent(v):
    return message(v) * (1 - nodes[v]["compression"])

  def arriving(v):
    if not inputs[v]:
      share = 1 / ratio_to_root(v) if prevalence is None else prevalence
      rate = nodes[v]["rate"]
      return rate * (1 - share), rate * share
    pairs = [leaving(u) for u in inputs[v]]
    return tuple(sum(x) / len(pairs) for x in zip(*pairs, strict=True))

  def shares(v):
    skill, sd, ratio = (nodes[v][k] for k in ("skill", "sd", "ratio"))
    if skill is None or ratio == 1:
      return 1.0, 1.0
    neg, pos = arriving(v)

    def above(t):
      return stats.norm.sf(t), stats.norm.sf(t, loc=skill, scale=sd)

    def excess(t):
      a, b = above(t)
      return (neg * a + pos * b) / (neg + pos) - 1 / ratio

    return above(optimize.brentq(excess, -60, 60 + skill, xtol=1e-14))

  def leaving(v):
    neg, pos = arriving(v)
    a, b = shares(v)
    return neg * a, pos * b

  def done(v):
    work = nodes[v]["op_s"] * nodes[v]["ops"](message(v))
    return work + max((done(u) + 900e-9 for u in inputs[v]), default=0.0)

  scale = math.exp(0.187 * (year - 2022))
  by_node = {
    v: n["energy"] * n["ops"](message(v)) * sum(arriving(v)) / scale
    for v, n in nodes.items()
  }
  by_link = {
    f"{a}->{b}": eps * 8 * sent(a) * sum(leaving(a)) / scale
    for (a, b), eps in edges.items()
  }
  power = math.fsum([*by_node.values(), *by_link.values()])
  active = [v for v in nodes if nodes[v]["skill"] is not None]
  lost = [sum(arriving(v)[i] - leaving(v)[i] for v in active) for i in (0, 1)]
  fp, tp = leaving(root)
  precision, recall = tp / (tp + fp), tp / (tp + lost[1])
  f1 = 2 * precision * recall / (precision + recall)
  return {
    "confusion": [lost, [fp, tp]],
    "precision": precision,
    "recall": recall,
    "f1": f1,
    "power_by_node": by_node,
    "power_by_link": by_link,
    "power": power,
    "latency": done(root),
    "productivity": f1 * (tp + fp) / power,
    "relevant_per_joule": tp / power,
  }


_TREE = {("a", "m"): 1e-11, ("b", "m"): 3e-11, ("m", "x"): 2e-11, ("x", "s"): 0}
_SIZES = {"a": 1e6, "b": 3e5, "m": 0.0, "x": 1e4, "s": 0.0}


def _tree(ratios, skills, sds, compression, prevalence=None, year=2027.0):
  """Two sensors, a merger that classifies, a second classifier, a store."""
  nodes = {}
  for name in "abmxs":
    index = "mx".find(name)
    nodes[name] = {
      "rate": 1e6 if name in "ab" else None,
      "bytes": _SIZES[name],
      "ratio": ratios[index] if index >= 0 else 1.0,
      "skill": skills[index] if index >= 0 else None,
      "sd": sds[index] if index >= 0 else 1.0,
      "compression": compression if name == "b" else 0.0,
      "ops": lambda x: 1e-6 * x + 2.0,
      "energy": 0.01 if index >= 0 else 1e-6,
      "op_s": 1e-7,
    }
  stages = [
    graph_lib.Stage(
      name=name,
      sample_rate=node["rate"],
      data_bytes=node["bytes"],
      reduction=node["ratio"],
      classifier=classifiers.Gaussian(node["skill"], node["sd"] ** 2)
      if node["skill"] is not None
      else classifiers.Pass(),
      compression=node["compression"],
      complexity=complexity.Linear(1e-6, 2.0),
      op_energy=node["energy"],
      op_latency=node["op_s"],
    )
    for name, node in nodes.items()
  ]
  links = [
    graph_lib.Link(source=a, target=b, energy=energy)
    for (a, b), energy in _TREE.items()
  ]
  graph = graph_lib.create(stages, links, year=year, prevalence=prevalence)
  return graph, reference(nodes, _TREE, year, prevalence)


def _double(graph):
  """The report in float64, as NumPy arrays."""
  with jax.enable_x64(True):
    return jax.tree.map(np.asarray, performance.evaluate(graph))


@hypothesis.settings(max_examples=20)
@hypothesis.given(
  st.tuples(st.floats(1, 500), st.floats(1, 200)),
  st.tuples(st.floats(0, 5), st.floats(0, 5)),
  st.tuples(st.floats(0.5, 2), st.floats(0.5, 2)),
  st.floats(0, 0.9),
  st.sampled_from([None, 0.01]),
)
def test_report_is_that_of_plain_python(ratios, skills, sds, less, prevalence):
  if ratios[0] * ratios[1] < 1.5:
    ratios = (2.0, ratios[1])  # Everything relevant: nothing to tell apart.
  graph, expected = _tree(ratios, skills, sds, less, prevalence)
  report = _double(graph)
  for name, value in expected.items():
    found = getattr(report, name)
    if isinstance(value, dict):
      for key in value:
        assert found[key] == pytest.approx(value[key], rel=1e-8, abs=1e-9)
    else:
      # Rejects are differences of rates of 1e6.
      np.testing.assert_allclose(found, value, rtol=1e-7, atol=1e-4)


def _cascade(skills=(2.0, 3.0), ratios=(50.0, 100.0), **options):
  stages = [graph_lib.Stage(name="sensor", sample_rate=4e7, data_bytes=1e6)]
  for i, (skill, ratio) in enumerate(zip(skills, ratios, strict=True)):
    stages.append(
      graph_lib.Stage(
        name=f"level{i}",
        reduction=ratio,
        classifier=classifiers.Gaussian(skill),
        op_energy=1e-6,
      )
    )
  names = [stage.name for stage in stages]
  links = [
    graph_lib.Link(source=a, target=b, energy=1e-11)
    for a, b in zip(names[:-1], names[1:], strict=True)
  ]
  return graph_lib.create(stages, links, **options)


def _evaluate(*args, **options):
  return _double(_cascade(*args, **options))


@hypothesis.settings(max_examples=15)
@hypothesis.given(
  st.tuples(st.floats(0, 6), st.floats(0, 6)),
  st.tuples(st.floats(1, 1000), st.floats(1.1, 1000)),
)
def test_no_event_is_lost_or_made(skills, ratios):
  report = _evaluate(skills, ratios)
  assert report.confusion.sum() == pytest.approx(4e7, rel=1e-13)
  assert (np.asarray(report.confusion) >= -1e-6).all()
  stored = 4e7 / (ratios[0] * ratios[1])
  assert report.stored_rate == pytest.approx(stored, rel=1e-10)
  for i in range(2):
    matrix = report.confusion_by_stage[f"level{i}"]
    incoming = report.input_rates[f"level{i}"]
    np.testing.assert_allclose(matrix.sum(0), incoming, rtol=1e-12)
  # As the release sums it: rejects before the last, and the last whole.
  steps = report.confusion_by_stage
  whole = np.asarray(steps["level1"]) + np.asarray(
    [steps["level0"][0], np.zeros(2)]
  )
  np.testing.assert_allclose(report.confusion, whole, rtol=1e-12)


def test_one_stage_that_stores_as_many_as_are_relevant():
  report = _evaluate((1.5,), (20.0,))
  assert report.precision == pytest.approx(float(report.recall), rel=1e-9)
  assert report.f1 == pytest.approx(float(report.recall), rel=1e-9)


def test_no_skill_keeps_what_chance_keeps():
  report = _evaluate((0.0, 0.0), prevalence=0.03)
  assert report.precision == pytest.approx(0.03, rel=1e-9)
  assert report.recall == pytest.approx(1 / 5000, rel=1e-9)


def test_endless_skill_makes_no_mistake():
  report = _evaluate((40.0, 40.0))
  assert report.f1 == pytest.approx(1.0, abs=1e-6)


def test_reductions_of_one_keep_and_pay_for_everything():
  report = _evaluate((2.0, 2.0), (1.0, 1.0), prevalence=0.1)
  assert report.recall == 1.0
  assert report.stored_rate == pytest.approx(4e7)
  nodes = 2 * 1e-6 * 1e6 * 4e7
  links = 2 * 1e-11 * 8 * 1e6 * 4e7
  assert report.power == pytest.approx(nodes + links, rel=1e-9)


@hypothesis.settings(max_examples=10)
@hypothesis.given(
  st.tuples(st.floats(0, 4), st.floats(0, 4)),
  st.sampled_from([0, 1]),
  st.floats(0.01, 1.0),
)
def test_skill_never_hurts_and_never_costs(skills, which, more):
  better = tuple(x + more * (i == which) for i, x in enumerate(skills))
  before, after = _evaluate(skills), _evaluate(better)
  assert after.f1 >= before.f1 - 1e-12
  assert after.recall >= before.recall - 1e-12
  assert after.power == pytest.approx(float(before.power), rel=1e-10)


def test_technology_divides_power():
  now, then = _evaluate(year=2022.0), _evaluate(year=2032.0)
  assert now.power / then.power == pytest.approx(math.exp(1.87), rel=1e-9)
  assert performance.technology(2032.0) == pytest.approx(6.49, abs=0.01)


def _merging(count):
  """As many identical sensors, each with its own classifier, then a store."""
  stages, links = [graph_lib.Stage(name="store")], []
  for i in range(count):
    stages += [
      graph_lib.Stage(name=f"sensor{i}", sample_rate=1e4),
      graph_lib.Stage(
        name=f"level{i}", reduction=30.0, classifier=classifiers.Gaussian(2.0)
      ),
    ]
    links += [
      graph_lib.Link(source=f"sensor{i}", target=f"level{i}"),
      graph_lib.Link(source=f"level{i}", target="store"),
    ]
  return graph_lib.create(stages, links)


def test_fragments_of_one_event_count_once():
  one, four = _double(_merging(1)), _double(_merging(4))
  np.testing.assert_allclose(one.confusion, four.confusion, rtol=1e-12)
  assert four.confusion.sum() == pytest.approx(1e4)


def test_correlated_stages_by_quadrature_and_by_drawing():
  def graph(loading, places):
    made = _cascade((1.0, 1.5), (5.0, 4.0), prevalence=0.1, quadrature=places)
    values = {
      f"level{i}.loading[{j}]": loading for i in range(2) for j in range(2)
    }
    return made.updated(values)

  alone, apart = _double(graph(0.0, 1)), _double(graph(0.0, 48))
  tied = _double(graph(0.7, 48))
  np.testing.assert_allclose(alone.confusion, apart.confusion, rtol=1e-9)
  assert tied.recall < alone.recall  # Independence is optimistic.
  assert tied.confusion.sum() == pytest.approx(4e7)
  rng = np.random.default_rng(0)
  count = 400_000
  truth = rng.random(count) < 0.1
  common = 0.7 * rng.normal(size=count)
  kept = np.ones(count, bool)
  for i, skill in enumerate((1.0, 1.5)):
    own = np.sqrt(1 - 0.49) * rng.normal(size=count)
    kept &= skill * truth + common + own > float(tied.thresholds[f"level{i}"])
  assert kept.mean() == pytest.approx(1 / 20, rel=0.02)
  assert kept[truth].mean() == pytest.approx(float(tied.recall), rel=0.02)


def test_money_and_carbon():
  graph = _cascade(dollars_per_kwh=0.1, grams_per_kwh=300.0, lifetime_s=1e8)
  plain = _double(graph)
  priced = _double(
    graph.updated({"level0.price": 1e-6, "sensor->level0.price": 1e-9})
  )
  assert plain.dollars_per_s == pytest.approx(float(plain.power) / 3.6e7)
  assert plain.grams_per_s == pytest.approx(float(plain.power) / 3.6e6 * 300)
  capacity = 1e-6 * 1e6 * 4e7 + 1e-9 * 8 * 1e6 * 4e7
  more = float(priced.dollars_per_s - plain.dollars_per_s)
  assert more == pytest.approx(capacity / 1e8, rel=1e-6)


def test_both_productivities_are_what_they_say():
  report = _evaluate()
  ours = report.confusion[1, 1] / report.power
  assert report.relevant_per_joule == pytest.approx(float(ours))
  theirs = report.f1 * report.stored_rate / report.power
  assert report.productivity == pytest.approx(float(theirs))


def test_single_precision_is_near():
  single, double = performance.evaluate(_cascade()), _evaluate()
  assert single.f1.dtype == jnp.float32
  assert single.f1 == pytest.approx(float(double.f1), rel=1e-4)


def test_confusion_needs_a_classifier():
  stages = [graph_lib.Stage(name="sensor", sample_rate=1.0)]
  with pytest.raises(ValueError, match="no stage classifies"):
    performance.evaluate(graph_lib.create(stages, []))
