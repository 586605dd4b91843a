# SPDX-License-Identifier: Apache-2.0
"""Things that are looked up by name: hardware, rules, techniques."""

from collections.abc import Iterator
import difflib
from typing import Generic, Protocol, TypeVar, runtime_checkable


@runtime_checkable
class Named(Protocol):
  """What has a name."""

  @property
  def name(self) -> str:
    """Its name in the registry."""
    ...


T = TypeVar("T", bound=Named)


class Registry(Generic[T]):
  """Entries by name, in the order in which they came."""

  def __init__(self, kind: str):
    """Takes what an entry is, for messages."""
    self._kind = kind
    self._entries: dict[str, T] = {}

  def __iter__(self) -> Iterator[T]:
    return iter(self._entries.values())

  def add(self, entry: T, replace: bool = False) -> T:
    """Adds an entry and returns it.

    Raises:
      ValueError: for a name already taken, unless it is to be replaced.
    """
    if entry.name in self._entries and not replace:
      raise ValueError(
        f"{self._kind} {entry.name!r} is registered already; pass replace=True"
      )
    self._entries[entry.name] = entry
    return entry

  def names(self) -> list[str]:
    """All names."""
    return list(self._entries)

  def lookup(self, name: str) -> T:
    """The entry of that name.

    Raises:
      ValueError: if there is none; the nearest name is suggested.
    """
    if name in self._entries:
      return self._entries[name]
    near = difflib.get_close_matches(name, self._entries, n=1, cutoff=0.4)
    hint = (
      f"did you mean {near[0]!r}?"
      if near
      else f"expected one of {sorted(self._entries)}"
    )
    raise ValueError(f"unknown {self._kind} {name!r}; {hint}")
