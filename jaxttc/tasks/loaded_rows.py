# SPDX-License-Identifier: Apache-2.0
"""What was read of a file's rows, stage by stage, and what was left out."""

from collections.abc import Callable, Iterable, Sequence
import os
from typing import NamedTuple, TypeVar

T = TypeVar("T")
U = TypeVar("U")


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
    path: str | os.PathLike[str],
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
    return keep(self.path, rows, read, skip, self.refused)


def keep(
  path: str | os.PathLike[str],
  rows: Iterable[tuple[Place, T]],
  read: Callable[[T], U],
  skip: bool,
  refused: Sequence[tuple[Place, str]] = (),
) -> Loaded[U]:
  """What a stage makes of rows.

  Args:
    path: of the file or folder, for errors.
    rows: where each is, and what the stage before made of it.
    read: as in `Loaded.then`.
    skip: likewise.
    refused: by stages before.

  Raises:
    ValueError: as `Loaded.then`.
  """
  found, places, left_out = [], [], list(refused)
  for place, row in rows:
    try:
      found.append(read(row))
      places.append(place)
    except ValueError as error:
      if not skip:
        raise ValueError(f"{place.name}: {error}") from error
      left_out.append((place, str(error)))
  made = Loaded(path, found, places, left_out)
  if not made:
    raise ValueError(
      f"{path}: no row of {made.skipped} can be used; {made.first_skipped}"
    )
  return made
