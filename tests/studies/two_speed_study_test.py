# SPDX-License-Identifier: Apache-2.0
"""The study of SCALE in little: its arms, its files, its claims."""

import dataclasses
import json

import numpy as np
import pytest

from jaxttc import results
from jaxttc.studies import (
  two_speed_recipe,
  two_speed_report,
  two_speed_study,
)


@pytest.fixture(scope="module")
def recipe():
  return two_speed_recipe.StudyRecipe(
    chains=12, seeds=(0,), calibration=120, slots=16, resamples=20
  )


@pytest.fixture(scope="module")
def study(recipe, tmp_path_factory):
  folder = tmp_path_factory.mktemp("scale")
  return folder, two_speed_study.run(recipe, folder)


def test_modes_differ_and_difficulty_tells(study):
  _, found = study
  rates, tokens = found.calibration.rates, found.calibration.tokens
  assert rates[:, 1].min() > 0.9  # worked out, every kind of step is easy
  assert rates[-1, 0] < 0.6  # at once, long sums are not
  assert (tokens[:, 1] > tokens[:, 0]).all()
  assert found.calibration.auc > 0.7


def test_arms_pay_for_what_they_think(study):
  _, found = study
  arms = {name: by_seed[0] for name, by_seed in found.arms.items()}
  assert arms["slow"].right.mean() > arms["fast"].right.mean() + 0.3
  assert (arms["fast"].hard == 0).all() and (arms["slow"].hard == 1).all()
  for tau in two_speed_recipe.TAUS:
    mine, matched = arms[f"probe-{tau}"], arms[f"random-{tau}"]
    np.testing.assert_allclose(mine.hard, matched.hard)  # chain by chain
  shares = [arms[f"oracle-{tau}"].hard.mean() for tau in two_speed_recipe.TAUS]
  assert shares == sorted(shares, reverse=True)
  assert (arms["disagreement-0.4"].rating_tokens > 0).all()
  assert (arms["probe-0.4"].rating_tokens == 0).all()
  # The probe reads each query once more, and that is paid for.
  read = arms["probe-0.02"].prompt_tokens.mean()
  assert read > 1.5 * arms["random-0.02"].prompt_tokens.mean()
  assert arms["slow_without_answers"].right.mean() < 0.6


def test_goes_on_where_it_was(study, recipe, tmp_path):
  folder, found = study
  path = folder / "slow_0.json"
  before = path.read_text()
  path.unlink()
  again = two_speed_study.run(recipe, folder)
  assert path.read_text() == before
  np.testing.assert_array_equal(
    again.arms["slow"][0].tokens, found.arms["slow"][0].tokens
  )
  path.write_text("{}")
  with pytest.raises(ValueError, match="slow_0.json: cannot be read"):
    two_speed_study.run(recipe, folder)
  path.write_text(before)
  other = dataclasses.replace(recipe, steps=4)
  with pytest.raises(ValueError, match="holds the runs of another recipe"):
    two_speed_study.run(other, folder)


def test_report_has_the_claims_and_a_picture(study, recipe, tmp_path):
  _, found = study
  made = two_speed_report.report(recipe, found)
  json.dumps(made.data)
  told = made.data["difficulties"]
  assert sum(told["steps"]) == recipe.chains * recipe.steps
  assert len(told["edges"]) == len(told["steps"]) + 1
  for row in made.data["arms"]:
    assert row["per_step"] == pytest.approx(row["tokens"] / recipe.steps)
  bars = {c.name: c.bar for c in made.claims if c.bar is not None}
  assert bars == {
    "points_over_random_routing": 15,
    "tokens_over_uniform_system2": 0.9,
    "points_below_uniform_system2": 3,
  }
  assert all(isinstance(claim, results.Claim) for claim in made.claims)
  made.draw(tmp_path / "scale.png")
  assert (tmp_path / "scale.png").stat().st_size > 10_000


@pytest.mark.parametrize(
  ("field", "value"),
  [
    ("chains", 0),
    ("seeds", ()),
    ("seeds", (1, 1)),
    ("temperature", 0.0),
    ("steps", 99),
    ("taus", (0.1,)),
    ("shares", (0.0,)),
  ],
)
def test_refused_before_anything_is_decoded(recipe, field, value, tmp_path):
  with pytest.raises(ValueError, match=field):
    two_speed_study.run(
      dataclasses.replace(recipe, **{field: value}), tmp_path / "none"
    )
  assert not (tmp_path / "none").exists()


def test_two_models_are_priced_in_flops(tmp_path):
  recipe = two_speed_recipe.StudyRecipe(
    fast_model="fast_sums_lm",
    chains=6,
    additions=(1, 6),
    seeds=(0,),
    taus=(0.4,),
    shares=(0.8,),
    votes=2,
    calibration=48,
    slots=16,
    resamples=20,
  )
  found = two_speed_study.run(recipe, tmp_path / "runs")
  arms = {name: by_seed[0] for name, by_seed in found.arms.items()}
  flops = found.calibration.flops
  assert (flops[:, 1] > 2 * flops[:, 0]).all()
  assert arms["fast"].flops.mean() < 0.5 * arms["large_at_once"].flops.mean()
  np.testing.assert_allclose(arms["probe-0.4"].hard, arms["random-0.4"].hard)
  made = two_speed_report.report(recipe, found)
  bars = {c.name: c.bar for c in made.claims if c.bar is not None}
  assert bars == {
    "points_over_random_routing": 15,
    "points_below_uniform_system2": 3,
    "flops_over_uniform_system2": 0.9,
  }
  made.draw(tmp_path / "scale.png")
  assert (tmp_path / "scale.png").stat().st_size > 10_000
