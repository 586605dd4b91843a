# SPDX-License-Identifier: Apache-2.0
import hypothesis
from hypothesis import strategies as st
import numpy as np
import pytest

from jaxttc.allocators import solve_or_verify as sov


def _model(costs, success, solutions=40, verifications=9):
  return sov.SplitModel(costs, success, solutions, verifications)


def test_costs_are_those_of_the_paper():
  costs = sov.SplitCosts(
    solution_tokens=50,
    verification_tokens=100,
    solver_parameters=1e6,
    verifier_parameters=1e6,
  )
  assert costs.ratio == 2
  assert costs.solutions_worth(8, 0) == 8
  assert costs.solutions_worth(8, 3) == 8 * (1 + 2 * 3)
  assert costs.flops(1, 0) == 2 * 1e6 * 50
  assert costs.flops(8, 3) == 2 * 1e6 * (8 * 50 + 8 * 3 * 100)
  big = sov.SplitCosts(
    solution_tokens=50,
    verification_tokens=100,
    solver_parameters=1e6,
    verifier_parameters=4e6,
  )
  assert big.flops(1, 1) == 2 * 1e6 * 50 + 2 * 4e6 * 100


def test_reading_is_paid_once_or_each_time():
  def worth(prefill, v):
    return sov.SplitCosts(
      solution_tokens=10,
      verification_tokens=20,
      prefix_tokens=30,
      prefill=prefill,
    ).solutions_worth(2, v)

  assert [worth("free", v) for v in (0, 1, 4)] == [2, 6, 18]
  assert [worth("cached", v) for v in (0, 1, 4)] == [2, 12, 24]
  assert [worth("uncached", v) for v in (0, 1, 4)] == [2, 12, 42]


@hypothesis.given(
  budget=st.floats(1, 60),
  ratio=st.floats(0.1, 4),
  prefix=st.floats(0, 3),
  prefill=st.sampled_from(sov.PREFILL),
)
@hypothesis.settings(max_examples=60, deadline=None)
def test_feasible_splits_are_those_that_cost_no_more(
  budget, ratio, prefix, prefill
):
  costs = sov.SplitCosts(
    solution_tokens=1,
    verification_tokens=ratio,
    prefix_tokens=prefix,
    prefill=prefill,
  )
  model = _model(costs, lambda s, v: s * 0.0, 20, 6)
  s, v = sov.feasible_splits(budget, model)
  expected = {
    (a, b)
    for a in range(1, 21)
    for b in range(7)
    if costs.solutions_worth(a, b) <= budget * (1 + 1e-9)
  }
  assert set(zip(s.tolist(), v.tolist(), strict=True)) == expected


def test_the_best_split_is_found():
  costs = sov.SplitCosts.of_ratio(1.0)
  # The product is largest at S = V + 1 = sqrt(C) under S (1 + V) <= C.
  model = _model(costs, lambda s, v: np.sqrt(s) * np.sqrt(1.0 + v))
  found = sov.allocate(36, model)
  assert found.solutions * (1 + found.verifications) == 36
  peaked = _model(costs, lambda s, v: -((s - 5.0) ** 2) - (v - 3.0) ** 2)
  assert sov.allocate(20, peaked) == (5, 3)
  assert sov.allocate(1, peaked) == (1, 0)


def test_equally_good_splits_go_to_the_cheapest():
  flat = _model(sov.SplitCosts.of_ratio(2.0), lambda s, v: 0.0 * s)
  assert sov.allocate(30, flat) == (1, 0)


@pytest.mark.parametrize(
  ("fields", "words"),
  [
    ({"verification_tokens": 0}, "verification_tokens must be positive"),
    ({"solution_tokens": -1}, "solution_tokens must be positive"),
    ({"solver_parameters": float("nan")}, "solver_parameters must be"),
    ({"prefix_tokens": -1}, "prefix_tokens must be finite"),
    ({"prefill": "cheap"}, "prefill must be one of free, cached, uncached"),
  ],
)
def test_bad_costs_are_refused(fields, words):
  with pytest.raises(ValueError, match=words):
    sov.SplitCosts(
      **({"solution_tokens": 1, "verification_tokens": 1} | fields)
    )


def test_bad_budgets_and_models_are_refused():
  costs = sov.SplitCosts.of_ratio(1.0)
  model = _model(costs, lambda s, v: 0.0 * s)
  for budget in (0.5, float("nan"), float("inf")):
    with pytest.raises(ValueError, match="at least one solution"):
      sov.allocate(budget, model)
  with pytest.raises(ValueError, match="most_solutions >= 1"):
    sov.allocate(2, _model(costs, lambda s, v: s, solutions=0))
  with pytest.raises(ValueError, match="with NaN"):
    sov.allocate(2, _model(costs, lambda s, v: s * np.nan))
  with pytest.raises(ValueError, match="expected 3 numbers"):
    sov.allocate(2, _model(costs, lambda s, v: s[:1]))
  with pytest.raises(ValueError, match="S >= 1 and V >= 0"):
    costs.solutions_worth(0, 1)
  with pytest.raises(ValueError, match="verification_tokens must be positive"):
    sov.SplitCosts.of_ratio(0.0)
