# SPDX-License-Identifier: Apache-2.0
"""Tests of the edge score against assignments, loops and hand cases."""

import hypothesis
from hypothesis import strategies as st
from hypothesis.extra import numpy as st_numpy
import numpy as np
import pytest
import scipy.ndimage
import scipy.optimize

from jaxttc.evaluation import edge_score
from jaxttc.tasks.multitask import thinning

masks = st_numpy.arrays(bool, (7, 8), elements=st.booleans())


def counts(mask, truth, radius, matching="exact"):
  """Counts of a mask that needs no thinning, at a radius in pixels."""
  return edge_score.image_counts(
    mask.astype(float),
    truth,
    max_distance=radius / np.hypot(*mask.shape) * (1 + 1e-9),
    matching=matching,
    thin=False,
  )


@pytest.mark.parametrize("radius", [0, 1, 1.5, 3])
@hypothesis.settings(max_examples=40)
@hypothesis.given(masks, masks)
def test_matching_is_the_best_assignment(radius, mask, truth):
  a, b = np.argwhere(mask), np.argwhere(truth)
  distance = np.hypot(*(a[:, None] - b[None]).transpose(2, 0, 1))
  allowed = distance <= radius
  rows, columns = scipy.optimize.linear_sum_assignment(allowed, maximize=True)
  found = counts(mask, truth, radius)
  assert found.right[0] == found.found[0] == allowed[rows, columns].sum()
  assert found.predicted[0] == len(a)
  assert found.true[0] == len(b)
  loose = counts(mask, truth, radius, "dilation")
  assert loose.right[0] == allowed.any(axis=1).sum()
  assert loose.found[0] == allowed.any(axis=0).sum()
  assert loose.f()[0] >= found.f()[0]


def test_one_true_pixel_serves_one_prediction():
  mask, truth = np.zeros((2, 5, 5), bool)
  mask[2, 1:4] = True
  truth[2, 2] = True
  exact, loose = (counts(mask, truth, 1, m) for m in ("exact", "dilation"))
  assert exact.right[0] == 1
  assert loose.right[0] == 3
  assert exact.f()[0] == pytest.approx(2 * (1 / 3) / (4 / 3))
  assert loose.f()[0] == 1


def noisy_contours(seed, size=48):
  """Probabilities around displaced circles, with clutter; the circles."""
  rng = np.random.default_rng(seed)
  y, x = np.indices((size, size))
  truth = np.zeros((size, size), bool)
  probability = rng.uniform(0, 0.3, (size, size))
  for _ in range(3):
    centre, radius = rng.uniform(10, size - 10, 2), rng.uniform(6, 14)
    away = np.hypot(y - centre[0], x - centre[1]) - radius
    truth |= abs(away) < 0.5
    shifted = np.hypot(y - centre[0] - 1, x - centre[1]) - radius
    ridge = np.exp(-(shifted**2) / 4) * rng.uniform(0.5, 1)
    probability = np.maximum(probability, ridge)
  return probability, thinning.thin(truth)


def test_the_gap_of_the_dilation_is_small_on_contours():
  scores = [
    edge_score.edge_score(
      edge_score.image_counts(
        *noisy_contours(seed), max_distance=2 / 67, matching=matching
      )
      for seed in range(4)
    )
    for matching in ("exact", "dilation")
  ]
  gap = scores[1].ods_f - scores[0].ods_f
  assert 0 <= gap < 0.05
  assert scores[0].ods_f > 0.75


@pytest.mark.parametrize("degrees", [0, 30, 45, 70, 90, 135])
def test_suppression_leaves_the_ridge(degrees):
  y, x = np.indices((31, 31)) - 15.0
  normal = np.radians(degrees)
  away = x * np.cos(normal) + y * np.sin(normal)
  probability = np.exp(-(away**2) / 8)
  found = edge_score.non_maximum_suppression(probability)
  kept = found > 0
  inside = np.hypot(y, x) < 12
  assert not kept[inside & (abs(away) > 1)].any()
  assert kept[inside & (abs(away) < 0.3)].all()
  np.testing.assert_array_equal(found[kept], probability[kept])


def test_a_right_prediction_scores_one_and_a_far_one_nothing():
  truth = np.zeros((32, 32), bool)
  truth[16, 4:28] = True
  blurred = scipy.ndimage.gaussian_filter(truth.astype(float), 1.5)
  blurred /= blurred.max()
  near = edge_score.image_counts(blurred, truth, max_distance=2 / 45)
  assert edge_score.edge_score([near]).ods_f > 0.95
  far = edge_score.image_counts(np.roll(blurred, 9, 0), truth)
  assert edge_score.edge_score([far]).ods_f == 0


def test_pooled_and_own_thresholds():
  """Two images that want different thresholds: OIS is above ODS."""
  truth = np.zeros((4, 4), bool)
  truth[0] = True
  low, high = np.where(truth, 0.35, 0.1), np.where(truth, 0.9, 0.6)
  images = [edge_score.image_counts(p, truth, thin=False) for p in (low, high)]
  found = edge_score.edge_score(images)
  # At 0.35 and below the clutter of one image counts, above it nothing of the
  # other is found: P, R are 8 / 20, 1 or 1, 4 / 8.
  assert found.ods_f == pytest.approx(2 / 3)
  assert (found.precision, found.recall) == (1, 0.5)
  assert 0.6 < found.threshold <= 0.9
  assert found.ois_f == 1


def test_pixels_that_are_not_valid_count_for_nothing():
  truth = np.zeros((6, 6), bool)
  truth[2] = True
  valid = np.ones((6, 6), bool)
  valid[:, 4:] = False
  wrong = truth.astype(float)
  wrong[:, 4:] = 1 - wrong[:, 4:]
  found = edge_score.image_counts(wrong, truth, valid=valid, thin=False)
  assert found.true[0] == found.predicted[0] == found.right[0] == 4


def test_nothing_true_or_nothing_predicted_scores_nothing():
  empty, full = np.zeros((5, 5)), np.ones((5, 5))
  for probability, truth in ((empty, full), (full, empty), (empty, empty)):
    for matching in edge_score.MATCHINGS:
      found = edge_score.image_counts(probability, truth, matching=matching)
      assert edge_score.edge_score([found]).ods_f == 0


@pytest.mark.parametrize(
  ("change", "said"),
  [
    ({"truth": np.zeros((3, 4))}, r"got \(4, 4\), \(3, 4\) and \(4, 4\)"),
    ({"valid": np.zeros(4)}, r"and \(4,\)"),
    ({"probability": np.full((4, 4), 2.0)}, r"must lie in \[0, 1\]"),
    ({"probability": np.full((4, 4), np.nan)}, r"must lie in \[0, 1\]"),
    ({"matching": "close"}, "one of exact, dilation, got 'close'"),
    ({"max_distance": -1.0}, r"max_distance must lie in \[0, 1\], got -1.0"),
  ],
)
def test_bad_input_is_refused(change, said):
  right = {"probability": np.zeros((4, 4)), "truth": np.zeros((4, 4))}
  with pytest.raises(ValueError, match=said):
    edge_score.image_counts(**(right | change))
  with pytest.raises(ValueError, match="no images"):
    edge_score.edge_score([])
