# SPDX-License-Identifier: Apache-2.0
"""Traces of requests to language models: read, checked, rescaled, written.

A trace is when each request arrived, how long its prompt was and how many
tokens it generated. `load` tells three formats apart by their headers:

    azure      TIMESTAMP,ContextTokens,GeneratedTokens[,NumImages]
               the Azure traces of 2023, 2024 and 2025; UTC, digits to 100 ns
    simulator  arrival_timestamp,prompt_size,token_size and more: splitwise-sim
    vidur      arrived_at,num_prefill_tokens,num_decode_tokens

Columns may stand in any order, and others beside them. Files that end in ".gz"
are unpacked on the way. What cannot be used is refused, as one line that names
the file, the row (its line in the file) and the column.
"""

from collections.abc import Sequence
import csv
import dataclasses
import gzip
import io
import os
import pathlib
import re
from typing import Any

from jaxtyping import Float64, Int64
import numpy as np

_Path = str | os.PathLike[str]

# Columns of arrival, prompt and output, by format.
_COLUMNS = {
  "azure": ("TIMESTAMP", "ContextTokens", "GeneratedTokens"),
  "simulator": ("arrival_timestamp", "prompt_size", "token_size"),
  "vidur": ("arrived_at", "num_prefill_tokens", "num_decode_tokens"),
}
_SIMULATOR_HEADER = (
  "request_id,request_type,application_id,arrival_timestamp,batch_size,"
  "prompt_size,token_size"
)
_STAMP = re.compile(
  r"\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d(?:\.\d{1,9})?"
  r"(?P<zone>Z|[+-]\d\d:?\d\d)?"
)
_UTC = ("Z", "+00:00", "+0000", "-00:00", "-0000")


@dataclasses.dataclass(frozen=True, eq=False)
class Trace:
  """Requests in the order of their arrivals.

  Attributes:
    arrival_s: f64[n], seconds since `start`, never falling.
    prompt_tokens: i64[n], at least 1.
    output_tokens: i64[n], at least 1.
    start: the time of day of second 0 in UTC; None if the trace has none.

  Raises:
    ValueError: if the arrays differ in length or are empty, or a time is not
      finite, is negative or falls, or a count is below 1.
  """

  arrival_s: Float64[np.ndarray, " n"]
  prompt_tokens: Int64[np.ndarray, " n"]
  output_tokens: Int64[np.ndarray, " n"]
  start: np.datetime64 | None = None

  def __post_init__(self):
    for name, dtype in (
      ("arrival_s", np.float64),
      ("prompt_tokens", np.int64),
      ("output_tokens", np.int64),
    ):
      array = np.asarray(getattr(self, name))
      if array.ndim != 1 or array.shape != np.shape(self.arrival_s):
        raise ValueError(
          f"trace: {name} has shape {array.shape}; expected one row a request"
        )
      object.__setattr__(self, name, array.astype(dtype))
    if not len(self):
      raise ValueError("trace: no requests")
    names = {name: name for name in ("arrival", "prompt", "output")}
    _check(self, names, lambda row: f"trace: request {row}")

  def __len__(self) -> int:
    return len(self.arrival_s)

  @property
  def duration_s(self) -> float:
    """Seconds from second 0 to the last arrival."""
    return float(self.arrival_s[-1])

  @property
  def rate_per_s(self) -> float:
    """Requests a second from the first to the last arrival.

    Raises:
      ValueError: if all requests arrive at one instant.
    """
    spread = float(self.arrival_s[-1] - self.arrival_s[0])
    if spread <= 0:
      raise ValueError("trace: all requests arrive at once; it has no rate")
    return (len(self) - 1) / spread

  def at_rate(self, rate_per_s: float) -> "Trace":
    """The same requests, all gaps scaled so that they arrive at this rate.

    Raises:
      ValueError: if the rate is not positive, or the trace has none.
    """
    check_positive("rate_per_s", rate_per_s)
    scale = self.rate_per_s / rate_per_s
    return dataclasses.replace(self, arrival_s=self.arrival_s * scale)

  def head(self, requests: int) -> "Trace":
    """The first so many requests (all, if there are fewer).

    Raises:
      ValueError: if `requests` is below 1.
    """
    if requests < 1:
      raise ValueError(f"requests must be at least 1, not {requests}")
    return self._rows(slice(requests))

  def between(self, start_s: float, end_s: float) -> "Trace":
    """The requests of start_s <= arrival < end_s, with their times as they are.

    Raises:
      ValueError: if there are none.
    """
    inside = (self.arrival_s >= start_s) & (self.arrival_s < end_s)
    if not inside.any():
      raise ValueError(
        f"trace: no request arrives between {start_s:g} s and {end_s:g} s"
      )
    return self._rows(inside)

  def _rows(self, index: Any) -> "Trace":
    return Trace(
      self.arrival_s[index],
      self.prompt_tokens[index],
      self.output_tokens[index],
      self.start,
    )


