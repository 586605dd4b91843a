# SPDX-License-Identifier: Apache-2.0
"""Tests of hypervolumes against counts on grids and unions of boxes."""

import itertools

import hypothesis
from hypothesis import strategies as st
import jax
import numpy as np
import pytest

from jaxttc.evaluation import hypervolume as hypervolume_lib


def count_cells(points, sides):
  """Unit cells that some point dominates: exact for points of whole numbers."""
  cells = np.array(list(itertools.product(*map(range, sides))))
  held = (cells[:, None, :] + 1 <= points[None, :, :]).all(-1).any(-1)
  return int(held.sum())


def whole_points(dimensions, most=7):
  point = st.tuples(*[st.integers(-1, 4)] * dimensions)
  return st.lists(point, max_size=most).map(
    lambda rows: np.array(rows, np.int64).reshape(-1, dimensions)
  )


@pytest.mark.parametrize("dimensions", [1, 2, 3, 4, 5])
@hypothesis.settings(max_examples=40)
@hypothesis.given(data=st.data())
def test_volume_is_the_count_of_unit_cells(dimensions, data):
  points = data.draw(whole_points(dimensions))
  found = hypervolume_lib.hypervolume(points, np.zeros(dimensions))
  want = count_cells(points, (4,) * dimensions)
  assert found == pytest.approx(want, abs=1e-9)


@pytest.mark.parametrize("dimensions", range(1, 9))
def test_two_points_follow_inclusion_and_exclusion(dimensions):
  rng = np.random.default_rng(dimensions)
  a, b = rng.uniform(-1, 1, (2, dimensions))
  reference = np.full(dimensions, -1.5)
  found = hypervolume_lib.hypervolume([a, b], reference)
  each = (a - reference).prod() + (b - reference).prod()
  both = (np.minimum(a, b) - reference).prod()
  assert found == pytest.approx(each - both, rel=1e-12)
  alone = hypervolume_lib.hypervolume([a], reference)
  assert alone == pytest.approx((a - reference).prod(), rel=1e-12)


@pytest.mark.parametrize("dimensions", [3, 6])
def test_three_points_follow_inclusion_and_exclusion(dimensions):
  points = np.random.default_rng(0).uniform(0.1, 1, (3, dimensions))
  want = 0.0
  for size in (1, 2, 3):
    for some in itertools.combinations(points, size):
      want -= (-1) ** size * np.min(some, axis=0).prod()
  found = hypervolume_lib.hypervolume(points, np.zeros(dimensions))
  assert found == pytest.approx(want, rel=1e-12)


@pytest.mark.parametrize("dimensions", [2, 3, 4, 6])
def test_order_scale_and_place_do_not_matter(dimensions):
  rng = np.random.default_rng(1)
  points = rng.uniform(0, 1, (14, dimensions))
  reference = np.full(dimensions, 0.1)
  value = hypervolume_lib.hypervolume(points, reference)
  axes = rng.permutation(dimensions)
  shuffled = rng.permutation(points)[:, axes]
  assert hypervolume_lib.hypervolume(
    shuffled, reference[axes]
  ) == pytest.approx(value, rel=1e-12)
  scale = rng.uniform(0.5, 2, dimensions)
  moved = hypervolume_lib.hypervolume(points * scale + 3, reference * scale + 3)
  assert moved == pytest.approx(value * scale.prod(), rel=1e-9)


@pytest.mark.parametrize("dimensions", [2, 3, 5])
def test_dominated_points_add_nothing_and_others_do(dimensions):
  points = np.random.default_rng(2).uniform(0.2, 1, (10, dimensions))
  zero = np.zeros(dimensions)
  value = hypervolume_lib.hypervolume(points, zero)
  below = np.concatenate([points, 0.9 * points[:3], points[:2], -points[:1]])
  assert hypervolume_lib.hypervolume(below, zero) == pytest.approx(
    value, rel=1e-12
  )
  better = np.concatenate([points, points[:1] + 0.5])
  assert hypervolume_lib.hypervolume(better, zero) > value
  flat = points.copy()
  flat[:, 0] = 0.0  # on the reference
  assert hypervolume_lib.hypervolume(flat, zero) == 0


def test_no_points_have_no_volume():
  assert hypervolume_lib.hypervolume(np.zeros((0, 3)), np.zeros(3)) == 0
  empty = hypervolume_lib.monte_carlo(
    np.zeros((0, 3)), np.zeros(3), jax.random.key(0)
  )
  assert empty == (0.0, 0.0, 0.0)


