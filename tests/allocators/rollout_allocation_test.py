# SPDX-License-Identifier: Apache-2.0
"""The knapsack over rollouts: exact, within its bounds, and never short."""

import inspect
import itertools

import hypothesis
from hypothesis import strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxttc.allocators import rollout_allocation, rollout_rules, rollout_value

_RATES = st.one_of(
  st.sampled_from([0.0, 1.0, 0.5]), st.floats(0.0078125, 0.984375, width=32)
)
_SMALL = rollout_rules.RolloutRules(n_max=9, n_default=4, fallback=False)


def _value(counts, p):
  """Of counts [..., M], in float64, from the definition."""
  n, p = np.asarray(counts), np.asarray(p, np.float64)
  mixed = np.where(n > 1, 1 - p**n - (1 - p) ** n, 0.0)
  return (mixed * p * (1 - p) ** 2).sum(-1)


@hypothesis.given(st.integers(0, 2**32 - 1), st.integers(1, 2))
@hypothesis.settings(max_examples=20)
def test_greedy_is_brute_force(seed, n_min):
  rng = np.random.default_rng(seed)
  p = rng.beta(0.6, 0.6, 4).clip(0.01, 0.99).astype(np.float32)
  total = int(rng.integers(4 * n_min, 4 * 9 + 1))
  rules = rollout_rules.RolloutRules(
    n_min=n_min, n_max=9, n_default=4, fallback=False
  )
  counts, info = rollout_allocation.allocate(p, total, rules=rules)
  every = np.array(
    [
      c
      for c in itertools.product(range(n_min, 10), repeat=4)
      if sum(c) == total
    ]
  )
  best = _value(every, p).max()
  np.testing.assert_allclose(float(info.value), best, atol=1e-6)
  assert int(counts.sum()) == total


@pytest.mark.parametrize("n_min", [0, 1, 2])
def test_greedy_and_dynamic_programme_agree(n_min):
  rng = np.random.default_rng(n_min)
  for total in (60, 63, 64):
    p = rng.beta(0.4, 0.6, 16).clip(0.003, 0.997).astype(np.float32)
    settings = {"n_max": 24, "n_min": n_min, "fallback": False}
    dp = rollout_rules.RolloutRules(solver="dp", **settings)
    exact, found = rollout_allocation.allocate(p, total, rules=dp)
    assert int(exact.sum()) == total
    np.testing.assert_allclose(float(found.value), _value(exact, p), rtol=1e-5)
    if n_min:
      greedy = rollout_rules.RolloutRules(**settings)
      _, info = rollout_allocation.allocate(p, total, rules=greedy)
      np.testing.assert_allclose(
        float(info.value), float(found.value), atol=1e-6
      )


def test_without_a_floor_a_group_of_one_is_never_bought():
  rules = rollout_rules.RolloutRules(
    n_min=0, n_max=8, solver="dp", fallback=False
  )
  p = np.array([0.5, 0.3, 0.02, 0.98], np.float32)
  counts, info = rollout_allocation.allocate(p, 7, rules=rules)
  best = max(
    _value(c, p) for c in itertools.product(range(9), repeat=4) if sum(c) <= 7
  )
  assert float(info.value) == pytest.approx(best, abs=1e-6)
  assert int(counts.sum()) == 7


@hypothesis.given(
  st.lists(st.tuples(_RATES, st.booleans()), min_size=1, max_size=6),
  st.floats(0, 1),
  st.sampled_from(["greedy", "dp", "uniform", "proportional"]),
  st.booleans(),
)
@hypothesis.settings(max_examples=40)
def test_counts_sum_to_the_total_within_bounds(tasks, share, solver, fallback):
  rates, valid = (list(x) for x in zip(*tasks, strict=True))
  # One number of tasks, so that each solver is compiled once.
  rates += [0.5] * (6 - len(rates))
  valid += [True] * (6 - len(valid))
  p, valid = np.array(rates, np.float32), np.array(valid)
  rules = rollout_rules.RolloutRules(
    n_max=9, n_default=4, solver=solver, fallback=fallback
  )
  floors = np.where(valid, 2, 4)
  total = int(floors.sum() + share * (9 * 6 - floors.sum()))
  counts, info = rollout_allocation.allocate(p, total, valid=valid, rules=rules)
  counts = np.asarray(counts)
  assert counts.sum() == total
  assert counts.max() <= 9
  if solver in ("greedy", "dp"):
    assert (counts >= floors).all()
  assert int(info.tasks.sum()) == 6
  assert float(info.value) == pytest.approx(
    _value(counts, np.where(valid, p, 0)), abs=1e-5
  )


def test_permuted_tasks_have_permuted_counts():
  p = np.random.default_rng(2).random(16).astype(np.float32)
  order = np.random.default_rng(3).permutation(16)
  counts, _ = rollout_allocation.allocate(p, 128)
  permuted, _ = rollout_allocation.allocate(p[order], 128)
  np.testing.assert_array_equal(np.asarray(counts)[order], permuted)


def test_a_larger_total_takes_from_nobody_and_lowers_the_price():
  p = np.random.default_rng(4).beta(0.5, 0.5, 16).astype(np.float32)
  rules = rollout_rules.RolloutRules(n_max=20, fallback=False)
  found = [
    rollout_allocation.allocate(p, total, rules=rules)
    for total in range(40, 300, 13)
  ]
  counts = np.stack([counts for counts, _ in found])
  prices = np.array([info.price for _, info in found])
  assert (np.diff(counts, axis=0) >= 0).all()
  assert (np.diff(prices) <= 0).all()
  # One more rollout is worth no more than the last one was.
  assert all(info.next_gain <= info.price for _, info in found)


