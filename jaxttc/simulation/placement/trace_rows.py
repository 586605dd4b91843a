# SPDX-License-Identifier: Apache-2.0
"""Rows of trace files, plain or gzipped, that know where they come from."""

from collections.abc import Iterable, Iterator
import csv
import gzip
import io
import json
import math
import pathlib
from typing import Any, NoReturn
import zlib

END = 2**63 - 1  # the time of what happens after the end of a trace
_MICRO = 1e6


class Row:
  """One row: its fields by name, checked as they are read.

  Attributes:
    place: file and row, for messages.
  """

  def __init__(self, place: str, fields: dict[str, Any]):
    self.place = place
    self._fields = fields

  def refuse(self, column: str, expected: str) -> NoReturn:
    """Raises a ValueError that names file, row, column, and what is there."""
    held = self._fields.get(column, "")
    raise ValueError(
      f"{self.place}, column {column}: expected {expected}, got {held!r}"
    )

  def blank(self, column: str) -> bool:
    """Whether nothing is there."""
    return self._fields.get(column) in (None, "")

  def text(self, column: str) -> str:
    """The text; "" for none."""
    held = self._fields.get(column)
    return "" if held is None else str(held)

  def table(self, column: str) -> "Row":
    """The fields of a nested record; none at all if it is not there."""
    held = self._fields.get(column) or {}
    if not isinstance(held, dict):
      self.refuse(column, "a record")
    return Row(f"{self.place}, {column}", held)

  def tables(self, column: str) -> list["Row"]:
    """The nested records of a list."""
    held = self._fields.get(column) or []
    if not isinstance(held, list) or not all(
      isinstance(one, dict) for one in held
    ):
      self.refuse(column, "a list of records")
    return [
      Row(f"{self.place}, {column}[{i}]", one) for i, one in enumerate(held)
    ]

  def integer(self, column: str, default: int | None = None) -> int:
    """A whole number >= 0; `default`, if there is one, where it is blank."""
    if default is not None and self.blank(column):
      return default
    try:
      number = int(self.text(column))
    except ValueError:
      self.refuse(column, "a whole number")
    if number < 0:
      self.refuse(column, "a whole number >= 0")
    return number

  def number(self, column: str) -> float:
    """A finite number >= 0."""
    try:
      number = float(self.text(column))
    except ValueError:
      self.refuse(column, "a number")
    if not (math.isfinite(number) and number >= 0):
      self.refuse(column, "a finite number >= 0")
    return number

  def code(self, column: str, names: dict[int, str]) -> str:
    """The name of an event code."""
    number = self.integer(column)
    if number not in names:
      known = ", ".join(f"{code} {name}" for code, name in names.items())
      self.refuse(column, f"an event code of {known}")
    return names[number]

  def pair(self, first: str, second: str) -> tuple[float, float] | None:
    """Two numbers; None if either is blank."""
    if self.blank(first) or self.blank(second):
      return None
    return self.number(first), self.number(second)

  def seconds(self, column: str) -> float:
    """A time in microseconds, as seconds."""
    return self.integer(column) / _MICRO


class Clock:
  """Sees to it that the times of a table never go backwards."""

  def __init__(self) -> None:
    self._last = 0.0

  def seconds(self, row: Row, column: str) -> float | None:
    """The time of a row; None for what happens after the end.

    Raises:
      ValueError: if it is before the time of the row before.
    """
    if row.integer(column) >= END:
      return None
    time = row.seconds(column)
    if time < self._last:
      row.refuse(
        column, f"a time >= {self._last:.6f} s: rows must be in order of time"
      )
    self._last = time
    return time


def timed(rows: Iterable[Row], column: str) -> Iterator[tuple[float, Row]]:
  """The rows of a table with their times, up to the end of the trace.

  Raises:
    ValueError: if a time is before that of the row before.
  """
  clock = Clock()
  for row in rows:
    time = clock.seconds(row, column)
    if time is None:
      return
    yield time, row


def files(
  directory: pathlib.Path, table: str, suffix: str, *, needed: bool
) -> list[pathlib.Path]:
  """The files of a table, in order: in a folder of its name, or beside others.

  Raises:
    ValueError: if there is none, and it is needed.
  """
  found: list[pathlib.Path] = []
  for pattern in (f"{table}/*.{suffix}", f"{table}[-.]*{suffix}"):
    for ending in ("", ".gz"):
      found += directory.glob(pattern + ending)
  if needed and not found:
    raise ValueError(
      f"{directory}: expected {table}/*.{suffix} or {table}/*.{suffix}.gz"
    )
  return sorted(set(found))


def csv_rows(
  paths: list[pathlib.Path], columns: tuple[str, ...], least: int
) -> Iterator[Row]:
  """The rows of CSV files without a header.

  Args:
    paths: files, in order.
    columns: names of the columns.
    least: columns that every row must have.

  Raises:
    ValueError: if a row has fewer or more columns, or a file is damaged.
  """
  for path in paths:
    with _open(path) as file:
      number = 0
      for number, fields in enumerate(_lines(path, csv.reader(file)), 1):
        place = f"{path.name}, row {number}"
        if not least <= len(fields) <= len(columns):
          raise ValueError(
            f"{place}: expected {len(columns)} columns "
            f"({', '.join(columns)}), got {len(fields)}"
          )
        yield Row(place, dict(zip(columns, fields, strict=False)))


def json_rows(paths: list[pathlib.Path]) -> Iterator[Row]:
  """The rows of files with one JSON object a line.

  Raises:
    ValueError: if a line is not one, or a file is damaged.
  """
  for path in paths:
    with _open(path) as file:
      for number, line in enumerate(_lines(path, file), 1):
        place = f"{path.name}, row {number}"
        try:
          fields = json.loads(line)
        except ValueError as error:
          raise ValueError(f"{place}: not JSON: {error}") from None
        if not isinstance(fields, dict):
          raise ValueError(f"{place}: expected a JSON object")
        yield Row(place, fields)


def _open(path: pathlib.Path) -> io.TextIOWrapper:
  if path.suffix == ".gz":
    return gzip.open(path, "rt", encoding="utf-8", newline="")
  return path.open(encoding="utf-8", newline="")


def _lines(path: pathlib.Path, lines: Iterator[Any]) -> Iterator[Any]:
  """The lines; damage becomes one clear error."""
  number = 0
  try:
    for line in lines:
      number += 1
      yield line
  except (OSError, EOFError, UnicodeDecodeError, csv.Error, zlib.error) as e:
    raise ValueError(f"{path.name}: damaged behind row {number}: {e}") from None
