# SPDX-License-Identifier: Apache-2.0
"""Roots agree with SciPy's, and their derivatives with differences."""

import hypothesis
from hypothesis import strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import optimize, stats

from jaxttc.simulation.detectors import classifiers, thresholds


def _threshold(skill, ratio, share, sd=1.0):
  made = classifiers.Gaussian(skill, sd**2)

  def excess(t):
    kept = made.survival(t)
    return (1 - share) * kept[0] + share * kept[1] - 1 / ratio

  return thresholds.solve(excess, *made.ends())


_threshold_jit = jax.jit(_threshold)


@hypothesis.settings(max_examples=25)
@hypothesis.given(
  st.floats(0, 8), st.floats(1.01, 1e5), st.floats(1e-6, 0.9), st.floats(0.3, 3)
)
def test_gaussian_threshold_is_that_of_bisection(skill, ratio, share, sd):
  def excess(t):
    kept = (1 - share) * stats.norm.sf(t) + share * stats.norm.sf(t, skill, sd)
    return kept - 1 / ratio

  with jax.enable_x64(True):
    found = float(_threshold_jit(skill, ratio, share, sd))
  # The root itself, or, in a gap between the classes, any point of the gap.
  expected = optimize.brentq(excess, -60, 60, xtol=1e-13)
  assert abs(found - expected) < 1e-10 or abs(excess(found)) < 1e-13


def test_small_ratios_have_thresholds_too():
  with jax.enable_x64(True):  # Below zero: more than half is kept.
    assert _threshold_jit(2.0, 1.2, 0.01) < -0.9


@pytest.mark.parametrize("argument", [0, 1, 2])
def test_derivatives_are_those_of_central_differences(argument):
  with jax.enable_x64(True):
    at = [1.7, 40.0, 0.02]
    slope = jax.grad(_threshold, argument)(*at)
    step = 1e-5 * at[argument]
    ends = []
    for sign in (1, -1):
      moved = list(at)
      moved[argument] += sign * step
      ends.append(_threshold_jit(*moved))
    expected = float(ends[0] - ends[1]) / (2 * step)
    assert float(slope) == pytest.approx(expected, rel=1e-5)


def test_flat_stretches_give_a_point_of_theirs_and_no_slope():
  def root(x):
    # Zero between 1 and 2, whatever x.
    return thresholds.solve(
      lambda t: jnp.where(t < 1, x, jnp.where(t > 2, -x, 0.0)),
      jnp.asarray(0.0),
      jnp.asarray(3.0),
    )

  assert 1 <= root(1.0) <= 2
  assert jax.grad(root)(1.0) == 0


def test_maps_over_ratios():
  ratios = jnp.asarray([2.0, 10.0, 1000.0])
  together = jax.vmap(lambda r: _threshold(1.0, r, 0.1))(ratios)
  alone = [_threshold_jit(1.0, r, 0.1) for r in ratios]
  np.testing.assert_allclose(together, alone, rtol=1e-6)
