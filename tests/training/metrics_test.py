# SPDX-License-Identifier: Apache-2.0
"""Tests of the metrics file."""

import json

import jax.numpy as jnp
import numpy as np
import pytest

from jaxttc.training import metrics


def _write(workdir, steps, first_step=0):
  writer = metrics.MetricWriter(str(workdir), first_step)
  for step in steps:
    writer.write(step, {"loss": jnp.float32(step / 2)})
  writer.close()
  return writer


def test_records_are_read_back_in_order(tmp_path):
  writer = _write(tmp_path, [1, 2, 3])
  assert writer.last == {"loss": 1.5}
  assert metrics.read(str(tmp_path)) == [
    {"step": step, "loss": step / 2} for step in (1, 2, 3)
  ]


def test_a_resumed_run_reads_as_if_it_had_never_stopped(tmp_path):
  _write(tmp_path, range(1, 6))
  path = tmp_path / "metrics.jsonl"
  path.write_text(path.read_text() + '{"step": 6, "lo')  # killed here
  _write(tmp_path, range(4, 8), first_step=3)
  records = metrics.read(str(tmp_path))
  assert [record["step"] for record in records] == list(range(1, 8))


def test_opening_loses_no_line_even_if_killed_at_once(tmp_path):
  _write(tmp_path, [1, 2])
  metrics.MetricWriter(str(tmp_path), first_step=2)  # never closed
  assert len(metrics.read(str(tmp_path))) == 2
  assert [p.name for p in tmp_path.glob("metrics*")] == ["metrics.jsonl"]


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_figure_that_is_not_finite_stops_the_run(tmp_path, value):
  writer = metrics.MetricWriter(str(tmp_path))
  with pytest.raises(FloatingPointError, match="grad_norm became .* step 7"):
    writer.write(7, {"loss": 1.0, "grad_norm": np.float32(value)})
  writer.close()
  assert metrics.read(str(tmp_path)) == []


def test_every_line_is_json_by_itself(tmp_path):
  _write(tmp_path, [1, 2])
  lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
  assert [json.loads(line)["step"] for line in lines] == [1, 2]


def test_reading_where_nothing_was_written_names_the_file(tmp_path):
  with pytest.raises(FileNotFoundError, match="metrics.jsonl"):
    metrics.read(str(tmp_path))
