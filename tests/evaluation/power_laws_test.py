# SPDX-License-Identifier: Apache-2.0
"""Exponents and trends, found where they are known."""

from hypothesis import given
from hypothesis import strategies as st
import numpy as np
import pytest

from jaxttc.evaluation import power_laws

_SIZES = np.array([8, 16, 32, 64])


@given(st.floats(-2, 2), st.floats(0.1, 10))
def test_exact_power_laws_are_found_exactly(power, scale):
  values = np.tile(scale * _SIZES**power, (3, 1))
  found = power_laws.exponent(
    _SIZES, values, rng=np.random.default_rng(0), resamples=5
  )
  np.testing.assert_allclose(found, power, atol=1e-9)


def test_intervals_hold_the_exponent_of_noisy_seeds():
  rng = np.random.default_rng(1)
  noise = np.exp(0.2 * rng.normal(size=(40, 4)))
  found = power_laws.exponent(_SIZES, 3 * _SIZES**0.5 * noise, rng=rng)
  assert found.low < 0.5 < found.high
  assert found.high - found.low < 0.2


def test_exponents_of_deviations():
  rng = np.random.default_rng(2)
  values = 5 + rng.normal(size=(4000, 4)) * _SIZES**0.5
  found = power_laws.exponent(
    _SIZES, values, rng=rng, summary=lambda rows: rows.std(0), resamples=50
  )
  assert found.value == pytest.approx(0.5, abs=0.05)


def test_trends_are_what_a_doubling_adds_and_may_be_negative():
  values = np.tile(1.0 - 2.0 * np.log2(_SIZES), (2, 1))
  found = power_laws.trend(_SIZES, values, rng=np.random.default_rng(0))
  np.testing.assert_allclose(found, -2, atol=1e-9)


@pytest.mark.parametrize(
  "sizes, values, said",
  [
    (_SIZES, -np.ones((2, 4)), "not positive everywhere"),
    (_SIZES, np.ones((2, 3)), r"expected values\[seed, size\] for 4 sizes"),
    (np.array([8, 8]), np.ones((2, 2)), "two or more positive sizes"),
  ],
)
def test_what_has_no_exponent_is_refused(sizes, values, said):
  with pytest.raises(ValueError, match=said):
    power_laws.exponent(sizes, values, rng=np.random.default_rng(0))