def load(path: _Path, *, sort: bool = False) -> Trace:
  """Reads a trace; second 0 is the first arrival.

  Args:
    path: a CSV file in one of the formats above, ".gz" or not.
    sort: brings rows into the order of arrival (stable); else rows out of
      order are refused.

  Returns:
    The trace. `start` is the first time stamp, None for the formats that count
    seconds.

  Raises:
    ValueError: if the file is missing, empty or of an unknown format, lacks a
      column, or a row is too short, holds a time that is not one, is negative,
      out of order or in another zone than UTC, or a count below 1.
  """
  path = pathlib.Path(path)
  header, rows, lines = _table(path)
  kind, (time, prompt, output) = _format(path, header)
  columns = {
    name: _column(path, rows, lines, header.index(name), name)
    for name in (time, prompt, output)
  }
  if kind == "azure":
    arrival, start = _stamps(path, columns[time], lines, time)
  else:
    arrival, start = _numbers(path, columns[time], lines, time, float), None
  counts = [
    _numbers(path, columns[name], lines, name, int) for name in (prompt, output)
  ]
  lines = np.asarray(lines)
  if sort:
    order = np.argsort(arrival, kind="stable")
    arrival, lines = arrival[order], lines[order]
    counts = [count[order] for count in counts]
  names = {"arrival": time, "prompt": prompt, "output": output}
  read = _Columns(arrival, *counts)
  _check(read, names, lambda row: f"{path}, row {lines[row]}")
  first = arrival[0]
  if start is not None:
    start = start + np.timedelta64(int(first), "ns")
    seconds = (arrival - first) / 1e9
  else:
    seconds = arrival - first
  return Trace(seconds, *counts, start)


def save(trace: Trace, path: _Path) -> None:
  """Writes a trace as CSV: Azure's format if it has a start, else splitwise's.

  Times keep 100 ns in Azure's format, and every bit in the other.
  """
  path = pathlib.Path(path)
  path.parent.mkdir(parents=True, exist_ok=True)
  with path.open("w", encoding="utf-8", newline="") as file:
    if trace.start is None:
      file.write(_SIMULATOR_HEADER + "\n")
      for i, row in enumerate(_triples(trace)):
        file.write(f"{i},2,0,{row[0]!r},1,{row[1]},{row[2]}\n")
      return
    file.write(",".join(_COLUMNS["azure"]) + "\n")
    ticks = np.rint(trace.arrival_s * 1e7).astype(np.int64) * 100
    stamps = trace.start.astype("datetime64[ns]") + ticks
    for stamp, row in zip(stamps, _triples(trace), strict=True):
      text = str(stamp).replace("T", " ")[:-2]
      file.write(f"{text},{row[1]},{row[2]}\n")


def check_positive(name: str, value: float | int) -> None:
  """Raises ValueError unless the value is finite and positive."""
  if not (np.isfinite(value) and value > 0):
    raise ValueError(f"{name} must be positive, not {value}")


@dataclasses.dataclass(frozen=True)
class _Columns:
  arrival_s: Any
  prompt_tokens: Any
  output_tokens: Any


def _triples(trace: Trace) -> zip:
  return zip(
    trace.arrival_s.tolist(),
    trace.prompt_tokens.tolist(),
    trace.output_tokens.tolist(),
    strict=True,
  )


def _table(path: pathlib.Path) -> tuple[list[str], list[list[str]], list[int]]:
  """The header, the rows that are not blank, and the line of each row."""
  if not path.is_file():
    raise ValueError(f"{path}: no such file")
  try:
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "rb") as file:
      text = file.read().decode("utf-8-sig")
  except (OSError, EOFError, UnicodeDecodeError) as error:
    raise ValueError(f"{path}: cannot be read: {error}") from error
  reader = csv.reader(io.StringIO(text))
  header = [name.strip() for name in next(reader, [])]
  rows, lines = [], []
  for row in reader:
    if row:
      rows.append(row)
      lines.append(reader.line_num)
  if not rows:
    raise ValueError(f"{path}: no requests")
  return header, rows, lines


