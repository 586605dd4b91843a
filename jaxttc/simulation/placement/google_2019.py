# SPDX-License-Identifier: Apache-2.0
"""Google's ClusterData of 2019 (version 3): reads and writes its layout.

Tables are files of one JSON object a line, as BigQuery exports them, gzipped or
not: `machine_events`, `instance_events`, and where they are there
`machine_attributes`, `instance_usage` and `collection_events` (for the limit of
tasks a machine). Export them in order of time (ORDER BY time): shards of an
export without it are in no order. Alloc sets, which reserve room but run
nothing, are left out. Source: Wilkes, "Google cluster-usage traces v3",
https://github.com/google/cluster-data.
"""

from collections.abc import Iterable, Iterator
import contextlib
import gzip
import itertools
import json
import os
import pathlib
from typing import Any

from jaxttc.simulation.placement import constraints as constraints_lib
from jaxttc.simulation.placement import events, trace_rows

_MACHINE_CODES = {1: "add", 2: "remove", 3: "update"}
_TASK_CODES = {
  0: "submit",
  1: "queue",
  2: "enable",
  3: "schedule",
  4: "evict",
  5: "fail",
  6: "finish",
  7: "kill",
  8: "lost",
  9: "update",
  10: "update",
}
_ENDS = ("evict", "fail", "finish", "kill", "lost")
_OPERATORS = {
  0: "==",
  1: "!=",
  2: "<",
  3: ">",
  4: "<=",
  5: ">=",
  6: "present",
  7: "absent",
}
_JOB = 0  # collection type; 1 is an alloc set


def read(directory: str | os.PathLike[str]) -> Iterator[events.Event]:
  """The events of a trace, in order of time; no file is held whole.

  Args:
    directory: the folder of the tables; a table is a folder of its name, or
      files whose names begin with it.

  Raises:
    ValueError: if a table is missing, or while iterating: a line is not JSON,
      a field is missing or no number, an event code or relation is unknown, or
      time goes backwards. File, row and field are named.
  """
  folder = pathlib.Path(directory)

  def rows(table, *, needed=False):
    paths = trace_rows.files(folder, table, "json", needed=needed)
    return trace_rows.json_rows(paths)

  return events.merge(
    _machines(rows("machine_events", needed=True)),
    _attributes(rows("machine_attributes")),
    _tasks(
      rows("instance_events", needed=True),
      _Apart(rows("collection_events")),
    ),
    _usage(rows("instance_usage")),
  )


def write(
  directory: str | os.PathLike[str], trace: Iterable[events.Event]
) -> None:
  """Writes a trace in this layout, gzipped, one file a table.

  Args:
    directory: the folder; made if need be.
    trace: events in order of time.
  """
  folder = pathlib.Path(directory)
  folder.mkdir(parents=True, exist_ok=True)
  with contextlib.ExitStack() as stack:

    def table(name):
      path = folder / f"{name}-000000000000.json.gz"
      file = gzip.open(path, "wt", encoding="utf-8", newline="")
      opened = stack.enter_context(file)
      return lambda row: opened.write(json.dumps(row) + "\n")

    machines, attributes = table("machine_events"), table("machine_attributes")
    tasks, usage = table("instance_events"), table("instance_usage")
    collections = table("collection_events")
    apart: set[int] = set()
    for event in trace:
      # BigQuery writes 64-bit integers as text.
      time = str(round(event.time * 1e6))
      if isinstance(event, events.MachineEvent):
        machines(_machine_row(time, event))
      elif isinstance(event, events.AttributeEvent):
        attributes(_attribute_row(time, event))
      elif isinstance(event, events.UsageSample):
        usage(_usage_row(time, event))
      else:
        job = event.task[0]
        if event.kind == "submit" and event.apart and job not in apart:
          apart.add(job)
          collections(
            {
              "time": time,
              "type": 0,
              "collection_id": str(job),
              "collection_type": _JOB,
              "priority": event.priority,
              "max_per_machine": 1,
            }
          )
        tasks(_task_row(time, event))


class _Apart:
  """Jobs whose tasks must be apart, read just ahead of their tasks."""

  def __init__(self, rows: Iterator[trace_rows.Row]):
    self._rows, self._clock = rows, trace_rows.Clock()
    self._jobs: set[int] = set()
    self._next: trace_rows.Row | None = None

  def holds(self, job: int, time: float) -> bool:
    """Whether tasks of the job must be on different machines."""
    waiting = [] if self._next is None else [self._next]
    self._next = None
    for row in itertools.chain(waiting, self._rows):
      if row.integer("time") >= trace_rows.END:
        break
      if row.seconds("time") > time:
        self._next = row
        break
      self._clock.seconds(row, "time")
      # 0 is no limit; we have no word for limits above 1.
      if row.integer("max_per_machine", 0) == 1:
        self._jobs.add(row.integer("collection_id"))
    return job in self._jobs


