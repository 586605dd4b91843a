# SPDX-License-Identifier: Apache-2.0
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxttc.allocators.routing import bandits


def _world(rows, seed=0):
  """Two kinds of questions; each has its own best model."""
  rng = np.random.default_rng(seed)
  kind = rng.integers(0, 2, rows)
  x = np.eye(2)[kind]
  expected = np.array([[0.8, 0.3, 0.5], [0.2, 0.7, 0.5]])[kind]
  rewards = (rng.random(expected.shape) < expected).astype(np.float32)
  return (jnp.asarray(a, jnp.float32) for a in (x, rewards, expected))


@pytest.mark.parametrize(
  "bandit",
  [bandits.linucb(3, 2, beta=2.0), bandits.thompson(3, 2, scale=0.5)],
  ids=["linucb", "thompson"],
)
def test_contextual_regret_grows_less_than_linearly(bandit):
  x, rewards, expected = _world(8000)
  key = jax.random.key(0)
  regret = np.asarray(bandits.play(bandit, x, rewards, expected, key).regret)
  early, late = regret[:1000].mean(), regret[4000:].mean()
  assert late < early / 2
  greedy = bandits.play(
    bandits.epsilon_greedy(3, 0.1), x, rewards, expected, key
  )
  assert regret.sum() < 0.5 * float(greedy.regret.sum())


def test_regressions_are_those_of_the_normal_equations():
  x, rewards, expected = _world(300)
  bandit = bandits.linucb(3, 2, ridge=2.0)
  played = bandits.play(bandit, x, rewards, expected, jax.random.key(0))
  mine = np.asarray(played.choices) == 1
  some = np.asarray(x)[mine]
  gram = 2.0 * np.eye(2) + some.T @ some
  np.testing.assert_allclose(
    played.state.inverse[1], np.linalg.inv(gram), rtol=1e-3, atol=1e-6
  )
  total = some.T @ np.asarray(rewards)[mine, 1]
  np.testing.assert_allclose(played.state.total[1], total, rtol=1e-4)


@pytest.mark.parametrize(
  "bandit",
  [bandits.ucb(3, 0.5), bandits.epsilon_greedy(3, 0.05)],
  ids=["ucb", "epsilon"],
)
def test_stateless_learners_find_the_best_single_model(bandit):
  rng = np.random.default_rng(0)
  expected = np.tile([0.2, 0.9, 0.4], (3000, 1)).astype(np.float32)
  rewards = (rng.random(expected.shape) < expected).astype(np.float32)
  played = bandits.play(
    bandit,
    jnp.zeros((3000, 1)),
    jnp.asarray(rewards),
    jnp.asarray(expected),
    jax.random.key(1),
  )
  assert (np.asarray(played.choices)[2000:] == 1).mean() > 0.85
  tally = played.state
  assert float(tally.count.sum()) == 3000
  np.testing.assert_allclose(tally.mean[1], 0.9, atol=0.03)


def test_settings_out_of_range_are_refused():
  with pytest.raises(ValueError, match="epsilon in"):
    bandits.epsilon_greedy(3, 1.5)
  with pytest.raises(ValueError, match="models >= 2"):
    bandits.ucb(1)
  with pytest.raises(ValueError, match="ridge > 0"):
    bandits.linucb(3, 2, ridge=0.0)
  with pytest.raises(ValueError, match="scale > 0"):
    bandits.thompson(3, 2, scale=0.0)
