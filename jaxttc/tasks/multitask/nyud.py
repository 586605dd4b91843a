# SPDX-License-Identifier: Apache-2.0
"""NYUD-v2 for multi-task learning: segmentation, depth, normals and edges.

Two releases share their folders: MTI-Net's (Vandenhende et al., 2020) and
ATRC's (Bruggemann et al., 2021), which InvPT uses, too. The suffix of the
images tells them apart:

  file                    MTI-Net               ATRC
  images/ID               .jpg                  .png
  segmentation/ID.png     0 unknown, v is class v - 1 of 40
  depth/ID.npy            metres [height, width], 0 unknown
  normals/ID              .npy unit vectors     .png, byte v is 2 v / 255 - 1
  edge/ID                 .npy in [0, 1]        .png, byte v is v / 255
  gt_sets/{train,val}.txt the IDs, 795 and 654
"""

from collections.abc import Sequence
import dataclasses
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
  base.Task("segmentation", "segmentation", 40),
  base.Task("depth", "depth", 1),
  base.Task("normals", "normals", 3, weight=10.0),
  base.Task("edges", "edges", 1, weight=50.0),
)
IMAGES = {"train": 795, "val": 654}
RELEASES = ("mti_net", "atrc")
_FOLDERS = {
  "segmentation": "segmentation",
  "depth": "depth",
  "normals": "normals",
  "edges": "edge",
}


@dataclasses.dataclass(frozen=True)
class _Layout:
  """Where a release keeps its files."""

  root: pathlib.Path
  release: str

  def image(self, name: str) -> pathlib.Path:
    suffix = "jpg" if self.release == "mti_net" else "png"
    return self.root / "images" / f"{name}.{suffix}"

  def label(self, task: str, name: str) -> pathlib.Path:
    arrays = (
      {"depth"} if self.release == "atrc" else {"depth", "normals", "edges"}
    )
    suffix = "npy" if task in arrays else "png"
    return self.root / _FOLDERS[task] / f"{name}.{suffix}"

  def ids(self, split: str) -> pathlib.Path:
    return self.root / "gt_sets" / f"{split}.txt"


def load(
  directory: str | pathlib.Path,
  split: str = "train",
  *,
  tasks: Sequence[str] | None = None,
  size: tuple[int, int] | None = None,
) -> image_sets.ImageSet:
  """Opens a split of either release.

  Args:
    directory: the folder with `images` and `gt_sets`.
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
  listing = root / "gt_sets" / f"{split}.txt"
  ids = examples_lib.read_ids(listing)
  image_sets.check_count(listing, len(ids), IMAGES[split])
  layout = _Layout(root, _release(root, ids[0]))
  wanted = image_sets.chosen(TASKS, tasks)
  image_sets.check_labels(
    root,
    {
      task.name: [layout.label(task.name, name) for name in ids]
      for task in wanted
    },
  )
  return image_sets.opened(
    tasks=wanted,
    size=size,
    images=[layout.image(name) for name in ids],
    read=functools.partial(_read, layout, wanted),
    test=lambda: load(root, "val", tasks=tasks, size=size),
  )


def _release(root: pathlib.Path, name: str) -> str:
  """The release that an image's suffix tells."""
  found = [r for r in RELEASES if _Layout(root, r).image(name).is_file()]
  if len(found) != 1:
    raise ValueError(
      f"{root / 'images' / name}: {'both' if found else 'neither'} .jpg and "
      ".png; expected one of them (.jpg is MTI-Net's release, .png ATRC's)"
    )
  return found[0]


def _read(
  layout: _Layout, tasks: Sequence[base.Task], image: pathlib.Path
) -> base.Examples:
  return image_sets.with_labels(
    image,
    image_files.read_rgb(image).astype(np.float32) / 255,
    tasks,
    {task.name: layout.label(task.name, image.stem) for task in tasks},
    _label,
  )


def _label(task: base.Task, path: pathlib.Path) -> base.Label:
  is_array = path.suffix == ".npy"
  if task.kind == "segmentation":
    ids = image_files.read_codes(path).astype(np.int32) - 1
    return dense_labels.classes(path, ids, task.outputs, unknown=-1)
  if task.kind == "depth":
    return dense_labels.depth(path, array_files.read_npy(path))
  if task.kind == "normals":
    if is_array:
      return dense_labels.normals(path, array_files.read_npy(path))
    colours = image_files.read_rgb(path)
    return dense_labels.normals(path, dense_labels.vectors_of(colours))
  if is_array:
    return dense_labels.binary(path, array_files.read_npy(path))
  return dense_labels.binary(path, image_files.read_codes(path) / 255)


def save(
  directory: str | pathlib.Path,
  split: str,
  examples: base.Examples,
  *,
  release: str = "mti_net",
  ids: Sequence[str] | None = None,
) -> None:
  """Writes a split: what `load` reads.

  MTI-Net's release keeps images as JPEG, which loses a little; ATRC's keeps
  normals as bytes. Neither can say that an edge is unknown: it is then none.

  Args:
    directory: the folder, made if there is none.
    split: "train" or "val".
    examples: images f32[B, height, width, 3] in [0, 1] and labels of the names
      and kinds of `TASKS`, any of them. Labels that are valid nowhere in an
      image are not written.
    release: "mti_net" or "atrc".
    ids: names of the files; numbers if None.

  Raises:
    ValueError: if the split, the release, a label or a colour cannot be
      written.
  """
  examples_lib.check_split(split, tuple(IMAGES))
  if release not in RELEASES:
    raise ValueError(f"release {release!r}; expected {' or '.join(RELEASES)}")
  image_sets.chosen(TASKS, tuple(examples.labels))
  layout = _Layout(pathlib.Path(directory), release)
  inputs = np.asarray(examples.inputs)
  names = examples_lib.names(ids, len(inputs))
  for at, name in enumerate(names):
    path = layout.image(name)
    image_files.write_rgb(path, image_files.to_bytes(path, inputs[at]))
    for task, label in examples.labels.items():
      value, valid = np.asarray(label.value[at]), np.asarray(label.valid[at])
      if valid.any():
        _write(layout.label(task, name), task, value, valid)
  examples_lib.write_ids(layout.ids(split), names)


def _write(
  path: pathlib.Path, task: str, value: np.ndarray, valid: np.ndarray
) -> None:
  if task == "segmentation":
    codes = dense_labels.classes(path, np.where(valid, value, -1), 40, -1)
    image_files.write_codes(
      path, np.where(valid, codes.value + 1, 0).astype(np.uint8)
    )
  elif path.suffix == ".npy":
    known = np.where(valid[..., None], value, 0).astype(np.float32)
    array_files.write_npy(path, known if task == "normals" else known[..., 0])
  elif task == "normals":
    known = np.where(valid[..., None], value, 0)
    image_files.write_rgb(path, dense_labels.colours_of(known))
  else:
    known = np.where(valid, value[..., 0], 0)
    image_files.write_codes(path, np.rint(255 * known).astype(np.uint8))
