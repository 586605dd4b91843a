# SPDX-License-Identifier: Apache-2.0
import dataclasses
import json

import numpy as np
import pytest

from jaxttc import results, simulation
from jaxttc.studies import bandit_study, cascade_report, cascade_study
from jaxttc.tasks import routing as tasks

_RECIPE = cascade_study.CascadeRecipe(
  heads=("ridge",),
  errors=(0.0, 0.5),
  folds=2,
  inner_folds=2,
  prices=12,
  rank=4,
  resamples=20,
  threshold=0.95,
)
_ONLINE = bandit_study.BanditRecipe(orders=2, parts=4, rank=4, folds=2)


def words(rng):
  return " ".join(rng.choice(list("abcdefghijklmnop"), 12))


@pytest.fixture(scope="module", name="answered")
def _answered(tmp_path_factory):
  """A cheap system, whose long answers are the right ones."""
  rng = np.random.default_rng(0)
  rows = []
  for _ in range(160):
    right = {"s-1b": rng.random() < 0.5, "l-100b": rng.random() < 0.9}
    row = {"question": words(rng), "ground_truth": "so\nA: 4"}
    for system, is_right in right.items():
      long = "step\n" * (4 if is_right and system == "s-1b" else 1)
      row[system] = {
        "solution": f"{long}A: {4 if is_right else rng.integers(10, 99)}",
        "is_correct": bool(is_right),
      }
    rows.append(row)
  path = tmp_path_factory.mktemp("answered") / "solutions.jsonl"
  path.write_text("".join(json.dumps(row) + "\n" for row in rows))
  return str(path)


@pytest.fixture(scope="module", name="scored")
def _scored(tmp_path_factory):
  """Two kinds of questions, two models of one price, each good at one."""
  rng = np.random.default_rng(1)
  rows = []
  for number in range(300):
    kind = number % 2
    text = ("sum the numbers" if kind else "name the poet") + " " + words(rng)
    chances = (0.9, 0.1) if kind else (0.1, 0.9)
    scores = (rng.random(2) < chances).astype(float).tolist()
    named = zip(("x-7b", "y-8b"), scores, strict=True)
    rows.append({"question": text, "scores": dict(named)})
  path = tmp_path_factory.mktemp("scored") / "scores.json"
  path.write_text(json.dumps(rows))
  return str(path)


def test_a_cascade_that_can_read_answers_beats_what_cannot(answered):
  found = cascade_study.run(_RECIPE, tasks.load(answered))
  ways = found.ways
  # Half the questions need the dear system; the scorer knows which.
  assert ways["cascade"].cost_ratio.value < 0.75
  assert ways["cascade, answers alone"].cost_ratio.value < 0.75
  assert ways["router"].cost_ratio.value > 0.85
  assert ways["zero"].cost_ratio.value == pytest.approx(1.0)
  assert ways["zero"].over_zero.value == pytest.approx(0.0)
  assert ways["judge, 0 % errors"].cost_ratio.value < 0.75
  # A judge that draws its verdict is no better than no judge.
  assert abs(ways["judge, 50 % errors"].over_zero.value) < 6
  for way in ways.values():
    assert way.cost_ratio.low <= way.cost_ratio.value <= way.cost_ratio.high
  assert found.scorers == ["ridge"] * 4  # two models, two folds


def test_learners_of_questions_beat_those_that_see_none(scored):
  table = tasks.load(scored)
  learnt = bandit_study.run(dataclasses.replace(_ONLINE, worth=0.0), table)
  late = slice(-1, None)
  points = {n: learnt.points_over_fixed(n, late).value for n in learnt.rewards}
  assert points["best fixed model"] == 0
  assert points["LinUCB"] > 15 and points["Thompson"] > 15
  assert points["UCB"] < 10 and points["epsilon-greedy"] < 10
  assert points["oracle"] >= points["router taught all scores"] > 25
  for rewards in learnt.rewards.values():
    assert rewards.shape == (2, 4)


def test_the_report_holds_together(answered, scored, tmp_path):
  pytest.importorskip("matplotlib", reason="extra `plot` not installed")
  recipe = cascade_report.StudyRecipe(
    answered_data=answered,
    scored_data=scored,
    answered=_RECIPE,
    scored=_RECIPE,
    online=_ONLINE,
  )
  study = cascade_report.run(recipe)
  json_path, picture = simulation.write(study, tmp_path / "cascades")
  claims = {c.name: c for c in results.read(json_path).claims}
  assert claims["cascade_cost_over_best_single_at_equal_score"].value < 0.75
  assert "nine_models_judge_0_errors_points_over_zero_router_halfway" in claims
  assert "linucb_points_over_fixed_model_last_quarter" in claims
  assert (tmp_path / "cascades.png").stat().st_size > 20_000 and picture
  swapped = dataclasses.replace(recipe, answered_data=scored)
  with pytest.raises(ValueError, match="expected answers of the models"):
    cascade_report.run(swapped)


@pytest.mark.parametrize(
  "part, change, message",
  [
    ("answered", dict(heads=()), "heads"),
    ("scored", dict(errors=(1.5,)), "errors"),
    ("answered", dict(folds=1), "at least 2 folds"),
    ("online", dict(orders=1), "orders >= 2"),
  ],
)
def test_a_recipe_that_cannot_be_run_is_refused(part, change, message):
  recipe = cascade_report.StudyRecipe(answered_data="", scored_data="")
  changed = dataclasses.replace(getattr(recipe, part), **change)
  with pytest.raises(ValueError, match=message):
    dataclasses.replace(recipe, **{part: changed}).check()
