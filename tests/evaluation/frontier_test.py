# SPDX-License-Identifier: Apache-2.0
import dataclasses

import hypothesis
from hypothesis import strategies as st
import numpy as np
import pytest
import scipy.optimize

from jaxttc.evaluation import frontier, tables
from jaxttc.evaluation import statistics as statistics_lib

TOKENS = "generated_tokens"
SETTINGS = hypothesis.settings(deadline=None, max_examples=60)

# Few distinct values, so that ties are common.
coordinates = st.lists(
  st.tuples(st.integers(0, 6), st.integers(0, 6)), min_size=1, max_size=12
)


def point(cost, accuracy, method="astar"):
  return tables.Point(
    method=method,
    setting="",
    budget=1.0,
    problems=1,
    seeds=1,
    level=0.95,
    accuracy=accuracy,
    low=accuracy,
    high=accuracy,
    cost={TOKENS: statistics_lib.Interval(cost, cost, cost)},
  )


def points_of(pairs):
  return [point(float(cost), rank / 6) for cost, rank in pairs]


def run(method, budget, accuracy, cost, seed=0, setting=""):
  return tables.Run(
    method=method,
    setting=setting,
    budget=budget,
    seed=seed,
    accuracy=np.asarray(accuracy, float),
    cost={TOKENS: np.asarray(cost, float)},
  )


def curve(method, scale, skill, problems=150, seeds=2):
  """Runs whose accuracy rises with the budget, on shared problems."""
  rng = np.random.default_rng(0)
  hardness = rng.random(problems)
  table = []
  for budget in (10.0, 20.0, 40.0, 80.0):
    for seed in range(seeds):
      noise = rng.normal(0, 0.1, problems)
      solved = hardness + noise < skill * np.log2(budget) / 8
      cost = budget * rng.uniform(0.5, 1, problems) * scale
      table.append(run(method, budget, solved, cost, seed))
  return table


@hypothesis.given(coordinates)
@SETTINGS
def test_pareto_is_its_definition(pairs):
  def dominates(q, p):
    return q[0] <= p[0] and q[1] >= p[1] and q != p

  want = [not any(dominates(q, p) for q in pairs) for p in pairs]
  assert frontier.pareto(points_of(pairs), TOKENS) == want


def test_pareto_of_nothing_and_of_an_unknown_field():
  assert frontier.pareto([], TOKENS) == []
  with pytest.raises(ValueError, match="did you mean 'generated_tokens'"):
    frontier.pareto([point(1.0, 0.5)], "generated_token")


def cheapest_mixture(pairs, accuracy):
  """Linear program over mixtures of settings."""
  cost, rank = np.array(pairs, float).T
  solution = scipy.optimize.linprog(
    cost,
    A_ub=-(rank / 6)[None],
    b_ub=[-accuracy],
    A_eq=np.ones((1, len(pairs))),
    b_eq=[1],
  )
  return solution.fun if solution.success else None


@hypothesis.given(coordinates, st.integers(0, 12))
@SETTINGS
def test_cost_at_accuracy_is_the_cheapest_mixture(pairs, level):
  accuracy = level / 12
  got = frontier.cost_at_accuracy(points_of(pairs), accuracy, TOKENS)
  want = cheapest_mixture(pairs, accuracy)
  assert (got is None) == (want is None)
  if got is not None:
    assert np.isclose(got, want, atol=1e-6)


@hypothesis.given(coordinates)
@SETTINGS
def test_cost_at_accuracy_is_monotone(pairs):
  levels = np.linspace(0, max(rank for _, rank in pairs) / 6, 13)
  points = points_of(pairs)
  costs = [frontier.cost_at_accuracy(points, x, TOKENS) for x in levels]
  assert None not in costs
  assert (np.diff(costs) >= -1e-9).all()


@hypothesis.given(coordinates, st.integers(0, 12))
@SETTINGS
def test_one_more_setting_never_makes_a_method_dearer(pairs, level):
  all_points = points_of(pairs)
  fewer = all_points[1:]
  hypothesis.assume(fewer)
  before = frontier.cost_at_accuracy(fewer, level / 12, TOKENS)
  after = frontier.cost_at_accuracy(all_points, level / 12, TOKENS)
  if before is not None:
    assert after <= before + 1e-9


def test_cost_at_accuracy_by_hand():
  points = [point(10.0, 0.4), point(30.0, 0.3), point(50.0, 0.8)]

  def cost(accuracy):
    return frontier.cost_at_accuracy(points, accuracy, TOKENS)

  assert cost(0.1) == 10
  assert cost(0.4) == 10
  assert np.isclose(cost(0.6), 30)
  assert cost(0.8) == 50
  assert cost(0.81) is None


def test_cost_at_accuracy_refuses():
  both = [point(1.0, 0.5), point(1.0, 0.5, method="beam")]
  with pytest.raises(ValueError, match="one method"):
    frontier.cost_at_accuracy(both, 0.5, TOKENS)
  with pytest.raises(ValueError, match="one method"):
    frontier.cost_at_accuracy([], 0.5, TOKENS)
  with pytest.raises(ValueError, match=r"\[0, 1\]"):
    frontier.cost_at_accuracy(both[:1], 1.5, TOKENS)
  with pytest.raises(ValueError, match="cost field"):
    frontier.cost_at_accuracy(both[:1], 0.5, "flops")


