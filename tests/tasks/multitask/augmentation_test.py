# SPDX-License-Identifier: Apache-2.0
"""Tests of augmentation: labels stay true to images, and to the geometry."""

import functools

import hypothesis
from hypothesis import strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxttc.tasks.multitask import augmentation, base

_TASKS = (
  base.Task("segmentation", "segmentation", 6),
  base.Task("depth", "depth", 1),
  base.Task("normals", "normals", 3),
  base.Task("edges", "edges", 1),
  base.Task("saliency", "saliency", 1),
  base.Task("scene", "classes", 3),
  base.Task("where", "regression", 2),
)
_N = 16


def _examples(seed=0, batch=2, size=(_N, _N)):
  rng = np.random.default_rng(seed)
  vectors = rng.normal(size=(batch, *size, 3))
  vectors /= np.linalg.norm(vectors, axis=-1, keepdims=True)
  valid = rng.random((5, batch, *size)) < 0.8
  values = (
    rng.integers(0, 6, (batch, *size)).astype(np.int32),
    rng.uniform(1, 9, (batch, *size, 1)).astype(np.float32),
    vectors.astype(np.float32),
    (rng.random((batch, *size, 1)) < 0.3).astype(np.float32),
    (rng.random((batch, *size, 1)) < 0.5).astype(np.float32),
  )
  labels = {
    task.name: base.Label(jnp.asarray(value), jnp.asarray(mask))
    for task, value, mask in zip(_TASKS[:5], values, valid, strict=True)
  }
  labels["scene"] = base.Label(jnp.arange(batch), jnp.ones(batch, bool))
  labels["where"] = base.Label(
    jnp.ones((batch, 2)) / 3, jnp.arange(batch) % 2 == 0
  )
  inputs = rng.random((batch, *size, 3)).astype(np.float32)
  return base.Examples(jnp.asarray(inputs), labels)


def _change(batch=2, mirrored=False, radians=0.0, scale=1.0, window=(0.0, 0.0)):
  return augmentation.Change(
    mirrored=jnp.full(batch, mirrored),
    radians=jnp.full(batch, radians, jnp.float32),
    scale=jnp.full(batch, scale, jnp.float32),
    window=jnp.tile(jnp.array(window, jnp.float32), (batch, 1)),
  )


@functools.partial(jax.jit, static_argnames=("size", "tasks"))
def _apply(examples, change, size=(_N, _N), tasks=_TASKS):
  return augmentation.apply(examples, tasks, change, size)


def _assert_same(found, expected, atol=1e-5):
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(
      np.asarray(a, float), np.asarray(b, float), atol=atol
    ),
    found,
    expected,
  )


def test_no_change_changes_nothing():
  examples = _examples()
  _assert_same(_apply(examples, _change()), examples)


def test_mirroring_is_numpys_and_turns_normals():
  examples = _examples()
  found = _apply(examples, _change(mirrored=True))
  _assert_same(found.inputs, examples.inputs[:, :, ::-1])
  for task in _TASKS[:5]:
    value, valid = examples.labels[task.name]
    sign = jnp.array([-1, 1, 1]) if task.kind == "normals" else jnp.array([1])
    flipped = value[:, :, ::-1]
    expected = (
      flipped if flipped.ndim == 3 else flipped * sign[None, None, None]
    )
    _assert_same(
      found.labels[task.name], base.Label(expected, valid[:, :, ::-1])
    )
  assert found.labels["scene"] is not None
  _assert_same(found.labels["where"], examples.labels["where"])


@pytest.mark.parametrize("quarters", [1, 2, 3, -1])
def test_quarter_turns_are_numpys_and_turn_normals(quarters):
  examples = _examples()
  found = _apply(examples, _change(radians=quarters * np.pi / 2))
  turn = functools.partial(np.rot90, k=quarters, axes=(1, 2))
  _assert_same(found.inputs, turn(examples.inputs), atol=1e-4)
  for task in _TASKS[:5]:
    if task.kind != "normals":
      value, valid = (turn(x) for x in examples.labels[task.name])
      _assert_same(found.labels[task.name], base.Label(value, valid))
  # Counter-clockwise, what pointed right points up, which is -y.
  x, y, z = np.moveaxis(turn(examples.labels["normals"].value), -1, 0)
  for _ in range(quarters % 4):
    x, y = y, -x
  _assert_same(
    found.labels["normals"].value, np.stack([x, y, z], -1), atol=1e-5
  )


def _surface(radians):
  """A smooth height over the plane, turned about its centre, and its normals.

  Normals follow from the height alone: (-dh/dx, -dh/dy, 1), of length 1.
  """
  n = 65
  y, x = np.mgrid[:n, :n] - (n - 1) / 2
  cos, sin = np.cos(radians), np.sin(radians)
  # The height of the unturned surface, where a turned pixel came from.
  u, v = x * cos - y * sin, x * sin + y * cos
  height = 4 * np.sin(u / 9) + 3 * np.cos(v / 7 + u / 20)
  dy, dx = np.gradient(height)
  vectors = np.stack([-dx, -dy, np.ones_like(dx)], -1)
  vectors /= np.linalg.norm(vectors, axis=-1, keepdims=True)
  inside = x**2 + y**2 < (n / 2 - 3) ** 2
  return height, vectors, inside


