# SPDX-License-Identifier: Apache-2.0
"""Tests of the scenes, against a ray-caster in plain loops."""

import hypothesis
from hypothesis import strategies as st
import jax
import numpy as np
import pytest

from jaxttc.tasks.multitask import scenes

_SIDE = 16
_draw = jax.jit(scenes.draw_scene)
_outlines = jax.jit(scenes.outlines)
_render = jax.jit(scenes.render, static_argnums=1)
_BATCH = 32


def _sample(data, key):
  return jax.device_get(data.sample(key, _BATCH))


@pytest.fixture(scope="module")
def held_out():
  return jax.device_get(scenes.Scenes().held_out(64))


def _scene(seed):
  key = jax.random.key(seed)
  return jax.tree.map(np.asarray, _draw(key))


def _view(scene, side=_SIDE):
  return jax.tree.map(np.asarray, _render(scene, side))


def _cast(scene, x, y):
  """Nearest surface, its depth and its normal along one ray."""
  eye, ray = np.array([x, y, 0.0]), np.array([0.0, 0.0, 1.0])
  normal = np.array([*scene.slope, -1.0], np.float64)
  best = (0, (scene.offset + scene.slope @ [x, y]), normal)
  for i in range(scenes.SPHERES):
    if not scene.present[i]:
      continue
    centre, radius = scene.centre[i].astype(np.float64), scene.radius[i]
    # |eye + t ray - centre|^2 = radius^2, the nearer of both roots.
    half = ray @ (eye - centre)
    gap = half**2 - ((eye - centre) @ (eye - centre) - radius**2)
    if gap > 0:
      t = -half - np.sqrt(gap)
      if t < best[1]:
        best = (i + 1, t, eye + t * ray - centre)
  surface, depth, normal = best
  return surface, depth, normal / np.linalg.norm(normal)


def _centres(side):
  return (2 * np.arange(side) + 1) / side - 1


@pytest.mark.parametrize("seed", range(6))
def test_depth_and_normals_are_those_of_a_loop_over_rays(seed):
  scene = _scene(seed)
  view = _view(scene)
  at = _centres(_SIDE)
  for row in range(_SIDE):
    for column in range(_SIDE):
      surface, depth, normal = _cast(scene, at[column], at[row])
      assert view.surface[row, column] == surface
      np.testing.assert_allclose(view.depth[row, column], depth, atol=1e-4)
      np.testing.assert_allclose(view.normals[row, column], normal, atol=2e-3)


@hypothesis.given(seed=st.integers(0, 10_000))
@hypothesis.settings(max_examples=25)
def test_every_view_is_one_of_a_solid_world(seed):
  scene = _scene(seed)
  view = _view(scene)
  assert scene.present[0]
  assert (view.depth > 0.3).all() and np.isfinite(view.depth).all()
  lengths = np.linalg.norm(view.normals, axis=-1)
  np.testing.assert_allclose(lengths, 1, atol=1e-3)
  assert (view.normals[..., 2] < 0).all()
  assert (view.image >= 0).all() and (view.image <= 1).all()
  assert set(np.unique(view.surface)) <= {
    0,
    *(1 + np.flatnonzero(scene.present)),
  }


@pytest.mark.parametrize("seed", range(4))
def test_the_plane_rises_as_its_normal_says(seed):
  """Normals are parallel to (dz/dx, dz/dy, -1), by finite differences."""
  view = _view(_scene(seed))
  flat = view.surface == 0
  pair = flat[:-1, :-1] & flat[1:, :-1] & flat[:-1, 1:]
  assert pair.any()
  step = 2 / _SIDE
  across = (view.depth[:-1, 1:] - view.depth[:-1, :-1]) / step
  down = (view.depth[1:, :-1] - view.depth[:-1, :-1]) / step
  expected = np.stack([across, down, -np.ones_like(down)], -1)
  expected /= np.linalg.norm(expected, axis=-1, keepdims=True)
  np.testing.assert_allclose(
    view.normals[:-1, :-1][pair], expected[pair], atol=1e-4
  )


@hypothesis.given(seed=st.integers(0, 10_000))
@hypothesis.settings(max_examples=25)
def test_edges_are_the_rims_of_what_hides_something(seed):
  """A pixel is one iff a neighbour shows another surface behind it."""
  view = _view(_scene(seed))
  edges = np.asarray(_outlines(view.surface, view.depth))
  for row in range(_SIDE):
    for column in range(_SIDE):
      around = [
        (row + i, column + j) for i, j in ((0, 1), (1, 0), (0, -1), (-1, 0))
      ]
      rim = any(
        view.surface[at] != view.surface[row, column]
        and view.depth[at] > view.depth[row, column]
        for at in around
        if 0 <= min(at) and max(at) < _SIDE
      )
      assert edges[row, column] == rim


def _bare_plane(texture):
  """Red of a level plane with one texture: what varies is the texture."""
  scene = _scene(0)._replace(
    slope=np.zeros(2, np.float32),
    present=np.zeros(4, bool),
    texture=np.full(5, scenes.TEXTURES.index(texture), np.int32),
  )
  return _view(scene).image[..., 0]


def test_a_texture_is_the_direction_of_its_waves():
  assert np.ptp(_bare_plane("plain")) < 1e-5
  directions = {
    "rows": lambda image: (image[:, 1:], image[:, :-1]),
    "columns": lambda image: (image[1:], image[:-1]),
    "falling": lambda image: (image[1:, 1:], image[:-1, :-1]),
    "rising": lambda image: (image[1:, :-1], image[:-1, 1:]),
  }
  for texture in ("rows", "columns", "falling", "rising", "checks"):
    image = _bare_plane(texture)
    assert np.ptp(image) > 0.05
    constant = [
      name
      for name, shifted in directions.items()
      if np.abs(np.subtract(*shifted(image))).max() < 1e-4
    ]
    assert constant == ([] if texture == "checks" else [texture])


