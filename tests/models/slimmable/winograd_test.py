# SPDX-License-Identifier: Apache-2.0
"""Winograd's convolutions against plain ones, in double precision."""

from hypothesis import given, settings
from hypothesis import strategies as st
import jax
import numpy as np
import pytest

from jaxttc.models.slimmable import windows, winograd

_SIZES = st.sampled_from([2, 4, 6])


def _drawn(seed, *shape):
  return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def _exact(values, kernel):
  """The convolution as its definition says, in float64."""
  _, high, wide, _ = values.shape
  padded = np.pad(np.float64(values), ((0, 0), (1, 1), (1, 1), (0, 0)))
  return sum(
    padded[:, i : i + high, j : j + wide] @ np.float64(kernel[i, j])
    for i in range(3)
    for j in range(3)
  )


@settings(max_examples=12, deadline=None)
@given(_SIZES, _SIZES, st.sampled_from([1, 2, 4]), st.integers(0, 99))
def test_squares_are_the_convolution(high, wide, at_once, seed):
  values, kernel = _drawn(seed, 4, high, wide, 3), _drawn(seed + 1, 3, 3, 3, 5)
  found = winograd.convolve(values, kernel, at_once)
  np.testing.assert_allclose(found, _exact(values, kernel), atol=2e-5)


def test_rounding_is_near_that_of_the_plain_form():
  values, kernel = _drawn(0, 2, 8, 8, 64), _drawn(1, 3, 3, 64, 64) / 24
  exact = _exact(values, kernel)
  plain = np.abs(windows.convolve(values, kernel) - exact).max()
  found = np.abs(winograd.convolve(values, kernel, 2) - exact).max()
  assert found < 5 * plain


@pytest.mark.parametrize(
  ("sizes", "at_once"),
  [
    ((32, 32, 32, 64, 64), 8),  # what fits the cache
    ((6, 64, 64, 64, 64), 2),
    ((5, 64, 64, 64, 128), 1),
    ((32, 8, 8, 128, 128), 32),
    ((1, 8, 8, 64, 64), 1),
    ((1, 4, 4, 256, 256), 0),  # few squares
    ((32, 16, 16, 32, 64), 0),  # few channels
    ((32, 16, 16, 64, 32), 0),
    ((32, 15, 16, 64, 64), 0),  # odd sizes
    ((1, 512, 512, 64, 64), 0),  # one image is too many
  ],
)
def test_images_at_once(sizes, at_once):
  assert winograd.images_at_once(*sizes) == at_once


def test_programs_for_cpus_take_it_where_it_pays():
  values, kernel = _drawn(0, 2, 8, 8, 64), _drawn(1, 3, 3, 64, 64)
  plain = windows.convolve(values, kernel)
  with windows.form_for_cpus():
    text = str(jax.make_jaxpr(windows.convolve)(values, kernel))
    found = windows.convolve(values, kernel)
  assert "conv_general_dilated" not in text
  assert text.count("dot_general") == 16
  np.testing.assert_allclose(found, plain, rtol=1e-4, atol=1e-4)