def _machines(rows: Iterator[trace_rows.Row]) -> Iterator[events.Event]:
  for time, row in trace_rows.timed(rows, "time"):
    kind = row.code("type", _MACHINE_CODES)
    capacity = row.table("capacity").pair("cpus", "memory")
    yield events.MachineEvent(
      time,
      row.integer("machine_id"),
      kind,
      None if kind == "remove" else capacity,
      row.text("platform_id"),
    )


def _attributes(rows: Iterator[trace_rows.Row]) -> Iterator[events.Event]:
  for time, row in trace_rows.timed(rows, "time"):
    gone = row.text("deleted").lower() in ("true", "1")
    value = None if gone else row.text("value")
    yield events.AttributeEvent(
      time, row.integer("machine_id"), row.text("name"), value
    )


def _tasks(
  rows: Iterator[trace_rows.Row], apart: _Apart
) -> Iterator[events.Event]:
  for time, row in trace_rows.timed(rows, "time"):
    code = row.code("type", _TASK_CODES)
    # "Queue" and "enable" are steps of the batch scheduler, before a start.
    skipped = code in ("queue", "enable")
    if skipped or row.integer("collection_type", _JOB) != _JOB:
      continue
    job = row.integer("collection_id")
    ended = code in _ENDS
    yield events.TaskEvent(
      time,
      (job, row.integer("instance_index")),
      "end" if ended else code,
      _machine(row),
      None if ended else row.table("resource_request").pair("cpus", "memory"),
      row.integer("priority", 0),
      apart.holds(job, time),
      _constraints(row) if code == "submit" else (),
      code if ended else "",
    )


def _usage(rows: Iterator[trace_rows.Row]) -> Iterator[events.Event]:
  for time, row in trace_rows.timed(rows, "start_time"):
    used = row.table("average_usage").pair("cpus", "memory")
    if used is None or row.integer("collection_type", _JOB) != _JOB:
      continue
    yield events.UsageSample(
      time,
      row.seconds("end_time"),
      (row.integer("collection_id"), row.integer("instance_index")),
      _machine(row),
      used,
    )


def _machine(row: trace_rows.Row) -> int | None:
  """The machine; 0 means none, and -1 one that is set aside."""
  if row.text("machine_id") in ("", "0", "-1"):
    return None
  return row.integer("machine_id")


def _constraints(
  row: trace_rows.Row,
) -> tuple[constraints_lib.Constraint, ...]:
  asked = []
  for nested in row.tables("constraint"):
    one = constraints_lib.Constraint(
      nested.code("relation", _OPERATORS),
      nested.text("name"),
      nested.text("value"),
    )
    try:
      asked.append(constraints_lib.check(one))
    except ValueError as error:
      raise ValueError(f"{nested.place}: {error}") from None
  return tuple(asked)


def _machine_row(time: str, event: events.MachineEvent) -> dict[str, Any]:
  row = {
    "time": time,
    "machine_id": str(event.machine),
    "type": _code(_MACHINE_CODES, event.kind),
    "platform_id": event.platform,
  }
  return row | _resources("capacity", event.capacity)


def _attribute_row(time: str, event: events.AttributeEvent) -> dict[str, Any]:
  row = {
    "time": time,
    "machine_id": str(event.machine),
    "name": event.name,
    "deleted": event.value is None,
  }
  return row if event.value is None else row | {"value": event.value}


def _task_row(time: str, event: events.TaskEvent) -> dict[str, Any]:
  row = {
    "time": time,
    "type": _code(_TASK_CODES, event.reason or event.kind),
    "collection_id": str(event.task[0]),
    "collection_type": _JOB,
    "instance_index": event.task[1],
    "priority": event.priority,
    "machine_id": str(event.machine or 0),
    "constraint": [
      {
        "name": one.name,
        "value": one.value,
        "relation": _code(_OPERATORS, one.operator),
      }
      for one in event.constraints
    ],
  }
  return row | _resources("resource_request", event.request)


def _usage_row(time: str, event: events.UsageSample) -> dict[str, Any]:
  row = {
    "start_time": time,
    "end_time": str(round(event.end * 1e6)),
    "collection_id": str(event.task[0]),
    "collection_type": _JOB,
    "instance_index": event.task[1],
    "machine_id": str(event.machine or 0),
  }
  return row | _resources("average_usage", event.usage)


def _resources(
  name: str, values: tuple[float, float] | None
) -> dict[str, dict[str, float]]:
  if values is None:
    return {}
  return {name: {"cpus": values[0], "memory": values[1]}}


def _code(names: dict[int, str], name: str) -> int:
  return next(code for code, held in names.items() if held == name)
