# SPDX-License-Identifier: Apache-2.0
"""Files of answers: a header, then one JSON line a problem, resumable.

A line is on disk, whole, before the next is begun with. A torn last line is
cut off; a file that another header began is refused.
"""

from collections.abc import Callable, Mapping, Sequence
import json
import os
import pathlib
from typing import Any


def kept(
  path: pathlib.Path,
  header: Mapping[str, Any],
  problems: Sequence[str],
  *,
  in_order: bool,
  retried: Callable[[Mapping[str, Any]], bool] = lambda row: False,
  provisional: Callable[[Mapping[str, Any]], bool] = lambda row: False,
) -> tuple[list[dict[str, Any]], int]:
  """Rows of an earlier run, and the bytes of all its whole lines.

  Args:
    path: the file; it need not be there.
    header: what the first line must say.
    problems: ids of the problems.
    in_order: whether rows must come in the order of the problems.
    retried: rows that are left out, their problems being open again.
    provisional: rows that a later row of the same problem replaces; the last
      one counts if there is no other.

  Raises:
    ValueError: naming the line, if the file cannot be read, is damaged before
      its last line, is of another header, or has rows of no open problem.
  """
  try:
    content = path.read_bytes() if path.exists() else b""
  except OSError as error:
    raise ValueError(f"{path}: cannot be read: {error}") from None
  offset = content.rfind(b"\n") + 1
  lines = content[:offset].splitlines()
  if not lines:
    return [], 0
  found = [_parsed(path, i, line) for i, line in enumerate(lines, start=1)]
  if found[0] != header:
    differing = [k for k in header if found[0].get(k) != header[k]]
    raise ValueError(
      f"{path}, line 1: written by another {' and '.join(differing)}; give "
      "another file, or remove this one"
    )
  final = [
    row for row in found[1:] if not retried(row) and not provisional(row)
  ]
  named = {row.get("id") for row in final}
  last = {row.get("id"): row for row in found[1:] if provisional(row)}
  rows = final + [row for name, row in last.items() if name not in named]
  if len(rows) > len(problems):
    raise ValueError(f"{path}: more rows than the {len(problems)} problems")
  ids = list(problems)
  for number, row in enumerate(found[1:], start=2):
    expected = {ids[0]} if in_order else set(ids)
    if row.get("id") not in expected:
      raise ValueError(
        f"{path}, line {number}: id {row.get('id')!r}, expected "
        + (repr(ids[0]) if in_order else "that of a problem not yet solved")
      )
    if not retried(row) and not provisional(row):
      ids.remove(row["id"])
  return rows, offset


def _parsed(path: pathlib.Path, number: int, line: bytes) -> dict[str, Any]:
  try:
    row = json.loads(line)
  except ValueError as error:
    raise ValueError(f"{path}, line {number}: not JSON: {error}") from None
  if not isinstance(row, dict):
    raise ValueError(f"{path}, line {number}: expected a JSON object")
  return row


class Lines:
  """Appends JSON lines; each is on disk, whole, when `append` returns.

  Use it as a context. What lies beyond `offset` bytes of the file is cut off.
  """

  def __init__(self, path: pathlib.Path, offset: int):
    self._path, self._end = path, offset

  def __enter__(self) -> "Lines":
    """Opens the file, making its folder if need be.

    Raises:
      ValueError: if it cannot be written.
    """
    try:
      self._path.parent.mkdir(parents=True, exist_ok=True)
      self._file = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o644)
      os.ftruncate(self._file, self._end)
      os.lseek(self._file, self._end, os.SEEK_SET)
    except OSError as error:
      raise self._error(error) from None
    return self

  def __exit__(self, *exception: object) -> None:
    """Closes the file."""
    os.close(self._file)

  def append(self, row: Mapping[str, Any]) -> None:
    """Writes one line; on failure the file ends with the line before.

    Raises:
      ValueError: if it cannot be written.
    """
    data = (json.dumps(row) + "\n").encode()
    try:
      written = 0
      while written < len(data):
        written += os.write(self._file, data[written:])
      os.fsync(self._file)
    except OSError as error:
      os.ftruncate(self._file, self._end)
      raise self._error(error) from None
    self._end += len(data)

  def _error(self, error: OSError) -> ValueError:
    return ValueError(
      f"{self._path}: cannot be written: {error.strerror}; what is there is "
      "kept, and the same command goes on from it"
    )
