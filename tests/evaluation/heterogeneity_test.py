# SPDX-License-Identifier: Apache-2.0
"""Heterogeneity and anti-concentration of tables of rewards."""

import numpy as np
import pytest

from jaxttc.evaluation import heterogeneity


@pytest.fixture
def rng():
  return np.random.default_rng(0)


def test_sigma_is_right_on_average_for_few_samples(rng):
  """Three samples of a known distribution; the plain deviation is low."""
  rewards = rng.choice([0.0, 1.0, 10.0], p=[0.5, 0.3, 0.2], size=(4000, 3))
  exact = np.sqrt(0.3 + 20 - 2.3**2)
  found = heterogeneity.heterogeneity(rewards, rng=rng, resamples=200)
  assert found.low < exact < found.high
  assert found.value == pytest.approx(exact, rel=0.03)
  assert rewards.std(1).mean() < 0.8 * exact


def test_problems_that_differ_are_not_heterogeneous(rng):
  """It is about the samples of one problem."""
  rewards = np.repeat(np.arange(5.0)[:, None], 4, axis=1)
  assert heterogeneity.heterogeneity(rewards, rng=rng) == (0, 0, 0)


def test_concentration_by_hand(rng):
  """Thresholds from the others: of 0 0 0 1 only the last is above its own."""
  rewards = np.array([[0.0, 0.0, 0.0, 1.0]])
  found = heterogeneity.anti_concentration(rewards, 1.0, rng=rng)
  assert found.value == pytest.approx(1 / 4)


def test_leaving_the_sample_out_finds_a_rare_tail(rng):
  """Closer to the truth than thresholds that a sample helps to set."""
  chance, kappa, samples = 0.2, 2.0, 6
  rewards = (rng.random((3000, samples)) < chance).astype(float)
  exact = chance  # 1 >= 0.2 + sqrt(2) 0.4
  found = heterogeneity.anti_concentration(
    rewards, kappa, rng=rng, resamples=200
  )
  mean, spread = (
    rewards.mean(1, keepdims=True),
    rewards.std(1, ddof=1, keepdims=True),
  )
  plain = ((rewards >= mean + np.sqrt(kappa) * spread) & (spread > 0)).mean()
  assert plain + 0.05 < found.value < exact


def test_problems_without_spread_have_no_tail(rng):
  rewards = np.zeros((4, 8))
  found = heterogeneity.anti_concentration(rewards, 0.25, rng=rng)
  assert found.value == 0


def test_masked_entries_do_not_count(rng):
  rewards = np.array([[0.0, 2.0, 4.0, np.nan], [1.0, 1.0, 1.0, 7.0]])
  mask = np.array([[1, 1, 1, 0], [1, 1, 1, 0]], bool)
  sigma = heterogeneity.heterogeneity(rewards, mask, rng=rng)
  assert sigma.value == pytest.approx(np.sqrt((4 + 0) / 2))
  short = heterogeneity.anti_concentration(rewards, 0.0, mask, rng=rng)
  whole = heterogeneity.anti_concentration(rewards[:, :3], 0.0, rng=rng)
  assert short.value == whole.value
  assert heterogeneity.headroom(rewards, 0.0, mask) == pytest.approx(1.5)


def test_diagnoses(rng):
  """Spread with a visible tail: verify. None, or none to be seen: distil."""
  spread = np.tile([0.0, 0.0, 1.0, 1.0], (10, 2))
  flat = np.full((10, 8), 0.7)
  assert heterogeneity.diagnose(spread, rng=rng).recommendation == "verify"
  assert heterogeneity.diagnose(flat, rng=rng).recommendation == "distil"
  said = heterogeneity.diagnose(spread, 0.25, rng=rng)
  assert said.mean.value == pytest.approx(0.5)
  assert said.headroom == pytest.approx(0.5 + 0.5 * 0.5, rel=1e-4)
  assert said.concentration.value == pytest.approx(0.5)


@pytest.mark.parametrize(
  "rewards, kappa, said",
  [
    (np.zeros((2, 2)), 1.0, "problem 0 has 2 samples, expected at least 3"),
    (np.zeros((2, 4)), -1.0, "kappa must be finite and not negative"),
    (np.full((2, 4), np.nan), 1.0, "problem 0, sample 0 is not finite"),
    (np.zeros((0, 4)), 1.0, r"expected rewards\[problem, sample\]"),
  ],
)
def test_tables_that_cannot_be_judged_are_refused(rewards, kappa, said, rng):
  with pytest.raises(ValueError, match=said):
    heterogeneity.anti_concentration(rewards, kappa, rng=rng)


def test_masks_of_another_shape_are_refused(rng):
  with pytest.raises(ValueError, match="mask has shape"):
    heterogeneity.heterogeneity(
      np.zeros((2, 4)), np.ones((2, 3), bool), rng=rng
    )
