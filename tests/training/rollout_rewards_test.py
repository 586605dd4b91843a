# SPDX-License-Identifier: Apache-2.0
"""What rollouts earn, against plain loops."""

import jax.numpy as jnp
import numpy as np
import pytest

from jaxttc.training import rollout_rewards

_TASK = np.array([0, 0, 0, 1, 1, 1, 2, 3], np.int32)  # 3 is padding's
_PARTS = {
  "right": np.float32([1, 0, 1, 0, 0, np.nan, 1, 0]),
  "answered": np.float32([1, 0, 1, 1, 0, 1, 1, 0]),
}
_LENGTHS = np.array([2, 8, 10, 4, 9, 7, 3, 0], np.int32)
_AWAY = np.linspace(-1, 1, 8, dtype=np.float32)


def _earned(config):
  return rollout_rewards.earned(
    config,
    {name: jnp.asarray(x) for name, x in _PARTS.items()},
    jnp.asarray(_LENGTHS),
    jnp.asarray(_AWAY),
    10,
    jnp.asarray(np.isin(_TASK, (0, 2))),
  )


def test_rewards_are_weighed_and_added():
  config = rollout_rewards.RewardConfig(
    parts=("right", "answered"),
    weights=(1.0, 0.25),
    overlong=4,
    kl_weight=0.1,
  )
  config.validate("rloo", 10)
  assert config.shapes
  earned = _earned(config)
  wanted = []
  for task, right, answered, length, away in zip(
    _TASK, *_PARTS.values(), _LENGTHS, _AWAY, strict=True
  ):
    late = -min(max((length - 6) / 4, 0), 1) * (task in (0, 2))
    wanted.append([right, 0.25 * answered, late, -0.1 * away])
  np.testing.assert_allclose(earned, np.array(wanted), atol=1e-6)
  found = rollout_rewards.advantages(
    config, earned, jnp.asarray(_TASK), 3, "dr_grpo"
  )
  sums = np.array(wanted).sum(1)
  for row, group in ((0, [0, 1, 2]), (4, [3, 4])):  # 5 could not be told
    assert found[row] == pytest.approx(sums[row] - sums[group].mean(), abs=1e-6)
  assert not np.asarray(found)[5:].any()


def test_each_reward_has_its_own_scale():
  """A reward that varies little counts as much as one that varies much."""
  config = rollout_rewards.RewardConfig(
    parts=("right", "answered"), weights=(1.0, 1.0), each=True
  )
  config.validate("grpo", 10)
  task = jnp.asarray(_TASK)
  plain = rollout_rewards.advantages(config, _earned(config), task, 3, "grpo")
  scaled = _earned(config) * jnp.array([[1.0, 0.01]])
  found = rollout_rewards.advantages(config, scaled, task, 3, "grpo")
  np.testing.assert_allclose(found, plain, atol=1e-3)
  assert float(jnp.abs(found).max()) > 0.5
  assert not rollout_rewards.RewardConfig().shapes


@pytest.mark.parametrize(
  ("changes", "message"),
  [
    ({"parts": ("right", "wrong")}, "rewards.parts"),
    ({"parts": ()}, "rewards.parts"),
    ({"weights": (1.0, 2.0)}, "rewards.weights"),
    ({"weights": (0.0,)}, "rewards.weights"),
    ({"overlong": 11}, "rewards.overlong=11"),
    ({"kl_weight": -1.0}, "rewards.kl_weight"),
    ({"each": True}, "ignore rollouts.advantage='rloo'"),
  ],
)
def test_what_cannot_be_is_named(changes, message):
  with pytest.raises(ValueError, match=message):
    rollout_rewards.RewardConfig(**changes).validate("rloo", 10)
