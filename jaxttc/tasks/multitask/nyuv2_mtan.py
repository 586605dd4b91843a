# SPDX-License-Identifier: Apache-2.0
"""NYUv2 as MTAN released it: 13 classes, depth and normals at 288 x 384.

All files are arrays, named by numbers from 0 (Liu et al., "End-to-End
Multi-Task Learning with Attention", 2019): in `train` and `val`,
`image/I.npy` [288, 384, 3] in [0, 1], `label/I.npy` [288, 384] with -1 for
unknown, `depth/I.npy` [288, 384, 1] with 0 for unknown, and `normal/I.npy`
[288, 384, 3] with vectors of length 0 for unknown.
"""

from collections.abc import Sequence
import functools
import pathlib

import numpy as np

from jaxttc.tasks.multitask import (
  array_files,
  base,
  dense_labels,
  image_files,
  image_sets,
)
from jaxttc.tasks.multitask import examples as examples_lib

TASKS = (
  base.Task("segmentation", "segmentation", 13),
  base.Task("depth", "depth", 1),
  base.Task("normals", "normals", 3),
)
IMAGES = {"train": 795, "val": 654}
_FOLDERS = {"segmentation": "label", "depth": "depth", "normals": "normal"}


def load(
  directory: str | pathlib.Path,
  split: str = "train",
  *,
  tasks: Sequence[str] | None = None,
  size: tuple[int, int] | None = None,
) -> image_sets.ImageSet:
  """Opens a split.

  Args:
    directory: the folder with `train` and `val`.
    split: "train" or "val"; `held_out` reads "val".
    tasks: names of `TASKS`; all if None.
    size: height and width to centre the images in; that of the first image,
      which all must have, if None.

  Returns:
    The images, f32 in [0, 1], and their labels. Warns if the release had
    another number of images, or some images lack labels.

  Raises:
    ValueError: naming the file, if one is missing or damaged, or the tasks,
      the size or the split cannot be; the data set raises it for what it
      reads later.
  """
  examples_lib.check_split(split, tuple(IMAGES))
  root = pathlib.Path(directory)
  folder = root / split / "image"
  count = sum(1 for _ in folder.glob("*.npy"))
  if not count:
    raise ValueError(f"{folder}: no files 0.npy, 1.npy, ..")
  image_sets.check_count(folder, count, IMAGES[split])
  wanted = image_sets.chosen(TASKS, tasks)
  images = [folder / f"{index}.npy" for index in range(count)]
  image_sets.check_labels(
    root,
    {
      task.name: [_label_path(image, task.name) for image in images]
      for task in wanted
    },
  )
  return image_sets.opened(
    tasks=wanted,
    size=size,
    images=images,
    read=functools.partial(_read, wanted),
    test=lambda: load(root, "val", tasks=tasks, size=size),
  )


def _label_path(image: pathlib.Path, task: str) -> pathlib.Path:
  return image.parents[1] / _FOLDERS[task] / image.name


def _read(tasks: Sequence[base.Task], image: pathlib.Path) -> base.Examples:
  colours = array_files.read_npy(image)
  if colours.ndim != 3 or colours.shape[-1] != 3:
    raise ValueError(
      f"{image}: an array {list(colours.shape)}; expected [height, width, 3]"
    )
  image_files.check_colours(image, colours)
  paths = {task.name: _label_path(image, task.name) for task in tasks}
  return image_sets.with_labels(
    image, colours.astype(np.float32), tasks, paths, _label
  )


def _label(task: base.Task, path: pathlib.Path) -> base.Label:
  values = array_files.read_npy(path)
  if task.kind == "depth":
    return dense_labels.depth(path, values)
  if task.kind == "normals":
    return dense_labels.normals(path, values)
  return dense_labels.classes(path, values, task.outputs, unknown=-1)


def save(
  directory: str | pathlib.Path, split: str, examples: base.Examples
) -> None:
  """Writes a split: what `load` reads.

  Args:
    directory: the folder, made if there is none.
    split: "train" or "val".
    examples: images f32[B, height, width, 3] in [0, 1] and labels of the names
      and kinds of `TASKS`, any of them. Labels that are valid nowhere in an
      image are not written.

  Raises:
    ValueError: if the split, a label or a colour cannot be written.
  """
  examples_lib.check_split(split, tuple(IMAGES))
  image_sets.chosen(TASKS, tuple(examples.labels))
  folder = pathlib.Path(directory) / split / "image"
  inputs = np.asarray(examples.inputs, np.float32)
  for at, colours in enumerate(inputs):
    path = folder / f"{at}.npy"
    image_files.check_colours(path, colours)
    array_files.write_npy(path, colours)
    for task, label in examples.labels.items():
      value, valid = np.asarray(label.value[at]), np.asarray(label.valid[at])
      if not valid.any():
        continue
      if task == "segmentation":
        known = np.where(valid, value, -1).astype(np.float32)
        dense_labels.classes(path, known, TASKS[0].outputs, unknown=-1)
      else:
        known = np.where(valid[..., None], value, 0).astype(np.float32)
      array_files.write_npy(_label_path(path, task), known)
