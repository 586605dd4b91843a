# SPDX-License-Identifier: Apache-2.0
"""Power over time as files, and from logs of phases."""

import numpy as np
import pytest

from jaxttc.simulation.power import series


def _file(tmp_path, text):
  path = tmp_path / "power.csv"
  path.write_text(text)
  return path


def test_writes_what_it_reads(tmp_path):
  made = {
    "a": series.Series(np.arange(3.0) * 2, np.array([1.5, 2.25, 1 / 3])),
    "b": series.Series(np.array([0.0, 2.0]), np.array([7.0, 8.0])),
  }
  series.write(made, tmp_path / "folder" / "power.csv")
  found = series.read(tmp_path / "folder" / "power.csv")
  assert list(found) == ["a", "b"]
  for name, one in made.items():
    np.testing.assert_array_equal(found[name].time_s, one.time_s)
    np.testing.assert_array_equal(found[name].power_w, one.power_w)
  assert found["a"].every_s == 2.0
  series.write({"": made["b"]}, tmp_path / "one.csv")
  assert (tmp_path / "one.csv").read_text().startswith("timestamp,power_w\n")
  assert list(series.read(tmp_path / "one.csv")) == [""]


def test_reads_dates_in_any_zone(tmp_path):
  path = _file(
    tmp_path,
    "power_w,timestamp\n10,2026-01-05T00:00:00Z\n"
    "11,2026-01-05T01:00:02+01:00\n12,2026-01-05 00:00:04\n",
  )
  found = series.read(path)[""]
  assert found.every_s == 2.0
  np.testing.assert_array_equal(found.power_w, [10, 11, 12])


@pytest.mark.parametrize(
  "text, message",
  [
    ("timestamp,watts\n0,1\n", "no column power_w; its columns are timestamp"),
    ("timestamp,power_w\n", "no readings"),
    ("timestamp,power_w\n0,0\n", "row 2, column power_w: '0'"),
    ("timestamp,power_w\n0,1\n1,nan\n", "row 3, column power_w: 'nan'"),
    ("timestamp,power_w\n0,-5\n", "row 2, column power_w"),
    ("timestamp,power_w\nnoon,5\n", "row 2, column timestamp: 'noon'"),
    ("timestamp,power_w\nnan,5\n", "row 2, column timestamp: 'nan'"),
    ("timestamp,power_w\n3,5\n2,5\n", "row 3, column timestamp: '2' is not af"),
    ("timestamp,power_w\n3\n", "row 2, column power_w: None"),
  ],
)
def test_refuses_files_that_cannot_be(tmp_path, text, message):
  with pytest.raises(ValueError, match=message):
    series.read(_file(tmp_path, text))


def test_refuses_missing_files_and_uneven_spacing(tmp_path):
  with pytest.raises(ValueError, match="cannot be read"):
    series.read(tmp_path / "none.csv")
  with pytest.raises(ValueError, match="reading 3 comes 3 s after"):
    _ = series.Series(np.array([0.0, 2, 5]), np.ones(3)).every_s
  with pytest.raises(ValueError, match="at least two"):
    _ = series.Series(np.zeros(1), np.ones(1)).every_s


def test_phases_add_up_to_power():
  rng = np.random.default_rng(0)
  edges = np.sort(rng.uniform(0, 90, (3, 20)), axis=1)
  start, end = edges[:, ::2].ravel(), edges[:, 1::2].ravel()
  machine = np.repeat(np.arange(3), 10)
  watts = rng.uniform(200, 500, 30)
  found = series.from_phases(
    machine,
    start,
    end,
    watts,
    idle_w=[100.0, 90.0, 80.0],
    horizon_s=100.0,
    dt=0.5,
  )
  idle = np.array([100.0, 90.0, 80.0])
  joules = 100 * idle.sum() + ((watts - idle[machine]) * (end - start)).sum()
  assert found.power_w.sum() * 0.5 == pytest.approx(joules)
  for at in (13, 70, 199):
    low, high = at * 0.5, (at + 1) * 0.5
    overlap = np.clip(np.minimum(end, high) - np.maximum(start, low), 0, None)
    mean = idle.sum() + ((watts - idle[machine]) * overlap).sum() / 0.5
    assert found.power_w[at] == pytest.approx(mean)


@pytest.mark.parametrize(
  "machine, start, end, message",
  [
    ([0, 0], [0.0, 1.0], [2.0, 3.0], "phase 1 of machine 0 starts at 1 s"),
    ([0], [2.0], [1.0], "phase 0: machine 0 from 2 to 1 s"),
    ([2], [0.0], [1.0], "phase 0: machine 2"),
  ],
)
def test_refuses_phases_that_cannot_be(machine, start, end, message):
  with pytest.raises(ValueError, match=message):
    series.from_phases(
      np.array(machine),
      np.array(start),
      np.array(end),
      np.ones(len(machine)),
      idle_w=[1.0, 1.0],
      horizon_s=5.0,
      dt=1.0,
    )