def test_surplus_feeds_failed_tasks_and_first_of_all_them():
  p = np.array([0.5, 0.0, 0.0, 1.0], np.float32)
  counts, info = rollout_allocation.allocate(p, 64)
  # At 1/2 the rarer outcome is missed by 4 rollouts with chance 1/16.
  assert int(info.need) == 2 and bool(info.fallback)
  assert counts.tolist() == [4, 29, 29, 2]
  counts, info = rollout_allocation.allocate(p[[0, 3]], 32)
  assert counts.tolist() == [4, 28]  # no failed task: to the others
  counts, info = rollout_allocation.allocate(p[:1], 32)
  assert counts.tolist() == [32] and not bool(info.fallback)


def test_without_mixed_tasks_failed_ones_have_all():
  p = np.array([0.0, 1.0, 0.0, 0.5], np.float32)
  valid = np.array([True, True, True, False])
  counts, _ = rollout_allocation.allocate(p, 32, valid=valid)
  assert counts.tolist() == [11, 2, 11, 8]
  counts, _ = rollout_allocation.allocate(p[[1, 3]], 16, valid=valid[[1, 3]])
  assert counts.tolist() == [8, 8]


def test_a_task_that_failed_recovers_once_it_succeeds():
  p = np.array([0.0, 0.9, 0.9], np.float32)
  before, _ = rollout_allocation.allocate(p, 24)
  after, _ = rollout_allocation.allocate(p + [0.1, 0.0, 0.0], 24)
  assert before.tolist()[0] == 2
  assert after.tolist()[0] > 8


def test_expected_effective_ratio_rises_as_published():
  rng = np.random.default_rng(0)
  for draw, gain in (
    (rng.beta(0.3, 0.3, 256), 0.25),
    (rng.random(256), 0.05),
  ):
    p = draw.astype(np.float32)
    counts, _ = rollout_allocation.allocate(p, 8 * 256)
    ratio = lambda n, p=p: float(  # noqa: E731
      rollout_value.expected_effective_ratio(
        jnp.asarray(n, jnp.float32), jnp.asarray(p)
      )
    )
    assert ratio(counts) - ratio(np.full(256, 8)) >= gain


def test_posterior_spends_on_a_task_that_failed_and_one_compile_serves_all():
  split = jax.jit(
    lambda a, b, total: rollout_allocation.split_posterior(
      a, b, total, n_min=1, n_max=32
    )
  )
  failed, won = np.array([0, 8, 4, 0]), np.array([8, 0, 4, 200])
  alpha = jnp.asarray(won + 0.5, jnp.float32)
  beta = jnp.asarray(failed + 0.5, jnp.float32)
  counts = split(alpha, beta, 32).units
  assert int(counts.sum()) == 32
  assert int(counts[1]) > int(counts[3])  # eight failures are no proof
  assert int(split(alpha, beta, 61).units.sum()) == 61
  assert split._cache_size() == 1


def test_totals_compile_once():
  p = np.full(5, 0.4, np.float32)
  before = rollout_allocation._split._cache_size()
  for total in (10, 17, 40):
    rollout_allocation.allocate(p, total, rules=_SMALL)
  assert rollout_allocation._split._cache_size() == before + 1


@pytest.mark.parametrize(
  ("p", "total", "valid", "message"),
  [
    ([], 8, None, "rate a task"),
    ([0.5, 1.2], 16, None, r"p\[1\] is 1.2"),
    ([0.5, np.nan], 16, None, r"p\[1\] is nan"),
    ([0.5, 0.5], 3, None, "expected 4"),
    ([0.5, 0.5], 257, None, "to 256"),
    ([0.5, 0.5], 8, [True], "valid has shape"),
    ([0.5, 0.5], 9, [True, False], "expected 10"),
  ],
)
def test_what_cannot_be_allocated_is_refused(p, total, valid, message):
  with pytest.raises(ValueError, match=message):
    rollout_allocation.allocate(p, total, valid=valid)


def test_unknown_rates_are_not_read():
  counts, _ = rollout_allocation.allocate(
    np.array([np.nan, 0.5]), 12, valid=np.array([False, True])
  )
  assert int(counts.sum()) == 12


@pytest.mark.parametrize(
  ("fields", "message"),
  [
    ({"n_min": 9, "n_max": 8}, "above n_max"),
    ({"n_min": -1}, "n_min is -1"),
    ({"n_min": 2.5}, "whole number"),
    ({"n_failed": 200}, "n_failed is 200"),
    ({"n_min": 0}, "solver='dp'"),
    ({"solver": "best"}, "solver 'best'"),
    ({"need": "all"}, "need 'all'"),
    ({"alpha": 1.0}, "alpha is 1.0"),
  ],
)
def test_rules_refuse_what_cannot_be(fields, message):
  with pytest.raises(ValueError, match=message):
    rollout_rules.RolloutRules(**fields)


def test_a_total_is_a_whole_number():
  plain = inspect.unwrap(rollout_rules.check_total)
  rates = np.array([0.5, 0.5], np.float32)
  for wrong in (8.5, True):
    with pytest.raises(ValueError, match=f"total is {wrong} rollouts"):
      plain(wrong, rates, np.ones(2, bool), _SMALL)
