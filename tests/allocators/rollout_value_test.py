# SPDX-License-Identifier: Apache-2.0
"""Worth of rollouts: identities, limits, and what float32 must not lose."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from jaxttc.allocators import rollout_value

_P = np.array([0.0, 1e-6, 0.01, 0.3, 0.5, 0.7, 0.99, 1 - 2.0**-20, 1.0])
_RARE = np.minimum(_P, 1 - _P)


@pytest.mark.parametrize("n", [0, 1, 2, 3, 16, 128])
def test_mix_probability_is_right_to_the_last_bits(n):
  found = rollout_value.mix_probability(n, _P.astype(np.float32))
  p = _P.astype(np.float32).astype(np.longdouble)
  exact = 1 - p**n - (1 - p) ** n if n > 1 else np.zeros_like(p)
  np.testing.assert_allclose(found, exact, rtol=2e-6, atol=1e-18)


def test_mix_probability_is_symmetric_and_rises_with_n():
  n = np.arange(2, 60, dtype=np.float32)[:, None]
  p = np.linspace(0.02, 0.98, 25, dtype=np.float32)[None, :]
  n, p = np.broadcast_arrays(n, p)
  mixed = np.asarray(rollout_value.mix_probability(n, p))
  np.testing.assert_allclose(mixed, mixed[:, ::-1], atol=1e-6)
  assert (np.diff(mixed, axis=0) > -1e-7).all()


@pytest.mark.parametrize(
  ("p", "draws"), [(0.1, 10.1111), (0.3, 3.7619), (0.5, 3.0)]
)
def test_draws_until_mixed_are_the_sum_of_chances_of_not_being(p, draws):
  found = float(rollout_value.expected_draws_until_mixed(p))
  assert found == pytest.approx(draws, abs=1e-4)
  unmixed = 1 - rollout_value.mix_probability(np.arange(400), p)
  assert float(unmixed.sum()) == pytest.approx(found, rel=1e-5)


def test_gain_is_the_first_order_rise_of_one_gradient_step():
  for p in (0.1, 1 / 3, 0.8):
    logit, step = np.log(p / (1 - p)), 1e-6
    moved = 1 / (1 + np.exp(-(logit + step * (1 - p))))
    assert float(rollout_value.info_gain(p)) == pytest.approx(
      (moved - p) / step, rel=1e-4
    )
  assert float(rollout_value.info_gain(1 / 3)) == pytest.approx(4 / 27)


def test_increments_are_differences_and_shrink_geometrically():
  p = np.linspace(0.05, 0.95, 10, dtype=np.float32)
  n, p = np.broadcast_arrays(np.arange(30)[:, None], p[None, :])
  value = np.asarray(rollout_value.rollout_value(n, p), np.float64)
  steps = np.asarray(rollout_value.value_increment(n, p))
  np.testing.assert_allclose(steps[:-1], np.diff(value, axis=0), atol=1e-7)
  assert (steps[0] == 0).all()
  bound = np.maximum(p, 1 - p)[1:-1] * steps[1:-1]
  assert (steps[2:] <= bound * (1 + 1e-5)).all()


def test_gradients_are_finite_everywhere():
  value = lambda p: rollout_value.rollout_value(5.0, p)  # noqa: E731
  slopes = jax.vmap(jax.grad(value))(jnp.asarray(_P, jnp.float32))
  assert np.isfinite(slopes).all()
  assert float(slopes[0]) == 0  # the gain is 0 there, and so is the chance
  step = 1e-3
  assert float(jax.grad(value)(0.4)) == pytest.approx(
    float(value(0.4 + step) - value(0.4 - step)) / (2 * step), rel=1e-2
  )


@pytest.mark.parametrize(("alpha", "beta"), [(0.5, 0.5), (3.5, 20.5), (8, 1)])
def test_posterior_increments_are_expectations(alpha, beta):
  table = rollout_value.posterior_increments(
    jnp.array([alpha], jnp.float32), jnp.array([beta], jnp.float32), 24
  )[0]
  nodes = scipy.stats.beta.ppf((np.arange(100_000) + 0.5) / 1e5, alpha, beta)
  for n in (0, 1, 2, 7, 23):
    steps = (nodes ** (n + 1) * (1 - nodes) ** 3) + (
      nodes**2 * (1 - nodes) ** (n + 2)
    )
    expected = steps.mean() if n else 0.0
    assert float(table[n]) == pytest.approx(expected, rel=2e-3)
  assert (np.diff(table[1:]) < 0).all()


def test_rollouts_for_confidence_bound_the_chance_of_missing():
  n = np.asarray(rollout_value.rollouts_for_confidence(_P[2:-2], 0.9))
  np.testing.assert_allclose((1 - _RARE[2:-2]) ** n, 0.1, rtol=1e-4)
  assert np.isinf(
    rollout_value.rollouts_for_confidence(np.array([0.0, 1.0]))
  ).all()


def test_effective_ratio_is_what_sampling_gives():
  rng = np.random.default_rng(0)
  p, n = rng.random(12), rng.integers(2, 20, 12)
  won = rng.binomial(n, p, (40_000, 12))
  mixed = (won > 0) & (won < n)
  expected = (mixed * n).sum(1).mean() / n.sum()
  found = rollout_value.expected_effective_ratio(
    jnp.asarray(n, jnp.float32), jnp.asarray(p, jnp.float32)
  )
  assert float(found) == pytest.approx(expected, abs=3e-3)
