# SPDX-License-Identifier: Apache-2.0
"""The knapsack's rivals spend the same total, each in its way."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxttc.allocators import rollout_rules, rollout_strategies

_P = jnp.array([0.0, 1.0, 0.5, 0.1, 0.9, 0.3], jnp.float32)
_VALID = jnp.array([True, True, True, True, True, False])


@pytest.mark.parametrize("name", rollout_strategies.NAMES)
def test_counts_sum_to_the_scaled_total(name):
  strategy = rollout_strategies.make(name)
  total = strategy.scale * 48
  given = (9 * _P + 0.5, 9.5 - 9 * _P) if strategy.posterior else (_P, _VALID)
  if strategy.priced:  # all of one length: its total is in tokens of it
    given, total = (*given, jnp.full(6, 5)), 5 * 48
  counts = strategy.counts(*given, total, jax.random.key(0))
  assert int(counts.sum()) == (48 if strategy.priced else total)
  assert strategy.redraw == (name == "dynamic_sampling")


def test_each_strategy_favours_whom_it_should():
  def counts(name, **options):
    strategy = rollout_strategies.make(name, **options)
    given = strategy.counts(_P, _VALID, strategy.scale * 48, jax.random.key(1))
    return np.asarray(given)

  assert counts("uniform").tolist() == [8] * 6
  assert counts("uniform_2x").tolist() == [16] * 6
  hard = counts("proportional")
  assert hard.argmax() == 0 and hard[1] == 0
  skipped = counts("skip_uninformative", explore=0.0)
  assert skipped.tolist() == [0, 0, 12, 12, 12, 12]
  assert counts("knapsack")[3] > counts("knapsack")[4]


def test_the_posterior_gives_up_the_solved_before_the_failed():
  strategy = rollout_strategies.make("posterior")
  won = jnp.array([0.0, 16.0, 8.0, 2.0])
  counts = strategy.counts(won + 0.5, 16.5 - won, 64, jax.random.key(0))
  failed, solved, even, hard = counts.tolist()
  assert solved == 2
  assert failed > solved
  assert hard > even > solved


def test_tokens_go_where_rollouts_are_short():
  strategy = rollout_strategies.make("knapsack_tokens")
  p = jnp.full(4, 0.3)
  length = jnp.array([8, 12, 16, 24])
  total = 8 * int(length.sum())
  counts = strategy.counts(p, p > 0, length, total, jax.random.key(0))
  assert (np.diff(counts) <= 0).all() and counts[0] > counts[-1]
  assert int(counts @ length) <= total
  assert 4 * 8 < int(counts.sum()) <= strategy.scale * 4 * 8


def test_skipping_all_skips_none():
  strategy = rollout_strategies.make("skip_uninformative", explore=0.0)
  counts = strategy.counts(_P[:2], _VALID[:2], jnp.int32(10), jax.random.key(0))
  assert counts.tolist() == [5, 5]


def test_dynamic_sampling_pays_for_what_it_drops():
  mixed = jnp.array([False, True, False, True, True])
  kept, paid = rollout_strategies.kept_groups(mixed, 8, 2)
  assert kept.tolist() == [False, True, False, True, False]
  assert int(paid) == 32
  kept, paid = rollout_strategies.kept_groups(mixed, 8, 4)
  assert kept.sum() == 3 and int(paid) == 40


@pytest.mark.parametrize(
  ("name", "options", "message"),
  [
    ("knapsak", {}, "did you mean 'knapsack'"),
    ("uniform", {"explore": 2.0}, "explore is 2.0"),
  ],
)
def test_what_cannot_be_is_refused(name, options, message):
  with pytest.raises(ValueError, match=message):
    rollout_strategies.make(name, **options)


def test_rules_reach_the_knapsack():
  rules = rollout_rules.RolloutRules(n_max=9, fallback=False)
  strategy = rollout_strategies.make("knapsack", rules)
  counts = strategy.counts(_P, _VALID, 50, jax.random.key(0))
  assert int(counts.max()) == 9
