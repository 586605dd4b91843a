# SPDX-License-Identifier: Apache-2.0
"""The benchmark of nested language models, on models that cost nothing."""

import dataclasses
import json
import pathlib

import numpy as np
import pytest

from benchmarks import (
  slimmable_lm,
  slimmable_lm_models,
  slimmable_lm_picture,
  slimmable_lm_runs,
)
from configs import nested_lm
from jaxttc.inference import bundle as bundle_lib
from jaxttc.training import loop

Solved = slimmable_lm_runs.Solved


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
  return tmp_path_factory.mktemp("slimmable_lm")


@pytest.fixture(scope="module")
def trial(workdir):
  """(models, plan, recipe), trained for three steps."""
  return slimmable_lm.tiny(workdir)


@pytest.fixture(scope="module")
def measured(trial):
  models, plan, recipe = trial
  return slimmable_lm.measure(models, plan, recipe)


def test_rivals_begin_with_the_slices_of_the_same_start(trial, workdir):
  models, _, recipe = trial
  whole = models.nested[1.0]
  assert whole.recipe["widths"] == [0.5, 1.0]
  for width, rival in models.separate.items():
    assert rival.config == models.nested[width].config
    expected = recipe.describe() | {
      "model": dataclasses.asdict(rival.config),
      "start": str(workdir / f"start_{width:g}.safetensors"),
      "widths": [],
      "shared_rows": True,  # as it is where there are no widths
    }
    assert rival.recipe == json.loads(json.dumps(expected))
  starts = [
    bundle_lib.load(str(workdir / f"start_{width:g}.safetensors")).params
    for width in recipe.widths
  ]
  small, large = (p["mlp_0"]["down"] for p in starts)
  np.testing.assert_array_equal(small, large[: len(small)])


def test_models_of_another_recipe_are_refused(trial, workdir):
  _, _, recipe = trial
  other = dataclasses.replace(recipe, distillation=0.1)
  path = str(workdir / "nested.safetensors")
  assert slimmable_lm_models.nested(recipe, path, workdir).recipe
  with pytest.raises(ValueError, match="trained by another recipe than its"):
    slimmable_lm_models.nested(other, path, workdir)
  with pytest.raises(ValueError, match="trained by another recipe; remove it"):
    slimmable_lm_models.nested(other, "", workdir)


@pytest.mark.slow
def test_every_width_is_measured_within_its_budget(trial, measured, tmp_path):
  _, plan, recipe = trial
  data, found = measured
  assert len(data["answers"]) == 2 * len(recipe.widths) * 2
  assert len(data["search"]) == 2 * len(recipe.widths) * len(plan.budgets)
  for row in data["search"]:
    assert 0 < row["flops"] <= row["budget"]
  narrow, wide = (
    {r["flops_per_token"] for r in data["answers"] if r["width"] == width}
    for width in recipe.widths
  )
  assert len(narrow) == len(wide) == 1 and max(narrow) < min(wide)
  assert {claim.name: claim.bar for claim in found} == {
    "points_below_separate_models": 3.0,
    "points_below_separate_models_sampled": 3.0,
    "points_over_full_width_at_equal_flops": 0.0,
    "mean_points_over_full_width": None,
    "training_flops_separate_over_nested": None,
  }
  path = tmp_path / "pictures" / "both.png"
  slimmable_lm_picture.draw(data, path)
  assert path.read_bytes().startswith(b"\x89PNG")


def test_calibration_and_evaluation_share_no_problem():
  plan = slimmable_lm_runs.Plan(problems=7, calibration=5)
  asked = [
    {p.text for p in slimmable_lm_runs.problems(plan, 0, calibration=which)}
    for which in (True, False)
  ]
  assert [len(texts) for texts in asked] == [5, 7]
  assert not asked[0] & asked[1]


def _solved(right):
  return Solved(np.array([right], bool), np.ones((1, len(right))))


def test_what_calibration_chose_is_judged_on_other_problems():
  # Narrow wins the small budget, in calibration more so; wide the large one.
  calibration = {
    (0.5, 1.0): _solved([1, 1, 1, 0]),
    (1.0, 1.0): _solved([1, 0, 0, 0]),
    (0.5, 2.0): _solved([1, 1, 1, 0]),
    (1.0, 2.0): _solved([1, 1, 1, 1]),
  }
  evaluation = {
    (0.5, 1.0): _solved([1, 1, 0, 0]),
    (1.0, 1.0): _solved([1, 0, 0, 0]),
    (0.5, 2.0): _solved([1, 1, 1, 1]),
    (1.0, 2.0): _solved([1, 1, 0, 0]),
  }
  small, large = slimmable_lm.gains(calibration, evaluation)
  assert (small["width"], small["calibration_gain"]) == (0.5, 50.0)
  assert small["low"] <= small["evaluation_gain"] == 25.0 <= small["high"]
  assert (large["width"], large["evaluation_gain"]) == (1.0, 0.0)
  single = {
    ("nested", 0.5, "greedy"): np.array([[1, 0, 0, 0]], bool),
    ("nested", 1.0, "greedy"): np.array([[1, 1, 0, 0]], bool),
    ("separate", 0.5, "greedy"): np.array([[1, 1, 0, 0]], bool),
    ("separate", 1.0, "greedy"): np.array([[1, 1, 0, 0]], bool),
    ("nested", 1.0, "sample"): np.array([[1, 1, 0, 0]], bool),
    ("separate", 1.0, "sample"): np.array([[0, 1, 0, 0]], bool),
  }
  found = slimmable_lm.claims(single, [small, large], training=1.5)
  value = {claim.name: claim.value for claim in found}
  assert value["points_below_separate_models"] == 12.5
  assert value["points_below_separate_models_sampled"] == -25.0
  assert value["points_over_full_width_at_equal_flops"] == 25.0
  assert value["mean_points_over_full_width"] == 12.5
  assert [claim.holds for claim in found] == [False, True, True, None, None]


def test_separate_models_cost_more_than_widths_that_share_rows():
  recipe = dataclasses.replace(nested_lm.get_config(), shared_rows=True)
  ratio = slimmable_lm.training_ratio(recipe)
  assert 1.6 < ratio < 1.9  # by hand, without attention: 2.76 / 1.59
  recipe.shared_rows = False
  assert slimmable_lm.training_ratio(recipe) == 1.0


def test_the_recipe_is_that_of_the_model_that_ships():
  shipped = bundle_lib.load("nested_lm")
  today = nested_lm.get_config().describe()
  assert loop.completed(shipped.recipe) == loop.completed(today)
  path = pathlib.Path(nested_lm.__file__)
  assert "--model=nested_lm" in path.read_text(encoding="utf-8")
