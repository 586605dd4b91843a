# SPDX-License-Identifier: Apache-2.0
"""Scenes: small rendered pictures with exact labels at every pixel.

A tilted plane and one to four spheres are seen along parallel rays, lit from
the upper left and dimmed by bluish haze. What is true of each pixel is known
in closed form: depth, normal, which of six textures, and outlines.

Every label can be read off the picture, and none off a pixel. A texture is the
direction of its waves, whatever their colours, period and phase, which takes a
patch to see. Depth shows in how blue the haze makes a surface, against its
unknown colour; tilt shows in how shade and haze change. Waves, shade and noise
must be told apart first, and small spheres hide most of what tells them: there
is always more for a wider network to get right. Scenes are drawn on the
device, afresh every step, so that none is learned by heart.

Coordinates: x to the right, y down, both -1..1 across the picture; z away from
the viewer. Depth is z, and a normal is a unit vector towards the viewer
(z < 0), so that it is parallel to (dz/dx, dz/dy, -1).
"""

import dataclasses
import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key

from jaxttc.tasks.multitask import base, streams

SPHERES = 4
TEXTURES = ("plain", "rows", "columns", "rising", "falling", "checks")
TASKS = (
  base.Task("segmentation", "segmentation", len(TEXTURES)),
  base.Task("depth", "depth", 1),
  base.Task("normals", "normals", 3),
  base.Task("edges", "edges", 1),
)

_LIGHT = (-0.5, -0.6, -0.62)  # towards the light
_AMBIENT = 0.35
_HAZE = (0.35, 0.55, 0.95)
_THICKNESS = 0.2  # of the haze, nats a unit of depth
# Direction of the waves along x and y, by texture; checks have a second one.
_ALONG = 0.5**0.5
_X_WAVES = (0.0, 0.0, 1.0, _ALONG, _ALONG, 1.0)
_Y_WAVES = (0.0, 1.0, 0.0, _ALONG, -_ALONG, 0.0)


class Scene(NamedTuple):
  """One scene. Surface 0 is the plane, 1..4 are the spheres.

  Attributes:
    slope: dz/dx and dz/dy of the plane.
    offset: z of the plane at the picture's centre.
    present: which spheres there are; at least the first.
    centre: x, y and z of the spheres' centres.
    radius: of the spheres.
    texture: class of each surface.
    period: of a texture's waves, in units of x.
    phase: of the waves along their two directions, radians.
    colour: mean colour of each surface, red, green and blue.
    contrast: by how much the waves change it.
  """

  slope: Float[Array, "*b 2"]
  offset: Float[Array, "*b"]
  present: Bool[Array, "*b 4"]
  centre: Float[Array, "*b 4 3"]
  radius: Float[Array, "*b 4"]
  texture: Int[Array, "*b 5"]
  period: Float[Array, "*b 5"]
  phase: Float[Array, "*b 5 2"]
  colour: Float[Array, "*b 5 3"]
  contrast: Float[Array, "*b 5"]


class View(NamedTuple):
  """What is seen at every pixel of a scene.

  Attributes:
    surface: the nearest surface, 0..4.
    depth: its z.
    normals: its unit normal, towards the viewer.
    image: its colour, without noise; in 0..1.
  """

  surface: Int[Array, "H W"]
  depth: Float[Array, "H W"]
  normals: Float[Array, "H W 3"]
  image: Float[Array, "H W 3"]


