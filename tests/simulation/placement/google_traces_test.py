# SPDX-License-Identifier: Apache-2.0
"""Both layouts of Google's traces: written, read back, and refused."""

import gzip
import json

import pytest

from jaxttc.simulation.placement import (
  constraints,
  events,
  generator,
  google_2011,
  google_2019,
)

LAYOUTS = [google_2011, google_2019]
SPEC = generator.Spec(
  machines=6, hours=0.5, seed=1, arrivals_per_machine_hour=30.0
)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_trace_comes_back_as_it_was_written(layout, tmp_path):
  wrote = list(generator.generate(SPEC))
  layout.write(tmp_path, iter(wrote))
  read = list(layout.read(tmp_path))
  assert sorted(map(_known, read)) == sorted(map(_known, wrote))
  times = [event.time for event in read]
  assert times == sorted(times)


def _known(event):
  """An event as text, less what rows after the submission do not repeat."""
  if isinstance(event, events.TaskEvent) and event.kind == "end":
    event = event._replace(apart=False)
  return repr(event)


def test_rows_of_2011(tmp_path):
  """As the published files have them: blanks, times before and after."""
  _csv(tmp_path, "machine_events", "0,5,0,PLAT,0.5,0.2493\n0,6,0,,,\n")
  _csv(
    tmp_path,
    "task_events",
    "0,2,3418309,0,,0,usr,3,9,0.125,0.07446,0.0004244,0\n"
    "0,2,3418309,0,5,1,usr,3,9,0.125,0.07446,0.0004244,1\n"
    "620000000,,3418309,0,5,2,usr,3,9,0.125,0.07446,,0\n"
    f"{2**63 - 1},,3418309,0,5,4,usr,3,9,0.125,0.07446,,0\n",
  )
  _csv(
    tmp_path,
    "task_constraints",
    "0,3418309,0,1,kernel,2\n0,3418309,0,0,gpu,\n700000000,1,1,3,kernel,1\n",
    suffix=".csv",
  )
  usage = "600000000,900000000,3418309,0,5,0.0194,0.0693" + "," * 12
  _csv(tmp_path, "task_usage", usage + "\n", suffix=".csv")
  found = list(google_2011.read(tmp_path))
  assert found[0] == events.MachineEvent(0.0, 5, "add", (0.5, 0.2493), "PLAT")
  assert found[1].capacity is None
  submitted, scheduled, sample, ended = found[2:]
  assert submitted.request == (0.125, 0.07446) and submitted.priority == 9
  assert submitted.constraints == (
    constraints.Constraint("!=", "kernel", "2"),
    constraints.Constraint("==", "gpu", ""),
  )
  assert scheduled.machine == 5 and scheduled.apart
  assert sample == events.UsageSample(
    600.0, 900.0, (3418309, 0), 5, (0.0194, 0.0693)
  )
  assert (ended.time, ended.kind, ended.reason) == (620.0, "end", "evict")


def _csv(folder, table, text, suffix=".csv.gz"):
  (folder / table).mkdir(exist_ok=True)
  path = folder / table / f"part-00000-of-00001{suffix}"
  opener = gzip.open if suffix.endswith("gz") else open
  with opener(path, "wt") as file:
    file.write(text)


GOOD = "0,1,0,A,0.5,0.5\n"
TASK = "0,,1,0,,0,u,0,0,0.1,0.1,,0\n"


@pytest.mark.parametrize(
  ("table", "text", "message"),
  [
    ("machine_events", "0,1,0\n", "csv.gz, row 1: expected 6 columns"),
    ("machine_events", GOOD + "0,1,7,A,,\n", "row 2, column event.*got '7'"),
    ("machine_events", "0,1,0,A,-0.5,0.5\n", "row 1, column cpu.*>= 0"),
    ("machine_events", "0,1,0,A,nan,0.5\n", "column cpu.*got 'nan'"),
    ("machine_events", "-5,1,0,A,0.5,0.5\n", "column time.*got '-5'"),
    (
      "machine_events",
      "900,1,0,A,0.5,0.5\n" + GOOD,
      "row 2, column time: .* in order of time",
    ),
    ("task_events", TASK + "0,,1,0,,9,u,0,0,,,,\n", "row 2, column event"),
    ("task_events", TASK.replace(",u,0,0,", ",u,0,x,"), "column priority"),
    ("task_constraints", "0,1,0,5,k,1\n", "row 1, column operator"),
    ("task_constraints", "0,1,0,2,k,new\n", "< needs a number, got 'new'"),
    ("task_usage", "0,1,1,0\n", "row 1: expected 20 columns"),
  ],
)
def test_damaged_rows_of_2011(table, text, message, tmp_path):
  tables = {"machine_events": GOOD, "task_events": TASK, table: text}
  for name, rows in tables.items():
    _csv(tmp_path, name, rows)
  with pytest.raises(ValueError, match=message):
    list(google_2011.read(tmp_path))


