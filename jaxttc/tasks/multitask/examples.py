# SPDX-License-Identifier: Apache-2.0
"""Single examples into batches, on the host."""

from collections.abc import Sequence
import os
import pathlib
from typing import Protocol, runtime_checkable

import numpy as np

from jaxttc.tasks.multitask import base


@runtime_checkable
class Source(Protocol):
  """Examples without a batch axis, by number: what grain feeds on."""

  def __len__(self) -> int: ...

  def __getitem__(self, index: int) -> base.Examples: ...


def stack(items: Sequence[base.Examples]) -> base.Examples:
  """One batch of examples that have the same shapes and tasks.

  Raises:
    ValueError: if there are none, or shapes or tasks differ.
  """
  if not items:
    raise ValueError("no examples to make a batch of")
  for at, item in enumerate(items):
    if item.labels.keys() != items[0].labels.keys():
      raise ValueError(
        f"example {at} has labels {sorted(item.labels)}; expected "
        f"{sorted(items[0].labels)}, as example 0 has"
      )
    if item.inputs.shape != items[0].inputs.shape:
      raise ValueError(
        f"example {at} has inputs {list(item.inputs.shape)}; expected "
        f"{list(items[0].inputs.shape)}, as example 0 has"
      )
  return base.Examples(
    np.stack([item.inputs for item in items]),
    {
      name: base.Label(
        np.stack([item.labels[name].value for item in items]),
        np.stack([item.labels[name].valid for item in items]),
      )
      for name in items[0].labels
    },
  )


def first(source: Source, count: int, path: pathlib.Path) -> base.Examples:
  """The first examples of a source, which was read from `path`.

  Raises:
    ValueError: if there are fewer, or none are asked for.
  """
  if not 1 <= count <= len(source):
    raise ValueError(
      f"{path}: {count} held-out examples; expected 1 to {len(source)}"
    )
  return stack([source[index] for index in range(count)])


def check_split(split: str, splits: Sequence[str]) -> None:
  """Raises ValueError for a split that a layout does not have."""
  if split not in splits:
    raise ValueError(f"split {split!r}; expected one of {', '.join(splits)}")


def read_ids(path: pathlib.Path) -> tuple[str, ...]:
  """The names in a list of images: one a line, of files without suffix.

  Raises:
    ValueError: naming the file and the line, if it cannot be read, holds no
      names, or a name is there twice or leads to another folder.
  """
  try:
    lines = path.read_text(encoding="utf-8").splitlines()
  except (OSError, UnicodeDecodeError) as error:
    raise ValueError(f"{path}: cannot be read: {error}") from None
  ids: dict[str, int] = {}
  for number, line in enumerate(lines, start=1):
    name = line.strip()
    if not name:
      continue
    if os.path.basename(name) != name or not name.isprintable():
      raise ValueError(
        f"{path}, line {number}: {name!r:.60} is no name of a file"
      )
    if name in ids:
      raise ValueError(
        f"{path}, line {number}: {name!r} is on line {ids[name]}, too"
      )
    ids[name] = number
  if not ids:
    raise ValueError(f"{path}: no names of images")
  return tuple(ids)


def write_ids(path: pathlib.Path, ids: Sequence[str]) -> None:
  """Writes a list of names, one a line."""
  path.parent.mkdir(parents=True, exist_ok=True)
  path.write_text("".join(f"{name}\n" for name in ids), encoding="utf-8")


def names(ids: Sequence[str] | None, count: int) -> tuple[str, ...]:
  """Names of `count` files; numbers if None are given.

  Raises:
    ValueError: if there are more or fewer, or two are the same.
  """
  if ids is None:
    return tuple(f"{index:05d}" for index in range(count))
  if len(ids) != count or len(set(ids)) != count:
    raise ValueError(
      f"{len(ids)} names, {len(set(ids))} of them distinct, for {count} images"
    )
  return tuple(ids)