@dataclasses.dataclass(frozen=True)
class Scenes:
  """The scenes benchmark: six textures, depth, normals and edges.

  Attributes:
    side: pixels a side, a multiple of 8 from 16 on; the same key gives the
      same scene at every side.
    noise: standard deviation of the pictures' noise; colours are 0..1.
    label_noise: share of pixels that, in training, carry the labels of a
      random pixel of their scene; labels that are held out stay exact.
    seed: of the scenes that are held out.

  Raises:
    ValueError: if one of them is out of range.
  """

  side: int = 16
  noise: float = 0.04
  label_noise: float = 0.0
  seed: int = 0

  tasks = TASKS

  def __post_init__(self) -> None:
    if self.side < 16 or self.side % 8:
      raise ValueError(
        f"side must be a multiple of 8 from 16 on, got {self.side}"
      )
    if not 0 <= self.noise <= 1:
      raise ValueError(f"noise must be in 0..1, got {self.noise}")
    if not 0 <= self.label_noise <= 1:
      raise ValueError(f"label_noise must be in 0..1, got {self.label_noise}")
    streams.check_seed(self.seed)

  @property
  def input_shape(self) -> tuple[int, int, int]:
    """(side, side, 3)."""
    return (self.side, self.side, 3)

  def sample(self, key: Key[Array, ""], batch: int) -> base.Examples:
    """Draws training examples.

    Args:
      key: random key; consumed.
      batch: examples to draw, a Python integer.

    Returns:
      inputs f32[batch, side, side, 3] in 0..1 and the labels of `TASKS`, all
      valid. `jax.device_get` makes NumPy arrays of them, to write to files.
    """
    keys = streams.training(key, batch)
    return _draw_all(keys, self.noise, self.side, self.label_noise)

  def held_out(self, count: int) -> base.Examples:
    """The first `count` test examples, with noise in the pictures only.

    They depend on seed, side and noise alone; no training key leads to them.

    Raises:
      ValueError: if `count` is not positive.
    """
    keys = streams.held_out(self.seed, count)
    return _draw_all(keys, self.noise, self.side, 0.0)


@functools.partial(jax.jit, static_argnums=(2, 3))
def _draw_all(keys, noise, side: int, label_noise: float) -> base.Examples:
  return jax.vmap(lambda key: _draw(key, noise, side, label_noise))(keys)


def _draw(key, noise, side: int, label_noise: float) -> base.Examples:
  """One scene, seen and labelled."""
  scene_key, image_key, label_key = jax.random.split(key, 3)
  scene = draw_scene(scene_key)
  view = render(scene, side)
  grain = noise * jax.random.normal(image_key, view.image.shape)
  values = {
    "segmentation": scene.texture[view.surface],
    "depth": view.depth[..., None],
    "normals": view.normals,
    "edges": outlines(view.surface, view.depth)[..., None],
  }
  if label_noise:
    values = _mislabelled(label_key, values, label_noise)
  valid = jnp.ones((side, side), bool)
  labels = {name: base.Label(value, valid) for name, value in values.items()}
  return base.Examples(jnp.clip(view.image + grain, 0, 1), labels)


def draw_scene(key: Key[Array, ""]) -> Scene:
  """Draws a scene; every depth in it is positive."""
  # Four numbers place each surface and nine paint it, all from one call of
  # the generator, which costs more than the rest.
  numbers = jax.random.uniform(key, (1 + SPHERES, 13))
  plane, spheres, paint = numbers[0, :4], numbers[1:, :4], numbers[:, 4:]
  steepness, direction = 0.5 * plane[0], 2 * jnp.pi * plane[1]
  slope = steepness * jnp.stack([jnp.cos(direction), jnp.sin(direction)])
  offset = _between(plane[2], 3.0, 4.0)
  number = jnp.ceil(SPHERES * (1 - plane[3]))
  place = _between(spheres[:, :2], -0.8, 0.8)
  before_plane = _between(spheres[:, 2], 0.2, 1.2)
  z = offset + place @ slope - before_plane
  tint = _between(paint[:, :3], 0.8, 1.2)
  return Scene(
    slope=slope,
    offset=offset,
    present=jnp.arange(SPHERES) < number,
    centre=jnp.concatenate([place, z[:, None]], axis=1),
    radius=_between(spheres[:, 3], 0.25, 0.55),
    texture=jnp.floor(len(TEXTURES) * paint[:, 3]).astype(jnp.int32),
    period=_between(paint[:, 4], 0.35, 0.6),
    phase=2 * jnp.pi * paint[:, 5:7],
    colour=tint * _between(paint[:, 7:8], 0.4, 0.75),
    contrast=_between(paint[:, 8], 0.25, 0.5),
  )


def _between(unit: jax.Array, low: float, high: float) -> jax.Array:
  """Numbers in 0..1, spread over low..high."""
  return low + (high - low) * unit


