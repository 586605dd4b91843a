# SPDX-License-Identifier: Apache-2.0
"""Rollouts of differing length under a total of tokens."""

import functools
import itertools

import hypothesis
from hypothesis import strategies as st
import jax
import numpy as np
import pytest
import scipy.optimize

from jaxttc.allocators import (
  priced_rollouts,
  rollout_allocation,
  rollout_rules,
)

_RULES = rollout_rules.RolloutRules(n_max=6, n_default=4)


def _value(counts, p):
  n, p = np.asarray(counts), np.asarray(p, np.float64)
  mixed = np.where(n > 1, 1 - p**n - (1 - p) ** n, 0.0)
  return (mixed * p * (1 - p) ** 2).sum(-1)


@hypothesis.given(st.integers(0, 2**32 - 1))
@hypothesis.settings(max_examples=15)
def test_both_methods_against_enumeration(seed):
  rng = np.random.default_rng(seed)
  p = rng.beta(0.6, 0.6, 4).clip(0.02, 0.98).astype(np.float32)
  cost = rng.integers(1, 20, 4)
  # One power of two, so that the dynamic programme is compiled once.
  total = int(2 * cost.sum() + rng.integers(33, 65))
  every = np.array(list(itertools.product(range(2, 7), repeat=4)))
  best = _value(every[every @ cost <= total], p).max()
  exact, info = priced_rollouts.allocate_priced(
    p, cost, total, rules=_RULES, method="dp"
  )
  assert int(info.tokens) == np.asarray(exact) @ cost <= total
  assert float(info.value) == pytest.approx(best, abs=1e-6)
  priced, info = priced_rollouts.allocate_priced(p, cost, total, rules=_RULES)
  assert int(info.tokens) == np.asarray(priced) @ cost <= total
  assert best - 1e-6 <= float(info.value) + float(info.gap) + 1e-6
  assert float(info.value) <= best + 1e-6


def test_dynamic_programme_equals_an_integer_program():
  rng = np.random.default_rng(5)
  tasks, total = 8, 500
  p = rng.random(tasks).clip(0.05, 0.95).astype(np.float32)
  cost = rng.integers(3, 40, tasks)
  _, info = priced_rollouts.allocate_priced(
    p, cost, total, rules=_RULES, method="dp"
  )
  n = np.arange(2, 7)
  table = np.stack([_value(n[:, None], p[i : i + 1]) for i in range(tasks)])
  solved = scipy.optimize.milp(
    -table.ravel(),
    integrality=np.ones(table.size),
    bounds=scipy.optimize.Bounds(0, 1),
    constraints=[
      scipy.optimize.LinearConstraint(
        np.kron(np.eye(tasks), np.ones(n.size)), 1, 1
      ),
      scipy.optimize.LinearConstraint(
        (cost[:, None] * n[None]).ravel()[None], -np.inf, total
      ),
    ],
  )
  assert float(info.value) == pytest.approx(-solved.fun, abs=1e-6)


def test_coarse_grids_never_overspend():
  rng = np.random.default_rng(6)
  p = rng.random(4).astype(np.float32)
  cost = np.array([13, 7, 29, 3])
  _, fine = priced_rollouts.allocate_priced(
    p, cost, 200, rules=_RULES, method="dp"
  )
  _, coarse = priced_rollouts.allocate_priced(
    p, cost, 200, rules=_RULES, method="dp", grid=8
  )
  assert int(coarse.tokens) <= 200
  assert float(coarse.value) <= float(fine.value) + 1e-6


def test_equal_costs_are_the_unpriced_knapsack():
  p = np.random.default_rng(7).random(6).astype(np.float32)
  rules = rollout_rules.RolloutRules(n_max=12, fallback=False)
  counts, _ = rollout_allocation.allocate(p, 40, rules=rules)
  priced, info = priced_rollouts.allocate_priced(
    p, np.full(6, 5), 200, rules=rules
  )
  np.testing.assert_array_equal(counts, priced)
  assert float(info.gap) == pytest.approx(0, abs=1e-6)


def test_tasks_without_value_keep_their_floors():
  p = np.array([0.0, 1.0, 0.4], np.float32)
  counts, info = priced_rollouts.allocate_priced(
    p, np.array([10, 10, 10]), 10_000, rules=_RULES
  )
  assert counts.tolist() == [2, 2, 6]
  assert int(info.tokens) == 100