def test_a_method_saves_nothing_over_itself():
  table = curve("astar", 1.0, 1.0)
  found = frontier.savings(table, "astar", "astar", TOKENS, resamples=200)
  assert len(found) == 5
  assert all(saving.ratio == (1, 1, 1) for saving in found)
  best = frontier.savings_at_best(table, "astar", "astar", TOKENS)
  assert best.ratio == (1, 1, 1)
  assert best.reached == 1


def test_a_method_at_a_third_of_the_cost_saves_threefold():
  table = curve("beam", 3.0, 1.0) + curve("astar", 1.0, 1.0)
  for saving in frontier.savings(table, "astar", "beam", TOKENS):
    np.testing.assert_allclose(saving.ratio, 3)
  best = frontier.savings_at_best(table, "astar", "beam", TOKENS)
  np.testing.assert_allclose(best.ratio, 3)
  assert best.accuracy == max(
    p.accuracy for p in tables.summarise(table) if p.method == "beam"
  )
  back = frontier.savings_at_best(table, "beam", "astar", TOKENS)
  np.testing.assert_allclose(back.ratio, 1 / 3)


def test_savings_agree_with_cost_at_accuracy():
  table = curve("beam", 1.0, 0.8) + curve("astar", 0.7, 1.0)
  points = tables.summarise(table, resamples=50)
  for saving in frontier.savings(table, "astar", "beam", TOKENS):
    costs = {
      method: frontier.cost_at_accuracy(
        [p for p in points if p.method == method], saving.accuracy, TOKENS
      )
      for method in ("astar", "beam")
    }
    assert np.isclose(saving.method_cost, costs["astar"])
    assert np.isclose(saving.baseline_cost, costs["beam"])
    assert np.isclose(saving.ratio.value, costs["beam"] / costs["astar"])
    assert saving.ratio.low <= saving.ratio.value <= saving.ratio.high


def test_accuracies_that_one_side_never_reaches_are_left_out():
  table = curve("beam", 1.0, 0.5) + curve("astar", 1.0, 1.0)
  found = frontier.savings(
    table, "astar", "beam", TOKENS, [0.2, 0.99], resamples=100
  )
  assert [saving.accuracy for saving in found] == [0.2]
  assert frontier.savings_at_best(table, "beam", "astar", TOKENS) is None


def test_an_accuracy_at_the_edge_has_an_open_interval():
  table = curve("beam", 1.0, 0.5) + curve("astar", 1.0, 1.0)
  points = tables.summarise(table, resamples=50)
  top = max(p.accuracy for p in points if p.method == "beam")
  (saving,) = frontier.savings(table, "astar", "beam", TOKENS, [top])
  assert saving.ratio.high == np.inf
  assert 0.2 < saving.reached < 0.8


def test_savings_refuse_unknown_names():
  table = curve("astar", 1.0, 1.0)
  with pytest.raises(ValueError, match="unknown method 'beem'"):
    frontier.savings(table, "astar", "beem", TOKENS)
  with pytest.raises(ValueError, match="cost field"):
    frontier.savings_at_best(table, "astar", "astar", "flops")


def test_front_of_a_method_that_leads_everywhere():
  table = curve("beam", 1.0, 0.6) + curve("astar", 0.9, 1.0)
  checks = frontier.on_front_at_every_budget(table, "astar", TOKENS)
  assert [check.budget for check in checks] == [10, 20, 40, 80]
  assert all(check.strict and check.within for check in checks)
  assert all(check.gap.value == 0 for check in checks)


def test_front_of_a_method_that_trails_everywhere():
  table = curve("beam", 1.0, 0.6) + curve("astar", 0.5, 1.0)
  checks = frontier.on_front_at_every_budget(table, "beam", TOKENS)
  assert not any(check.strict or check.within for check in checks)
  assert all(check.gap.low > 0 for check in checks)


def test_front_within_noise_but_not_strictly():
  # The rival is cheaper and solves one problem more of a hundred.
  solved = np.arange(100) < 50
  one_more = np.arange(100) < 51
  table = [
    run("astar", 1.0, solved, np.full(100, 2.0)),
    run("beam", 1.0, one_more, np.full(100, 1.0)),
  ]
  (check,) = frontier.on_front_at_every_budget(table, "astar", TOKENS)
  assert np.isclose(check.gap.value, 0.01)
  assert not check.strict
  assert check.within


def test_front_ignores_rivals_that_cost_more_or_need_a_larger_budget():
  ones, zeros = np.ones(20), np.zeros(20)
  table = [
    run("astar", 1.0, zeros, np.full(20, 5.0)),
    run("beam", 1.0, ones, np.full(20, 6.0)),
    run("mcts", 2.0, ones, np.full(20, 1.0)),
  ]
  (check,) = frontier.on_front_at_every_budget(table, "astar", TOKENS)
  assert check.strict
  dearer = [dataclasses.replace(table[0], budget=2.0), *table[1:]]
  (check,) = frontier.on_front_at_every_budget(dearer, "astar", TOKENS)
  assert not check.strict
  assert check.gap.value == 1


def test_front_enters_the_most_accurate_setting():
  table = [
    run("astar", 1.0, [1, 0], [1, 1], setting="k=2"),
    run("astar", 1.0, [1, 1], [3, 3], setting="k=4"),
    run("astar", 1.0, [1, 1], [2, 2], setting="k=3"),
  ]
  (check,) = frontier.on_front_at_every_budget(table, "astar", TOKENS)
  assert check.setting == "k=3"


def test_front_refuses_unknown_names():
  table = curve("astar", 1.0, 1.0)
  with pytest.raises(ValueError, match="did you mean 'astar'"):
    frontier.on_front_at_every_budget(table, "astra", TOKENS)
