# SPDX-License-Identifier: Apache-2.0
import dataclasses

import numpy as np
import pytest

from jaxttc.solving import comparing, problem_sets, solve_recipe
from jaxttc.studies import plain_study


@pytest.fixture(scope="module", name="recipe")
def _recipe(models):
  return plain_study.StudyRecipe(
    compare=comparing.CompareRecipe(
      problems=problem_sets.ProblemSource(
        count=5, family="modular", steps=(2,), style="terse"
      ),
      budgets=(16, 32),
      seeds=(0, 1),
      methods=(
        comparing.MethodSpec(
          label="one", decoder="best_of_n(n=1)", settings=("",)
        ),
      ),
      policy=str(models / "policy.safetensors"),
      verifier=str(models / "verifier.safetensors"),
      sampling=solve_recipe.SamplingOptions(step_tokens=8, max_tokens=16),
      batch=4,
      samples=0,
      tree_method="",
    ),
    budgets=(12, 24),
    resamples=50,
  )


def test_a_small_study_says_what_plain_did(recipe, tmp_path, monkeypatch):
  found = plain_study.run(recipe, tmp_path, progress=False)
  assert found.right.shape == found.tokens.shape == (2, 2, 5)
  means = found.tokens.mean(2)
  assert (means <= np.array([[12.0], [24.0]])).all() and (means > 0).all()
  made = plain_study.report(recipe, found)
  claims = {claim.name: claim for claim in made.claims}
  assert claims["never_overspent"].value <= 1
  at = [
    claims[f"points_over_best_single_decoder_at_{b}"].value for b in (12, 24)
  ]
  mean = claims["points_over_best_single_decoder"].value
  assert mean == pytest.approx(np.mean(at))
  solved, single = made.data["solved"], made.data["best_single_decoder"]
  assert at[0] == pytest.approx(100 * (solved[0] - single[0]))
  # Nothing is run twice.
  monkeypatch.setattr(plain_study.policy_solving.policies, "Run", None)
  again = plain_study.run(recipe, tmp_path, progress=False)
  np.testing.assert_array_equal(again.tokens, found.tokens)


def test_what_cannot_be_run_is_refused(recipe, tmp_path):
  with pytest.raises(ValueError, match="budgets >= 1"):
    plain_study.run(dataclasses.replace(recipe, budgets=()), tmp_path)
