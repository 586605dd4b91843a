# SPDX-License-Identifier: Apache-2.0
"""Progress is credited to its own episode; shaping leaves the gradient."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxttc.tasks import elimination
from jaxttc.training import episode_credit


def test_progress_sums_to_the_whole_gain():
  values = jnp.array([[0.2, 0.5, 0.4, 1.0], [0.1, 0.1, 0.1, 0.1]])
  own = episode_credit.bonus(values)
  np.testing.assert_allclose(own.sum(-1), [0.8, 0.0], atol=1e-6)
  later = episode_credit.bonus(values, "telescoped")
  np.testing.assert_allclose(later[0], [0.8, 0.5, 0.6], atol=1e-6)
  with pytest.raises(ValueError, match="credit 'all' is not one of"):
    episode_credit.bonus(values, "all")


@pytest.mark.parametrize("credit", episode_credit.CREDITS)
def test_expected_gradient_by_enumeration(credit):
  """Telescoped bonuses follow the outcome's gradient; own ones do not."""
  world = elimination.geometric(3, 0.5, 3)
  table = jnp.array([[0.3, -0.2, 0.5], [0.0, 0.4, -0.1], [0.2, 0.1, 0.0]])
  traces = jnp.array(list(itertools.product(range(3), repeat=3)))
  rows = jnp.arange(3)

  def expected(weight):
    """Sum over answers and traces of probability x weight x log-gradient."""

    def surrogate(table):
      logged = jax.nn.log_softmax(table)[rows, traces]
      chance = jnp.exp(jax.lax.stop_gradient(logged.sum(1)))
      total = 0.0
      for right in range(3):
        values = elimination.values(world, jnp.full(27, right), traces)
        total += (
          world.prior[right] * (chance * (weight(values) * logged).sum(1)).sum()
        )
      return total

    return jax.grad(surrogate)(table)

  outcome = expected(lambda values: values[:, -1:])
  shaped = expected(lambda values: episode_credit.bonus(values, credit))
  same = np.allclose(outcome, shaped, atol=1e-5)
  assert same == (credit == "telescoped")


def test_advantages_by_hand():
  outcome = jnp.array([[1.0, 0.0, 0.0, 1.0]])
  bonuses = jnp.array([[[0.5, 0.1], [0.1, 0.1], [0.3, 0.1], [0.3, 0.1]]])
  plain = episode_credit.advantages(outcome, bonuses, 0.0)
  spread = np.std([1, 0, 0, 1], ddof=1)
  expected = np.array([0.5, -0.5, -0.5, 0.5])[:, None] / spread
  np.testing.assert_allclose(plain[0], np.tile(expected, 2), atol=1e-4)
  both = episode_credit.advantages(outcome, bonuses, 2.0)
  centred = np.array([0.2, -0.2, 0.0, 0.0])
  scale = np.sqrt((centred**2).sum() / (3 * 2))
  np.testing.assert_allclose(
    both[0, :, 0], expected[:, 0] + 2 * centred / scale, atol=1e-3
  )
  # Episodes whose bonuses agree get the outcome's advantage only.
  np.testing.assert_allclose(both[0, :, 1], expected[:, 0], atol=1e-4)


def test_groups_that_agree_teach_nothing():
  found = episode_credit.advantages(
    jnp.ones((2, 3)), jnp.full((2, 3, 4), 0.25), 1.0
  )
  assert not np.asarray(found).any()


def test_spread_over_tokens():
  per_episode = jnp.array([[1.0, 2.0]])
  episode = jnp.array([[-1, 0, 0, 1, -1]])
  np.testing.assert_array_equal(
    episode_credit.spread_over_tokens(per_episode, episode), [[0, 1, 1, 2, 0]]
  )


def test_sampled_values_are_unbiased():
  values = jnp.array([0.0, 0.2, 0.7, 1.0])
  keys = jax.random.split(jax.random.key(0), 4000)
  drawn = jax.vmap(lambda k: episode_credit.sampled_values(k, values, 4))(keys)
  np.testing.assert_allclose(drawn.mean(0), values, atol=0.02)
  np.testing.assert_allclose(drawn.var(0), values * (1 - values) / 4, atol=0.01)
  with pytest.raises(ValueError, match="answers is 0"):
    episode_credit.sampled_values(keys[0], values, 0)
