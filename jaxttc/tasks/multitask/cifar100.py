# SPDX-License-Identifier: Apache-2.0
"""CIFAR-100's python release as 20 tasks of 5 classes (CIFAR100-MTL).

Each of the 20 superclasses is a task, and tells apart its five classes by
their rank among them. An image is labelled for the task of its own superclass
only, so 2,500 training and 500 test images supervise each task.

The layout (Krizhevsky, 2009) is a folder `cifar-100-python` with `train`,
`test` and `meta`, pickled dicts with keys of bytes: `data` u8[N, 3072] in
planes of red, green and blue, `fine_labels` and `coarse_labels`; `meta` names
the classes.
"""

from collections.abc import Mapping, Sequence
import dataclasses
import functools
import pathlib
import pickle
from typing import Any

from jaxtyping import Integer, UInt8
import numpy as np

from jaxttc.tasks.multitask import base, restricted_pickle
from jaxttc.tasks.multitask import examples as examples_lib

FOLDER = "cifar-100-python"
SPLITS = ("train", "test")
SUPERCLASSES = (
  "aquatic_mammals",
  "fish",
  "flowers",
  "food_containers",
  "fruit_and_vegetables",
  "household_electrical_devices",
  "household_furniture",
  "insects",
  "large_carnivores",
  "large_man-made_outdoor_things",
  "large_natural_outdoor_scenes",
  "large_omnivores_and_herbivores",
  "medium_mammals",
  "non-insect_invertebrates",
  "people",
  "reptiles",
  "small_mammals",
  "trees",
  "vehicles_1",
  "vehicles_2",
)
CLASSES_EACH = 5
# The superclass of each of the 100 classes.
# fmt: off
SUPERCLASS_OF = (
  4, 1, 14, 8, 0, 6, 7, 7, 18, 3, 3, 14, 9, 18, 7, 11, 3, 9, 7, 11,
  6, 11, 5, 10, 7, 6, 13, 15, 3, 15, 0, 11, 1, 10, 12, 14, 16, 9, 11, 5,
  5, 19, 8, 8, 15, 13, 14, 17, 18, 10, 16, 4, 17, 4, 2, 0, 17, 4, 18, 17,
  10, 3, 2, 12, 12, 16, 12, 1, 9, 19, 2, 10, 0, 1, 16, 12, 9, 13, 15, 13,
  16, 19, 2, 4, 6, 19, 5, 5, 8, 19, 18, 1, 2, 15, 6, 0, 17, 8, 14, 13,
)
# fmt: on
# The place of each class among the classes of its superclass.
RANK_OF = tuple(
  SUPERCLASS_OF[:fine].count(coarse)
  for fine, coarse in enumerate(SUPERCLASS_OF)
)
TASKS = tuple(base.Task(name, "classes", CLASSES_EACH) for name in SUPERCLASSES)
_SHAPE = (32, 32, 3)


@dataclasses.dataclass(frozen=True, eq=False)
class Cifar100:
  """One split of CIFAR100-MTL, in memory.

  Attributes:
    images: u8[N, 32, 32, 3].
    fine: i32[N], classes in [0, 100).
    test: where `held_out` reads.
  """

  images: UInt8[np.ndarray, "images 32 32 3"]
  fine: Integer[np.ndarray, " images"]
  test: pathlib.Path

  @property
  def tasks(self) -> tuple[base.Task, ...]:
    """The 20 superclasses."""
    return TASKS

  @property
  def input_shape(self) -> tuple[int, ...]:
    """(32, 32, 3): height, width, red and green and blue."""
    return _SHAPE

  def __len__(self) -> int:
    return len(self.images)

  def __getitem__(self, index: int) -> base.Examples:
    return base.Examples(
      self.images[index].astype(np.float32) / 255,
      dict(_labels(int(self.fine[index]))),
    )

  def held_out(self, count: int) -> base.Examples:
    """The first images of the test split.

    Raises:
      ValueError: if there are fewer than `count`, or `load` would raise.
    """
    return examples_lib.first(
      load(self.test.parent, self.test.name), count, self.test
    )


