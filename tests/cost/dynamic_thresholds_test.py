# SPDX-License-Identifier: Apache-2.0
import datetime

import numpy as np
import pytest

from jaxttc.cost import dynamic_thresholds as dt

TODAY = datetime.date(2026, 6, 30)


def models(count):
  return [
    dt.Released(
      name=f"m{i}",
      released=TODAY - datetime.timedelta(days=i),
      flop=10.0 ** (25 - i / 100),
    )
    for i in range(count)
  ]


def test_the_threshold_follows_the_window():
  found = dt.percentile_threshold(
    models(500), TODAY, percentile=90, window_days=100
  )
  assert found.models == 100
  assert found.flop == pytest.approx(
    np.percentile([10.0 ** (25 - i / 100) for i in range(100)], 90)
  )
  later = TODAY + datetime.timedelta(days=50)
  shrunk = dt.percentile_threshold(
    models(500), later, percentile=100, window_days=100
  )
  assert (shrunk.models, shrunk.flop) == (50, 1e25)
  assert shrunk.first == later - datetime.timedelta(days=99)


def test_tables_are_read_and_their_faults_named(tmp_path):
  path = tmp_path / "models.csv"
  path.write_text("name,released,flop,by\na,2026-01-02,3e25,x\n")
  [model] = dt.read_models(path)
  assert (model.name, model.flop) == ("a", 3e25)
  assert model.released == datetime.date(2026, 1, 2)
  for text, message in (
    ("name,flop\na,1\n", "no column released"),
    ("name,released,flop\na,2.1.2026,1\n", "row 2, column released"),
    (
      "name,released,flop\na,2026-01-02,1\nb,2026-01-02,-1\n",
      "row 3, column f",
    ),
    ("name,released,flop\na,2026-01-02,nan\n", "row 2, column flop"),
    ("name,released,flop\na,2026-01-02\n", "row 2, column flop"),
  ):
    path.write_text(text)
    with pytest.raises(ValueError, match=message):
      dt.read_models(path)
  with pytest.raises(ValueError, match="No such file"):
    dt.read_models(tmp_path / "none.csv")


def test_an_index_needs_weights_of_the_user():
  scores = {"compute": 1.0, "reach": 0.0, "autonomy": 0.5}
  assert dt.risk_index(scores, {"compute": 1, "reach": 1, "autonomy": 2}) == 0.5
  for weights, message in (
    ({}, "every score needs a weight"),
    ({"compute": 1, "reach": 1, "autonomi": 1}, "'autonomi', 'autonomy'"),
    ({"compute": -1, "reach": 1, "autonomy": 1}, "must be finite and >= 0"),
    ({"compute": 0, "reach": 0, "autonomy": 0}, "all weights are 0"),
  ):
    with pytest.raises(ValueError, match=message):
      dt.risk_index(scores, weights)
  with pytest.raises(ValueError, match="must be in .0, 1"):
    dt.risk_index({"a": 2.0}, {"a": 1.0})


def test_windows_that_cannot_be_are_refused():
  for change, message in (
    (dict(percentile=101), "percentile must be"),
    (dict(percentile=50, window_days=0), "window_days must be"),
  ):
    with pytest.raises(ValueError, match=message):
      dt.percentile_threshold(models(3), TODAY, **change)
  with pytest.raises(ValueError, match="no model of the table"):
    dt.percentile_threshold(models(3), datetime.date(2020, 1, 1), percentile=50)
