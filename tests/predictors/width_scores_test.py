# SPDX-License-Identifier: Apache-2.0
"""Scores of few widths tell those of all, as far as scores are smooth."""

import numpy as np
import pytest

from jaxttc.models import slimmable
from jaxttc.predictors import width_scores


def _space(stages: int) -> slimmable.WidthSpace:
  group = slimmable.WidthGroup
  return slimmable.WidthSpace(
    tuple(group(f"stage{i}", 32, 8) for i in range(stages)),
    tuple((name, group(name, 32, 8)) for name in ("a", "b")),
  )


def _scores(space, indices, noise=0.0):
  """Smooth: decoders matter more behind a narrow first stage."""
  ratios = np.asarray(space.menu)[indices]
  stages = len(space.encoder)
  loss = 0.1 / ratios[:, :stages].mean(1)[:, None] + 0.05 / (
    ratios[:, stages:] * ratios[:, :1]
  )
  rng = np.random.default_rng(1)
  return np.clip(0.9 - 0.3 * loss + noise * rng.normal(size=loss.shape), 0, 1)


def test_unseen_configurations_are_ranked_and_told():
  space = _space(6)
  indices = width_scores.draw(space, 300)
  found = width_scores.fit(space, indices, _scores(space, indices, 0.003))
  fresh = np.random.default_rng(7).integers(0, 4, (500, 8))
  truth = _scores(space, fresh)
  error = np.sqrt(np.square(found(fresh) - truth).mean())
  assert error < 0.15 * truth.std()
  assert (found.rank_correlation > 0.95).all()
  assert found.measured == 300


def test_a_log_linear_score_is_told_exactly():
  space = _space(3)
  indices = width_scores.draw(space, 100)

  def exact(i):
    return 0.6 + 0.1 * np.log(np.asarray(space.menu)[i[:, 3:]])

  found = width_scores.fit(space, indices, exact(indices))
  every = space.all_indices()
  np.testing.assert_allclose(found(every), exact(every), atol=2e-3)


def test_a_task_does_not_see_the_decoders_of_others():
  space = _space(3)
  indices = width_scores.draw(space, 100)
  found = width_scores.fit(space, indices, _scores(space, indices))
  rows = np.array([[1, 2, 3, 1, 0], [1, 2, 3, 1, 3]])
  scores = found(rows)
  assert scores[0, 0] == scores[1, 0]
  assert scores[0, 1] != scores[1, 1]


def test_scores_of_chance_have_no_rank_correlation():
  space = _space(6)
  indices = width_scores.draw(space, 400)
  noise = np.random.default_rng(2).random((400, 2))
  found = width_scores.fit(space, indices, noise)
  assert (np.abs(found.rank_correlation) < 0.4).all()
  equal = width_scores.fit(space, indices, np.full((400, 2), 0.5))
  assert (equal.rank_correlation == 0).all()
  np.testing.assert_allclose(equal(indices[:3]), 0.5)


def test_predictions_stay_in_range():
  space = _space(2)
  indices = width_scores.draw(space, 60)
  steep = np.asarray(space.menu)[indices[:, 2:]]
  found = width_scores.fit(space, indices, (steep > 0.4).astype(float))
  scores = found(space.all_indices())
  assert scores.min() >= 0 and scores.max() <= 1


def test_ends_of_the_menu_are_always_measured():
  space = _space(4)
  indices = width_scores.draw(space, 50)
  assert indices.shape == (50, 6)
  assert (indices == 0).all(1).any() and (indices == 3).all(1).any()
  np.testing.assert_array_equal(indices, width_scores.draw(space, 50))


@pytest.mark.parametrize(
  ("indices", "scores", "message"),
  [
    (np.zeros((20, 4), int), np.zeros((20, 2)), r"indices \[20, 5\]"),
    (np.zeros((20, 5), int), np.zeros((20, 3)), r"scores \[20, 2\]"),
    (np.zeros((20, 5), int), np.full((20, 2), np.nan), "finite"),
    (np.zeros((9, 5), int), np.zeros((9, 2)), "at least 10"),
  ],
)
def test_what_cannot_be_fitted_is_refused(indices, scores, message):
  with pytest.raises(ValueError, match=message):
    width_scores.fit(_space(3), indices, scores)


def test_too_few_to_measure_are_refused():
  with pytest.raises(ValueError, match="at least 4"):
    width_scores.draw(_space(3), 3)
