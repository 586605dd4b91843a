# SPDX-License-Identifier: Apache-2.0
"""Tests of largest matchings against SciPy's assignments."""

import hypothesis
from hypothesis import strategies as st
from hypothesis.extra import numpy as st_numpy
import numpy as np
import pytest
import scipy.optimize

from jaxttc.evaluation import pixel_matching


def best_assignment(a, b, radius):
  here, there = np.argwhere(a), np.argwhere(b)
  distance = np.hypot(*(here[:, None] - there[None]).transpose(2, 0, 1))
  allowed = distance <= radius
  rows, columns = scipy.optimize.linear_sum_assignment(allowed, maximize=True)
  return allowed[rows, columns].sum()


@pytest.mark.parametrize("radius", [0.0, 1.0, 1.5, 3.2])
@hypothesis.settings(max_examples=100)
@hypothesis.given(
  st_numpy.arrays(bool, (2, 6, 9), elements=st.booleans()),
)
def test_no_matching_is_larger(radius, masks):
  found = pixel_matching.pairs(*masks, radius)
  assert found == best_assignment(*masks, radius)
  assert found == pixel_matching.pairs(*masks[::-1], radius)


@pytest.mark.parametrize("share", [0.05, 0.2, 0.5])
@pytest.mark.parametrize("radius", [1.0, 2.3, 4.0])
def test_large_masks_of_noise(share, radius):
  """Long augmenting paths, which small masks do not have."""
  masks = np.random.default_rng(0).random((2, 40, 50)) < share
  found = pixel_matching.pairs(*masks, radius)
  assert found == best_assignment(*masks, radius)


def test_a_chain_is_matched_end_to_end():
  """Nearest pairs first would leave both ends alone."""
  a, b = np.zeros((2, 1, 12), bool)
  a[0, [0, 3, 6]] = True
  b[0, [2, 5, 8]] = True
  # Distances 1 pair 3 with 2 and 6 with 5; only 0-2, 3-5, 6-8 serves all.
  assert pixel_matching.pairs(a, b, 1) == 2
  assert pixel_matching.pairs(a, b, 2) == 3


def test_empty_masks_have_no_pairs():
  empty, full = np.zeros((3, 3), bool), np.ones((3, 3), bool)
  assert pixel_matching.pairs(empty, full, 2) == 0
  assert pixel_matching.pairs(full, empty, 2) == 0
  assert pixel_matching.pairs(full, full, 0) == 9
