# SPDX-License-Identifier: Apache-2.0
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxttc.predictors.routing import base, blend, linear, registry


def test_weights_find_the_better_head():
  rng = np.random.default_rng(0)
  truth = rng.random((500, 2))
  good = truth + 0.01 * rng.normal(size=truth.shape)
  scores = truth.copy()
  scores[::5, 0] = np.nan
  weights, bias = blend.fit_weights([good, rng.random((500, 2))], scores)
  assert weights[0] > 0.95 and weights[1] < 0.05
  np.testing.assert_allclose(bias, 0, atol=0.05)


def test_the_bias_makes_ranks_into_scores():
  rng = np.random.default_rng(1)
  truth = rng.random((400, 2))
  weights, bias = blend.fit_weights([10 * truth - 3], truth)
  np.testing.assert_allclose(weights, [0.1], atol=1e-6)
  np.testing.assert_allclose(bias, [0.3, 0.3], atol=1e-6)


def test_a_blend_is_the_weighted_sum_under_jit():
  x = jnp.ones((3, 2))
  heads = [
    base.Constant(jnp.array([1.0, 2])),
    base.Constant(jnp.array([3.0, 1])),
  ]
  joined = blend.join(heads, np.array([0.5, 2.0]), np.array([0.1, 0.0]))
  found = jax.jit(lambda h, v: h(v))(joined, x)
  np.testing.assert_allclose(found, [[6.6, 3.0]] * 3, rtol=1e-6)


def test_nothing_is_predicted_by_a_head_that_saw_it():
  rng = np.random.default_rng(2)
  x = rng.normal(size=(30, 2)).astype(np.float32)
  scores = rng.random((30, 2))
  half = np.arange(15), np.arange(15, 30)
  folds = [half, half[::-1]]
  found = blend.out_of_fold(
    registry.head("ridge(penalties=(1.0,))"),
    x,
    scores,
    folds,
    jax.random.key(0),
  )
  head = linear.fit_ridge(x[:15], scores[:15], penalties=(1.0,))
  np.testing.assert_allclose(found[15:], head(jnp.asarray(x[15:])), atol=1e-5)
  with pytest.raises(ValueError, match="hold each question out"):
    blend.out_of_fold(
      registry.head("ridge"), x, scores, folds[:1], jax.random.key(0)
    )
