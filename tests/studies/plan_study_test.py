# SPDX-License-Identifier: Apache-2.0
"""The study of split budgets in little."""

import dataclasses
import json

import numpy as np
import pytest

from jaxttc.studies import (
  plan_bench,
  plan_recipe,
  plan_report,
  plan_study,
)


@pytest.fixture(scope="module")
def recipe():
  return plan_recipe.StudyRecipe(
    problems=16,
    additions=(1, 3, 5),
    seeds=(0,),
    pool=24,
    vanilla=16,
    budget=18,
    pilot=(1, 4, 16),
    pilot_sums=12,
    capped=8,
    shares=(0.8, 1.2),
    slots=32,
    resamples=20,
  )


@pytest.fixture(scope="module")
def data(recipe):
  return plan_study.run(recipe)


def _of(rows, **where):
  return [r for r in rows if all(r[k] == v for k, v in where.items())]


def test_splits_spend_the_budget_and_no_more(data, recipe):
  for row in data["splits"]:
    most = 3 * recipe.vanilla if row["split"] == "vanilla" else recipe.budget
    assert row["samples"] == most
    assert row["e3"] == pytest.approx(
      1e4 * row["accuracy"] ** 2 / row["tokens"]
    )
  (best,) = _of(data["splits"], split="oracle")
  (equal,) = _of(data["splits"], split="uniform")
  assert best["accuracy"] >= equal["accuracy"] - 0.05


def test_longer_sums_are_harder(data):
  first = np.array(data["curves"])[:, 1]
  assert first[0] > first[-1] + 0.2


def test_caps_hold_and_a_pool_finishes_no_less(data, recipe):
  (free,) = _of(data["caps"], rule="uncapped")
  for share in recipe.shares:
    by_rule = {row["rule"]: row for row in _of(data["caps"], share=share)}
    for row in by_rule.values():
      assert row["tokens"] <= share * free["tokens"] + 1
    assert by_rule["pool"]["accuracy"] >= by_rule["none"]["accuracy"]


def test_pool_is_compared_with_hard_caps_and_may_lose(data):
  def claims(**right):
    caps = [
      row | {"accuracy": right.get(row["rule"], 0.5)} for row in data["caps"]
    ]
    made = plan_report.claims(data | {"caps": caps})
    return {claim.name: claim for claim in made}

  won = claims(pool=0.9, none=0.1, next=0.6)
  assert won["points_pool_over_hard_caps_at_1.2"].value == pytest.approx(80)
  assert won["points_roll_over_over_hard_caps_at_1.2"].holds
  assert won["points_pool_over_caps_by_length_at_1.2"].holds
  lost = claims(pool=0.5, none=0.4)
  assert lost["points_pool_over_hard_caps_at_1.2"].holds is False
  assert lost["points_pool_over_caps_by_length_at_1.2"].holds is False


def test_vote_curve_is_the_vote():
  said = ["4", "4", "7", None, "4", "7"]
  curve = plan_bench._curve(said, "4", 6)
  assert curve[0] == 0
  assert curve[1] == pytest.approx(3 / 6)
  assert curve[6] == 1.0  # three against two
  assert not plan_bench._curve(said, "9", 6).any()


def test_report(data, recipe, tmp_path):
  study = plan_report.report(recipe, data)
  json.dumps(study.data)
  names = [claim.name for claim in study.claims]
  assert names[0] == "e3_over_vanilla"
  assert len(set(names)) == len(names)
  study.draw(tmp_path / "plans.png")
  assert (tmp_path / "plans.png").stat().st_size > 10_000


@pytest.mark.parametrize(
  ("field", "value", "said"),
  [
    ("problems", 0, "problems is 0"),
    ("budget", 2, "budget is 2; expected >= 3"),
    ("pool", 8, "pool is 8; expected >= 16"),
    ("seeds", (), "at least one"),
    ("additions", (0, 1), "additions"),
    ("shares", (0.8,), "with 1.2"),
  ],
)
def test_refused(recipe, field, value, said):
  with pytest.raises(ValueError, match=said):
    plan_study.run(dataclasses.replace(recipe, **{field: value}))
