# SPDX-License-Identifier: Apache-2.0
"""The benchmarks of allocation measure what they say."""

import itertools

import numpy as np
import pytest

from benchmarks import (
  allocation,
  budget_splits,
  tabular_rollouts,
  vote_curves,
)


@pytest.mark.parametrize(("p", "n"), [(0.4, 1), (0.4, 2), (0.3, 4), (0.6, 5)])
def test_vote_curves_are_enumerated_votes(p, n):
  answers = 4
  chance = np.array([p] + [(1 - p) / 3] * 3)
  total = 0.0
  for drawn in itertools.product(range(answers), repeat=n):
    counts = np.bincount(drawn, minlength=answers)
    winners = np.flatnonzero(counts == counts.max())
    total += (0 in winners) / winners.size * chance[list(drawn)].prod()
  curve = vote_curves.plurality(p, 6, answers)
  assert curve[n] == pytest.approx(total, rel=1e-12)
  assert curve[0] == 0.25


def test_rivals_find_the_same_value_at_the_same_total():
  p = allocation.rates(12, "uniform", 1)
  heap, milp = (
    solve(p, 96) for solve in (allocation.by_heap, allocation.by_milp)
  )
  assert heap.sum() == milp.sum() == 96
  assert allocation.value(heap, p) == pytest.approx(
    allocation.value(milp, p), abs=1e-12
  )
  ours = np.asarray(allocation._ours(p, 96))
  assert allocation.value(ours, p) == pytest.approx(
    allocation.value(heap, p), abs=1e-6
  )


def test_a_table_trains_with_the_knapsack_and_spends_all_rollouts():
  curves = tabular_rollouts.train("knapsack", 2, tasks=8, steps=3)
  assert curves.success.shape == (2, 3) and curves.finish.shape == (2, 8)
  assert ((curves.effective >= 0) & (curves.effective <= 1)).all()
  # Before anything is known every task has the default, 8.
  assert (curves.largest[:, 0] == 8).all()


def test_the_best_split_is_best_and_a_pool_in_order_leaves_one_each():
  assert budget_splits.in_order(40) == [24, 13, 1, 1, 1]
  best = budget_splits.by_oracle(12)
  assert best.sum() == 12
  kinds = range(len(budget_splits.RATES))
  every = (n for n in itertools.product(range(13), repeat=5) if sum(n) == 12)
  most = max(budget_splits.solved(n, kinds) for n in every)
  assert budget_splits.solved(best, kinds) == pytest.approx(most, rel=1e-5)
