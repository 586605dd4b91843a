# SPDX-License-Identifier: Apache-2.0
"""Generalised advantages against a sum, and value losses by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxttc.training import critic

_REWARDS = np.array([[0.0, 5.0, 1.0, -1.0, 2.0]])
_VALUES = np.array([[0.5, 7.0, -0.2, 0.3, 0.9]])
_MASK = np.array([[True, False, True, True, True]])


def test_advantages_are_the_sum_over_tokens_that_count():
  found = critic.generalised_advantages(
    jnp.array(_REWARDS, jnp.float32),
    jnp.array(_VALUES, jnp.float32),
    jnp.array(_MASK),
    discount=0.9,
    trace=0.8,
  )
  r, v = _REWARDS[_MASK], np.append(_VALUES[_MASK], 0.0)
  delta = r + 0.9 * v[1:] - v[:-1]
  wanted = np.zeros(5)
  wanted[_MASK[0]] = [
    sum(0.72 ** (s - t) * delta[s] for s in range(t, 4)) for t in range(4)
  ]
  np.testing.assert_allclose(found.advantages[0], wanted, rtol=1e-5)
  np.testing.assert_allclose(
    found.returns[0], (wanted + _VALUES[0]) * _MASK[0], rtol=1e-5
  )


def test_trace_one_is_the_return_minus_the_value():
  rewards = jnp.array([[0.0, 0.0, 1.0]])
  values = jnp.array([[0.2, 0.4, 0.7]])
  found = critic.generalised_advantages(
    rewards, values, jnp.ones((1, 3), bool), trace=1.0
  )
  np.testing.assert_allclose(found.advantages, 1.0 - values, rtol=1e-6)


@pytest.mark.parametrize(
  "value, loss, slope",
  [
    (1.0, 0.5, -1.0),
    (1.4, 0.32, 0.0),  # beyond 1.25: clipped error is (2 - 1.25)^2
    (0.5, 1.125, -1.5),  # moved away from the return: its own error is worse
  ],
)
def test_value_loss_by_hand(value, loss, slope):
  if value == 1.4:
    loss = 0.75**2 / 2
  of = lambda v: critic.value_loss(  # noqa: E731
    v, jnp.full((1, 1), 2.0), jnp.full((1, 1), 1.0), 0.25
  ).sum()
  found = jax.value_and_grad(of)(jnp.full((1, 1), value))
  assert float(found[0]) == pytest.approx(loss)
  assert float(found[1][0, 0]) == pytest.approx(slope)


def test_without_a_clip_it_is_half_the_squared_error():
  found = critic.value_loss(jnp.array([[3.0]]), jnp.array([[1.0]]))
  assert float(found[0, 0]) == 2.0


def test_bad_options_are_refused():
  x = jnp.zeros((1, 2))
  with pytest.raises(ValueError, match="both old_values and clip"):
    critic.value_loss(x, x, x)
  with pytest.raises(ValueError, match="clip must be positive"):
    critic.value_loss(x, x, x, 0.0)
  with pytest.raises(ValueError, match=r"trace must be in \[0, 1\]"):
    critic.generalised_advantages(x, x, x > 0, trace=2.0)
