# SPDX-License-Identifier: Apache-2.0
import hypothesis
from hypothesis import strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxttc.training import length_rewards

_LENGTH = st.integers(0, 8000)


def _one(reward, right, length, target, **more):
  return float(
    reward(
      jnp.array([right]), jnp.array([length]), jnp.array([target]), **more
    )[0]
  )


def test_hand_cases():
  exact, most = length_rewards.lcpo_exact, length_rewards.lcpo_max
  for reward, right, length, expected in (
    (exact, True, 1000, 1.0),
    (exact, True, 2000, 0.7),
    (exact, True, 0, 0.7),
    (exact, False, 1000, 0.0),
    (exact, False, 2000, -0.3),
    (most, True, 1000, 0.5),
    (most, True, 2000, 0.2),
    (most, True, 2667, 0.0),
    (most, True, 0, 0.8),
    (most, False, 0, 0.0),
  ):
    found = _one(reward, right, length, 1000)
    np.testing.assert_allclose(found, expected, atol=2e-4)
  assert _one(most, True, 0, 1667) == 1.0
  assert _one(most, True, 1000, 1000, delta=0.25) == 0.25


def test_bell_and_band_hand_cases():
  bell, band = length_rewards.lcpo_gaussian, length_rewards.lcpo_binary
  for right, length, of_bell, of_band in (
    (True, 1000, 1.0, 1.0),
    (True, 1100, np.exp(-0.5), 1.0),
    (True, 900, np.exp(-0.5), 1.0),
    (True, 1101, np.exp(-0.5 * 1.01**2), 0.0),
    (True, 1200, np.exp(-2.0), 0.0),
    (False, 1000, 0.0, 0.0),
  ):
    np.testing.assert_allclose(
      _one(bell, right, length, 1000), of_bell, atol=1e-5
    )
    assert _one(band, right, length, 1000) == of_band
  # Shares of the target: twice as long, twice as far.
  assert _one(bell, True, 110, 100) == pytest.approx(
    _one(bell, True, 2200, 2000), abs=1e-6
  )
  assert _one(band, True, 1200, 1000, tolerance=0.2) == 1.0
  wide = _one(bell, True, 1200, 1000, width=0.2)
  np.testing.assert_allclose(wide, np.exp(-0.5), atol=1e-6)


@hypothesis.given(
  st.lists(st.tuples(st.booleans(), _LENGTH, _LENGTH), min_size=1, max_size=6)
)
def test_batches_are_loops_of_plain_python(rows):
  right, length, target = map(np.array, zip(*rows, strict=True))
  exact = jax.jit(length_rewards.lcpo_exact)(right, length, target)
  most = jax.vmap(length_rewards.lcpo_max)(right, length, target)
  bell = jax.jit(length_rewards.lcpo_gaussian)(right, length, target)
  band = jax.vmap(length_rewards.lcpo_binary)(right, length, target)
  for i, (r, n, aim) in enumerate(rows):
    np.testing.assert_allclose(exact[i], r - 3e-4 * abs(aim - n), atol=1e-5)
    clipped = min(max(3e-4 * (aim - n) + 0.5, 0.0), 1.0)
    np.testing.assert_allclose(most[i], r * clipped, atol=1e-5)
    off = abs(aim - n) / max(aim, 1)
    np.testing.assert_allclose(
      bell[i], r * np.exp(-0.5 * (off / 0.1) ** 2), atol=1e-5
    )
    if abs(off - 0.1) > 1e-6:
      assert band[i] == (r and off < 0.1)


def test_shorter_is_never_worth_less_to_max():
  length = jnp.arange(0, 4000, 10)
  right, target = jnp.ones(400, bool), jnp.full(400, 2000)
  found = length_rewards.lcpo_max(right, length, target)
  assert (jnp.diff(found) <= 0).all() and found[0] > found[-1]


def test_what_cannot_be():
  ones = np.ones(2, bool), np.ones(2, int), np.ones(2, int)
  with pytest.raises(ValueError, match="alpha is -1"):
    length_rewards.lcpo_exact(*ones, alpha=-1.0)
  with pytest.raises(ValueError, match="delta is 1.5"):
    length_rewards.lcpo_max(*ones, delta=1.5)
  with pytest.raises(ValueError, match="width is 0.0; expected finite and > 0"):
    length_rewards.lcpo_gaussian(*ones, width=0.0)
  with pytest.raises(ValueError, match="tolerance is -0.1"):
    length_rewards.lcpo_binary(*ones, tolerance=-0.1)
  with pytest.raises(ValueError, match="expected one shape"):
    length_rewards.lcpo_max(np.ones(2, bool), np.ones(3, int), np.ones(2, int))