def test_a_scene_looks_the_same_at_both_sides():
  """A pixel at 16 is about the mean of its four at 32."""
  scene = _scene(3)
  small, large = _view(scene, 16), _view(scene, 32)
  mean = large.depth.reshape(16, 2, 16, 2).mean((1, 3))
  inner = np.ptp(large.surface.reshape(16, 2, 16, 2), axis=(1, 3)) == 0
  assert inner.mean() > 0.5
  assert np.median(np.abs(mean - small.depth)[inner]) < 0.02


@pytest.mark.parametrize("side", [16, 32])
def test_a_batch_has_the_shapes_and_types_that_are_promised(side):
  data = scenes.Scenes(side=side)
  batch = _sample(data, jax.random.key(1))
  assert (
    batch.inputs.shape == (_BATCH, *data.input_shape) == (_BATCH, side, side, 3)
  )
  assert batch.inputs.dtype == np.float32
  assert set(batch.labels) == {task.name for task in data.tasks}
  assert all(task.dense for task in data.tasks)
  for task in data.tasks:
    value, valid = batch.labels[task.name]
    shape = (_BATCH, side, side)
    assert valid.shape == shape and valid.dtype == bool and valid.all()
    if task.kind == "segmentation":
      assert value.shape == shape and value.dtype == np.int32
      assert value.min() >= 0 and value.max() < task.outputs
    else:
      assert value.shape == (*shape, task.outputs)
      assert value.dtype == np.float32
  assert set(np.unique(batch.labels["edges"].value)) == {0.0, 1.0}


def test_every_texture_and_number_of_spheres_occurs(held_out):
  labels = held_out.labels
  classes = np.bincount(np.ravel(labels["segmentation"].value), minlength=6)
  assert (classes > 0.08 * classes.sum()).all()
  present = [_scene(seed).present.sum() for seed in range(200)]
  assert (np.bincount(present, minlength=5)[1:] > 25).all()
  assert 0.08 < np.asarray(labels["edges"].value).mean() < 0.3


def test_keys_decide_everything_and_tests_stay_apart(held_out):
  one, two = (_sample(scenes.Scenes(), jax.random.key(7)) for _ in range(2))
  jax.tree.map(np.testing.assert_array_equal, one, two)
  few = scenes.Scenes().held_out(8)
  np.testing.assert_allclose(few.inputs, held_out.inputs[:8], atol=1e-5)
  seen = _sample(scenes.Scenes(), jax.random.key(0)).labels["depth"].value
  for depth in np.asarray(held_out.labels["depth"].value):
    assert (np.abs(np.asarray(seen) - depth).mean((1, 2, 3)) > 1e-3).all()


def test_another_seed_holds_out_other_scenes():
  one, other = (scenes.Scenes(seed=seed).held_out(8) for seed in (0, 1))
  assert np.abs(other.inputs - one.inputs).mean() > 0.02


def test_noise_is_as_strong_as_it_says():
  key = jax.random.key(5)
  clean = _sample(scenes.Scenes(noise=0.0), key)
  noisy = _sample(scenes.Scenes(), key)
  added = np.asarray(noisy.inputs - clean.inputs)
  middle = np.abs(np.asarray(clean.inputs) - 0.5) < 0.3
  np.testing.assert_allclose(added[middle].std(), 0.04, rtol=0.05)
  for name, label in noisy.labels.items():
    np.testing.assert_allclose(label.value, clean.labels[name].value, atol=1e-4)


def test_label_noise_takes_labels_from_the_same_scene():
  key = jax.random.key(5)
  exact = _sample(scenes.Scenes(), key)
  wrong = _sample(scenes.Scenes(label_noise=0.5), key)
  np.testing.assert_allclose(wrong.inputs, exact.inputs, atol=1e-5)
  before = np.asarray(exact.labels["depth"].value).reshape(_BATCH, -1)
  after = np.asarray(wrong.labels["depth"].value).reshape(_BATCH, -1)
  moved = np.abs(before - after) > 1e-4
  np.testing.assert_allclose(moved.mean(), 0.5, atol=0.05)
  for old, new in zip(before, after, strict=True):
    gaps = np.abs(new[:, None] - old[None]).min(1)
    np.testing.assert_allclose(gaps, 0.0, atol=1e-4)
  lengths = np.linalg.norm(wrong.labels["normals"].value, axis=-1)
  np.testing.assert_allclose(lengths, 1, atol=1e-3)


def test_labels_that_are_held_out_stay_exact():
  exact, wrong = (
    scenes.Scenes(label_noise=share).held_out(8) for share in (0.0, 0.5)
  )
  jax.tree.map(np.testing.assert_array_equal, exact, wrong)


@pytest.mark.parametrize(
  ("fields", "said"),
  [
    ({"side": 8}, "side must be a multiple of 8 from 16 on, got 8"),
    ({"side": 20}, "side must be a multiple of 8 from 16 on, got 20"),
    ({"noise": -0.1}, "noise must be in 0..1, got -0.1"),
    ({"noise": float("nan")}, "noise must be in 0..1, got nan"),
    ({"label_noise": 1.5}, "label_noise must be in 0..1, got 1.5"),
    ({"seed": -3}, "seed must be in 0..4294967295, got -3"),
  ],
)
def test_refuses_what_cannot_be(fields, said):
  with pytest.raises(ValueError, match=said):
    scenes.Scenes(**fields)
