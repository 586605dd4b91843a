# SPDX-License-Identifier: Apache-2.0
"""Tests of the random streams of generated data."""

import hypothesis
from hypothesis import strategies as st
import jax
import numpy as np
import pytest

from jaxttc.tasks.multitask import streams


def _bits(keys):
  return {tuple(row) for row in np.asarray(jax.random.key_data(keys)).tolist()}


@hypothesis.given(seed=st.integers(0, 2**32 - 1))
@hypothesis.settings(max_examples=20)
def test_training_never_draws_what_is_held_out(seed):
  """Not even when it trains with the seed of what is held out."""
  training = _bits(streams.training(jax.random.key(seed), 64))
  held_out = _bits(streams.held_out(seed, 64))
  assert len(training) == len(held_out) == 64
  assert not training & held_out


def test_an_example_does_not_depend_on_its_batch():
  key = jax.random.key(3)
  few, many = streams.training(key, 4), streams.training(key, 9)
  np.testing.assert_array_equal(
    jax.random.key_data(few), jax.random.key_data(many)[:4]
  )


@pytest.mark.parametrize("seed", [-1, 2**32])
def test_refuses_a_seed_out_of_range(seed):
  with pytest.raises(ValueError, match=f"seed must be in .*, got {seed}"):
    streams.check_seed(seed)


def test_refuses_to_draw_nothing():
  with pytest.raises(ValueError, match="batch must be at least 1, got 0"):
    streams.training(jax.random.key(0), 0)
  with pytest.raises(ValueError, match="count must be at least 1, got -2"):
    streams.held_out(0, -2)
