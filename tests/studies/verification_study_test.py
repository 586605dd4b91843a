# SPDX-License-Identifier: Apache-2.0
import dataclasses
import pathlib

import numpy as np
import pytest

from configs import sc_vs_genrm
from jaxttc import results, simulation
from jaxttc.evaluation import verification_pools as pools
from jaxttc.solving import measured_splits
from jaxttc.studies import (
  verification_export,
  verification_report,
  verification_seeds,
  verification_simulation,
  verification_study,
)

_ROOT = pathlib.Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module", name="recipe")
def _recipe():
  """The shipped study, made small."""
  return dataclasses.replace(
    sc_vs_genrm.get_config(),
    problems=4,
    steps=(2,),
    solutions=6,
    verified=3,
    verifications=2,
    max_tokens=32,
    max_verification_tokens=48,
    chunk=2,
  )


@pytest.fixture(scope="module", name="workdir")
def _workdir(tmp_path_factory):
  return tmp_path_factory.mktemp("pools")


@pytest.fixture(scope="module", name="found")
def _found(recipe, workdir):
  return verification_study.run(recipe, workdir)


def test_pools_are_sampled_for_real(recipe, found):
  assert found.solutions.answers.shape == (4, 6)
  assert found.verified.answers.shape == (4, 3)
  checked = found.checked["verbose"]
  assert checked.pool.scores.shape == (4, 3, 2)
  checked.pool.check(found.verified)
  assert 0 < found.solutions.tokens.mean() <= recipe.max_tokens
  said = ~np.isnan(checked.pool.scores)
  assert said.any()
  assert 5 < checked.pool.tokens[said].mean() < 48
  assert checked.read > found.solutions.tokens.mean()
  for scores in (found.bare, found.read):
    assert ((scores >= 0) & (scores <= 1)).all()


def test_a_stopped_run_goes_on_where_it_was(recipe, workdir, found):
  for name in ("solutions.jsonl", "verifications_verbose.jsonl"):
    path = workdir / name
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(lines[:2]) + lines[2][:20])  # a torn line
  again = verification_study.run(recipe, workdir)
  np.testing.assert_array_equal(
    again.solutions.answers, found.solutions.answers
  )
  np.testing.assert_array_equal(
    again.checked["verbose"].pool.scores, found.checked["verbose"].pool.scores
  )


def test_claims_are_measured_with_each_verifier(recipe, workdir, found):
  # A verifier of another seed: here the policy itself, which says nothing.
  both = dataclasses.replace(recipe, more_verifiers=("arithmetic_lm",))
  everything = verification_study.run_all(both, workdir)
  assert list(everything) == ["arithmetic_verifier", "arithmetic_lm"]
  other = everything["arithmetic_lm"]
  np.testing.assert_array_equal(
    other.solutions.answers, found.solutions.answers
  )
  assert (workdir / "arithmetic_lm" / "solutions.jsonl").exists()
  twice = dataclasses.replace(both, more_verifiers=("a/x", "b/x"))
  with pytest.raises(ValueError, match="two files have one name"):
    verification_study.run_all(twice, workdir)


def test_other_recipes_and_damaged_files_are_refused(recipe, workdir, found):
  other = dataclasses.replace(recipe, temperature=0.5)
  with pytest.raises(ValueError, match="pools of another recipe"):
    verification_study.run(other, workdir)
  path = workdir / "solutions.jsonl"
  kept = path.read_text()
  path.write_text("what\n")
  with pytest.raises(ValueError, match="solutions.jsonl, line 1: expected"):
    verification_study.run(recipe, workdir)
  path.write_text(kept)


@pytest.mark.parametrize(
  ("fields", "words"),
  [
    ({"verified": 9}, "verified=9 exceeds solutions=6"),
    ({"problems": 2}, "problems must be at least 4"),
    ({"checks": ()}, "must not be empty"),
    ({"checks": ("direct",)}, "verification style 'direct'"),
    ({"fit_budgets": (64.0,)}, "must all exceed"),
    ({"chunk": 0}, "chunk must be at least 1"),
  ],
)
def test_bad_recipes_are_refused(recipe, tmp_path, fields, words):
  with pytest.raises(ValueError, match=words):
    verification_study.run(dataclasses.replace(recipe, **fields), tmp_path)