def test_undominated_keeps_one_of_twins():
  points = np.array([[1.0, 2], [2, 1], [1, 2], [1, 1], [0, 2]])
  found = hypervolume_lib.undominated(points)
  assert found.tolist() == [True, True, False, False, False]


@pytest.mark.parametrize("dimensions", [3, 5])
def test_sampling_agrees_with_the_exact_volume(dimensions):
  points = np.random.default_rng(3).uniform(0.1, 1, (20, dimensions))
  reference = np.full(dimensions, -0.5)
  want = hypervolume_lib.hypervolume(points, reference)
  found = hypervolume_lib.monte_carlo(
    points, reference, jax.random.key(0), 40_000, level=0.999
  )
  assert found.low < want < found.high
  assert found.high - found.low < 0.05 * want


def test_sampling_twenty_dimensions_of_boxes_that_are_apart():
  """Two boxes whose overlap is known, at lengths that float32 cannot hold."""
  a, b = np.full((2, 20), 1e3)
  a[0], b[1] = 3e3, 3e3
  want = a.prod() + b.prod() - np.minimum(a, b).prod()
  found = hypervolume_lib.monte_carlo(
    [a, b], np.zeros(20), jax.random.key(1), level=0.999
  )
  assert found.low <= want <= found.high
  assert found.high - found.low < 0.02 * want


def test_sets_of_like_size_share_a_program():
  rng = np.random.default_rng(5)
  sphere = np.abs(rng.normal(size=(16, 9)))
  sphere /= np.linalg.norm(sphere, axis=1, keepdims=True)
  before = hypervolume_lib._shares._cache_size()
  for size in (9, 12, 16):
    hypervolume_lib.monte_carlo(sphere[:size], np.zeros(9), jax.random.key(0))
  assert hypervolume_lib._shares._cache_size() == before + 1


def test_sampling_one_point_knows_its_volume():
  found = hypervolume_lib.monte_carlo(
    np.full((1, 12), 0.5), np.zeros(12), jax.random.key(0), 1000
  )
  assert found.low == found.value == found.high
  assert found.value == pytest.approx(0.5**12)


def test_intervals_hold_as_often_as_they_say():
  points = np.random.default_rng(4).uniform(0.2, 1, (6, 3))
  want = hypervolume_lib.hypervolume(points, np.zeros(3))
  found = [
    hypervolume_lib.monte_carlo(
      points, np.zeros(3), jax.random.key(seed), 1024, level=0.8
    )
    for seed in range(200)
  ]
  held = np.mean([low <= want <= high for _, low, high in found])
  assert abs(held - 0.8) < 0.1  # 3.5 standard errors


def test_savings_are_one_more_coordinate():
  points = hypervolume_lib.with_savings([[0.5], [0.8]], [25.0, 100.0], 100.0)
  np.testing.assert_allclose(points, [[0.5, 0.75], [0.8, 0.0]])
  value = hypervolume_lib.hypervolume(points, np.zeros(2))
  assert value == pytest.approx(0.5 * 0.75)


@pytest.mark.parametrize(
  ("call", "said"),
  [
    (lambda h: h.hypervolume([[1, 2]], [0]), r"points\[N, K\].*\(1, 2\) and"),
    (lambda h: h.hypervolume([1, 2], [0, 0]), r"points\[N, K\]"),
    (lambda h: h.hypervolume([[np.nan]], [0]), "must be finite"),
    (lambda h: h.hypervolume(np.ones((2, 9)), np.zeros(9)), "got 9; use monte"),
    (
      lambda h: h.monte_carlo([[1.0]], [0], jax.random.key(0), 1),
      "samples must be at least 2, got 1",
    ),
    (
      lambda h: h.monte_carlo([[1.0]], [0], jax.random.key(0), level=1.0),
      "level must lie in",
    ),
    (lambda h: h.with_savings([[1.0]], [1.0, 2.0], 3.0), r"macs\[N\], got"),
    (lambda h: h.with_savings([[1.0]], [-1.0], 3.0), "finite and >= 0"),
    (lambda h: h.with_savings([[1.0]], [1.0], 0.0), "got 0.0 for the latter"),
  ],
)
def test_bad_input_is_refused(call, said):
  with pytest.raises(ValueError, match=said):
    call(hypervolume_lib)
