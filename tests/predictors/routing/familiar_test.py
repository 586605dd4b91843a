# SPDX-License-Identifier: Apache-2.0
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxttc.predictors import routing
from jaxttc.predictors.routing import familiar


def _data():
  rng = np.random.default_rng(0)
  x = rng.normal(size=(200, 3)).astype(np.float32)
  return x, np.stack([x[:, 0] > 0, x[:, 1] > 0], 1).astype(float)


def test_strangers_get_means_and_the_rest_the_head():
  x, scores = _data()
  fit_head = routing.head("ridge")
  found = familiar.fit_familiar(fit_head, x, scores, jax.random.key(0))
  head = fit_head(x, scores, jax.random.key(0))
  near, far = jnp.asarray(x[:5] * 0.99), jnp.full((2, 3), 30.0)
  np.testing.assert_array_equal(found.strange(near), [False] * 5)
  np.testing.assert_array_equal(found.strange(far), [True] * 2)
  np.testing.assert_allclose(found(near), head(near), rtol=1e-6)
  np.testing.assert_allclose(found(far)[0], scores.mean(0), rtol=1e-6)


@pytest.mark.parametrize("strange", [0.05, 0.2])
def test_about_the_share_asked_for_is_strange_to_new_questions(strange):
  x, scores = _data()
  found = familiar.fit_familiar(
    routing.base.fit_means, x, scores, jax.random.key(0), strange=strange
  )
  new = np.random.default_rng(1).normal(size=(2000, 3)).astype(np.float32)
  assert abs(float(found.strange(jnp.asarray(new)).mean()) - strange) < 0.06


def test_reach_is_that_of_brute_force():
  x, scores = _data()
  found = familiar.fit_familiar(
    routing.base.fit_means, x, scores, jax.random.key(0), strange=0.0
  )
  nearest = [
    min(np.linalg.norm(a - b) for j, b in enumerate(x) if j != i)
    for i, a in enumerate(x)
  ]
  np.testing.assert_allclose(found.reach, max(nearest), rtol=1e-3)


def test_bad_input_is_refused():
  x, scores = _data()
  for rows, strange in ((1, 0.1), (200, 1.0), (200, -0.1)):
    with pytest.raises(ValueError, match="at least 2 questions and a share"):
      familiar.fit_familiar(
        routing.base.fit_means,
        x[:rows],
        scores[:rows],
        jax.random.key(0),
        strange=strange,
      )
