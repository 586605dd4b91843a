# SPDX-License-Identifier: Apache-2.0
"""Images turned, scaled, mirrored and cropped on the device, labels with them.

One affine map a picture says where each pixel of the result comes from: colours
are interpolated between four pixels, labels are those of the nearest one, and
what comes from outside is black and not valid. Labels that speak of geometry
change with it:

  mirrored   normals' x changes its sign
  rotated    normals' (x, y) turns with the image
  scaled     depth is divided by the scale: what looks larger is nearer

Normals are (x, y, z) with x to the right and y down, as rows and columns are.
Classes and numbers of the whole image are left alone: an augmentation that
changes them is the wrong one.
"""

from collections.abc import Sequence
import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int32, Key

from jaxttc.tasks.multitask import base

# Of ImageNet's colours in [0, 1], for networks that were trained on them.
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclasses.dataclass(frozen=True)
class Recipe:
  """How much to change an image.

  Attributes:
    mirrored: the probability to mirror it, left to right.
    scales: the scales to choose from, or the smallest and the largest.
    is_continuous: whether any scale between the two will do.
    degrees: the largest angle to turn it by, either way.
    crop: height and width of the result, cut out at random; those of the
      image, around its centre, if None.

  Raises:
    ValueError: if a value cannot be.
  """

  mirrored: float = 0.5
  scales: tuple[float, ...] = (1.0,)
  is_continuous: bool = False
  degrees: float = 0.0
  crop: tuple[int, int] | None = None

  def __post_init__(self) -> None:
    if not 0 <= self.mirrored <= 1:
      raise ValueError(f"mirrored={self.mirrored}; expected it in [0, 1]")
    if not self.scales or not min(self.scales) > 0:
      raise ValueError(f"scales={self.scales}; expected positive numbers")
    if self.is_continuous and len(self.scales) != 2:
      raise ValueError(
        f"scales={self.scales}; expected the smallest and the largest"
      )
    if not 0 <= self.degrees <= 180:
      raise ValueError(f"degrees={self.degrees}; expected them in [0, 180]")
    if self.crop is not None and min(self.crop) < 1:
      raise ValueError(f"crop={self.crop}; expected positive sizes")


# As Maninis et al. (2019) and Vandenhende et al. (2021) train on them.
NYUD = Recipe(scales=(1.0, 1.2, 1.5))
PASCAL = Recipe(scales=(0.75, 1.25), is_continuous=True, degrees=20.0)


class Change(NamedTuple):
  """What happens to each image, in this order.

  Attributes:
    mirrored: bool[B].
    radians: f32[B], counter-clockwise as it is seen.
    scale: f32[B].
    window: f32[B, 2], rows and columns from the centre of the changed image to
      that of the result.
  """

  mirrored: jax.Array
  radians: jax.Array
  scale: jax.Array
  window: jax.Array


def draw(
  key: Key[Array, ""], recipe: Recipe, count: int, size: tuple[int, int]
) -> Change:
  """Draws what happens to `count` images of a size."""
  keys = jax.random.split(key, 4)
  if recipe.is_continuous:
    low, high = recipe.scales
    scale = jax.random.uniform(keys[0], (count,), minval=low, maxval=high)
  else:
    scale = jax.random.choice(keys[0], jnp.array(recipe.scales), (count,))
  largest = jnp.deg2rad(recipe.degrees)
  # A window wholly inside, or, if it is the larger, wholly around the image.
  crop = jnp.array(recipe.crop or size, jnp.float32)
  room = jnp.abs(scale[:, None] * jnp.array([size]) - crop[None]) / 2
  if recipe.crop is None:
    room = jnp.zeros_like(room)
  return Change(
    mirrored=jax.random.bernoulli(keys[1], recipe.mirrored, (count,)),
    radians=jax.random.uniform(
      keys[2], (count,), minval=-largest, maxval=largest
    ),
    scale=scale,
    window=jax.random.uniform(keys[3], (count, 2), minval=-1, maxval=1) * room,
  )


def augment(
  key: Key[Array, ""],
  examples: base.Examples,
  tasks: Sequence[base.Task],
  recipe: Recipe,
) -> base.Examples:
  """Changes each image of a batch, and its labels, in its own random way.

  Args:
    key: of this batch.
    examples: images f32[B, height, width, channels], and labels.
    tasks: what the labels are of.
    recipe: how much to change; static under `jit`.

  Returns:
    A batch of the same images, changed, of the size `recipe.crop`.

  Raises:
    ValueError: if inputs are no images, or a task has no labels.
  """
  size = _size(examples, tasks)
  change = draw(key, recipe, examples.inputs.shape[0], size)
  return apply(examples, tasks, change, recipe.crop or size)


def apply(
  examples: base.Examples,
  tasks: Sequence[base.Task],
  change: Change,
  size: tuple[int, int],
) -> base.Examples:
  """Changes images and labels as told, into images of a size.

  Raises:
    ValueError: if inputs are no images, or a task has no labels.
  """
  found = _size(examples, tasks)
  rows, columns = jax.vmap(lambda one: _sources(one, found, size))(change)
  labels = dict(examples.labels)
  for task in tasks:
    if task.dense:
      label = jax.vmap(_nearest)(labels[task.name], rows, columns)
      labels[task.name] = _geometry(label, task, change)
  colours = jax.vmap(_interpolated)(examples.inputs, rows, columns)
  return base.Examples(colours, labels)


