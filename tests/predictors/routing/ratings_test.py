# SPDX-License-Identifier: Apache-2.0
import itertools

import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize
import scipy.special

from jaxttc.predictors.routing import neighbours, ratings


def test_two_players_have_the_log_odds():
  wins = jnp.array([[0.0, 75.0], [25.0, 0.0]])
  found = ratings.bradley_terry(wins, prior=0.0)
  np.testing.assert_allclose(found[0] - found[1], np.log(3), atol=1e-4)
  points = ratings.elo_points(found)
  np.testing.assert_allclose(
    points[0] - points[1], 400 * np.log10(3), rtol=1e-4
  )


def test_newton_finds_the_maximum_of_the_likelihood():
  rng = np.random.default_rng(0)
  wins = rng.integers(1, 30, (4, 4)).astype(np.float64) * (1 - np.eye(4))

  def loss(r):
    return -(wins * np.log(scipy.special.expit(r[:, None] - r[None]))).sum()

  best = scipy.optimize.minimize(loss, np.zeros(4)).x
  found = ratings.bradley_terry(jnp.asarray(wins, jnp.float32), prior=0.0)
  np.testing.assert_allclose(found, best - best.mean(), atol=1e-3)


def test_a_player_who_never_loses_stays_finite():
  wins = jnp.array([[0.0, 50.0], [0.0, 0.0]])
  found = ratings.bradley_terry(wins)
  assert np.isfinite(found).all() and found[0] > found[1] + 3


def test_battles_count_ties_as_half_and_unknown_as_none():
  won = ratings.battles(np.array([[1.0, 0.0, np.nan], [0.5, 0.5, 0.5]]))
  np.testing.assert_array_equal(won[0], [[0, 1, 0], [0, 0, 0], [0, 0, 0]])
  np.testing.assert_array_equal(won[1], 0.5 * (1 - np.eye(3)))


def test_constant_similarity_is_elo():
  rng = np.random.default_rng(1)
  scores = rng.integers(0, 2, (40, 3)).astype(np.float64)
  x = np.ones((40, 2), np.float32)
  asked = jnp.asarray(rng.normal(size=(5, 2)) + 3, jnp.float32)
  flat = ratings.fit_similarity_weighted(x, scores, sharpness=0.0)
  near = ratings.fit_similarity_weighted(x, scores, sharpness=1.0)
  np.testing.assert_allclose(
    flat.ratings(asked), near.ratings(asked), atol=1e-3
  )
  total = jnp.asarray(ratings.battles(scores).sum(0), jnp.float32)
  overall = ratings.bradley_terry(total)
  np.testing.assert_allclose(flat.ratings(asked)[0], overall, atol=1e-3)


def test_similar_battles_weigh_more():
  x = np.repeat(np.eye(2, dtype=np.float32), 20, 0)
  scores = np.repeat([[1.0, 0.0], [0.0, 1.0]], 20, 0)
  head = ratings.fit_similarity_weighted(x, scores)
  quality = head(jnp.eye(2))
  assert quality[0, 0] > quality[0, 1] and quality[1, 1] > quality[1, 0]
  # 10 * 10^1 against 10 * 10^0: the weighted share of wins is 10 / 11.
  np.testing.assert_allclose(quality[0, 0], 10 / 11, atol=0.01)


def test_win_chances_lie_around_one_half():
  chance = ratings.win_chance(jnp.array([0.0, 1.0, -1.0]))
  np.testing.assert_allclose(chance.mean(), 0.5, atol=1e-6)
  assert chance[1] > chance[0] > chance[2]


def test_tiers_have_the_least_spread_of_all_partitions():
  rng = np.random.default_rng(2)
  values = rng.normal(size=7)

  def spread(labels):
    return sum(
      np.square(values[labels == t] - values[labels == t].mean()).sum()
      for t in np.unique(labels)
    )

  found = ratings.tiers(values, 3)
  best = min(
    spread(np.array(labels))
    for labels in itertools.product(range(3), repeat=7)
    if len(set(labels)) == 3
  )
  np.testing.assert_allclose(spread(found), best)
  order = np.argsort(values)
  assert (np.diff(found[order]) >= 0).all()


def test_settings_out_of_range_are_refused():
  with pytest.raises(ValueError, match="1 to 3 tiers"):
    ratings.tiers(np.zeros(3), 4)
  with pytest.raises(ValueError, match="sharpness"):
    ratings.fit_similarity_weighted(
      np.ones((2, 2), np.float32), np.ones((2, 2)), sharpness=-1.0
    )
  assert neighbours.unit_rows(jnp.zeros((1, 2))).sum() == 0
