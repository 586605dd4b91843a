# SPDX-License-Identifier: Apache-2.0
"""Google's ClusterData of 2011 (version 2): reads and writes its layout.

Tables are folders of CSV files without headers, gzipped or not, in order of
time: `machine_events`, `task_events`, and where they are there
`machine_attributes`, `task_constraints` and `task_usage`. Times are
microseconds and begin at 600 s; 0 means before that, 2^63 - 1 after the end
(such rows are left out). Source: Reiss, Wilkes and Hellerstein, "Google
cluster-usage traces: format + schema", https://github.com/google/cluster-data.
"""

from collections.abc import Iterable, Iterator
import contextlib
import csv
import gzip
import itertools
import os
import pathlib

from jaxttc.simulation.placement import constraints as constraints_lib
from jaxttc.simulation.placement import events, trace_rows

_MACHINES = ("time", "machine", "event", "platform", "cpu", "memory")
_ATTRIBUTES = ("time", "machine", "name", "value", "deleted")
_CONSTRAINTS = ("time", "job", "task", "operator", "name", "value")
_TASKS = (
  "time",
  "missing",
  "job",
  "task",
  "machine",
  "event",
  "user",
  "class",
  "priority",
  "cpu",
  "memory",
  "disk",
  "different_machine",
)
_USAGE = (
  "start",
  "end",
  "job",
  "task",
  "machine",
  "cpu",
  "memory",
  "assigned_memory",
  "unmapped_page_cache",
  "page_cache",
  "max_memory",
  "disk_io",
  "disk_space",
  "max_cpu",
  "max_disk_io",
  "cpi",
  "mai",
  "sample_portion",
  "aggregation",
  "sampled_cpu",
)
_MACHINE_CODES = {0: "add", 1: "remove", 2: "update"}
_TASK_CODES = {
  0: "submit",
  1: "schedule",
  2: "evict",
  3: "fail",
  4: "finish",
  5: "kill",
  6: "lost",
  7: "update",
  8: "update",
}
_ENDS = ("evict", "fail", "finish", "kill", "lost")
_OPERATORS = {0: "==", 1: "!=", 2: "<", 3: ">"}


def read(directory: str | os.PathLike[str]) -> Iterator[events.Event]:
  """The events of a trace, in order of time; no file is held whole.

  A request or capacity that is blank is None; constraints come with the
  "submit" of their task.

  Args:
    directory: the folder of the tables.

  Raises:
    ValueError: if a table is missing, or while iterating: a row has too few
      columns, a number is not one, an event code or operator is unknown, or
      time goes backwards. File, row and column are named.
  """
  folder = pathlib.Path(directory)

  def rows(table, columns, *, needed=False, least=None):
    paths = trace_rows.files(folder, table, "csv", needed=needed)
    least = len(columns) if least is None else least
    return trace_rows.csv_rows(paths, columns, least)

  asked = _Asked(rows("task_constraints", _CONSTRAINTS))
  return events.merge(
    _machines(rows("machine_events", _MACHINES, needed=True)),
    _attributes(rows("machine_attributes", _ATTRIBUTES)),
    _tasks(rows("task_events", _TASKS, needed=True), asked),
    # The first release lacks the last column of usage.
    _usage(rows("task_usage", _USAGE, least=len(_USAGE) - 1)),
  )


def write(
  directory: str | os.PathLike[str], trace: Iterable[events.Event]
) -> None:
  """Writes a trace in this layout, gzipped, one file a table.

  Args:
    directory: the folder; made if need be.
    trace: events in order of time.
  """
  with contextlib.ExitStack() as stack:

    def table(name):
      folder = pathlib.Path(directory) / name
      folder.mkdir(parents=True, exist_ok=True)
      path = folder / "part-00000-of-00001.csv.gz"
      file = gzip.open(path, "wt", encoding="utf-8", newline="")
      return csv.writer(stack.enter_context(file), lineterminator="\n")

    machines, attributes = table("machine_events"), table("machine_attributes")
    tasks, asked = table("task_events"), table("task_constraints")
    usage = table("task_usage")
    for event in trace:
      time = round(event.time * 1e6)
      if isinstance(event, events.MachineEvent):
        code = _code(_MACHINE_CODES, event.kind)
        capacity = event.capacity or ("", "")
        machines.writerow(
          (time, event.machine, code, event.platform, *capacity)
        )
      elif isinstance(event, events.AttributeEvent):
        gone = int(event.value is None)
        attributes.writerow(
          (time, event.machine, event.name, event.value or "", gone)
        )
      elif isinstance(event, events.UsageSample):
        end = round(event.end * 1e6)
        row = (time, end, *event.task, _blank(event.machine), *event.usage)
        usage.writerow((*row, *[""] * (len(_USAGE) - len(row))))
      else:
        for one in event.constraints if event.kind == "submit" else ():
          code = _code(_OPERATORS, one.operator)
          asked.writerow((time, *event.task, code, one.name, one.value))
        tasks.writerow(_task_row(time, event))


