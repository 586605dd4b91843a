# SPDX-License-Identifier: Apache-2.0
"""Files of rows, JSON lines or Parquet, read and checked a row at a time.

JSON lines are UTF-8, one object a line, unpacked on the way if the name ends in
".gz"; a name in ".parquet" is read with pyarrow. `load` puts every row through
a reader, and refuses the file at the first row that the reader refuses, in one
line that names file, line and field; told to skip, it counts such rows instead.
What further stages refuse (`Loaded.then`) is told, or counted, likewise.
What keeps the rest of a file from being read (missing, cut short, damaged) is
never skipped. `load_folder` does the same for folders with a file a row.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
import difflib
import gzip
import json
import math
import os
import pathlib
import re
from typing import Any, NamedTuple, TypeVar

Path = str | os.PathLike[str]
Row = Mapping[str, Any]
T = TypeVar("T")
U = TypeVar("U")

_ROWS_AT_ONCE = 1024  # of Parquet, as Python objects


class Place(NamedTuple):
  """Where a row is.

  Attributes:
    order: of the rows, from 0.
    name: its file and line, or row, for errors.
  """

  order: int
  name: str


class Loaded(list[T]):
  """What was read, in file order, and what was not.

  Attributes:
    path: of the file or folder, for errors.
    places: of each of what was read.
    refused: (place, why) of each row that was left out, by stage.
  """

  def __init__(
    self,
    path: Path,
    found: Iterable[T],
    places: Sequence[Place],
    refused: Sequence[tuple[Place, str]] = (),
  ):
    super().__init__(found)
    self.path = path
    self.places = tuple(places)
    self.refused = tuple(refused)

  @property
  def skipped(self) -> int:
    """How many rows were left out."""
    return len(self.refused)

  @property
  def first_skipped(self) -> str | None:
    """Where the first of them is, and why it was; None if there are none."""
    if not self.refused:
      return None
    place, why = min(self.refused)
    return f"{place.name}: {why}"

  def then(self, read: Callable[[T], U], *, skip: bool = False) -> "Loaded[U]":
    """Puts what was read through a further stage.

    Args:
      read: what to make of each; raises ValueError, without naming file or
        line, for what cannot be used after all.
      skip: whether to leave it out, and count it.

    Raises:
      ValueError: without `skip`, for the first that cannot be used; with it, if
        none can.
    """
    rows = zip(self.places, self, strict=True)
    return _kept(self.path, rows, read, skip, self.refused)


def load(
  path: Path, read: Callable[[int, Row], T], *, skip: bool = False
) -> Loaded[T]:
  """Reads every row of a file.

  Args:
    path: a file of JSON lines, ".gz" or plain, or of Parquet.
    read: (number of the row, row) -> what it says; raises ValueError, without
      naming file or line, for a row that cannot be used.
    skip: whether to leave such rows out, and count them.

  Raises:
    ValueError: for a file that is missing, damaged or empty; without `skip`,
      for the first row that cannot be used; with it, if none can.
  """
  rows = (
    (Place(order, where(path, number)), (number, row))
    for order, (number, row) in enumerate(_each(path))
  )
  return _kept(path, rows, _unless_damaged(read), skip)


def load_folder(
  path: Path, read: Callable[[str, Row], T], *, skip: bool = False
) -> Loaded[T]:
  """Reads the ".json" files of a folder, and of the folders in it: a row each.

  Folders come by name, files after them likewise, numbers in names by value;
  hidden files and other suffixes are passed over.

  Args:
    path: the folder.
    read: (name of the file below the folder, as "algebra/7.json", row) -> what
      it says; raises ValueError, without naming the file, for a row that cannot
      be used.
    skip: whether to leave such files out, and count them.

  Raises:
    ValueError: for a folder that is missing or has no such file; without
      `skip`, for the first file that cannot be used; with it, if none can.
  """
  folder = pathlib.Path(path)
  if not folder.is_dir():
    raise ValueError(f"{path}: no such folder")
  files = [
    file
    for pattern in ("*.json", "*/*.json")
    for file in folder.glob(pattern)
    if not file.name.startswith(".")
  ]
  names = sorted(
    (f.relative_to(folder).as_posix() for f in files), key=_by_name
  )
  if not names:
    raise ValueError(
      f"{path}: no .json file in it or in its folders, expected one a row"
    )
  rows = (
    (Place(order, str(folder / name)), (name, _of_file(folder / name)))
    for order, name in enumerate(names)
  )
  return _kept(path, rows, _unless_damaged(read), skip)


def layout(
  path: Path,
  tell: Callable[[Row], T | None],
  expected: str,
  *,
  skip: bool = False,
) -> T:
  """What kind of rows a file has, as its first row tells.

  Args:
    path: the file.
    tell: a row -> its kind; None for a row that is of no known one.
    expected: in words, what rows should have.
    skip: whether to ask the rows after it, if it is of no kind.

  Raises:
    ValueError: naming file and line, if it is of no kind; with `skip`, if none
      of them is.
  """

  first = None
  for number, row in _each(path):
    why = row
    if not isinstance(row, ValueError):
      kind = tell(row)
      if kind is not None:
        return kind
      names = ", ".join(map(str, row)) or "none"
      why = f"{expected}; fields found: {names}"
    first = first or f"{where(path, number)}: {why}"
    if not skip:
      break
  raise ValueError(first)


def rows(path: Path) -> Iterator[tuple[int, Row]]:
  """Yields (number from 1, row); blank lines are counted and passed over.

  Raises:
    ValueError: naming the file and the line, if the file is missing, holds no
      rows, or a line is no JSON object in UTF-8.
  """
  for number, row in _each(path):
    if isinstance(row, ValueError):
      raise ValueError(f"{where(path, number)}: {row}") from row
    yield number, row


def where(path: Path, number: int) -> str:
  """How a row is named: by its line, or in Parquet by its row, from 1."""
  return f"{path}, {'row' if _is_parquet(path) else 'line'} {number}"


def stem(path: Path) -> str:
  """The file's name without folder and suffixes."""
  return pathlib.Path(path).name.split(".")[0]


