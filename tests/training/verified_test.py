# SPDX-License-Identifier: Apache-2.0
"""Verifier-based training: gradients, learning, masks and charges."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxttc.tasks import planted, planted_oracles, planted_traces
from jaxttc.training import trace_batches, verified

_sample = jax.jit(planted_traces.sample, static_argnums=3)
_policy_gradient = jax.jit(verified.policy_gradient, static_argnames="reward")
_reweight = jax.jit(verified.reweight)
_value = jax.jit(planted_oracles.value)

_SPEC = planted.PlantedSubsequence(
  vocab=5, length=3, horizon=24, gammas=(2.0, 200.0)
)
_BOUNDS = trace_batches.Bounds(24, 256)


@pytest.fixture(scope="module")
def instance():
  return _SPEC.draw(jax.random.key(0))


def _reward(instance, policy, horizon):
  return float(_value(instance, policy, horizon).reward)


def test_the_gradient_of_the_loss_is_that_of_the_exact_value(instance):
  """Over many traces, the score function estimates grad J."""
  horizon, many = 12, 16384

  def exact(policy):
    return planted_oracles.value(instance, policy, horizon).reward

  expected = jax.grad(exact)(instance.base)
  drawn = _sample(
    instance, instance.base, jax.random.key(1), many, horizon, horizon
  )
  reward = planted.bilevel_reward(drawn.solved, horizon)
  counts = planted_traces.total(
    drawn, (reward - reward.mean()) / many, instance.base
  )
  found = jax.grad(verified.policy_gradient_loss)(instance.base, counts)
  scale = float(jnp.abs(expected.emission).max())
  np.testing.assert_allclose(
    -found.emission, expected.emission, atol=0.1 * scale
  )
  np.testing.assert_allclose(-found.opening, expected.opening, atol=0.1 * scale)


@pytest.mark.parametrize(
  "reward", [planted.bilevel_reward, verified.outcome_reward]
)
def test_policy_gradients_learn(instance, reward):
  horizon = 10
  trained = _policy_gradient(
    instance, jax.random.key(0), 256, horizon, 3.0, _BOUNDS, reward=reward
  )
  before = _reward(instance, instance.base, horizon)
  assert _reward(instance, trained.policy, horizon) > before + 1
  assert int(trained.cost.generated_tokens) == 256 * horizon
  assert int(trained.cost.verifier_calls) == 256


def test_one_batch_is_one_step_by_hand(instance):
  """A batch that is not full counts its own traces only."""
  key, horizon, rate = jax.random.key(3), 8, 0.7
  trained = _policy_gradient(
    instance, key, 20, horizon, rate, trace_batches.Bounds(24, 20)
  )
  drawn = _sample(
    instance, instance.base, jax.random.fold_in(key, 0), 32, horizon, 24
  )
  reward = np.asarray(planted.bilevel_reward(drawn.solved, horizon))[:20]
  advantage = np.zeros(32, np.float32)
  advantage[:20] = (reward - reward.mean()) / (reward.std() + 1e-6) / 20
  counts = planted_traces.total(drawn, jnp.asarray(advantage), instance.base)
  shares = jax.nn.softmax(instance.base.emission)
  visits = counts.emission.sum(-1, keepdims=True)
  expected = instance.base.emission + rate * (counts.emission - visits * shares)
  np.testing.assert_allclose(trained.policy.emission, expected, atol=1e-4)


def test_bounds_change_nothing(instance):
  def train(bounds):
    return _policy_gradient(
      instance, jax.random.key(0), 64, 8, 1.0, bounds
    ).policy

  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5),
    train(trace_batches.Bounds(8, 64)),
    train(trace_batches.Bounds(24, 160)),
  )


def test_reweighting_moves_the_opening_to_the_fast_style(instance):
  horizon = 12
  rewards = [
    _reward(
      instance,
      _reweight(
        instance, jax.random.key(0), 256, horizon, kappa, _BOUNDS
      ).policy,
      horizon,
    )
    for kappa in (0.0, 0.5, 4.0)
  ]
  base = _reward(instance, instance.base, horizon)
  assert rewards[0] == pytest.approx(base, abs=0.8)
  assert rewards[0] + 0.5 < rewards[1] < rewards[2]


def test_outcome_rewards_do_not_see_when():
  found = verified.outcome_reward(jnp.array([0, 1, 8, 9]), 8)
  np.testing.assert_array_equal(found, [0, 1, 1, 0])


def test_no_reward_is_no_step():
  """Where nothing is solved, the base stays."""
  spec = planted.PlantedSubsequence(length=4, horizon=8, gammas=(1e-6,))
  instance = spec.draw(jax.random.key(0))
  trained = _policy_gradient(
    instance, jax.random.key(0), 32, 8, 10.0, trace_batches.Bounds(8, 32)
  )
  np.testing.assert_array_equal(trained.policy.emission, instance.base.emission)
