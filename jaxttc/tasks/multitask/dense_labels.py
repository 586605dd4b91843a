# SPDX-License-Identifier: Apache-2.0
"""Labels of every pixel, made of what files hold and turned back into it.

Files mark what is not known in many ways: 0, -1, 255, a vector without
length, a number that is none. Here it is not valid, and its value is zero.
"""

import pathlib

from jaxtyping import Bool, Float, Integer, Num
import numpy as np

from jaxttc.tasks.multitask import base

# A unit vector keeps its length within 1 % as bytes, and some of it when images
# are resized; what lost more than this is no direction.
_SHORTEST, _LONGEST = 0.5, 1.5
# The longest vector that three bytes can stand for is 1.74 long.
_IMPOSSIBLE = 2.0


def absent(task: base.Task, size: tuple[int, int]) -> base.Label:
  """The label of an image that nothing is known of."""
  if task.kind == "segmentation":
    value = np.zeros(size, np.int32)
  else:
    value = np.zeros((*size, task.outputs), np.float32)
  return base.Label(value, np.zeros(size, bool))


def classes(
  path: pathlib.Path,
  ids: Num[np.ndarray, "..."],
  count: int,
  unknown: int,
) -> base.Label:
  """Classes of pixels.

  Args:
    path: where they were read.
    ids: [height, width], whole numbers in [0, count), or `unknown`.
    count: how many classes there are.
    unknown: what stands for pixels without label.

  Raises:
    ValueError: naming file and pixel of the first other number, or for
      another shape.
  """
  _check_channels(path, ids, 0)
  valid = ids != unknown
  wrong = valid & ~((ids >= 0) & (ids < count) & (ids == np.floor(ids)))
  for row, column in np.argwhere(wrong)[:1]:
    raise ValueError(
      f"{path}: class {ids[row, column]} at row {row}, column {column}; "
      f"expected whole numbers in [0, {count}), or {unknown}"
    )
  return base.Label(np.where(valid, ids, 0).astype(np.int32), valid)


def depth(path: pathlib.Path, distance: Num[np.ndarray, "..."]) -> base.Label:
  """Distances [height, width] or [height, width, 1]; 0 or NaN is unknown.

  Raises:
    ValueError: naming the file, for another shape or a negative distance.
  """
  if distance.ndim == 3 and distance.shape[-1] == 1:
    distance = distance[..., 0]
  _check_channels(path, distance, 0)
  valid = np.isfinite(distance) & (distance != 0)
  value = np.where(valid, distance, 0).astype(np.float32)
  if value.min(initial=0) < 0:
    raise ValueError(
      f"{path}: distance {value.min():g}; expected numbers of at least 0"
    )
  return base.Label(value[..., None], valid)


def normals(path: pathlib.Path, vectors: Num[np.ndarray, "..."]) -> base.Label:
  """Unit vectors [height, width, 3]; one without length is unknown.

  Raises:
    ValueError: naming the file, for another shape or long vectors.
  """
  _check_channels(path, vectors, 3)
  vectors = np.nan_to_num(vectors.astype(np.float32), posinf=0, neginf=0)
  length = np.linalg.norm(vectors, axis=-1)
  if length.max(initial=0) > _IMPOSSIBLE:
    raise ValueError(
      f"{path}: a vector of length {length.max():g}; expected unit vectors"
    )
  valid = (length >= _SHORTEST) & (length <= _LONGEST)
  unit = vectors / np.where(valid, length, 1)[..., None]
  return base.Label(np.where(valid[..., None], unit, np.float32(0)), valid)


def vectors_of(
  colours: Integer[np.ndarray, "height width 3"],
) -> Float[np.ndarray, "height width 3"]:
  """Vectors that bytes stand for: -1 is 0, and 1 is 255."""
  return colours.astype(np.float32) * np.float32(2 / 255) - np.float32(1)


def colours_of(
  vectors: Float[np.ndarray, "height width 3"],
) -> Integer[np.ndarray, "height width 3"]:
  """Bytes that stand for vectors, to the nearest."""
  return np.rint((vectors + 1) * 127.5).clip(0, 255).astype(np.uint8)


def binary(
  path: pathlib.Path,
  amount: Num[np.ndarray, "..."],
  valid: Bool[np.ndarray, "height width"] | None = None,
) -> base.Label:
  """Whether a pixel is on an edge, or salient: amounts in [0, 1] above half.

  Args:
    path: where they were read.
    amount: [height, width] or [height, width, 1].
    valid: where it is known; everywhere if None.

  Raises:
    ValueError: naming the file, for another shape or amounts outside.
  """
  if amount.ndim == 3 and amount.shape[-1] == 1:
    amount = amount[..., 0]
  _check_channels(path, amount, 0)
  if not (amount.min(initial=0) >= 0 and amount.max(initial=0) <= 1):
    raise ValueError(
      f"{path}: numbers from {amount.min():g} to {amount.max():g}; expected "
      "them in [0, 1]"
    )
  known = np.ones(amount.shape, bool) if valid is None else valid
  value = ((amount > 0.5) & known).astype(np.float32)
  return base.Label(value[..., None], known)


def check_size(
  path: pathlib.Path,
  shape: tuple[int, ...],
  image: pathlib.Path,
  size: tuple[int, ...],
) -> None:
  """Raises ValueError, naming both files, unless a label fits its image."""
  if shape[:2] != size[:2]:
    raise ValueError(
      f"{path}: {shape[0]} x {shape[1]} pixels; expected {size[0]} x "
      f"{size[1]}, as {image} has"
    )


def _check_channels(
  path: pathlib.Path, values: np.ndarray, channels: int
) -> None:
  expected = (*values.shape[:2], channels) if channels else values.shape[:2]
  if values.ndim < 2 or values.shape != expected:
    wanted = f"[height, width, {channels}]" if channels else "[height, width]"
    raise ValueError(
      f"{path}: an array {list(values.shape)}; expected {wanted}"
    )