_SPLIT = rollout_rules.RolloutRules(n_max=6, n_default=3, fallback=False)
_ROWS = 2 * 4 * 3


@functools.partial(jax.jit, static_argnames=("rules", "rows"))
def _split(p, valid, cost, total, rules, rows):
  return priced_rollouts.split(p, valid, cost, total, rules, rows=rows)


@hypothesis.given(st.integers(0, 2**32 - 1))
@hypothesis.settings(max_examples=25)
def test_a_step_is_split_as_well_as_any_in_its_tokens_and_rows(seed):
  rng = np.random.default_rng(seed)
  p = rng.beta(0.6, 0.6, 4).clip(0.02, 0.98).astype(np.float32)
  cost = rng.integers(1, 20, 4).astype(np.int32)
  total = int(cost.sum() * 2 + rng.integers(0, 64))
  found = _split(p, p > 0, cost, total, _SPLIT, _ROWS)
  counts = np.asarray(found.counts)
  assert (counts >= 2).all() and (counts <= 6).all()
  assert int(found.tokens) == counts @ cost <= total
  assert counts.sum() <= _ROWS
  every = np.array(list(itertools.product(range(2, 7), repeat=4)))
  extra = every - 2
  spare = total - 2 * int(cost.sum())
  counted = np.maximum(cost, -(-spare // (_ROWS - 8)))
  fits = extra @ counted <= spare
  assert fits.sum() <= (every @ cost <= total).sum()
  best = _value(every[fits], p).max()
  assert best - float(found.gap) - 1e-6 <= _value(counts, p) <= best + 1e-6
  if (counted == cost).all():  # rows are no limit: it is the plain knapsack
    plain, _ = priced_rollouts.allocate_priced(p, cost, total, rules=_SPLIT)
    np.testing.assert_array_equal(plain, counts)


def test_at_equal_lengths_tokens_are_rollouts():
  p = np.array([0.05, 0.3, 0.5, 0.9], np.float32)
  for total in (8, 13, 20, 24):
    found = _split(p, p > 0, np.full(4, 7, np.int32), 7 * total, _SPLIT, _ROWS)
    counts, _ = rollout_allocation.allocate(p, total, rules=_SPLIT)
    np.testing.assert_array_equal(found.counts, counts)


def test_what_mixed_tasks_do_not_need_goes_to_those_that_failed():
  p = np.array([0.0, 1.0, 0.5, 0.0], np.float32)
  cost = np.array([5, 5, 10, 5], np.int32)
  known = np.array([True, True, True, False])
  rules = rollout_rules.RolloutRules(n_max=6, n_default=3)
  found = _split(p, known, cost, 78, rules, _ROWS)
  # Two more for the mixed, of ten tokens: four rollouts are mixed nine times in
  # ten. One more for the unseen. Of the other 8 the failed has one rollout.
  assert int(found.need) == 20
  assert int(found.surplus) == 78 - 50 - 5 - 20
  assert bool(found.fallback)
  assert found.counts.tolist() == [2, 2, 4, 3]
  kept = _split(p, known, cost, 78, _SPLIT, _ROWS)
  assert kept.counts.tolist() == [2, 2, 4, 3] and not kept.fallback


@pytest.mark.parametrize(
  ("given", "message"),
  [
    ({"unit_cost": [0, 5]}, r"unit_cost\[0\] is 0"),
    ({"unit_cost": [2.5, 5]}, "whole tokens"),
    ({"unit_cost": [5]}, "unit_cost has shape"),
    ({"total": 19}, "expected at least 20"),
    ({"total": 1 << 31}, "at most 2"),
    ({"method": "exact"}, "method 'exact'"),
    ({"grid": 0}, "grid is 0"),
    ({"rules": rollout_rules.RolloutRules(n_min=0, solver="dp")}, "n_min is 0"),
  ],
)
def test_what_cannot_be_priced_is_refused(given, message):
  arguments = {"unit_cost": [5, 5], "total": 100} | given
  with pytest.raises(ValueError, match=message):
    priced_rollouts.allocate_priced([0.5, 0.5], **arguments)
