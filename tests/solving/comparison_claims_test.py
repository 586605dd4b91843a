# SPDX-License-Identifier: Apache-2.0
import math

import numpy as np
import pytest

from jaxttc.evaluation import statistics, tables
from jaxttc.solving import comparison_claims
from jaxttc.solving import samples as samples_lib

_N = 400


def run(method, accuracy, tokens, calls=10.0, setting="", budget=100, seed=0):
  solved = np.arange(_N) < round(accuracy * _N)
  return tables.Run(
    method=method,
    setting=setting,
    budget=float(budget),
    seed=seed,
    accuracy=solved,
    cost={
      "generated_tokens": np.full(_N, float(tokens)),
      "verifier_calls": np.full(_N, float(calls)),
    },
  )


def claims(*runs, **others):
  found = comparison_claims.claims(runs, **others)
  return {claim.name: claim for claim in found}


def test_ratios_at_equal_accuracy():
  found = claims(
    run("astar", 0.8, 100, 20),
    run("best_of_n", 0.8, 400, 4),
    run("particle_filter", 0.8, 150, 40),
  )
  assert found["tokens_best_of_n_over_astar"].value == pytest.approx(4)
  assert found["tokens_best_of_n_over_astar"].holds
  assert found["tokens_particle_filter_over_astar"].value == pytest.approx(1.5)
  assert found["tokens_particle_filter_over_astar"].holds is False
  passes = found["reward_passes_astar_over_particle_filter"]
  assert passes.value == pytest.approx(0.5) and passes.holds


def test_a_method_that_never_is_as_accurate_saves_nothing():
  found = claims(run("astar", 0.5, 10), run("best_of_n", 0.9, 400))
  claim = found["tokens_best_of_n_over_astar"]
  assert claim.value == 0 and claim.holds is False


def test_front_is_a_share_of_budgets():
  found = claims(
    run("astar", 0.2, 50, budget=50),
    run("astar", 0.8, 100, budget=100),
    run("best_of_n", 0.6, 50, budget=50),
  )
  assert found["astar_on_front_at_every_budget"].value == 0.5
  assert found["astar_on_front_at_every_budget"].holds is False
  assert found["astar_largest_gap_to_front"].value == pytest.approx(0.4)


def test_orders_compare_the_largest_settings():
  found = claims(
    run("weighted_best_of_n", 0.7, 400, setting="n=8"),
    run("weighted_best_of_n", 0.9, 100, setting="n=2"),
    run("self_consistency", 0.6, 400, setting="n=8"),
    run("greedy", 0.65, 50),
  )
  assert found["weighted_minus_majority"].value == pytest.approx(0.1)
  assert found["weighted_minus_majority"].holds
  assert found["majority_minus_greedy"].value == pytest.approx(-0.05)
  assert found["majority_minus_greedy"].holds is False


def test_rise_is_from_the_smallest_to_the_largest_budget():
  found = claims(
    run("astar", 0.3, 50, budget=50, setting="a"),
    run("astar", 0.4, 50, budget=50, setting="b"),
    run("astar", 0.7, 100, budget=100, setting="a"),
  )
  assert found["accuracy_rises_astar"].value == pytest.approx(0.3)
  assert found["accuracy_rises_astar"].holds
  assert found["accuracy_astar"].value == pytest.approx(0.7)
  assert found["accuracy_astar"].bar is None


def test_controls_are_paired_with_their_own_setting():
  table = [run("astar", 0.7, 100, setting="a"), run("astar", 0.2, 9)]
  control = run("astar/random", 0.5, 100, setting="a")
  found = claims(*table, controls=[control])
  assert found["astar_minus_random_control"].value == pytest.approx(0.2)
  assert found["astar_minus_random_control"].holds
  assert "accuracy_astar/random" not in found


def test_auc_has_a_bar_for_the_model_and_none_for_controls():
  samples = samples_lib.Samples(
    drawn=1,
    problem=np.zeros(0, np.int32),
    answer=np.zeros(0, np.int32),
    correct=np.zeros(0, bool),
    reward=np.zeros(0, np.float32),
    step_problem=np.array([0, 0, 1, 1], np.int32),
    step_reward=np.array([0.9, 0.1, 0.8, 0.3], np.float32),
    step_right=np.array([1, 0, 1, 0], bool),
    count=2,
  )
  found = claims(run("greedy", 0.5, 9), samples={"": samples, "weak": samples})
  assert (
    found["reward_model_auc"].value == 1 and found["reward_model_auc"].holds
  )
  assert found["auc_weak_control"].bar is None


def test_claim_without_a_finite_end_has_no_interval():
  made = comparison_claims.claim(
    "x", statistics.Interval(2.0, 1.0, math.inf), 1.5
  )
  assert (made.low, made.high, made.holds) == (None, None, True)


def test_empty_table_is_refused():
  with pytest.raises(ValueError, match="empty"):
    comparison_claims.claims([])
