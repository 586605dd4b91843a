# SPDX-License-Identifier: Apache-2.0
"""Tables of latencies: what they add up, and when they are not believed."""

import json

import jax
import numpy as np
import pytest

from jaxttc.allocators import width_planner, width_prices
from jaxttc.inference import width_latency
from jaxttc.models import slimmable

_SPEC = slimmable.NetworkSpec(
  encoder={"kind": "mlp", "hidden": (16, 16)},
  tasks=(("a", 1, False), ("b", 2, False)),
  input_shape=(5,),
  hidden=16,
  menu=(0.5, 1.0),
  norm="none",
)


def _milliseconds(space):
  """Latencies that are additive as the module says."""

  def of(config):
    first, last = config.encoder
    own = sum(
      (1 + t) * ratio * last for t, (_, ratio) in enumerate(config.decoders)
    )
    return 1 + first * last + own

  return of


@pytest.fixture
def table():
  space = _SPEC.build().space
  return width_latency.compose(space, _milliseconds(space), batch=4)


def test_additive_latencies_are_told_exactly(table):
  space = _SPEC.build().space
  every = space.all_indices()
  exact = [_milliseconds(space)(space.at(row)) for row in every]
  np.testing.assert_allclose(table(every), exact)


def test_each_program_is_timed_once():
  space = _SPEC.build().space
  seen = []

  def of(config):
    seen.append(config)
    return 1.0

  width_latency.compose(space, of, batch=1)
  assert len(seen) == len(set(seen)) == width_latency.programs(space) == 8


def test_noise_never_makes_a_wider_network_cheaper():
  space = slimmable.WidthSpace(
    tuple(slimmable.WidthGroup(f"e{i}", 32) for i in range(3)),
    tuple((t, slimmable.WidthGroup(t, 32)) for t in ("a", "b")),
  )
  rng = np.random.default_rng(0)
  table = width_latency.compose(space, lambda config: rng.random(), batch=1)
  every = space.all_indices()
  prices = table(every).reshape((4,) * 5)
  for axis in range(5):
    assert (np.diff(prices, axis=axis) >= 0).all()


def test_measured_tables_price_budgets():
  network = _SPEC.build()
  params = slimmable.init(network, jax.random.key(0))
  table = width_latency.measure(_SPEC, params, batch=4, repeats=1)
  prices = width_prices.WidthPrices(network, latency_ms=table)
  every = network.space.all_indices()
  found = prices(every, "latency_ms")
  assert found.shape == (16,) and (found > 0).all()
  plan = width_planner.plan(
    network.space,
    {"a": 1.0, "b": 1.0},
    float(found.max()),
    prices,
    lambda indices: indices[:, 2:].astype(float),
    unit="latency_ms",
    rule="value",
  )
  assert plan.price <= found.max()
  with pytest.raises(width_planner.InfeasibleBudget, match="latency_ms"):
    width_planner.plan(
      network.space,
      {"a": 1.0, "b": 1.0},
      float(found.min()) / 2,
      prices,
      lambda indices: indices[:, 2:].astype(float),
      unit="latency_ms",
    )


def test_a_kept_table_is_read_back(table, tmp_path):
  path = tmp_path / "net.latency.json"
  width_latency.save(path, table, _SPEC)
  again = width_latency.load(path, _SPEC, batch=4)
  np.testing.assert_array_equal(again.encoder, table.encoder)
  np.testing.assert_array_equal(again.decoders, table.decoders)
  assert [p.name for p in tmp_path.iterdir()] == [path.name]


def test_tables_of_other_machines_networks_and_batches_are_refused(
  table, tmp_path
):
  path = tmp_path / "net.latency.json"
  width_latency.save(path, table, _SPEC)
  with pytest.raises(ValueError, match="batch 4, not 8"):
    width_latency.load(path, _SPEC, batch=8)
  with pytest.raises(ValueError, match="another network"):
    width_latency.load(path, _SPEC.at(_SPEC.build().space.uniform()), batch=4)
  content = json.loads(path.read_text())
  content["environment"]["cores"] = 4096
  path.write_text(json.dumps(content))
  with pytest.raises(ValueError, match="machine: its cores was 4096, here"):
    width_latency.load(path, _SPEC, batch=4)


@pytest.mark.parametrize(
  ("change", "message"),
  [
    (lambda text: text[: len(text) // 2], "expected a table"),
    (lambda text: "[]", "expected a table"),
    (lambda text: text.replace("width_latency", "other"), "of kind 'other'"),
    (lambda text: text.replace("[[2.0", "[[-2.0"), "negative"),
    (lambda text: text.replace("[[2.0", "[[NaN"), "finite"),
    (lambda text: text.replace("[[2.0", "[[[2.0]"), "expected a table"),
    (
      lambda text: json.dumps(json.loads(text) | {"decoders": [[[0.0]]]}),
      "has shapes",
    ),
    (
      lambda text: json.dumps(json.loads(text) | {"environment": 3}),
      "expected a table",
    ),
  ],
)
def test_damaged_tables_are_refused_in_one_line(
  table, tmp_path, change, message
):
  path = tmp_path / "net.latency.json"
  width_latency.save(path, table, _SPEC)
  path.write_text(change(path.read_text()))
  with pytest.raises(ValueError, match=message) as refused:
    width_latency.load(path, _SPEC, batch=4)
  assert "net.latency.json" in str(refused.value)
  assert "\n" not in str(refused.value)


def test_missing_tables_and_folders_are_named(table, tmp_path):
  with pytest.raises(ValueError, match="no.json: cannot be read"):
    width_latency.load(tmp_path / "no.json", _SPEC, batch=4)
  with pytest.raises(ValueError, match="cannot be written"):
    width_latency.save(tmp_path / "no" / "t.json", table, _SPEC)


def test_encoders_with_too_many_widths_are_refused():
  groups = tuple(slimmable.WidthGroup(f"e{i}", 32) for i in range(8))
  space = slimmable.WidthSpace(groups, (("a", slimmable.WidthGroup("a", 32)),))
  with pytest.raises(ValueError, match="65548 programs, more than 1024"):
    width_latency.compose(space, lambda config: 1.0, batch=1)


def test_no_calls_are_refused():
  network = _SPEC.build()
  params = slimmable.init(network, jax.random.key(0))
  with pytest.raises(ValueError, match="at least 1, got 4 and 0"):
    width_latency.measure(_SPEC, params, batch=4, repeats=0)
