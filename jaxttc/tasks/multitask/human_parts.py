# SPDX-License-Identifier: Apache-2.0
"""PASCAL-Part's annotations of people (Chen et al., 2014) as six parts.

A .mat file holds a struct `anno` with `imname` and `objects`; an object has
`class`, `class_ind`, `mask` and `parts`, and a part `part_name` and `mask`.
"""

from collections.abc import Mapping, Sequence
import pathlib
from typing import Any

from jaxtyping import Bool, Int32
import numpy as np

from jaxttc.tasks.multitask import mat_files

PARTS = (
  "background",
  "head",
  "torso",
  "upper arms",
  "lower arms",
  "upper legs",
  "lower legs",
)
_NAMES = {
  "head": "hair head lear rear lebrow rebrow leye reye mouth nose",
  "torso": "neck torso",
  "upper arms": "luarm ruarm",
  "lower arms": "llarm rlarm lhand rhand",
  "upper legs": "luleg ruleg",
  "lower legs": "llleg rlleg lfoot rfoot",
}
# The part, in [1, 6], of each name that annotations of people have.
PART_OF = {
  name: PARTS.index(part)
  for part, names in _NAMES.items()
  for name in names.split()
}
_PERSON = 15


def read(path: pathlib.Path) -> Int32[np.ndarray, "height width"] | None:
  """The part at each pixel, 0 where there is none.

  Returns:
    Parts in [0, 6]; where parts overlap, the last one. None if the file tells
    no part of any person: then it does not say either that there is none.

  Raises:
    ValueError: naming the file, and the object where there is one, if it is
      missing or damaged, lacks a field, names an unknown part, or holds masks
      of different sizes.
  """
  (anno,) = _structs_in(path, mat_files.read(path, "anno"), 1)
  parts = None
  things = _structs_in(path, _get(path, anno, "objects"))
  for number, thing in enumerate(things, start=1):
    where = f"{path}, object {number}"
    if _number(where, _get(where, thing, "class_ind")) != _PERSON:
      continue
    for part in _structs_in(where, _get(where, thing, "parts")):
      name, mask = (_get(where, part, field) for field in ("part_name", "mask"))
      if not isinstance(name, str):
        raise ValueError(f"{where}: part_name is no text")
      if name not in PART_OF:
        raise ValueError(
          f"{where}: part {name!r:.40}; expected one of {', '.join(PART_OF)}"
        )
      if not isinstance(mask, np.ndarray) or mask.ndim != 2:
        raise ValueError(f"{where}: {name} has no mask with two axes")
      if parts is None:
        parts = np.zeros(mask.shape, np.int32)
      if mask.shape != parts.shape:
        raise ValueError(
          f"{where}: a mask {list(mask.shape)} of {name}; expected "
          f"{list(parts.shape)}, as others have"
        )
      parts[mask != 0] = PART_OF[name]
  return parts


def write(
  path: pathlib.Path,
  people: Sequence[Mapping[str, Bool[np.ndarray, "height width"]]],
) -> None:
  """Writes an annotation: what `read` reads.

  Args:
    path: the .mat file.
    people: of each person, masks by part name, of `PART_OF`.

  Raises:
    ValueError: if a part has another name.
  """
  for person in people:
    for name in person:
      if name not in PART_OF:
        raise ValueError(
          f"{path}: part {name!r}; expected one of {', '.join(PART_OF)}"
        )
  things = [
    {
      "class": "person",
      "class_ind": np.uint8(_PERSON),
      "mask": np.any(list(person.values()), axis=0).astype(np.uint8),
      "parts": _structs(
        [
          {"part_name": name, "mask": mask.astype(np.uint8)}
          for name, mask in person.items()
        ]
      ),
    }
    for person in people
    if person
  ]
  content = {"imname": path.stem, "objects": _structs(things)}
  mat_files.write(path, "anno", content)


def _structs(items: Sequence[Mapping[str, Any]]) -> np.ndarray:
  """An array of structs, as MATLAB keeps them: [1, number], or [0, 0]."""
  if not items:
    return np.zeros((0, 0))
  structs = np.zeros((1, len(items)), [(name, "O") for name in items[0]])
  for at, item in enumerate(items):
    structs[0, at] = tuple(item.values())
  return structs


def _structs_in(
  where: Any, value: Any, count: int | None = None
) -> list[dict[str, Any]]:
  """The structs in a field; an empty array holds none."""
  if isinstance(value, np.ndarray) and not value.size:
    value = []
  if not isinstance(value, list) or count not in (None, len(value)):
    raise ValueError(
      f"{where}: {type(value).__name__} where {count or 'an array of'} structs "
      "were expected"
    )
  return value


def _get(where: Any, struct: dict[str, Any], field: str) -> Any:
  if field not in struct:
    raise ValueError(
      f"{where}: no field {field!r}; fields found: {', '.join(struct)}"
    )
  return struct[field]


def _number(where: str, value: Any) -> float:
  if not isinstance(value, np.ndarray) or value.size != 1:
    raise ValueError(f"{where}: class_ind is not one number")
  return float(value.item())
