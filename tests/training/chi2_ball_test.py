# SPDX-License-Identifier: Apache-2.0
"""The best reweighting of a chi-square ball, against a general optimiser."""

from hypothesis import given
from hypothesis import strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize

from jaxttc.training import chi2_ball

_tilt = jax.jit(chi2_ball.chi2_tilt)


def _oracle(rewards, chances, kappa):
  """The greatest mean, by sequential quadratic programming."""
  found = scipy.optimize.minimize(
    lambda w: -(chances * w) @ rewards,
    np.ones_like(rewards),
    jac=lambda w: -chances * rewards,
    bounds=[(0, None)] * len(rewards),
    constraints=[
      {"type": "eq", "fun": lambda w: chances @ w - 1},
      {"type": "ineq", "fun": lambda w: kappa - chances @ (w - 1) ** 2},
    ],
    method="SLSQP",
    options={"maxiter": 500, "ftol": 1e-12},
  )
  assert found.success
  return -found.fun


def test_inside_the_ball_the_gain_is_root_kappa_sigma():
  rewards = np.array([0.0, 1.0, 2.0, 5.0])
  kappa = 0.1
  tilt = chi2_ball.chi2_tilt(rewards, kappa)
  assert float(tilt.weights.min()) > 0
  expected = rewards.mean() + np.sqrt(kappa) * rewards.std()
  assert float(tilt.value) == pytest.approx(expected, rel=1e-5)
  assert float(tilt.divergence) == pytest.approx(kappa, rel=1e-4)
  assert float(tilt.weights.mean()) == pytest.approx(1, rel=1e-5)


@pytest.mark.parametrize("kappa", [0.05, 0.5, 1.0, 2.0, 6.0, 30.0])
def test_values_are_those_of_an_optimiser(kappa):
  rewards = np.array([0.0, 0.0, 1.0, 2.0, 5.0, 6.0])
  chances = np.array([0.3, 0.2, 0.2, 0.1, 0.1, 0.1])
  tilt = _tilt(rewards, kappa, jnp.asarray(chances, jnp.float32))
  assert float(tilt.value) == pytest.approx(
    _oracle(rewards, chances, kappa), abs=2e-3
  )


@given(
  st.lists(st.integers(0, 20), min_size=6, max_size=6),
  st.floats(0.0, 50.0),
)
def test_weights_are_in_the_ball(rewards, kappa):
  tilt = _tilt(np.array(rewards, np.float32), np.float32(kappa))
  assert (np.asarray(tilt.weights) >= 0).all()
  assert float(tilt.weights.mean()) == pytest.approx(1, abs=1e-3)
  assert float(tilt.divergence) <= kappa * 1.001 + 1e-3
  assert float(tilt.value) >= np.mean(rewards) - 1e-3


def test_all_goes_to_the_best_where_the_ball_holds_it():
  """Rewards without a chance are not there."""
  chances = jnp.array([0.5, 0.25, 0.25, 0.0])
  tilt = chi2_ball.chi2_tilt(np.array([1.0, 2.0, 3.0, 9.0]), 100.0, chances)
  np.testing.assert_allclose(tilt.weights, [0, 0, 4, 0], atol=1e-6)
  assert float(tilt.value) == pytest.approx(3)


def test_no_ball_is_no_tilt_and_negative_is_refused():
  tilt = chi2_ball.chi2_tilt(np.array([1.0, 2.0]), 0.0)
  np.testing.assert_allclose(tilt.weights, 1)
  with pytest.raises(ValueError, match="kappa must not be negative, got -1"):
    chi2_ball.chi2_tilt(np.array([1.0, 2.0]), -1.0)