def render(scene: Scene, side: int) -> View:
  """Casts a ray through the centre of each of side x side pixels."""
  along = (jnp.arange(side) + 0.5) * (2 / side) - 1
  x, y = jnp.meshgrid(along, along)
  depth, surface = _nearest(scene, x, y)
  normals = _normals(scene, x, y, depth, surface)
  return View(
    surface=surface,
    depth=depth,
    normals=normals,
    image=_shade(scene, x, y, depth, normals, surface),
  )


def _nearest(scene: Scene, x, y) -> tuple[jax.Array, jax.Array]:
  plane = scene.offset + scene.slope[0] * x + scene.slope[1] * y
  across = jnp.stack([x, y])[None] - scene.centre[:, :2, None, None]
  inside = jnp.square(scene.radius)[:, None, None] - jnp.square(across).sum(1)
  hit = (inside > 0) & scene.present[:, None, None]
  z = scene.centre[:, 2, None, None] - jnp.sqrt(jnp.maximum(inside, 0))
  depths = jnp.concatenate([plane[None], jnp.where(hit, z, jnp.inf)])
  return depths.min(0), depths.argmin(0)


def _normals(scene: Scene, x, y, depth, surface) -> jax.Array:
  flat = jnp.append(scene.slope, -1.0)
  flat /= jnp.linalg.norm(flat)
  sphere = jnp.maximum(surface - 1, 0)
  round_ = jnp.stack([x, y, depth], axis=-1) - scene.centre[sphere]
  round_ /= scene.radius[sphere][..., None]
  return jnp.where((surface == 0)[..., None], flat[None, None], round_)


def _shade(scene: Scene, x, y, depth, normals, surface) -> jax.Array:
  """Colours: waves on the surface, its shade, and haze before it."""
  texture = scene.texture[surface]
  turns = 2 * jnp.pi / scene.period[surface]
  phase = scene.phase[surface]
  along_x = jnp.array(_X_WAVES)[texture] * x
  along_y = jnp.array(_Y_WAVES)[texture] * y
  waves = jnp.sin(turns * (along_x + along_y) + phase[..., 0])
  checks = waves * jnp.sin(turns * y + phase[..., 1])
  waves = jnp.where(texture == TEXTURES.index("checks"), checks, waves)
  waves = jnp.where(texture == TEXTURES.index("plain"), 0.0, waves)
  albedo = scene.colour[surface]
  albedo *= 1 + (scene.contrast[surface] * waves)[..., None]
  light = jnp.array(_LIGHT) / jnp.linalg.norm(jnp.array(_LIGHT))
  lit = _AMBIENT + (1 - _AMBIENT) * jnp.maximum(normals @ light, 0)
  clear = jnp.exp(-_THICKNESS * depth)[..., None]
  haze = jnp.array(_HAZE)[None, None]
  return jnp.clip(albedo * lit[..., None] * clear + haze * (1 - clear), 0, 1)


def outlines(
  surface: Int[Array, "H W"], depth: Float[Array, "H W"]
) -> Float[Array, "H W"]:
  """1 where a pixel is the rim of its surface, 0 elsewhere.

  Where two neighbours (right or below) show different surfaces, the nearer of
  them is the rim, for it hides the other.
  """
  edges = jnp.zeros(surface.shape, bool)
  for axis in (0, 1):
    first = functools.partial(
      jax.lax.slice_in_dim, start_index=0, limit_index=-1, axis=axis
    )
    second = functools.partial(
      jax.lax.slice_in_dim, start_index=1, limit_index=None, axis=axis
    )
    breaks = first(surface) != second(surface)
    nearer = first(depth) <= second(depth)
    pad = [[0, 0], [0, 0]]
    pad[axis] = [0, 1]
    edges |= jnp.pad(breaks & nearer, pad)
    pad[axis] = [1, 0]
    edges |= jnp.pad(breaks & ~nearer, pad)
  return edges.astype(jnp.float32)


def _mislabelled(key: jax.Array, values, share: float):
  """Values of which a share comes from random pixels of the same scene."""
  side = values["segmentation"].shape[0]
  which_key, from_key = jax.random.split(key)
  own = jnp.arange(side * side)
  other = jax.random.randint(from_key, own.shape, 0, own.size)
  wrong = jax.random.bernoulli(which_key, share, own.shape)
  taken = jnp.where(wrong, other, own)
  return {
    name: value.reshape(own.size, -1)[taken].reshape(value.shape)
    for name, value in values.items()
  }
