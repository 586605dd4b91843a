# SPDX-License-Identifier: Apache-2.0
"""The study of progress rewards in little."""

import dataclasses
import json

import numpy as np
import pytest

from jaxttc.studies import progress_study


@pytest.fixture(scope="module")
def recipe():
  return progress_study.StudyRecipe(
    answers=4,
    episodes=5,
    queries=8,
    rollouts=8,
    branches=2,
    steps=60,
    rates=(2.0,),
    seeds=(0, 1),
    tuning_seeds=(9,),
    evaluated=2000,
    level=0.85,
    points=(2, 5),
  )


@pytest.fixture(scope="module")
def data(recipe):
  return progress_study.run(recipe)


def test_training_helps_and_order_is_learnt(data):
  last = {
    name: np.mean(
      [r["accuracy"] for r in data["curves"] if r["method"] == name], axis=0
    )
    for name in progress_study.METHODS
  }
  untrained, best = np.array(data["untrained"]), np.array(data["oracle"])
  for curve in last.values():
    assert curve[-1] > untrained[-1]
    assert (curve <= best + 0.03).all()
  assert last["progress"][1:4].sum() > last["outcome"][1:4].sum()


def test_equal_compute_gives_more_rollouts(data, recipe):
  # 5 episodes and 10 forced answers against 5 episodes and one answer.
  assert data["rollouts"]["outcome, equal compute"] == round(8 * 15 / 6)


def test_report(data, recipe, tmp_path):
  study = progress_study.report(recipe, data)
  json.dumps(study.data)
  bars = {c.name: c.bar for c in study.claims if c.bar is not None}
  assert bars["token_efficiency_over_outcome_reward"] == 1.5
  assert bars["regret_over_outcome_reward"] == 1.0
  study.draw(tmp_path / "mrt.png")
  assert (tmp_path / "mrt.png").stat().st_size > 10_000


@pytest.mark.parametrize(
  ("field", "value"),
  [
    ("rollouts", 1),
    ("steps", 0),
    ("alpha", -1.0),
    ("rates", (0.0,)),
    ("tuning_seeds", (0,)),
    ("points", (3, 2)),
    ("answers", 1),
  ],
)
def test_refused(recipe, field, value):
  with pytest.raises(ValueError):
    progress_study.run(dataclasses.replace(recipe, **{field: value}))