def load(directory: str | pathlib.Path, split: str = "train") -> Cifar100:
  """Reads a split; images are f32 in [0, 1].

  Args:
    directory: the folder `cifar-100-python`, or the one that it is in.
    split: "train" or "test".

  Raises:
    ValueError: naming the file, and the image or byte where there is one, if
      a file is missing or damaged, names code to run, or its images, labels
      or superclasses are not CIFAR-100's.
  """
  examples_lib.check_split(split, SPLITS)
  root = _root(directory)
  _check_meta(root / "meta")
  path = root / split
  fields = restricted_pickle.load(path)
  data = _field(path, fields, b"data")
  if not (
    isinstance(data, np.ndarray)
    and data.dtype == np.uint8
    and data.shape[1:] == (3072,)
    and len(data)
  ):
    found = (
      f"{data.dtype}{list(data.shape)}"
      if isinstance(data, np.ndarray)
      else type(data).__name__
    )
    raise ValueError(
      f"{path}: data is {found}; expected bytes uint8[images, 3072]"
    )
  fine = _ids(path, fields, "fine", len(data), len(SUPERCLASS_OF))
  coarse = _ids(path, fields, "coarse", len(data), len(SUPERCLASSES))
  expected = np.array(SUPERCLASS_OF, np.int32)[fine]
  for at in np.flatnonzero(coarse != expected)[:1]:
    raise ValueError(
      f"{path}, image {at}: class {fine[at]} with superclass {coarse[at]}; "
      f"expected superclass {expected[at]}"
    )
  planes = data.reshape(-1, 3, 32, 32)
  images = np.ascontiguousarray(planes.transpose(0, 2, 3, 1))
  return Cifar100(images, fine, root / "test")


def save(
  directory: str | pathlib.Path,
  images: UInt8[np.ndarray, "images 32 32 3"],
  fine: Sequence[int] | Integer[np.ndarray, " images"],
  split: str = "train",
) -> None:
  """Writes a split, and `meta`, into `directory/cifar-100-python`.

  Args:
    directory: where the folder is, or is to be made.
    images: colours.
    fine: class of each image, in [0, 100).
    split: "train" or "test".

  Raises:
    ValueError: if the numbers of images and classes differ, or a class or the
      split is unknown.
  """
  examples_lib.check_split(split, SPLITS)
  root = pathlib.Path(directory) / FOLDER
  fine = [int(one) for one in fine]
  if len(fine) != len(images):
    raise ValueError(f"{len(images)} images with {len(fine)} classes")
  for one in fine:
    if not 0 <= one < len(SUPERCLASS_OF):
      raise ValueError(f"class {one} is not in [0, {len(SUPERCLASS_OF)})")
  root.mkdir(parents=True, exist_ok=True)
  fields = {
    b"filenames": [b"%06d.png" % index for index in range(len(fine))],
    b"batch_label": split.encode(),
    b"fine_labels": fine,
    b"coarse_labels": [SUPERCLASS_OF[one] for one in fine],
    b"data": images.transpose(0, 3, 1, 2).reshape(len(fine), -1),
  }
  names = {b"coarse_label_names": [name.encode() for name in SUPERCLASSES]}
  for name, content in ((split, fields), ("meta", names)):
    (root / name).write_bytes(pickle.dumps(content, protocol=4))


def _root(directory: str | pathlib.Path) -> pathlib.Path:
  root = pathlib.Path(directory)
  return root / FOLDER if (root / FOLDER).is_dir() else root


def _check_meta(path: pathlib.Path) -> None:
  names = _field(path, restricted_pickle.load(path), b"coarse_label_names")
  if names != [name.encode() for name in SUPERCLASSES]:
    raise ValueError(
      f"{path}: coarse_label_names are not CIFAR-100's 20 superclasses, in "
      "alphabetical order"
    )


def _field(path: pathlib.Path, fields: Mapping[Any, Any], name: bytes) -> Any:
  if name not in fields:
    raise ValueError(
      f"{path}: no field {name.decode()!r}; fields found: "
      f"{', '.join(sorted(map(str, fields))) or 'none'}"
    )
  return fields[name]


def _ids(
  path: pathlib.Path,
  fields: Mapping[Any, Any],
  level: str,
  count: int,
  top: int,
) -> Integer[np.ndarray, " images"]:
  """The classes of all images, one level of them."""
  ids = _field(path, fields, f"{level}_labels".encode())
  if not isinstance(ids, list) or len(ids) != count:
    found = len(ids) if isinstance(ids, list) else type(ids).__name__
    raise ValueError(
      f"{path}: {level}_labels: {found}; expected a list of {count}, one for "
      "each image"
    )
  for at, one in enumerate(ids):
    if type(one) is not int or not 0 <= one < top:
      # Only numbers are shown: a list may be endless to write out.
      found = f"{one}"[:40] if type(one) is int else type(one).__name__
      raise ValueError(
        f"{path}, image {at}: {level} label {found}; expected a whole number "
        f"in [0, {top})"
      )
  return np.array(ids, np.int32)


@functools.cache
def _labels(fine: int) -> dict[str, base.Label]:
  """What an image of this class says: something about one task."""
  return {
    task.name: base.Label(
      np.int32(RANK_OF[fine] if coarse == SUPERCLASS_OF[fine] else 0),
      np.bool_(coarse == SUPERCLASS_OF[fine]),
    )
    for coarse, task in enumerate(TASKS)
  }