def _format(path: pathlib.Path, header: list[str]) -> tuple[str, Sequence[str]]:
  known = {name: set(names) for name, names in _COLUMNS.items()}
  kind = max(known, key=lambda name: len(known[name] & set(header)))
  missing = [name for name in _COLUMNS[kind] if name not in header]
  if len(missing) == 3:
    formats = "; ".join(",".join(names) for names in _COLUMNS.values())
    raise ValueError(
      f"{path}: header {','.join(header)[:80]!r} is of no known trace; "
      f"expected the columns of one of: {formats}"
    )
  if missing:
    raise ValueError(f"{path}, row 1: no column {', '.join(missing)}")
  return kind, _COLUMNS[kind]


def _column(
  path: pathlib.Path,
  rows: list[list[str]],
  lines: list[int],
  index: int,
  name: str,
) -> list[str]:
  try:
    return [row[index].strip() for row in rows]
  except IndexError:
    bad = next(i for i, row in enumerate(rows) if len(row) <= index)
    raise ValueError(
      f"{path}, row {lines[bad]}, column {name}: missing; the row has "
      f"{len(rows[bad])} columns"
    ) from None


def _numbers(
  path: pathlib.Path, column: list[str], lines: list[int], name: str, kind: type
) -> np.ndarray:
  dtype = np.int64 if kind is int else np.float64
  try:
    return np.array([kind(text) for text in column], dtype)
  except (ValueError, OverflowError):
    pass
  for line, text in zip(lines, column, strict=True):
    try:
      dtype(kind(text))
    except (ValueError, OverflowError):
      word = "a whole number" if kind is int else "a number of seconds"
      raise ValueError(
        f"{path}, row {line}, column {name}: {text!r} is not {word}"
      ) from None
  raise AssertionError("a column that failed as a whole has a bad row")


def _stamps(
  path: pathlib.Path, column: list[str], lines: list[int], name: str
) -> tuple[Int64[np.ndarray, " n"], np.datetime64]:
  """Nanoseconds since the first row's stamp, and that stamp."""
  zoned = None
  bare = []
  for line, text in zip(lines, column, strict=True):
    match = _STAMP.fullmatch(text)
    where = f"{path}, row {line}, column {name}: {text!r}"
    if match is None:
      raise ValueError(f"{where} is not a time (YYYY-MM-DD HH:MM:SS.fffffff)")
    zone = match["zone"]
    if zone and zone not in _UTC:
      raise ValueError(f"{where} is in another time zone; expected UTC")
    if zoned not in (None, bool(zone)):
      raise ValueError(
        f"{where} {'has' if zone else 'lacks'} a time zone, unlike the rows "
        "before it"
      )
    zoned = bool(zone)
    bare.append(text[: match.start("zone")] if zone else text)
  try:
    stamps = np.array(bare, "datetime64[ns]")
  except ValueError:
    for line, text in zip(lines, bare, strict=True):
      try:
        np.datetime64(text, "ns")
      except ValueError as error:
        raise ValueError(
          f"{path}, row {line}, column {name}: {text!r} is not a time: {error}"
        ) from None
    raise
  return (stamps - stamps[0]).astype(np.int64), stamps[0]


def _check(columns: Any, names: dict[str, str], where: Any) -> None:
  """Refuses the first bad row, naming its place by `where(row)`."""
  arrival = np.asarray(columns.arrival_s)
  name = names["arrival"]
  _refuse(~np.isfinite(arrival), arrival, name, "is not finite", where)
  if arrival.dtype != np.int64:  # Time stamps count from the first row.
    _refuse(arrival < 0, arrival, name, "is negative", where)
  falls = np.diff(arrival, prepend=arrival[:1]) < 0
  _refuse(
    falls, arrival, name, "is before the row above; pass sort=True", where
  )
  for field in ("prompt", "output"):
    counts = getattr(columns, f"{field}_tokens")
    _refuse(counts < 1, counts, names[field], "is below 1 token", where)


def _refuse(
  bad: np.ndarray, values: np.ndarray, name: str, why: str, where: Any
) -> None:
  if bad.any():
    row = int(np.argmax(bad))
    raise ValueError(f"{where(row)}, column {name}: {values[row]} {why}")
