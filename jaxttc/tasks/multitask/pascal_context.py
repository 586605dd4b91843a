# SPDX-License-Identifier: Apache-2.0
"""PASCAL-Context for multi-task learning (Maninis et al., 2019).

Five tasks over PASCAL VOC's images: 21 classes, six human parts, surface
normals, edges, and saliency. The layout of the release PASCAL_MT:

  JPEGImages/ID.jpg
  semseg/VOC12/ID.png           class in [0, 21), 255 unknown; if there is none,
  semseg/pascal-context/ID.png  the same made of PASCAL-Context's annotation
  human_parts/ID.mat            PASCAL-Part's annotation
  pascal-context/trainval/ID.mat  `LabelMap`, one of 459 classes at each pixel
  normals_distill/ID.png        byte v is 2 v / 255 - 1
  sal_distill/ID.png            salient above 127.5
  ImageSets/Context/{train,val}.txt  the IDs, 4,998 and 5,105

Edges are where the Laplacian of `LabelMap` is not zero, thinned. Normals and
saliency were predicted by other networks; normals count only on the classes of
things that the network for them was trained on, indoors.
"""

from collections.abc import Sequence
import functools
import pathlib
from typing import Any, NamedTuple

from jaxtyping import Bool, Integer
import numpy as np

from jaxttc.tasks.multitask import (
  base,
  dense_labels,
  human_parts,
  image_files,
  image_sets,
  mat_files,
  thinning,
)
from jaxttc.tasks.multitask import examples as examples_lib

TASKS = (
  base.Task("segmentation", "segmentation", 21),
  base.Task("human_parts", "segmentation", len(human_parts.PARTS), weight=2.0),
  base.Task("normals", "normals", 3, weight=10.0),
  base.Task("edges", "edges", 1, weight=50.0),
  base.Task("saliency", "saliency", 1, weight=5.0),
)
IMAGES = {"train": 4998, "val": 5105}
# All images of PASCAL VOC fit.
SIZE = (512, 512)
# Classes of LabelMap whose names NYUv2 has, too, and tvmonitor.
# fmt: off
CLASSES_WITH_NORMALS = (
  3, 4, 6, 9, 10, 11, 13, 15, 17, 18, 22, 23, 29, 30, 33, 34, 36, 37, 38, 39,
  41, 43, 46, 49, 50, 51, 53, 55, 56, 59, 61, 62, 65, 66, 68, 69, 72, 73, 78,
  83, 84, 85, 87, 88, 95, 96, 101, 104, 105, 107, 111, 113, 115, 122, 124, 135,
  141, 142, 143, 146, 150, 154, 157, 158, 159, 165, 172, 174, 181, 183, 184,
  191, 193, 195, 197, 199, 202, 213, 215, 216, 219, 220, 223, 225, 228, 230,
  232, 233, 238, 239, 242, 243, 246, 250, 251, 252, 255, 260, 261, 263, 269,
  272, 273, 275, 281, 283, 284, 285, 286, 287, 288, 290, 291, 292, 293, 295,
  304, 307, 309, 310, 314, 315, 319, 323, 329, 330, 331, 336, 342, 345, 349,
  350, 351, 352, 355, 357, 368, 370, 371, 374, 379, 380, 383, 384, 397, 401,
  403, 405, 407, 408, 411, 412, 413, 414, 417, 419, 421, 423, 427, 429, 430,
  432, 440, 441, 442, 443, 444, 446, 454, 457,
)
# fmt: on
_LAPLACIAN = np.array([[0, 1, 0], [1, -4, 1], [0, 1, 0]])


class Annotation(NamedTuple):
  """An image and what is known of it; None where nothing is.

  Attributes:
    image: colours u8[height, width, 3].
    label_map: classes of PASCAL-Context, u16[height, width].
    segmentation: classes in [0, 21), or 255, [height, width].
    people: of each person, masks by part name.
    normals: unit vectors f32[height, width, 3].
    saliency: bool[height, width].
  """

  image: Any
  label_map: Any = None
  segmentation: Any = None
  people: Any = None
  normals: Any = None
  saliency: Any = None


