# SPDX-License-Identifier: Apache-2.0
import jax.numpy as jnp
import numpy as np
import pytest

from jaxttc.predictors.routing import linear


def _data(rows=60, features=4, models=3, seed=0):
  rng = np.random.default_rng(seed)
  x = rng.normal(size=(rows, features)).astype(np.float32)
  scores = x @ rng.normal(size=(features, models)) + rng.normal(
    size=(rows, models)
  )
  return x, scores


def test_ridge_solves_the_normal_equations():
  x, scores = _data()
  head = linear.fit_ridge(x, scores, penalties=(3.0,))
  centred = x - x.mean(0)
  weights = np.linalg.solve(
    centred.T @ centred + 3 * np.eye(4), centred.T @ (scores - scores.mean(0))
  )
  np.testing.assert_allclose(head.weights, weights, atol=1e-5)
  expected = centred @ weights + scores.mean(0)
  np.testing.assert_allclose(head(jnp.asarray(x)), expected, atol=1e-5)


def test_the_penalty_is_the_one_that_leaving_out_prefers():
  x, scores = _data(rows=25, models=1)
  penalties = (0.1, 10.0, 1000.0)

  def left_out(penalty):
    errors = []
    for row in range(len(x)):
      rest = np.arange(len(x)) != row
      head = linear.fit_ridge(x[rest], scores[rest], penalties=(penalty,))
      errors.append(head(jnp.asarray(x[row : row + 1]))[0, 0] - scores[row, 0])
    return np.square(errors).mean()

  best = penalties[int(np.argmin([left_out(p) for p in penalties]))]
  chosen = linear.fit_ridge(x, scores, penalties=penalties)
  alone = linear.fit_ridge(x, scores, penalties=(best,))
  np.testing.assert_allclose(chosen.weights, alone.weights, atol=1e-6)


def test_each_row_twice_is_half_the_penalty():
  x, scores = _data()
  once = linear.fit_ridge(x, scores, penalties=(2.0,))
  twice = linear.fit_ridge(
    np.concatenate([x, x]), np.concatenate([scores, scores]), penalties=(4.0,)
  )
  np.testing.assert_allclose(once.weights, twice.weights, atol=1e-5)


def test_unknown_scores_leave_their_row_out():
  x, scores = _data()
  known = scores.copy()
  known[:20, 1] = np.nan
  head = linear.fit_ridge(x, known, penalties=(1.0,))
  part = linear.fit_ridge(x[20:], scores[20:, 1:2], penalties=(1.0,))
  np.testing.assert_allclose(head.weights[:, 1], part.weights[:, 0], atol=1e-5)


def test_support_vectors_find_a_line():
  pytest.importorskip("sklearn", reason="extra `trees` not installed")
  x, _ = _data(rows=200)
  scores = (x @ np.array([[1.0], [-2], [0], [0.5]])) * 0.3 + 0.2
  head = linear.fit_svr(x, scores, strength=100.0, tube=0.0)
  assert np.abs(head(jnp.asarray(x)) - scores).max() < 0.05


def test_penalties_must_be_positive():
  with pytest.raises(ValueError, match="positive penalties"):
    linear.fit_ridge(*_data(), penalties=(0.0,))
