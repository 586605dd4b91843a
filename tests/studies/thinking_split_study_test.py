# SPDX-License-Identifier: Apache-2.0
import dataclasses
import json

import numpy as np
import pytest

from configs import thinking_split
from jaxttc import simulation
from jaxttc.predictors import thinking_difficulty
from jaxttc.solving import problem_sets, solve_recipe, thinking_solving
from jaxttc.studies import thinking_split_study


@pytest.fixture(scope="module", name="recipe")
def _recipe():
  """The shipped study, made small."""
  return dataclasses.replace(
    thinking_split.get_config(),
    ways=("hard_cap",),
    questions=6,
    tuning_questions=6,
    tuning_budgets=(6, 24),
    budgets=(12,),
    seeds=(0,),
    limit=40,
    resamples=50,
  )


@pytest.fixture(scope="module", name="found")
def _found(recipe):
  return thinking_split_study.run(recipe)


@pytest.fixture(scope="module", name="file")
def _file(found, tmp_path_factory):
  path = tmp_path_factory.mktemp("fitted") / "hard.json"
  thinking_difficulty.save(path, found.estimator)
  return path


def test_all_arms_share_one_total_and_only_budgets_differ(recipe, found):
  assert set(found.digits) == {2, 3, 4}
  for (_, mean, arm), budgets in found.budgets.items():
    assert budgets.sum() <= mean * recipe.questions
    spent = found.asked["hard_cap", mean, arm].tokens
    assert (spent <= budgets[:, None]).all()
  equal = found.budgets["hard_cap", 12, "equal"]
  assert (equal == 12).all()
  # Sums of more digits look harder.
  hard = found.difficulty["hard_cap"]
  assert hard[found.digits == 4].min() > hard[found.digits == 2].max()


def test_claims_and_files_come_of_what_was_asked(recipe, found, tmp_path):
  study = thinking_split_study.report(recipe, found)
  claims = {claim.name: claim for claim in study.claims}
  asked = {
    arm: found.asked["hard_cap", 12, arm].right.mean()
    for arm in thinking_split_study.ARMS
  }
  gap = claims["points_over_equal_budgets"]
  expected = 100 * (asked["adaptive"] - asked["equal"])
  assert gap.value == pytest.approx(expected) and gap.bar == 5.0
  assert claims["total_over_given_most"].value <= 1
  simulation.publish(study, tmp_path / "study")
  assert (tmp_path / "study.png").stat().st_size > 5000


def _solve(recipe_file, path, words=""):
  recipe = solve_recipe.SolveRecipe(
    problems=problem_sets.ProblemSource(family="digit_sums", count=6, seed=7),
    policy="thinking_lm",
    verifier="",
    thinking=f"hard_cap(budget=12, adaptive={str(recipe_file)!r})",
    budget=words,
    sampling=solve_recipe.SamplingOptions(min_p=0.01, max_tokens=40),
    batch=6,
  )
  rows = thinking_solving.solve_to_file(recipe, path, progress=False)
  return recipe, rows


def test_a_command_gives_each_question_a_budget_of_its_own(
  found, file, tmp_path
):
  recipe, rows = _solve(file, tmp_path / "answers.jsonl")
  budgets = [row["thinking_budget"] for row in rows]
  np.testing.assert_array_equal(
    budgets, found.budgets["hard_cap", 12, "adaptive"]
  )
  assert len(set(budgets)) > 1 and sum(budgets) <= 6 * 12
  for row in rows:
    assert row["thinking_tokens"] <= row["thinking_budget"]
    assert row["difficulty"] > 1
  plain = dataclasses.replace(recipe, thinking="hard_cap(budget=12)")
  equal = thinking_solving.prepare(plain)
  own = thinking_solving.prepare(recipe)
  assert thinking_solving.estimate(equal, 9).flops == 0
  seen = thinking_solving.estimate(own, 9)  # the prompt is read once more
  assert seen.prompt_tokens == 9 and seen.flops > own.split.flops > 0
  table = thinking_solving.table(rows)
  assert f"({min(budgets)} to {max(budgets)})" in str(table.columns[1]._cells)


def test_estimators_are_read_as_written(found, file, tmp_path):
  again = thinking_difficulty.load(file)
  assert again.fingerprint == found.estimator.fingerprint
  about = json.loads(file.read_text())
  path = tmp_path / "other.json"
  for change, words in (
    ({"kind": "x"}, "holds no difficulty estimator"),
    ({"weights": "x"}, "fitted with another predictor"),
    ({"curves": {"hard_cap": {"floor": 1}}}, "damaged"),
  ):
    path.write_text(json.dumps(about | change))
    with pytest.raises(ValueError, match=words):
      thinking_difficulty.load(path)
  with pytest.raises(ValueError, match="no success curve of the way"):
    again.predict_curve("guided", np.ones(1), np.ones(1, int))
  with pytest.raises(ValueError, match="expected a JSON file"):
    thinking_difficulty.load(tmp_path / "none.json")


@pytest.mark.parametrize(
  ("fields", "words"),
  [
    ({"questions": 2}, "must be at least 3"),
    ({"tuning_seed": 7}, "expected other questions"),
    ({"tuning_budgets": (8,)}, "at least two"),
    ({"ways": ()}, "must not be empty"),
  ],
)
def test_bad_recipes_are_refused(recipe, fields, words):
  with pytest.raises(ValueError, match=words):
    thinking_split_study.run(dataclasses.replace(recipe, **fields))