def load(
  directory: str | pathlib.Path,
  split: str = "train",
  *,
  tasks: Sequence[str] | None = None,
  size: tuple[int, int] = SIZE,
) -> image_sets.ImageSet:
  """Opens a split.

  Args:
    directory: the folder with `JPEGImages` and `ImageSets`.
    split: "train" or "val"; `held_out` reads "val".
    tasks: names of `TASKS`; all if None.
    size: height and width to centre the images in.

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
  listing = _listing(root, split)
  ids = examples_lib.read_ids(listing)
  image_sets.check_count(listing, len(ids), IMAGES[split])
  wanted = image_sets.chosen(TASKS, tasks)
  image_sets.check_labels(
    root,
    {task.name: [_path(root, task.name, i) for i in ids] for task in wanted},
  )
  return image_sets.opened(
    tasks=wanted,
    size=size,
    images=[_image(root, name) for name in ids],
    read=functools.partial(_read, root, wanted),
    test=lambda: load(root, "val", tasks=tasks, size=size),
  )


def _listing(root: pathlib.Path, split: str) -> pathlib.Path:
  return root / "ImageSets" / "Context" / f"{split}.txt"


def _image(root: pathlib.Path, name: str) -> pathlib.Path:
  return root / "JPEGImages" / f"{name}.jpg"


def _path(root: pathlib.Path, task: str, name: str) -> pathlib.Path:
  """Where a label is."""
  if task == "segmentation":
    voc = root / "semseg" / "VOC12" / f"{name}.png"
    context = root / "semseg" / "pascal-context" / f"{name}.png"
    return context if not voc.is_file() and context.is_file() else voc
  folder, suffix = {
    "human_parts": ("human_parts", "mat"),
    "normals": ("normals_distill", "png"),
    "edges": ("pascal-context/trainval", "mat"),
    "saliency": ("sal_distill", "png"),
  }[task]
  return root / folder / f"{name}.{suffix}"


def _read(
  root: pathlib.Path, tasks: Sequence[base.Task], image: pathlib.Path
) -> base.Examples:
  colours = image_files.read_rgb(image).astype(np.float32) / 255
  map_path = _path(root, "edges", image.stem)
  label_map = functools.cache(lambda: _label_map(map_path))

  def label(task: base.Task, path: pathlib.Path) -> base.Label:
    if task.name == "segmentation":
      codes = image_files.read_codes(path).astype(np.int32)
      return dense_labels.classes(path, codes, task.outputs, unknown=255)
    if task.name == "human_parts":
      parts = human_parts.read(path)
      if parts is None:
        return dense_labels.absent(task, colours.shape[:2])
      return base.Label(parts, np.ones(parts.shape, bool))
    if task.name == "normals":
      return _normals(path, map_path, label_map)
    if task.name == "edges":
      edges = edges_of(label_map()).astype(np.float32)
      return dense_labels.binary(path, edges)
    return dense_labels.binary(path, image_files.read_codes(path) / 255)

  paths = {task.name: _path(root, task.name, image.stem) for task in tasks}
  return image_sets.with_labels(image, colours, tasks, paths, label)


def _label_map(path: pathlib.Path) -> Integer[np.ndarray, "height width"]:
  label_map = mat_files.read(path, "LabelMap")
  if (
    not isinstance(label_map, np.ndarray)
    or label_map.ndim != 2
    or label_map.dtype.kind not in "iuf"
  ):
    raise ValueError(f"{path}: LabelMap is no array of two axes")
  return label_map.astype(np.int64)


def _normals(
  path: pathlib.Path, map_path: pathlib.Path, label_map: Any
) -> base.Label:
  """Normals where the class at the pixel has any; nowhere without classes."""
  vectors = dense_labels.vectors_of(image_files.read_rgb(path))
  if not map_path.is_file():
    return dense_labels.absent(TASKS[2], vectors.shape[:2])
  dense_labels.check_size(map_path, label_map().shape, path, vectors.shape)
  has_normals = np.isin(label_map(), CLASSES_WITH_NORMALS)
  return dense_labels.normals(path, vectors * has_normals[..., None])


def edges_of(
  label_map: Integer[np.ndarray, "height width"],
) -> Bool[np.ndarray, "height width"]:
  """Borders between classes, one pixel wide."""
  import scipy.ndimage

  # The image is mirrored at its border, so the border is no edge.
  change = scipy.ndimage.convolve(label_map, _LAPLACIAN, mode="mirror")
  return thinning.thin(change != 0)


def save(
  directory: str | pathlib.Path,
  split: str,
  annotations: Sequence[Annotation],
  *,
  ids: Sequence[str] | None = None,
) -> None:
  """Writes a split: what `load` reads, with classes in `semseg/VOC12`.

  Args:
    directory: the folder, made if there is none.
    split: "train" or "val".
    annotations: one an image; what is None is not written.
    ids: names of the files; numbers if None.

  Raises:
    ValueError: if the split, or a part's or file's name, cannot be.
  """
  examples_lib.check_split(split, tuple(IMAGES))
  root = pathlib.Path(directory)
  names = examples_lib.names(ids, len(annotations))
  for name, known in zip(names, annotations, strict=True):
    paths = {task.name: _path(root, task.name, name) for task in TASKS}
    image_files.write_rgb(_image(root, name), known.image)
    if known.label_map is not None:
      label_map = np.asarray(known.label_map, np.uint16)
      mat_files.write(paths["edges"], "LabelMap", label_map)
    if known.segmentation is not None:
      codes = np.asarray(known.segmentation, np.uint8)
      image_files.write_codes(paths["segmentation"], codes)
    if known.people is not None:
      human_parts.write(paths["human_parts"], known.people)
    if known.normals is not None:
      colours = dense_labels.colours_of(np.asarray(known.normals))
      image_files.write_rgb(paths["normals"], colours)
    if known.saliency is not None:
      amount = 255 * np.asarray(known.saliency, np.uint8)
      image_files.write_codes(paths["saliency"], amount)
  examples_lib.write_ids(_listing(root, split), names)
