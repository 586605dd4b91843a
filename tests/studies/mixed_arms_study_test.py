# SPDX-License-Identifier: Apache-2.0
import dataclasses

import numpy as np
import pytest

from jaxttc.solving import (
  arm_tables,
  budget_policies,
  policy_fitting,
  problem_sets,
  solve_recipe,
)
from jaxttc.studies import mixed_arms_study


def _problems(split):
  return problem_sets.ProblemSource(
    family="digit_sums,digit_chains",
    steps=(2, 3),
    split=split,
    count=12,
    style="terse",
  )


_SMALL = mixed_arms_study.StudyRecipe(
  models=("thinking_lm", "two_speed_lm"),
  verifier="",
  decode="thinking_lm: guided(budget=12)@40"
  " + two_speed_lm: two_speed(tau=0.4, samples=2)@200",
  known=_problems("train"),
  fresh=_problems("test"),
  fit=policy_fitting.FitOptions(
    heads=("knn(k=3)",), budgets=(15.0, 60.0), folds=2, strange=0.0
  ),
  real=60,
  seeds=(0,),
  sampling=solve_recipe.SamplingOptions(
    temperature=0.7, min_p=0.01, step_tokens=12, max_tokens=40
  ),
  batch=6,
  resamples=50,
)


def test_a_policy_learns_which_arm_a_problem_needs(tmp_path):
  found = mixed_arms_study.run(_SMALL)
  asked = [
    (family, row["arm"]["model"])
    for family, row in zip(found.families, found.rows, strict=True)
    if row["arm"] is not None
  ]
  assert asked.count(("digit_sums", "thinking_lm")) == 6
  assert asked.count(("digit_chains", "two_speed_lm")) >= 5
  assert found.policy.models.keys() == {"thinking_lm", "two_speed_lm"}
  budget_policies.save(found.policy, tmp_path / "mine.npz")
  again = budget_policies.load(tmp_path / "mine.npz")
  assert again.fingerprint == found.policy.fingerprint
  made = mixed_arms_study.report(_SMALL, found)
  claims = {claim.name: claim for claim in made.claims}
  assert claims["points_over_best_single_arm"].value > 0
  assert claims["never_overspent"].value <= 1
  assert sum(made.data["asked"].values()) <= 12
  pytest.importorskip("matplotlib")
  made.draw(tmp_path / "arms.png")
  assert (tmp_path / "arms.png").stat().st_size > 5000


def test_the_best_arm_of_each_family_is_the_best_assignment():
  right = np.array([[0.0, 1.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
  tokens = np.array([[4.0, 10.0], [4.0, 10.0], [6.0, 10.0], [6.0, 10.0]])
  table = arm_tables.ArmTable(
    (budget_policies.Arm("greedy", 10), budget_policies.Arm("sample", 20)),
    tuple("abcd"),
    right[None],
    tokens[None],
    (0,),
  )
  families = ("one", "one", "two", "two")

  def best(budget):
    return mixed_arms_study.best_by_family(table, families, budget).tolist()

  assert best(8) == [1, 1, 1, 1]  # 20 and 12 of 32 tokens
  assert best(5) == [1, 1, 0, 0] or best(5) == [0, 0, 1, 1]
  assert best(3) == [0, 0, 1, 1]
  assert best(1) == [0, 0, 0, 0]


def test_what_cannot_be_run_is_refused():
  for change, message in (
    (dict(real=0), "real >= 1"),
    (dict(fresh=_SMALL.known), "the same problems"),
  ):
    with pytest.raises(ValueError, match=message):
      mixed_arms_study.run(dataclasses.replace(_SMALL, **change))