def resize(
  examples: base.Examples,
  tasks: Sequence[base.Task],
  size: tuple[int, int],
) -> base.Examples:
  """Images of another size, say for a smaller network; depth stays as it is.

  Colours are averaged over what they cover, labels those of the nearest pixel.

  Raises:
    ValueError: if inputs are no images, or a task has no labels.
  """
  _size(examples, tasks)

  def to_size(values: jax.Array, method: str) -> jax.Array:
    shape = (values.shape[0], *size, *values.shape[3:])
    return jax.image.resize(values, shape, method)

  labels = dict(examples.labels)
  for task in tasks:
    if task.dense:
      labels[task.name] = base.Label(
        *(to_size(part, "nearest") for part in labels[task.name])
      )
  return base.Examples(to_size(examples.inputs, "linear"), labels)


def standardise(
  inputs: Float[Array, "batch height width 3"],
  mean: tuple[float, ...] = IMAGENET_MEAN,
  std: tuple[float, ...] = IMAGENET_STD,
) -> Float[Array, "batch height width 3"]:
  """Colours in [0, 1] with a channel's mean taken off, over its deviation."""
  return (inputs - jnp.array(mean)[None, None, None]) / jnp.array(std)[
    None, None, None
  ]


def _size(
  examples: base.Examples, tasks: Sequence[base.Task]
) -> tuple[int, int]:
  if examples.inputs.ndim != 4:
    raise ValueError(
      f"inputs {list(examples.inputs.shape)} are no images; expected "
      "[batch, height, width, channels]"
    )
  for task in tasks:
    if task.name not in examples.labels:
      raise ValueError(
        f"no labels of task {task.name!r}; labels found: "
        f"{', '.join(examples.labels) or 'none'}"
      )
  return examples.inputs.shape[1], examples.inputs.shape[2]


def _sources(
  change: Change, found: tuple[int, int], size: tuple[int, int]
) -> tuple[Float[Array, "height width"], Float[Array, "height width"]]:
  """Row and column that each pixel of the result comes from."""
  y = jnp.arange(size[0]) - (size[0] - 1) / 2 + change.window[0]
  x = jnp.arange(size[1]) - (size[1] - 1) / 2 + change.window[1]
  y, x = jnp.meshgrid(y, x, indexing="ij")
  sin, cos = jnp.sin(change.radians), jnp.cos(change.radians)
  # The inverse of scaling and turning; y points down.
  back_x = (x * cos - y * sin) / change.scale
  back_y = (x * sin + y * cos) / change.scale
  back_x = jnp.where(change.mirrored, -back_x, back_x)
  return back_y + (found[0] - 1) / 2, back_x + (found[1] - 1) / 2


def _take(
  image: jax.Array, rows: Int32[Array, "h w"], columns: Int32[Array, "h w"]
) -> tuple[jax.Array, Bool[Array, "h w"]]:
  """Values at pixels, and whether there are such pixels."""
  height, width = image.shape[:2]
  inside = (rows >= 0) & (rows < height) & (columns >= 0) & (columns < width)
  values = image[rows.clip(0, height - 1), columns.clip(0, width - 1)]
  mask = inside.reshape(inside.shape + (1,) * (values.ndim - 2))
  return jnp.where(mask, values, jnp.zeros((), values.dtype)), inside


def _nearest(
  label: base.Label, rows: Float[Array, "h w"], columns: Float[Array, "h w"]
) -> base.Label:
  rows, columns = (jnp.round(at).astype(jnp.int32) for at in (rows, columns))
  value, _ = _take(label.value, rows, columns)
  valid, inside = _take(label.valid, rows, columns)
  return base.Label(value, valid & inside)


def _interpolated(
  image: Float[Array, "height width channels"],
  rows: Float[Array, "h w"],
  columns: Float[Array, "h w"],
) -> Float[Array, "h w channels"]:
  top, left = jnp.floor(rows), jnp.floor(columns)
  total = jnp.zeros((*rows.shape, image.shape[-1]), image.dtype)
  for down in (0, 1):
    for right in (0, 1):
      weight = jnp.abs(1 - down - (rows - top)) * jnp.abs(
        1 - right - (columns - left)
      )
      values, _ = _take(
        image,
        top.astype(jnp.int32) + down,
        left.astype(jnp.int32) + right,
      )
      total += weight[..., None] * values
  return total


def _geometry(label: base.Label, task: base.Task, change: Change) -> base.Label:
  """Labels that speak of geometry, after their pixels were moved."""
  per_image = lambda x: x[:, None, None]  # noqa: E731
  if task.kind == "depth":
    scale = change.scale[:, None, None, None]
    return label._replace(value=label.value / scale)
  if task.kind != "normals":
    return label
  x, y, z = (label.value[..., axis] for axis in range(3))
  x = jnp.where(per_image(change.mirrored), -x, x)
  sin, cos = (per_image(f(change.radians)) for f in (jnp.sin, jnp.cos))
  turned = jnp.stack([x * cos + y * sin, y * cos - x * sin, z], -1)
  return label._replace(value=turned)
