# SPDX-License-Identifier: Apache-2.0
"""The study of progress on a language model: a tiny run, and its claims."""

import dataclasses
import shutil

import numpy as np
import pytest

from jaxttc import results, simulation
from jaxttc.inference import bundle
from jaxttc.studies import progress_language_report as report_lib
from jaxttc.studies import progress_language_study as study_lib
from jaxttc.tasks import hidden_numbers
from jaxttc.testing import tiny_models
from jaxttc.training import (
  loop,
  policy_losses,
  rollout_config,
  rollout_progress,
  rollout_recipes,
)


def _recipe(start, **changes):
  arm = rollout_recipes.RolloutRecipe(
    start=start,
    task=hidden_numbers.HiddenTask(modulus=11, numbers=8),
    check_steps=False,
    problems=4,
    held_out=2,
    samples=2,
    rollouts=rollout_config.RolloutConfig(
      strategy="uniform", tasks=2, group=4, n_max=4, max_tokens=12
    ),
    progress=rollout_progress.ProgressConfig(
      episodes=3, branches=1, answer_tokens=3
    ),
    loss=policy_losses.PolicyLossConfig(),
    train=loop.TrainConfig(
      steps=1,
      decay_steps=100,
      batch_size=8,
      length=28,
      learning_rate=1e-3,
      warmup_steps=0,
      log_every=1,
    ),
  )
  made = {
    "methods": (study_lib.OUTCOME, study_lib.PROGRESS),
    "times": 1.0,
    "tuning_steps": 1,
    "rates": (1e-3,),
    "seeds": (0,),
    "judged": 6,
    "budgets": (8, 16),
    "level": 0.5,
  }
  return study_lib.StudyRecipe(arm=arm, **(made | changes))


@pytest.fixture(scope="module")
def start(tmp_path_factory):
  path = tmp_path_factory.mktemp("policy") / "tiny.safetensors"
  bundle.save(str(path), tiny_models.tiny_bundles()[0])
  return str(path)


def test_a_study_runs_resumes_and_is_written(start, tmp_path, monkeypatch):
  recipe = _recipe(start)
  found = study_lib.run(recipe, str(tmp_path / "work"))
  assert {row["method"] for row in found["runs"]} == set(recipe.methods)
  for row in (*found["runs"], *found["untrained"]):
    assert len(row["accuracy"]) == recipe.longest + 1
    assert row["accuracy"][0] == 0
  monkeypatch.setattr(
    rollout_recipes.RolloutRecipe, "run", lambda *_: pytest.fail("ran again")
  )
  assert study_lib.run(recipe, str(tmp_path / "work")) == found
  simulation.write(report_lib.report(recipe, found), tmp_path / "mrt_lm")
  assert results.read(tmp_path / "mrt_lm.json").data["level"] == 0.5
  other = dataclasses.replace(recipe, times=2.0)
  with pytest.raises(ValueError, match="holds a run of another recipe"):
    study_lib.run(other, str(tmp_path / "work"))
  shutil.rmtree(tmp_path / "work")


def _row(method, seed, at, tokens):
  """A model that is never right before so many tokens, and always after."""
  accuracy = (np.arange(12 + 3 + 2) >= at).astype(float)
  return {
    "method": method,
    "seed": seed,
    "training_tokens": tokens,
    "accuracy": accuracy.tolist(),
    "regret": [1 - accuracy[:9].mean(), 1 - accuracy[:17].mean()],
    "success": 1.0 - at / 100,
    "attempts": 2.0,
    "repeats": 0.0,
    "at_once": 0.1,
  }


def test_claims_compare_the_same_seed(start):
  recipe = _recipe(
    start,
    seeds=(0, 1),
    methods=(study_lib.OUTCOME, study_lib.PENALTY, study_lib.PROGRESS),
  )
  found = {
    "runs": [
      _row(study_lib.OUTCOME, 0, 10, 100),
      _row(study_lib.PENALTY, 0, 5, 100),
      _row(study_lib.PROGRESS, 0, 5, 90),
      _row(study_lib.OUTCOME, 1, 12, 100),
      _row(study_lib.PENALTY, 1, 12, 100),
      _row(study_lib.PROGRESS, 1, 4, 80),
    ],
    "tuning": [],
    "untrained": [_row("", 0, 99, 0), _row("", 1, 99, 0)],
  }
  made = {c.name: c for c in report_lib.report(recipe, found).claims}
  gain = made["token_efficiency_over_outcome_reward"]
  # The level is reached half a token before the step, on a straight line.
  ratios = 9.5 / 4.5, 11.5 / 3.5
  assert (gain.low, gain.high) == pytest.approx(ratios)
  assert gain.holds and made["regret_over_outcome_reward"].holds
  assert made["training_tokens_over_outcome_reward"].high == 0.9
  assert made["final_points_over_outcome_reward"].value == pytest.approx(6.5)
  assert made["token_efficiency_over_length_penalty"].low == 1.0
  # A model that never gets there needs at least all tokens that there are.
  assert report_lib._needed(np.zeros(17), 0.5) == recipe.longest


def test_the_best_order_by_hand(start):
  recipe = _recipe(start)
  curve = report_lib.best_order(recipe)
  prior = recipe.arm.task.prior
  assert curve[2] == 0
  assert curve[3] == curve[7] == pytest.approx(prior[0])
  assert curve[8] == pytest.approx(prior[0] + prior[1])


@pytest.mark.parametrize(
  ("changes", "message"),
  [
    ({"methods": (study_lib.PROGRESS,)}, "methods="),
    ({"times": 0.5}, "times must be at least 1"),
    ({"rates": ()}, "rates="),
    ({"seeds": (100,)}, "tuning_seed=100"),
    ({"judged": 0}, "judged must be at least 1"),
    ({"level": 0.0}, "level=0.0"),
    ({"budgets": (16, 8)}, "budgets must be positive and rising"),
  ],
)
def test_studies_that_cannot_be_are_named(start, changes, message):
  with pytest.raises(ValueError, match=message):
    _recipe(start, **changes).validate()