@pytest.mark.parametrize("degrees", [-20.0, 7.0, 45.0, 160.0])
@pytest.mark.parametrize("mirrored", [False, True])
def test_turned_normals_are_those_of_the_turned_surface(degrees, mirrored):
  _, vectors, inside = _surface(0.0)
  radians = np.deg2rad(degrees)
  label = base.Label(
    jnp.asarray(vectors[None], jnp.float32), jnp.asarray(inside[None])
  )
  examples = base.Examples(jnp.zeros((1, *inside.shape, 3)), {"normals": label})
  change = _change(1, mirrored, radians)
  found = _apply(examples, change, inside.shape, _TASKS[2:3])
  if mirrored:
    # Turning after mirroring is mirroring after turning the other way.
    _, expected, _ = _surface(-radians)
    expected = expected[:, ::-1] * np.array([-1, 1, 1])
  else:
    _, expected, _ = _surface(radians)
  value, valid = (np.asarray(x[0]) for x in found.labels["normals"])
  both = valid & inside
  assert both.sum() > 2000
  cosine = (value * expected).sum(-1)[both]
  # The nearest pixel is up to 0.7 pixels off.
  assert np.degrees(np.arccos(cosine.clip(-1, 1))).max() < 4
  assert np.degrees(np.arccos(cosine.clip(-1, 1))).mean() < 1.5


def test_colours_turn_as_the_picture_does():
  radians = np.deg2rad(30)
  before, _, inside = _surface(0.0)
  after, _, _ = _surface(radians)
  pixels = jnp.asarray(before[None, :, :, None].repeat(3, -1), jnp.float32)
  examples = base.Examples(pixels, {})
  found = _apply(examples, _change(1, radians=radians), inside.shape, ())
  difference = np.abs(np.asarray(found.inputs[0, :, :, 0]) - after)
  assert difference[inside].max() < 0.05


@pytest.mark.parametrize("scale", [0.5, 1.5, 2.0])
def test_scaling_divides_depth_and_keeps_normals(scale):
  examples = _examples()
  plain = {
    name: base.Label(jnp.ones_like(value), jnp.ones_like(valid))
    for name, (value, valid) in examples.labels.items()
  }
  vectors = jnp.broadcast_to(jnp.array([0.6, 0.0, 0.8]), (2, _N, _N, 3))
  plain["normals"] = plain["normals"]._replace(value=vectors)
  found = _apply(examples._replace(labels=plain), _change(scale=scale))
  depth, valid = found.labels["depth"]
  np.testing.assert_allclose(depth[valid], 1 / scale, rtol=1e-6)
  np.testing.assert_allclose(
    found.labels["normals"].value[valid], vectors[valid], rtol=1e-6
  )
  share = float(valid.mean())
  assert share == 1 if scale >= 1 else abs(share - scale**2) < 0.02


