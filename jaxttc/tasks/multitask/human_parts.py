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

from jaxttc.tasks.multitask import array_files

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
    ValueError: naming the file, and object and part where there are, if it is
      missing or damaged, lacks a field, names an unknown part, or holds masks
      of different sizes.
  """
  anno = array_files.read_mat(path, "anno")
  parts = None
  for number, thing in _records(path, _first(path, anno), "objects"):
    if int(_field(path, thing, "class_ind", np.number).ravel()[0]) != _PERSON:
      continue
    for _, part in _records(path, thing, "parts"):
      name = str(_field(path, part, "part_name", np.str_).ravel()[0])
      mask = _field(path, part, "mask", np.number)
      if name not in PART_OF:
        raise ValueError(
          f"{path}, object {number}: part {name!r:.40}; expected one of "
          f"{', '.join(PART_OF)}"
        )
      if parts is None:
        parts = np.zeros(mask.shape, np.int32)
      if mask.ndim != 2 or mask.shape != parts.shape:
        raise ValueError(
          f"{path}, object {number}: a mask {list(mask.shape)} of {name}; "
          f"expected {list(parts.shape)}, as others have"
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
  array_files.write_mat(path, "anno", content)


def _structs(items: Sequence[Mapping[str, Any]]) -> np.ndarray:
  """An array of structs, as MATLAB keeps them: [1, number], or [0, 0]."""
  if not items:
    return np.zeros((0, 0))
  structs = np.zeros((1, len(items)), [(name, "O") for name in items[0]])
  for at, item in enumerate(items):
    structs[0, at] = tuple(item.values())
  return structs


def _first(path: pathlib.Path, structs: Any) -> Any:
  if not isinstance(structs, np.ndarray) or structs.dtype.names is None:
    raise ValueError(f"{path}: anno is no struct")
  if structs.size != 1:
    raise ValueError(f"{path}: anno holds {structs.size} structs; expected 1")
  return structs.ravel()[0]


def _records(
  path: pathlib.Path, struct: Any, name: str
) -> Sequence[tuple[int, Any]]:
  """The structs in a field, numbered from 1; an empty array holds none."""
  value = _field(path, struct, name, None)
  if value.size and value.dtype.names is None:
    raise ValueError(f"{path}: field {name!r} holds no structs")
  return list(enumerate(value.ravel(), start=1)) if value.size else []


def _field(path: pathlib.Path, struct: Any, name: str, kind: Any) -> np.ndarray:
  """A field's array, not empty and of a kind of numbers or text if given."""
  if name not in struct.dtype.names:
    raise ValueError(
      f"{path}: no field {name!r}; fields found: "
      f"{', '.join(struct.dtype.names)}"
    )
  value = struct[name]
  if not isinstance(value, np.ndarray) or (
    kind and not (value.size and np.issubdtype(value.dtype, kind))
  ):
    raise ValueError(f"{path}: field {name!r} does not hold what it should")
  return value
