# SPDX-License-Identifier: Apache-2.0
import jax.numpy as jnp
import numpy as np
import pytest

from jaxttc.predictors.routing import linear, preferences


def _pair(rows=300, seed=0):
  rng = np.random.default_rng(seed)
  x = rng.normal(size=(rows, 3)).astype(np.float32)
  weak = (rng.random(rows) < 1 / (1 + np.exp(-x[:, 0]))).astype(float)
  strong = (rng.random(rows) < 0.8).astype(float)
  return x, np.stack([weak, strong], 1)


def test_soft_labels_of_binary_scores_rank_as_gains_do():
  x, scores = _pair()
  soft = preferences.fit_hybrid(x, scores)(jnp.asarray(x))
  gain = linear.fit_ridge(x, scores[:, [0]] - scores[:, [1]])(jnp.asarray(x))
  order = np.argsort(np.asarray(soft[:, 0]))
  assert (np.diff(np.asarray(gain)[order, 0]) >= -1e-4).all()
  np.testing.assert_array_equal(soft[:, 1], 0.5)


def test_hard_labels_say_how_often_the_weak_one_suffices():
  x, scores = _pair(rows=3000)
  hard = preferences.fit_hybrid(x, scores, kind="hard")(jnp.asarray(x))
  expected = (scores[:, 0] >= scores[:, 1]).mean()
  np.testing.assert_allclose(hard[:, 0].mean(), expected, atol=1e-3)


def test_slack_balances_labels():
  gaps = np.random.default_rng(0).normal(-1.0, 0.3, 500)
  slack = preferences.balancing_slack(gaps)
  assert abs((gaps >= -slack).mean() - 0.5) < 0.05
  assert preferences.balancing_slack(np.ones(4)) == 0


def test_transformed_labels_are_balanced_where_hard_ones_are_not():
  x = np.random.default_rng(1).normal(size=(400, 2)).astype(np.float32)
  small = 0.3 + 0.1 * x[:, 0]
  scores = np.stack([small, np.full(400, 0.9)], 1)
  hard = preferences.fit_hybrid(x, scores, kind="hard")(jnp.asarray(x))
  moved = preferences.fit_hybrid(x, scores, kind="transformed")(jnp.asarray(x))
  assert np.ptp(hard[:, 0]) < 1e-3 < 0.5 < np.ptp(moved[:, 0])
  assert np.corrcoef(moved[:, 0], small)[0, 1] > 0.9


def test_bad_input_is_refused():
  x, scores = _pair()
  with pytest.raises(ValueError, match="hybrid: expected kind"):
    preferences.fit_hybrid(x, scores, temperature=0.0)
  scores[:150, 0] = np.nan
  scores[150:, 1] = np.nan
  with pytest.raises(ValueError, match="shares no question"):
    preferences.fit_hybrid(x, scores)
