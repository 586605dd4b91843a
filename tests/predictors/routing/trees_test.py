# SPDX-License-Identifier: Apache-2.0
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxttc.predictors.routing import trees

sklearn_ensemble = pytest.importorskip(
  "sklearn.ensemble", reason="extra `trees` not installed"
)


def _data(rows=300, seed=0):
  rng = np.random.default_rng(seed)
  x = rng.normal(size=(rows, 6)).astype(np.float32)
  x[:, 5] = rng.integers(0, 3, rows)  # ties at thresholds
  chance = 1 / (1 + np.exp(-3 * x[:, 0] * x[:, 1]))
  return x, (rng.random((rows, 3)) < chance[:, None]).astype(np.float64)


def test_a_forest_says_what_scikit_learn_says():
  x, scores = _data()
  asked = _data(seed=1)[0]
  head = trees.fit_forest(x, scores, trees=20, leaf=3, features=0.5, seed=7)
  grown = sklearn_ensemble.ExtraTreesRegressor(
    20, min_samples_leaf=3, max_features=0.5, random_state=7
  ).fit(x, scores)
  found = jax.jit(lambda h, v: h(v))(head, jnp.asarray(asked))
  np.testing.assert_allclose(found, grown.predict(asked), atol=1e-5)


def test_boosting_says_what_scikit_learn_says():
  x, scores = _data()
  asked = _data(seed=1)[0]
  head = trees.fit_boosting(x, scores, trees=15, leaves=6, rate=0.1, seed=3)
  expected = [
    sklearn_ensemble.HistGradientBoostingRegressor(
      learning_rate=0.1,
      max_iter=15,
      max_leaf_nodes=6,
      max_features=0.3,
      l2_regularization=1.0,
      early_stopping=False,
      random_state=3,
    )
    .fit(x, column)
    .predict(asked)
    for column in scores.T
  ]
  found = head(jnp.asarray(asked))
  np.testing.assert_allclose(found, np.stack(expected, 1), atol=1e-5)


def test_unknown_scores_leave_their_row_out():
  x, scores = _data()
  scores[:200, 2] = np.nan
  head = trees.fit_forest(x, scores, trees=10, seed=1)
  part = trees.fit_forest(x[200:], scores[200:, 2:], trees=10, seed=1)
  asked = jnp.asarray(_data(seed=1)[0])
  np.testing.assert_allclose(head(asked)[:, 2:], part(asked), atol=1e-6)


def test_thresholds_are_rounded_down():
  # 0.1 in float64 lies below 0.1 in float32, which must go right.
  assert trees._below(np.array([0.1]))[0] < np.float32(0.1)
  assert trees._below(np.array([0.5]))[0] == np.float32(0.5)
