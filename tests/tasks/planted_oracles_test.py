# SPDX-License-Identifier: Apache-2.0
"""Exact values against enumeration, Conway's rule and sampling."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxttc.tasks import planted, planted_oracles, planted_traces

_sample = jax.jit(planted_traces.sample, static_argnums=3)

_TINY = planted.PlantedSubsequence(
  vocab=3, length=2, horizon=5, gammas=(2.0, 9.0), mixture=(0.3, 0.7)
)


def _enumerated(instance, horizon):
  """All traces: (style, tokens, chance, reward), by brute force."""
  opening = np.asarray(jax.nn.softmax(instance.base.opening), np.float64)
  emission = np.asarray(jax.nn.softmax(instance.base.emission), np.float64)
  gold = np.asarray(instance.symbol_map)[np.asarray(instance.tested[0])]
  moves = np.asarray(planted.automaton(jnp.asarray(gold), emission.shape[-1]))
  rows = []
  for style in range(len(opening)):
    for tokens in itertools.product(range(emission.shape[-1]), repeat=horizon):
      chance, state, solved = opening[style], 0, 0
      for t, token in enumerate(tokens):
        if not solved:
          chance *= emission[style, int(instance.tested[0, state]), token]
          state = moves[state, token]
          solved = t + 1 if state == len(gold) else 0
        else:
          chance /= emission.shape[-1]  # whatever follows
      rows.append(
        (style, tokens, chance, horizon - solved + 1 if solved else 0)
      )
  return rows


def test_values_equal_enumeration():
  instance = _TINY.draw(jax.random.key(0))
  for horizon in (3, 5):
    rows = _enumerated(instance, horizon)
    chance = np.array([row[2] for row in rows])
    reward = np.array([row[3] for row in rows], np.float64)
    assert chance.sum() == pytest.approx(1)
    found = planted_oracles.value(instance, instance.base, horizon)
    mean = chance @ reward
    assert float(found.reward) == pytest.approx(mean, rel=1e-5)
    assert float(found.accuracy) == pytest.approx(
      chance[reward > 0].sum(), rel=1e-5
    )
    chances = planted_oracles.rewards(instance, instance.base, horizon)
    sigma = np.sqrt(chance @ (reward - mean) ** 2)
    np.testing.assert_allclose(
      planted_oracles.spread(chances), sigma, rtol=1e-4
    )
    bar = mean + np.sqrt(0.3) * sigma
    np.testing.assert_allclose(
      planted_oracles.tail(chances, 0.3), chance[reward >= bar].sum(), rtol=1e-4
    )


def test_heterogeneity_is_the_sum_of_variances_of_the_values():
  """sum_h E Var Q, over every choice of every trace, is Var(reward)."""
  horizon = 4
  instance = _TINY.draw(jax.random.key(1))
  rows = _enumerated(instance, horizon)
  reward = {(s, t): r for s, t, _, r in rows}
  chance = {(s, t): c for s, t, c, _ in rows}

  def mean(prefix):
    held = [k for k in chance if (k[0], *k[1])[: len(prefix)] == prefix]
    weight = sum(chance[k] for k in held)
    return weight, sum(chance[k] * reward[k] for k in held) / max(
      weight, 1e-300
    )

  total = 0.0
  for depth in range(horizon + 1):
    prefixes = {(s, *t)[:depth] for s, t in chance}
    for prefix in prefixes:
      weight, value = mean(prefix)
      ahead = {(s, *t)[: depth + 1] for s, t in chance}
      for longer in (p for p in ahead if p[:depth] == prefix):
        part, q = mean(longer)
        total += part * (q - value) ** 2
  chances = planted_oracles.rewards(instance, instance.base, horizon)
  assert total == pytest.approx(
    float(planted_oracles.spread(chances)[0]) ** 2, rel=1e-4
  )


@pytest.mark.parametrize("gold, expected", [((0, 0), 6.0), ((0, 1), 4.0)])
def test_waiting_times_are_conways(gold, expected):
  """Uniform tokens: the sum over borders of the gold of vocab ** length."""
  spec = planted.PlantedSubsequence(
    vocab=2, length=2, horizon=200, gammas=(1.0,)
  )
  instance = spec.draw(jax.random.key(0)).replace(
    symbol_map=jnp.array([0, 1]), tested=jnp.array([gold])
  )
  found = planted_oracles.solving_overall(instance, instance.base)[0]
  assert float(found @ np.arange(1.0, 201.0)) == pytest.approx(
    expected, rel=1e-4
  )


@pytest.mark.parametrize("contextual", [False, True])
def test_sampled_rewards_agree(contextual):
  spec = planted.PlantedSubsequence(
    vocab=5,
    length=3,
    horizon=20,
    gammas=(3.0, 30.0),
    contextual=contextual,
    symbols=4,
  )
  instance = spec.draw(jax.random.key(0))
  horizon = 15
  drawn = _sample(instance, instance.base, jax.random.key(1), 4096, horizon, 20)
  # The value is that of the prompts which were sampled.
  asked = instance.replace(
    tested=drawn.prompts[:512] if contextual else instance.tested
  )
  if contextual:
    drawn = jax.tree.map(lambda x: x[:512], drawn)
  rewards = np.asarray(planted.bilevel_reward(drawn.solved, horizon))
  exact = float(planted_oracles.value(asked, instance.base, horizon).reward)
  error = rewards.std() / np.sqrt(len(rewards))
  assert abs(rewards.mean() - exact) < 4 * error
