# SPDX-License-Identifier: Apache-2.0
"""Advantages and metrics of ragged groups, against loops over groups."""

import jax.numpy as jnp
import numpy as np
import pytest

from jaxttc.training import group_advantages

_GROUPS = ([1.0, 0.0, 0.0], [1.0], [], [1.0, 1.0], [0.0, 1.0, 0.0, 0.0, 1.0])
_TASKS = len(_GROUPS)
_REAL = sum(map(len, _GROUPS))


def _rows():
  task = [i for i, group in enumerate(_GROUPS) for _ in group]
  rewards = [r for group in _GROUPS for r in group]
  return (
    jnp.array([*rewards, 1.0, 0.0], jnp.float32),  # two rows of padding
    jnp.array([*task, _TASKS, _TASKS], jnp.int32),
  )


def _by_hand(kind):
  found = []
  for group in map(np.array, _GROUPS):
    centred = group - group.mean() if group.size else group
    if group.size == 1:
      centred = np.zeros(1)
    elif kind == "grpo" and group.size:
      centred = centred / (group.std(ddof=1) + 1e-6)
    elif kind == "rloo":
      others = (group.sum() - group) / max(group.size - 1, 1)
      centred = group - others
    elif kind == "batch_scaled":
      everyone = np.concatenate([np.array(g) for g in _GROUPS])
      centred = centred / (everyone.std(ddof=1) + 1e-6)
    found += centred.tolist()
  return [*found, 0.0, 0.0]


@pytest.mark.parametrize("kind", group_advantages.KINDS)
def test_equals_a_loop_over_groups(kind):
  found = group_advantages.group_advantages(*_rows(), _TASKS, kind)
  np.testing.assert_allclose(found, _by_hand(kind), atol=1e-6)


def test_large_advantages_are_clipped():
  rewards = jnp.zeros(64).at[0].set(1.0)
  found = group_advantages.group_advantages(
    rewards, jnp.zeros(64, jnp.int32), 1
  )
  assert float(found[0]) == 5.0


def test_metrics_equal_a_loop_over_groups():
  found = group_advantages.group_metrics(*_rows(), _TASKS)
  mixed = [len(g) for g in _GROUPS if 0 < sum(g) < len(g)]
  drawn = [g for g in _GROUPS if g]
  assert float(found.effective_gradient_ratio) == pytest.approx(
    sum(mixed) / _REAL
  )
  assert float(found.effective_prompt_ratio) == len(mixed) / len(drawn)
  assert float(found.positive_coverage) == 1.0
  assert float(found.negative_coverage) == 0.5
  assert found.difficulty.tolist() == [0, 0, 0.5, 0, 0.5]
  assert int(found.largest) == 5


def test_unknown_kind_is_refused():
  with pytest.raises(ValueError, match="advantage 'ppo'"):
    group_advantages.group_advantages(*_rows(), _TASKS, "ppo")


def test_closed_form_of_grpo_for_successes_and_failures():
  rewards, task = jnp.array([1.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0]), 8 * [0]
  found = group_advantages.group_advantages(rewards, jnp.array(task), 1)
  p, n = 0.25, 8
  shrink = (n - 1) / n
  assert float(found[0]) == pytest.approx(
    np.sqrt((1 - p) / p * shrink), rel=1e-4
  )
  assert float(found[-1]) == pytest.approx(
    -np.sqrt(p / (1 - p) * shrink), rel=1e-4
  )


def test_rloo_is_dr_grpo_times_n_over_n_minus_one():
  rewards, task = _rows()
  rloo, plain = (
    group_advantages.group_advantages(rewards, task, _TASKS, kind)
    for kind in ("rloo", "dr_grpo")
  )
  for i, group in enumerate(_GROUPS):
    if len(group) > 1:
      rows = np.asarray(task) == i
      np.testing.assert_allclose(
        rloo[rows], plain[rows] * len(group) / (len(group) - 1), rtol=1e-5
      )


@pytest.mark.parametrize("kind", group_advantages.KINDS)
def test_a_row_without_a_reward_is_as_good_as_not_there(kind):
  rewards, task = _rows()
  lost = rewards.at[1].set(jnp.nan).at[9].set(jnp.nan)
  found = group_advantages.group_advantages(lost, task, _TASKS, kind)
  assert float(found[1]) == 0.0 == float(found[9])
  there = np.delete(np.arange(len(rewards)), [1, 9])
  wanted = group_advantages.group_advantages(
    rewards[there], task[there], _TASKS, kind
  )
  np.testing.assert_allclose(found[there], wanted, atol=1e-6)
  assert np.isfinite(found).all()
  shifted = group_advantages.group_advantages(lost + 3, task, _TASKS, kind)
  np.testing.assert_allclose(shifted, found, atol=1e-5)


def test_metrics_leave_rows_without_a_reward_out():
  rewards, task = _rows()
  found = group_advantages.group_metrics(
    rewards.at[0].set(jnp.nan), task, _TASKS
  )
  wanted = group_advantages.group_metrics(rewards[1:], task[1:], _TASKS)
  for one, other in zip(found, wanted, strict=True):
    np.testing.assert_allclose(one, other)


def test_several_rewards_are_normalised_one_by_one():
  task = jnp.array([0, 0, 0, 0, 1, 1, 1, 1, 2])
  rng = np.random.default_rng(0)
  rewards = jnp.array(rng.normal(size=(9, 2)) * [1.0, 100.0], jnp.float32)
  rewards = rewards.at[2, 1].set(jnp.nan)
  weights = jnp.array([1.0, 0.5])
  found = group_advantages.several_rewards(rewards, weights, task, 3)
  whole = np.delete(np.asarray(rewards), 2, 0)
  group = np.delete(np.asarray(task), 2)
  each = np.zeros((8, 2))
  for g in (0, 1):
    rows = whole[group == g]
    each[group == g] = (rows - rows.mean(0)) / (rows.std(0, ddof=1) + 1e-6)
  total = each @ np.asarray(weights)
  wanted = (total - total.mean()) / (total.std(ddof=1) + 1e-6)
  np.testing.assert_allclose(np.delete(found, 2), wanted, rtol=1e-4, atol=1e-5)
  assert float(found[2]) == 0.0


def test_whitening_of_one_value_is_zero():
  found = group_advantages.whiten(
    jnp.array([3.0, 9.0]), jnp.array([True, False])
  )
  np.testing.assert_array_equal(found, [0.0, 0.0])
