# SPDX-License-Identifier: Apache-2.0
"""Values and gradients of each estimator, by enumeration of five actions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxttc.training import kl_estimators

_LOGITS = jnp.array([0.3, -1.0, 0.8, 0.1, -0.4])
_REFERENCE = jax.nn.log_softmax(jnp.array([-0.5, 0.2, 0.9, -1.2, 0.6]))


def _forward(logits):
  """KL(p, ref)."""
  p = jax.nn.log_softmax(logits)
  return (jnp.exp(p) * (p - _REFERENCE)).sum()


def _reverse(logits):
  """KL(ref, p)."""
  p = jax.nn.log_softmax(logits)
  return (jnp.exp(_REFERENCE) * (_REFERENCE - p)).sum()


def _mean(logits, kind, sampled=_LOGITS):
  """The estimator's mean over actions drawn from `sampled`."""
  drawn = jax.nn.log_softmax(sampled)[None]
  found = kl_estimators.kl(
    kind,
    jax.nn.log_softmax(logits)[None],
    _REFERENCE[None],
    drawn if kind == "k3_corrected" else None,
  )
  return (jax.lax.stop_gradient(jnp.exp(drawn)) * found).sum()


@pytest.mark.parametrize("kind", ["k1", "k3", "k3_corrected", "k3_straight"])
def test_unbiased_values(kind):
  np.testing.assert_allclose(_mean(_LOGITS, kind), _forward(_LOGITS), rtol=1e-5)


def test_k2_is_biased():
  assert abs(float(_mean(_LOGITS, "k2") - _forward(_LOGITS))) > 1e-2


@pytest.mark.parametrize(
  "kind, wanted",
  [
    ("k1", None),
    ("k2", _forward),
    ("k3", _reverse),
    ("k3_corrected", _forward),
    ("k3_straight", _forward),
  ],
)
def test_gradients_in_the_loss(kind, wanted):
  found = jax.grad(_mean)(_LOGITS, kind)
  expected = jnp.zeros(5) if wanted is None else jax.grad(wanted)(_LOGITS)
  np.testing.assert_allclose(found, expected, atol=1e-6)
  other = jax.grad(_reverse if wanted is _forward else _forward)(_LOGITS)
  assert np.abs(found - other).max() > 1e-2


def test_k1_in_the_reward_has_the_gradient_of_kl():
  def surrogate(logits):
    p = jax.nn.log_softmax(logits)
    reward = -kl_estimators.kl("k1", p[None], _REFERENCE[None])[0]
    return -(jax.lax.stop_gradient(jnp.exp(p) * reward) * p).sum()

  np.testing.assert_allclose(
    jax.grad(surrogate)(_LOGITS), jax.grad(_forward)(_LOGITS), atol=1e-6
  )


def test_the_correction_is_exact_off_policy():
  sampled = jnp.array([0.0, 0.5, -0.3, 0.2, 0.9])
  found = jax.value_and_grad(_mean)(_LOGITS, "k3_corrected", sampled)
  wanted = jax.value_and_grad(_forward)(_LOGITS)
  for one, other in zip(found, wanted, strict=True):
    np.testing.assert_allclose(one, other, atol=1e-6)


def test_far_from_the_reference_nothing_overflows():
  far = jnp.full((1, 1), -200.0)
  for kind in kl_estimators.KINDS:
    sampled = far if kind == "k3_corrected" else None
    value, slope = jax.value_and_grad(
      lambda x, kind=kind, sampled=sampled: kl_estimators.kl(
        kind, x, jnp.zeros((1, 1)), sampled
      ).sum()
    )(far)
    assert np.isfinite(value) and np.isfinite(slope).all(), kind


def test_bad_kinds_are_refused():
  p = jnp.zeros((1, 1))
  with pytest.raises(ValueError, match="'k4' is not one of k1, k2"):
    kl_estimators.kl("k4", p, p)
  with pytest.raises(ValueError, match="got none for 'k3_corrected'"):
    kl_estimators.kl("k3_corrected", p, p)
  with pytest.raises(ValueError, match="got some for 'k2'"):
    kl_estimators.kl("k2", p, p, p)