def test_truncated_and_missing_files(tmp_path):
  with pytest.raises(ValueError, match=r"expected machine_events/\*.csv"):
    google_2011.read(tmp_path)
  with pytest.raises(ValueError, match=r"expected machine_events/\*.json"):
    google_2019.read(tmp_path)
  _csv(tmp_path, "machine_events", GOOD * 500)
  _csv(tmp_path, "task_events", TASK)
  path = next((tmp_path / "machine_events").iterdir())
  path.write_bytes(path.read_bytes()[:-12])
  with pytest.raises(ValueError, match="part-00000-of-00001.csv.gz: damaged"):
    list(google_2011.read(tmp_path))


MACHINE = {
  "time": "0",
  "machine_id": "7",
  "type": "1",
  "capacity": {"cpus": 0.5, "memory": 0.25},
}
INSTANCE = {
  "time": "600000000",
  "type": 0,
  "collection_id": "11",
  "instance_index": "0",
  "collection_type": "0",
  "machine_id": "0",
  "priority": "200",
  "resource_request": {"cpus": 0.01, "memory": 0.02},
}


def _json(folder, table, rows):
  path = folder / f"{table}-000000000000.json.gz"
  with gzip.open(path, "wt") as file:
    file.writelines(json.dumps(row) + "\n" for row in rows)


def test_rows_of_2019(tmp_path):
  _json(tmp_path, "machine_events", [MACHINE])
  rule = {"name": "arch", "value": "x", "relation": "0"}
  _json(
    tmp_path,
    "instance_events",
    [
      INSTANCE | {"constraint": [rule]},
      INSTANCE | {"type": 1},  # queue
      INSTANCE | {"collection_type": 1, "collection_id": "12"},  # alloc set
      INSTANCE | {"type": "3", "machine_id": "7"},
      INSTANCE | {"type": "8", "time": "700000000"},
    ],
  )
  _json(
    tmp_path,
    "collection_events",
    [{"time": "0", "type": 0, "collection_id": "11", "max_per_machine": "1"}],
  )
  found = list(google_2019.read(tmp_path))
  kinds = [event.kind for event in found]
  assert kinds == ["add", "submit", "schedule", "end"]
  _, submitted, scheduled, ended = found
  assert submitted.apart and submitted.machine is None
  assert submitted.constraints == (constraints.Constraint("==", "arch", "x"),)
  assert scheduled.machine == 7
  assert ended.reason == "lost"


@pytest.mark.parametrize(
  ("row", "message"),
  [
    (INSTANCE | {"type": 11}, "row 1, column type: expected an event code"),
    (
      {name: INSTANCE[name] for name in INSTANCE if name != "collection_id"},
      "row 1, column collection_id: expected a whole number, got ''",
    ),
    (INSTANCE | {"constraint": 3}, "column constraint: expected a list"),
    (INSTANCE | {"resource_request": 1}, "resource_request: expected a record"),
    (
      INSTANCE | {"constraint": [{"name": "a", "relation": 9}]},
      r"constraint\[0\], column relation",
    ),
  ],
)
def test_damaged_rows_of_2019(row, message, tmp_path):
  _json(tmp_path, "machine_events", [MACHINE])
  _json(tmp_path, "instance_events", [row])
  with pytest.raises(ValueError, match=message):
    list(google_2019.read(tmp_path))


def test_lines_that_are_not_json(tmp_path):
  (tmp_path / "machine_events-0.json").write_text("{\n")
  _json(tmp_path, "instance_events", [INSTANCE])
  with pytest.raises(
    ValueError, match="machine_events-0.json, row 1: not JSON"
  ):
    list(google_2019.read(tmp_path))