def get(row: Row, field: str) -> Any:
  """The value of a field, any case of letters; None if it is absent."""
  if field in row:
    return row[field]
  folded = field.casefold()
  return next((v for k, v in row.items() if k.casefold() == folded), None)


def text(value: Any) -> str | None:
  """A JSON value as answer text; None if it holds none (27.0 is "27")."""
  if isinstance(value, bool) or value is None:
    return None
  if isinstance(value, float) and not math.isfinite(value):
    return None
  if isinstance(value, float) and value.is_integer():
    return str(int(value))
  if isinstance(value, str | int | float):
    return str(value).strip() or None
  return None


def required_text(row: Row, field: str, what: str) -> str:
  """The text of a field, without space around it.

  Raises:
    ValueError: if the field is absent, no string, or blank.
  """
  value = get(row, field)
  if not isinstance(value, str) or not value.strip():
    raise missing(row, what, field)
  return value.strip()


def missing(row: Row, what: str, field: str) -> ValueError:
  """The error for a field that does not hold what it should."""
  names = [str(name) for name in row]
  near = difflib.get_close_matches(field, names, n=1)
  hint = f" (did you mean {near[0]!r}?)" if near and near[0] != field else ""
  return ValueError(
    f"no {what} in field {field!r}{hint}; fields found: "
    f"{', '.join(names) or 'none'}"
  )


class Ids:
  """Refuses an id that an earlier row of the file has."""

  def __init__(self) -> None:
    self._numbers: dict[str, int] = {}

  def add(self, name: str, number: int) -> str:
    """Returns the name, now taken by the row of this number."""
    if name in self._numbers:
      raise ValueError(f"id {name!r} is that of line {self._numbers[name]}")
    self._numbers[name] = number
    return name


def _kept(path, rows, read, skip, refused=()) -> Loaded:
  """What `read` makes of each of (place, row); see `load`."""
  found, places, refused = [], [], list(refused)
  for place, row in rows:
    try:
      found.append(read(row))
      places.append(place)
    except ValueError as error:
      if not skip:
        raise ValueError(f"{place.name}: {error}") from error
      refused.append((place, str(error)))
  made = Loaded(path, found, places, refused)
  if not made:
    raise ValueError(
      f"{path}: no row of {made.skipped} can be used; {made.first_skipped}"
    )
  return made


def _unless_damaged(read):
  """(name, row) -> what `read` says, or what is wrong with the file there."""

  def checked(named):
    name, row = named
    if isinstance(row, ValueError):
      raise row
    return read(name, row)

  return checked


def _by_name(name: str) -> list[tuple[int, str]]:
  """A key by which "9" comes before "10"."""
  parts = re.split(r"(\d+)", name)
  return [(int(p), "") if p.isdecimal() else (-1, p) for p in parts]


def _of_file(path: pathlib.Path) -> Row | ValueError:
  try:
    return _parsed(path.read_bytes())
  except OSError as error:
    return ValueError(f"cannot be read: {error}")


def _is_parquet(path: Path) -> bool:
  return pathlib.Path(path).suffix == ".parquet"


def _each(path: Path) -> Iterator[tuple[int, Row | ValueError]]:
  """Rows by number; of a line that holds none, what is wrong with it."""
  path = pathlib.Path(path)
  if not path.is_file():
    raise ValueError(f"{path}: no such file")
  found = False
  for pair in _parquet(path) if _is_parquet(path) else _lines(path):
    found = True
    yield pair
  if not found:
    raise ValueError(f"{path}: no rows")


def _lines(path: pathlib.Path) -> Iterator[tuple[int, Row | ValueError]]:
  opener = gzip.open if path.suffix == ".gz" else open
  with opener(path, "rb") as file:
    try:
      for number, line in enumerate(file, start=1):
        if line.strip(b"\xef\xbb\xbf \t\r\n"):  # a byte order mark is no text
          yield number, _parsed(line)
    except (OSError, EOFError) as error:
      raise ValueError(f"{path}: cannot be read: {error}") from error


def _parsed(line: bytes) -> Row | ValueError:
  try:
    row = json.loads(line.decode("utf-8-sig"))
  except UnicodeDecodeError as error:
    return ValueError(f"not UTF-8 (byte {error.start})")
  except (ValueError, RecursionError) as error:
    return ValueError(f"not valid JSON: {error}")
  if not isinstance(row, dict):
    return ValueError(f"expected a JSON object, got {type(row).__name__}")
  return row


def _parquet(path: pathlib.Path) -> Iterator[tuple[int, Row]]:
  try:
    from pyarrow import lib, parquet
  except ImportError:
    raise ValueError(
      f"{path}: Parquet needs pyarrow: pip install 'jaxttc[tables]'"
    ) from None
  number = 0
  try:
    with parquet.ParquetFile(path) as file:
      for batch in file.iter_batches(_ROWS_AT_ONCE):
        for row in batch.to_pylist():
          number += 1
          yield number, row
  except (lib.ArrowException, OSError) as error:
    line = " ".join(str(error).split())
    raise ValueError(f"{path}: cannot be read: {line}") from error