def test_double_scale_shows_each_pixel_four_times():
  examples = _examples()
  found = _apply(examples, _change(scale=2.0))
  quarter = slice(_N // 4, 3 * _N // 4)
  inner = np.asarray(examples.labels["segmentation"].value)[:, quarter, quarter]
  np.testing.assert_array_equal(
    found.labels["segmentation"].value, inner.repeat(2, 1).repeat(2, 2)
  )


def test_a_window_is_cut_out_where_it_says():
  examples = _examples()
  found = _apply(examples, _change(window=(3.0, -2.0)), size=(8, 6))
  # The window's centre is 3 rows below and 2 columns left of the image's.
  rows, columns = slice(4 + 3, 12 + 3), slice(5 - 2, 11 - 2)
  _assert_same(found.inputs, examples.inputs[:, rows, columns])
  value, valid = examples.labels["segmentation"]
  expected = base.Label(value[:, rows, columns], valid[:, rows, columns])
  _assert_same(found.labels["segmentation"], expected)


@hypothesis.given(
  seed=st.integers(0, 1000),
  mirrored=st.booleans(),
  radians=st.floats(-3.2, 3.2),
  scale=st.floats(0.5, 2.0),
)
@hypothesis.settings(max_examples=30)
def test_what_holds_for_any_change(seed, mirrored, radians, scale):
  examples = _examples(seed % 3)
  found = _apply(examples, _change(2, mirrored, radians, scale))
  for task in _TASKS[:5]:
    value, valid = (np.asarray(x) for x in found.labels[task.name])
    assert np.isfinite(value).all()
    assert value.dtype == examples.labels[task.name].value.dtype
    if task.kind == "segmentation":
      assert set(np.unique(value)) <= set(range(6))
    if task.kind in ("edges", "saliency"):
      assert set(np.unique(value)) <= {0, 1}
    if task.kind == "normals":
      lengths = np.linalg.norm(value, axis=-1)
      np.testing.assert_allclose(lengths[valid], 1, atol=1e-4)
  assert found.inputs.min() >= -1e-6 and found.inputs.max() <= 1 + 1e-5


def test_outside_is_black_and_not_valid():
  examples = _examples()
  found = _apply(examples, _change(scale=0.5))
  assert not found.inputs[:, :3].any()
  for task in _TASKS[:5]:
    assert not found.labels[task.name].valid[:, :4].any()


@pytest.mark.parametrize(
  "recipe",
  [
    augmentation.NYUD,
    augmentation.PASCAL,
    augmentation.Recipe(scales=(0.5, 2.0), is_continuous=True, crop=(8, 12)),
  ],
)
def test_recipes_draw_within_their_bounds(recipe):
  size = (20, 30)
  change = augmentation.draw(jax.random.key(0), recipe, 2000, size)
  low, high = min(recipe.scales), max(recipe.scales)
  assert low - 1e-6 <= change.scale.min() and change.scale.max() <= high + 1e-6
  if not recipe.is_continuous:
    shares = [float((change.scale == s).mean()) for s in recipe.scales]
    np.testing.assert_allclose(shares, 1 / len(recipe.scales), atol=0.05)
  largest = np.deg2rad(recipe.degrees)
  assert np.abs(change.radians).max() <= largest + 1e-6
  assert np.abs(change.radians).max() >= 0.9 * largest
  assert abs(float(change.mirrored.mean()) - recipe.mirrored) < 0.05
  if recipe.crop is None:
    assert not change.window.any()
  else:
    # The window and the image: one is wholly inside the other, on each axis.
    image = np.asarray(change.scale)[:, None] * np.array(size)
    room = np.abs(image - np.array(recipe.crop)) / 2
    assert (np.abs(change.window) <= room + 1e-4).all()
    assert (np.abs(change.window) > 0.9 * room).any(0).all()


def test_each_image_changes_in_its_own_way_and_keys_repeat():
  one = _examples(batch=1)
  batch = jax.tree.map(lambda x: jnp.concatenate([x] * 4), one)
  run = jax.jit(
    lambda key, x: augmentation.augment(key, x, _TASKS, augmentation.PASCAL)
  )
  first = run(jax.random.key(0), batch)
  _assert_same(first, run(jax.random.key(0), batch), atol=0)
  inputs = np.asarray(first.inputs)
  assert all((inputs[i] != inputs[0]).any() for i in range(1, 4))
  other = run(jax.random.key(1), batch)
  assert (other.inputs != first.inputs).any()


def test_resize_averages_colours_and_keeps_classes():
  examples = _examples()
  found = augmentation.resize(examples, _TASKS, (_N // 2, _N // 2))
  assert found.inputs.shape == (2, _N // 2, _N // 2, 3)
  assert set(np.unique(found.labels["segmentation"].value)) <= set(range(6))
  assert found.labels["depth"].valid.dtype == bool
  constant = examples._replace(inputs=jnp.full((2, _N, _N, 3), 0.3))
  small = augmentation.resize(constant, _TASKS, (5, 7))
  np.testing.assert_allclose(small.inputs, 0.3, rtol=1e-5)
  _assert_same(augmentation.resize(examples, _TASKS, (_N, _N)), examples)
  np.testing.assert_allclose(
    augmentation.resize(constant, _TASKS, (8, 8)).labels["depth"].value,
    examples.labels["depth"].value[:, 1::2, 1::2],
  )


def test_standardise():
  grey = jnp.broadcast_to(jnp.array(augmentation.IMAGENET_MEAN), (1, 2, 2, 3))
  np.testing.assert_allclose(augmentation.standardise(grey), 0, atol=1e-6)
  white = augmentation.standardise(jnp.ones((1, 1, 1, 3)))[0, 0, 0]
  np.testing.assert_allclose(white, [2.2489, 2.4286, 2.64], atol=1e-3)


@pytest.mark.parametrize(
  "fields, message",
  [
    ({"mirrored": 1.5}, r"mirrored=1.5; expected it in \[0, 1\]"),
    ({"scales": ()}, r"scales=\(\); expected positive"),
    ({"scales": (0.0, 1.0)}, r"scales=\(0.0, 1.0\); expected positive"),
    (
      {"scales": (1.0,), "is_continuous": True},
      "expected the smallest and the",
    ),
    ({"degrees": -1.0}, "degrees=-1.0; expected"),
    ({"crop": (0, 4)}, r"crop=\(0, 4\)"),
  ],
)
def test_recipes_that_cannot_be(fields, message):
  with pytest.raises(ValueError, match=message):
    augmentation.Recipe(**fields)


def test_examples_that_cannot_be():
  examples = _examples()
  key, recipe = jax.random.key(0), augmentation.NYUD
  with pytest.raises(ValueError, match=r"inputs \[2, 16\] are no images"):
    augmentation.augment(
      key, examples._replace(inputs=jnp.zeros((2, 16))), _TASKS, recipe
    )
  with pytest.raises(
    ValueError, match="no labels of task 'segmentation'; .*: none"
  ):
    augmentation.augment(key, examples._replace(labels={}), _TASKS, recipe)
