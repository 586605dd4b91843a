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
