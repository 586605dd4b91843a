# SPDX-License-Identifier: Apache-2.0
import itertools

import numpy as np
import pytest

from jaxttc.allocators.routing import automix


def _pair(rows=400, seed=0):
  """Verification is high if the small model is right, low if both fail."""
  rng = np.random.default_rng(seed)
  kind = rng.integers(0, 3, rows)  # good, needy, hopeless
  small, large = (kind == 0).astype(float), (kind <= 1).astype(float)
  middle = np.array([0.9, 0.5, 0.1])[kind]
  return np.round(np.clip(rng.normal(middle, 0.15), 0, 1), 1), small, large


def test_escalating_bins_are_those_of_the_best_of_all_sets():
  verification, small, large = _pair()
  policy = automix.fit_bins(verification, small, large, 0.2, bins=6, prior=0.0)
  place = np.searchsorted(policy.edges, verification, "right")
  worth = np.bincount(place, large - small - 0.2)
  best = max(
    sum(itertools.compress(worth, chosen))
    for chosen in itertools.product([0, 1], repeat=len(worth))
  )
  np.testing.assert_allclose(worth[policy.escalate].sum(), best)


@pytest.mark.parametrize("single", [True, False])
def test_the_band_is_the_best_of_all_bands(single):
  verification, small, large = _pair(rows=120)
  band = automix.fit_band(verification, small, large, 0.3, single=single)
  gain = large - small - 0.3
  ends = [-np.inf, *np.unique(verification), np.inf]
  best = max(
    gain[(verification >= low) & (verification < high)].sum()
    for low, high in itertools.product(ends, ends)
    if not single or low == -np.inf
  )
  np.testing.assert_allclose(
    gain[band.apply(verification)].sum(), max(best, 0), atol=1e-9
  )


def test_perfect_observations_make_bins_and_bands_agree():
  rng = np.random.default_rng(1)
  kind = rng.integers(0, 3, 300)
  small, large = (kind == 2).astype(float), (kind >= 1).astype(float)
  seen = kind / 2.0  # hopeless 0, needy 1/2, good 1
  bins = automix.fit_bins(seen, small, large, 0.1, bins=3, prior=0.0)
  band = automix.fit_band(seen, small, large, 0.1)
  np.testing.assert_array_equal(bins.apply(seen), kind == 1)
  np.testing.assert_array_equal(band.apply(seen), kind == 1)


def test_nothing_is_escalated_when_it_never_pays():
  verification, small, large = _pair()
  assert (
    not automix.fit_band(verification, small, large, 2.0)
    .apply(verification)
    .any()
  )
  assert not automix.fit_bins(verification, small, large, 2.0).escalate.any()


def test_bad_input_is_refused():
  verification, small, large = _pair()
  with pytest.raises(ValueError, match="automix: expected"):
    automix.fit_bins(verification[:3], small, large, 0.1)
  with pytest.raises(ValueError, match="automix: expected"):
    automix.fit_band(verification, small, large, -0.1)
