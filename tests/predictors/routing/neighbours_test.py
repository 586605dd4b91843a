# SPDX-License-Identifier: Apache-2.0
import jax.numpy as jnp
import numpy as np
import pytest

from jaxttc.predictors.routing import neighbours


def _data(rows=50, seed=0):
  rng = np.random.default_rng(seed)
  x = rng.normal(size=(rows, 5)).astype(np.float32)
  return x, rng.integers(0, 2, (rows, 3)).astype(np.float64)


def test_neighbours_agree_with_brute_force():
  x, scores = _data()
  scores[::4, 1] = np.nan
  asked = _data(seed=1)[0][:7]
  found = neighbours.fit_knn(x, scores, k=6)(jnp.asarray(asked))
  for row, vector in enumerate(asked):
    cosine = x @ vector / np.linalg.norm(x, axis=1) / np.linalg.norm(vector)
    near = np.argsort(-cosine)[:6]
    expected = np.nanmean(scores[near], 0)
    np.testing.assert_allclose(found[row], expected, atol=1e-6)


def test_each_row_twice_is_twice_the_neighbours():
  x, scores = _data()
  asked = jnp.asarray(_data(seed=1)[0])
  once = neighbours.fit_knn(x, scores, k=4)(asked)
  twice = neighbours.fit_knn(
    np.concatenate([x, x]), np.concatenate([scores, scores]), k=8
  )(asked)
  np.testing.assert_allclose(once, twice, atol=1e-6)


def test_a_model_no_neighbour_knows_has_its_mean():
  x = np.eye(3, dtype=np.float32)
  scores = np.array([[1.0, np.nan], [0.0, 1.0], [0.0, 0.5]])
  found = neighbours.fit_knn(x, scores, k=1)(jnp.asarray(x[:1]))
  np.testing.assert_allclose(found, [[1.0, 0.75]])


def test_more_neighbours_than_questions():
  x, scores = _data(rows=5)
  with pytest.raises(ValueError, match=r"k in \[1, 5\]"):
    neighbours.fit_knn(x, scores, k=6)
  with pytest.warns(UserWarning, match="k=6 cut to 5"):
    head = neighbours.fit_knn(x, scores, k=6, clamp=True)
  np.testing.assert_allclose(head(jnp.asarray(x))[0], scores.mean(0), atol=1e-6)


def test_clusters_find_separate_clouds():
  rng = np.random.default_rng(0)
  place = rng.integers(0, 2, 80)
  x = np.eye(2)[place] + 0.05 * rng.normal(size=(80, 2))
  scores = np.stack([place, 1 - place], 1).astype(np.float64)
  head = neighbours.fit_kmeans(
    x.astype(np.float32), scores, clusters=2, prior=0.0
  )
  np.testing.assert_allclose(head(jnp.asarray(x, jnp.float32)), scores)


def test_clusters_must_not_exceed_questions():
  with pytest.raises(ValueError, match="1 to 5 clusters"):
    neighbours.fit_kmeans(*_data(rows=5), clusters=6)