class _Asked:
  """The constraints of tasks to come, read just ahead of their submission."""

  def __init__(self, rows: Iterator[trace_rows.Row]):
    self._rows, self._clock = rows, trace_rows.Clock()
    self._held: dict[events.Task, tuple[float, list]] = {}
    self._next: trace_rows.Row | None = None

  def of(
    self, task: events.Task, time: float
  ) -> tuple[constraints_lib.Constraint, ...]:
    """What the task asks for at a time."""
    self._read_to(time)
    return tuple(self._held[task][1]) if task in self._held else ()

  def forget(self, task: events.Task) -> None:
    """Lets the constraints of a task that ended go."""
    self._held.pop(task, None)

  def _read_to(self, time: float) -> None:
    waiting = [] if self._next is None else [self._next]
    self._next = None
    for row in itertools.chain(waiting, self._rows):
      if row.integer("time") >= trace_rows.END:
        return
      if row.seconds("time") > time:
        self._next = row
        return
      seconds = self._clock.seconds(row, "time") or 0.0
      operator = row.code("operator", _OPERATORS)
      one = constraints_lib.Constraint(
        operator, row.text("name"), row.text("value")
      )
      try:
        constraints_lib.check(one)
      except ValueError as error:
        raise ValueError(f"{row.place}: {error}") from None
      task = (row.integer("job"), row.integer("task"))
      # Constraints of a later time take the place of earlier ones.
      if task not in self._held or self._held[task][0] != seconds:
        self._held[task] = (seconds, [])
      self._held[task][1].append(one)


def _machines(rows: Iterator[trace_rows.Row]) -> Iterator[events.Event]:
  for time, row in trace_rows.timed(rows, "time"):
    kind = row.code("event", _MACHINE_CODES)
    capacity = None if kind == "remove" else row.pair("cpu", "memory")
    yield events.MachineEvent(
      time, row.integer("machine"), kind, capacity, row.text("platform")
    )


def _attributes(rows: Iterator[trace_rows.Row]) -> Iterator[events.Event]:
  for time, row in trace_rows.timed(rows, "time"):
    gone = row.integer("deleted", 0)
    value = None if gone else row.text("value")
    yield events.AttributeEvent(
      time, row.integer("machine"), row.text("name"), value
    )


def _tasks(
  rows: Iterator[trace_rows.Row], asked: _Asked
) -> Iterator[events.Event]:
  for time, row in trace_rows.timed(rows, "time"):
    code = row.code("event", _TASK_CODES)
    task = (row.integer("job"), row.integer("task"))
    submitted = code == "submit"
    ended = code in _ENDS
    if ended:
      asked.forget(task)
    yield events.TaskEvent(
      time,
      task,
      "end" if ended else code,
      None if row.blank("machine") else row.integer("machine"),
      None if ended else row.pair("cpu", "memory"),
      row.integer("priority", 0),
      bool(row.integer("different_machine", 0)),
      asked.of(task, time) if submitted else (),
      code if ended else "",
    )


def _usage(rows: Iterator[trace_rows.Row]) -> Iterator[events.Event]:
  for time, row in trace_rows.timed(rows, "start"):
    used = row.pair("cpu", "memory")
    if used is None:  # Nobody measured: nothing is known of this stretch.
      continue
    yield events.UsageSample(
      time,
      row.seconds("end"),
      (row.integer("job"), row.integer("task")),
      None if row.blank("machine") else row.integer("machine"),
      used,
    )


def _task_row(time: int, event: events.TaskEvent) -> tuple:
  code = _code(_TASK_CODES, event.reason or event.kind)
  request = event.request or ("", "")
  return (
    time,
    "",
    *event.task,
    _blank(event.machine),
    code,
    "",
    0,
    event.priority,
    *request,
    "",
    int(event.apart),
  )


def _code(names: dict[int, str], name: str) -> int:
  for code, held in names.items():
    if held == name:
      return code
  raise ValueError(
    f"{name!r} cannot be written in the layout of 2011, which knows "
    f"{', '.join(dict.fromkeys(names.values()))}"
  )


def _blank(number: int | None) -> int | str:
  return "" if number is None else number
