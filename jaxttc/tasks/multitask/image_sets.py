# SPDX-License-Identifier: Apache-2.0
"""Data sets of image files with a label at every pixel, read when asked for."""

from collections.abc import Callable, Mapping, Sequence
import dataclasses
import pathlib
import warnings

import numpy as np

from jaxttc.tasks.multitask import base, dense_labels
from jaxttc.tasks.multitask import examples as examples_lib


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class ImageSet:
  """One split of a data set; what is read from a file is not kept.

  Attributes:
    tasks: what there are labels for.
    size: height and width that all examples have.
    pads: whether smaller images are centred in that size.
    images: the file of each image.
    read: image file -> its example, inputs f32[height, width, 3] in [0, 1].
    test: opens the split that `held_out` reads.
  """

  tasks: tuple[base.Task, ...]
  size: tuple[int, int]
  pads: bool
  images: tuple[pathlib.Path, ...]
  read: Callable[[pathlib.Path], base.Examples]
  test: Callable[[], "ImageSet"]

  @property
  def input_shape(self) -> tuple[int, ...]:
    """Height, width, and 3 for red, green and blue."""
    return (*self.size, 3)

  def __len__(self) -> int:
    return len(self.images)

  def __getitem__(self, index: int) -> base.Examples:
    path = self.images[index]
    example = self.read(path)
    found = example.inputs.shape[:2]
    if found == self.size:
      return example
    height, width = self.size
    if not self.pads:
      raise ValueError(
        f"{path}: {found[0]} x {found[1]} pixels; expected {height} x {width}"
        f", as {self.images[0]} has"
      )
    if found[0] > height or found[1] > width:
      raise ValueError(
        f"{path}: {found[0]} x {found[1]} pixels do not fit into {height} x "
        f"{width}; give a larger size"
      )
    return _padded(example, self.size)

  def held_out(self, count: int) -> base.Examples:
    """The first images of the test split, as one batch.

    Raises:
      ValueError: if there are fewer than `count`, or a file is not as its
        layout says.
    """
    test = self.test()
    return examples_lib.first(test, count, test.images[0].parent)


def _padded(example: base.Examples, size: tuple[int, int]) -> base.Examples:
  """The example in the middle of black; there, nothing is known."""
  around = []
  for total, had in zip(size, example.inputs.shape, strict=False):
    around.append(((total - had) // 2, total - had - (total - had) // 2))

  def pad(values: np.ndarray) -> np.ndarray:
    return np.pad(values, around + [(0, 0)] * (values.ndim - 2))

  return base.Examples(
    pad(example.inputs),
    {
      name: base.Label(pad(label.value), pad(label.valid))
      for name, label in example.labels.items()
    },
  )


def opened(
  *,
  tasks: tuple[base.Task, ...],
  size: tuple[int, int] | None,
  images: Sequence[pathlib.Path],
  read: Callable[[pathlib.Path], base.Examples],
  test: Callable[[], ImageSet],
) -> ImageSet:
  """A data set; without a size, all images must have that of the first.

  Raises:
    ValueError: if an image is missing, the size is not positive, or the first
      image is not as its layout says.
  """
  for path in images:
    if not path.is_file():
      raise ValueError(f"{path}: no such file, but the list of images names it")
  if size is not None and min(size) < 1:
    raise ValueError(
      f"size {size}: expected a height and a width of at least 1"
    )
  height, width = size or read(images[0]).inputs.shape[:2]
  return ImageSet(
    tasks=tasks,
    size=(height, width),
    pads=size is not None,
    images=tuple(images),
    read=read,
    test=test,
  )


def chosen(
  tasks: Sequence[base.Task], names: Sequence[str] | None
) -> tuple[base.Task, ...]:
  """The tasks of these names; all of them if None.

  Raises:
    ValueError: for a name that no task has, or none at all.
  """
  if names is None:
    return tuple(tasks)
  by_name = {task.name: task for task in tasks}
  unknown = [name for name in names if name not in by_name]
  if unknown or not names:
    raise ValueError(
      f"tasks {list(names)}: expected some of {', '.join(by_name)}"
    )
  return tuple(by_name[name] for name in dict.fromkeys(names))


def check_labels(
  root: pathlib.Path, labels: Mapping[str, Sequence[pathlib.Path]]
) -> None:
  """Looks which label files are there, before anything is read.

  An image without one trains the other tasks. A task without any is refused,
  since it is more likely that a folder is missing.

  Args:
    root: the data set's folder.
    labels: by task, the file of each image.

  Raises:
    ValueError: naming the first file, if a task has none of its files.
  """
  for name, paths in labels.items():
    lacking = [path for path in paths if not path.is_file()]
    if len(lacking) == len(paths):
      raise ValueError(
        f"{lacking[0]}: no such file, and no image has one for {name}; leave "
        "the task out, or complete the data set"
      )
    if lacking:
      warnings.warn(
        f"{root}: {len(lacking)} of {len(paths)} images have no label for "
        f"{name} (such as {lacking[0].name}); they do not train it",
        stacklevel=3,
      )


def check_count(path: pathlib.Path, found: int, expected: int) -> None:
  """Warns if a list of images is not as long as the release's."""
  if found != expected:
    warnings.warn(
      f"{path}: {found} images; the release has {expected}", stacklevel=3
    )


def with_labels(
  image: pathlib.Path,
  inputs: np.ndarray,
  tasks: Sequence[base.Task],
  paths: Mapping[str, pathlib.Path],
  read: Callable[[base.Task, pathlib.Path], base.Label],
) -> base.Examples:
  """An image with its labels; those without a file are not valid.

  Args:
    image: the image's file.
    inputs: colours f32[height, width, 3] in [0, 1].
    tasks: the labels wanted.
    paths: by task, the label's file.
    read: reads one label.

  Raises:
    ValueError: naming both files, if a label has another size; and as `read`.
  """
  size = inputs.shape[0], inputs.shape[1]
  labels = {}
  for task in tasks:
    path = paths[task.name]
    if not path.is_file():
      labels[task.name] = dense_labels.absent(task, size)
      continue
    labels[task.name] = read(task, path)
    dense_labels.check_size(path, labels[task.name].valid.shape, image, size)
  return base.Examples(inputs, labels)
