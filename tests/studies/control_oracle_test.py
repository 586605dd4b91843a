# SPDX-License-Identifier: Apache-2.0
"""The oracle of control against all sequences of plans."""

import itertools

import numpy as np
import pytest

from jaxttc.evaluation import control
from jaxttc.studies import control_oracle


def _case(seed, configurations=4):
  rng = np.random.default_rng(seed)
  preferences = control.rays(2, 1 / 4)
  scores = rng.random((configurations, 2))
  return preferences, scores, preferences @ scores.T


def _least(preferences, scores, plans):
  return control.rank_control(preferences, scores[np.asarray(plans)]).min()


@pytest.mark.parametrize("seed", range(6))
def test_no_sequence_of_plans_is_better_and_some_search_reaches_the_best(seed):
  preferences, scores, values = _case(seed)
  every = itertools.product(range(len(scores)), repeat=len(preferences))
  best = max(_least(preferences, scores, plans) for plans in every)
  starts = [np.full(5, i) for i in range(4)] + [values.argmax(1)]
  found = [
    _least(
      preferences,
      scores,
      control_oracle.best_plans(preferences, scores, values, -np.inf, start),
    )
    for start in starts
  ]
  assert max(found) <= best + 1e-12
  # Ascent by single plans stops at local optima; it is never far from the best.
  assert max(found) >= best - 0.15


def test_plans_lose_no_more_value_than_they_may():
  preferences, scores, values = _case(7, 40)
  before = values.argmax(1)
  for share in (1.0, 0.95, 0.8):
    plans = control_oracle.best_plans(preferences, scores, values, share)
    reached = values[np.arange(len(plans)), plans]
    assert (reached >= share * values.max(1)).all()
    assert _least(preferences, scores, plans) >= _least(
      preferences, scores, before
    )


def test_where_scores_can_follow_preferences_they_do():
  """Configurations that give each task exactly its share: perfect ranks."""
  preferences = control.rays(3, 1 / 4)
  scores = preferences.copy()
  values = preferences @ scores.T
  plans = control_oracle.best_plans(
    preferences, scores, values, 0.0, np.arange(len(scores))
  )
  np.testing.assert_allclose(
    control.rank_control(preferences, scores[plans]), 1.0
  )


def test_bad_input_is_refused():
  preferences, scores, values = _case(0)
  with pytest.raises(
    ValueError, match=r"expected values\[5, 4\], got \(4, 5\)"
  ):
    control_oracle.best_plans(preferences, scores, values.T, 0.9)
  with pytest.raises(ValueError, match="at_least must be at most 1, got 2"):
    control_oracle.best_plans(preferences, scores, values, 2.0)
