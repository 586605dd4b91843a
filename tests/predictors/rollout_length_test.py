# SPDX-License-Identifier: Apache-2.0
"""Expected lengths, against the mean that the module's docstring tells."""

import jax.numpy as jnp
import pytest

from jaxttc.predictors import rollout_length


def test_an_unseen_task_is_like_all_others():
  state = rollout_length.init(4)
  ids = jnp.arange(4)
  assert rollout_length.expected(state, ids, 30).tolist() == [30] * 4
  state = rollout_length.update(
    state,
    jnp.array([2, 0]),
    jnp.array([0, 0, 0, 1, 2]),  # the last row is padding
    jnp.array([6, 9, 9, 2, 25]),
  )
  assert state.tokens.tolist() == [2, 0, 24, 0]
  assert state.rollouts.tolist() == [1, 0, 3, 0]
  usual = 26 / 4
  found = rollout_length.expected(state, ids, 30).tolist()
  wanted = [(2 + 2 * usual) / 3, usual, (24 + 2 * usual) / 5, usual]
  assert found == [-int(-x // 1) for x in wanted]


def test_old_visits_fade_and_absent_tasks_stay():
  ids = jnp.array([0, 1])
  state = rollout_length.init(2)
  for length in (10, 20):
    state = rollout_length.update(
      state, ids, jnp.array([0, 0]), jnp.array([length, length])
    )
  assert state.tokens[0] == pytest.approx(0.7 * 20 + 40)
  assert state.rollouts.tolist() == pytest.approx([3.4, 0])


def test_an_expected_length_is_one_that_can_be():
  state = rollout_length.LengthState(jnp.array([0.5]), jnp.array([100.0]))
  assert rollout_length.expected(state, jnp.array([0]), 9).tolist() == [1]
  state = rollout_length.LengthState(jnp.array([700.0]), jnp.array([100.0]))
  assert rollout_length.expected(state, jnp.array([0]), 9).tolist() == [7]
