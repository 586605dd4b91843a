# SPDX-License-Identifier: Apache-2.0
"""Tests of the cross-entropy against optax's, and of the argmax."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxttc.training import cross_entropy


def _draw(seed, scale=1.0):
  rng = np.random.default_rng(seed)
  logits = jnp.asarray(scale * rng.normal(size=(2, 5, 7)), jnp.float32)
  return logits, jnp.asarray(rng.integers(0, 7, (2, 5)), jnp.int32), rng


@pytest.mark.parametrize("scale", [1.0, 1000.0])
def test_values_and_gradients_are_optaxs(scale):
  logits, targets, rng = _draw(0, scale)
  weights = jnp.asarray(rng.normal(size=targets.shape), jnp.float32)
  theirs = optax.softmax_cross_entropy_with_integer_labels
  found = [
    jax.value_and_grad(lambda x, f=f: (f(x, targets) * weights).sum())(logits)
    for f in (cross_entropy.nats, theirs)
  ]
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), *found
  )


def test_half_precision_logits_get_a_gradient_of_their_own_dtype():
  logits, targets, _ = _draw(1)
  half = logits.astype(jnp.bfloat16)
  assert cross_entropy.nats(half, targets).dtype == jnp.float32
  found = jax.grad(lambda x: cross_entropy.nats(x, targets).sum())(half)
  assert found.dtype == jnp.bfloat16
  exact = jax.grad(lambda x: cross_entropy.nats(x, targets).sum())(logits)
  np.testing.assert_allclose(found.astype(jnp.float32), exact, atol=0.02)


def test_the_likeliest_is_the_argmax_and_the_first_of_equals():
  _, targets, rng = _draw(2)
  logits = jnp.asarray(rng.integers(0, 3, (2, 5, 7)), jnp.float32)
  for ids in (targets, logits.argmax(-1).astype(jnp.int32)):
    np.testing.assert_array_equal(
      cross_entropy.likeliest(logits, ids), logits.argmax(-1) == ids
    )
  assert not cross_entropy.likeliest(jnp.zeros((1, 3)), jnp.asarray([1])).any()
