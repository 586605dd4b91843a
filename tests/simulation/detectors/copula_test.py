# SPDX-License-Identifier: Apache-2.0
"""Correlated stages pass what SciPy's bivariate normal says."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from jaxttc.simulation.detectors import copula


@pytest.mark.parametrize("rho", [0.0, 0.3, 0.8, -0.5])
def test_share_that_passes_two_stages(rho):
  with jax.enable_x64(True):
    places, weights = (jnp.asarray(x) for x in copula.factor(64))
    kept = jnp.asarray([[0.05, 0.4], [0.2, 0.9]])  # stage by class
    root = np.sqrt(abs(rho))
    first = copula.given_factor(kept[0], jnp.full(2, root), places)
    second = copula.given_factor(
      kept[1], jnp.full(2, root * np.sign(rho)), places
    )
    both = (first * second * weights[None]).sum(1)
    alone = (first * weights[None]).sum(1)
  np.testing.assert_allclose(alone, kept[0], atol=1e-6)
  for i in range(2):
    cuts = stats.norm.ppf(kept[:, i])
    expected = stats.multivariate_normal([0, 0], [[1, rho], [rho, 1]]).cdf(cuts)
    assert both[i] == pytest.approx(expected, abs=1e-5)


def test_no_loading_is_independence():
  places = jnp.asarray(copula.factor(8)[0])
  kept = jnp.asarray([0.1, 0.7])
  shares = copula.given_factor(kept, jnp.zeros(2), places)
  np.testing.assert_allclose(shares, np.repeat(kept[:, None], 8, 1), rtol=1e-5)


def test_correlation_is_of_ranks_and_by_class():
  rng = np.random.default_rng(0)
  labels = rng.random(20_000) < 0.5
  rho = np.where(labels, 0.7, 0.1)
  first = rng.normal(size=20_000)
  second = rho * first + np.sqrt(1 - rho**2) * rng.normal(size=20_000)
  found = copula.correlations(np.exp(first), second**3, labels)
  np.testing.assert_allclose(found, [0.1, 0.7], atol=0.03)


def test_correlation_of_too_few():
  with pytest.raises(ValueError, match="three events of each class, got 1"):
    copula.correlations(np.arange(4.0), np.arange(4.0), np.arange(4) < 1)