@pytest.fixture(scope="module", name="planted")
def _planted():
  """A recipe, and pools of a simulated solver and verifier."""
  recipe = dataclasses.replace(
    sc_vs_genrm.get_config(),
    problems=60,
    solutions=64,
    verified=32,
    verifications=8,
    resamples=60,
  )
  world = verification_simulation.SimulationRecipe(
    problems=60, solutions=64, verifications=8, accept_right=2.0
  )
  drawn = verification_simulation.simulate(world)
  pool = dataclasses.replace(
    drawn.pool, tokens=np.full(drawn.pool.answers.shape, 50)
  )
  first = dataclasses.replace(
    pool,
    answers=pool.answers[:, :32],
    correct=pool.correct[:, :32],
    tokens=pool.tokens[:, :32],
  )
  scores = drawn.verified.scores[:, :32]
  checked = pools.VerificationPool(
    ids=pool.ids, scores=scores, tokens=np.full(scores.shape, 60)
  )
  found = verification_study.Found(
    pool,
    first,
    {"verbose": verification_study.Checked(checked, 90.0)},
    scores[..., 0] * 0.5,
    scores[..., 1],
  )
  return recipe, found


@pytest.fixture(scope="module", name="study")
def _study(planted):
  return verification_report.report(*planted)


def test_a_report_measures_the_ratio_and_matches_compute(planted, study):
  assert study.data["pool"]["ratio"] == pytest.approx(60 / 50)
  for row in study.data["curves"]["best_of_n"]:
    for solutions, verifications in row["splits"]:
      assert solutions * (1 + 1.2 * verifications) <= row["budget"] + 1e-6
  single = planted[1].solutions.correct.mean()
  first = study.data["curves"]["vote"][0]
  assert (first["budget"], first["value"]) == (1.0, pytest.approx(single))
  assert first["low"] < single < first["high"]


def test_a_report_claims_what_its_curves_say(study):
  claims = {claim.name: claim for claim in study.claims}
  rows = zip(
    study.data["curves"]["vote"],
    study.data["curves"]["best_of_n"],
    strict=True,
  )
  gaps = [
    100 * (a["value"] - b["value"]) for a, b in rows if 1 < a["budget"] <= 8
  ]
  lead = claims["sc_ahead_at_small_budget"]
  assert lead.value == pytest.approx(np.mean(gaps))
  assert (lead.bar, lead.comparison) == (0.0, ">")
  regret = claims["predicted_split_regret_points"]
  losses = [
    100 * (row["best_accuracy"] - row["accuracy"])
    for row in study.data["predicted"]
  ]
  assert regret.value == pytest.approx(np.mean(losses), abs=0.2)
  assert (regret.bar, regret.comparison) == (1.0, "<=")


def test_claims_over_verifiers_lie_between_theirs(planted, study):
  recipe, found = planted
  blind = found._replace(
    checked={
      style: each._replace(
        pool=dataclasses.replace(
          each.pool, scores=np.ones_like(each.pool.scores)
        )
      )
      for style, each in found.checked.items()
    }
  )
  both = {recipe.verifier: found, "arithmetic_lm": blind}
  told = verification_seeds.report_all(recipe, both)
  claims = {claim.name: claim for claim in told.claims}
  assert claims["verifier_seeds"].value == 2
  own = {claim.name: claim for claim in study.claims}
  name = "sc_ahead_at_small_budget"
  over = claims[f"{name}_over_verifier_seeds"]
  values = [row[name] for row in told.data["verifier_seeds"]]
  assert values[0] == own[name].value
  assert (over.value, over.low, over.high) == pytest.approx(
    (np.mean(values), min(values), max(values))
  )
  assert (over.bar, over.comparison) == (0.0, ">")
  alone = verification_seeds.report_all(recipe, {recipe.verifier: found})
  assert [c.name for c in alone.claims] == [c.name for c in study.claims]


def test_what_was_measured_tells_later_budgets(planted, study):
  told = verification_export.measured(planted[0], study.data)
  assert set(told.surfaces) == {"best_of_n", "weighted_sc"}
  assert told.voted.solutions[-1] == 64
  vote = {row["budget"]: row["value"] for row in study.data["curves"]["vote"]}
  assert told.voted.at(8) == pytest.approx(vote[8.0])
  assert told.sampling.checks.samples == planted[0].verifications
  assert told.read_tokens == 90.0


def test_the_splits_that_ship_are_those_of_the_results_file():
  data = results.read(_ROOT / "docs/results/sc_vs_genrm.json").data
  told = verification_export.measured(sc_vs_genrm.get_config(), data)
  shipped = measured_splits.load("solve_or_verify")
  assert shipped.described() == told.described()


def test_a_report_is_written(study, tmp_path):
  simulation.publish(study, tmp_path / "study")
  assert (tmp_path / "study.json").stat().st_size > 1000
  assert (tmp_path / "study.png").stat().st_size > 10_000
