# SPDX-License-Identifier: Apache-2.0
import dataclasses

import numpy as np
import pytest

from configs import solve_or_verify as config
from jaxttc import simulation
from jaxttc.evaluation import verification_estimators as solved
from jaxttc.studies import verification_simulation as sim


@pytest.fixture(scope="module", name="recipe")
def _recipe():
  return sim.SimulationRecipe(
    problems=160,
    solutions=64,
    verifications=8,
    budgets=(1, 2, 4, 8, 16, 32, 64, 128, 256, 512),
    fit_budgets=(8, 16, 32, 64, 128),
    qualities=(0.0, 1.0, 3.0),
    resamples=50,
    small_budget=16.0,
  )


@pytest.fixture(scope="module", name="study")
def _study(recipe):
  return recipe.run()


def test_votes_reach_their_closed_form_limit(study):
  assert abs(study.data["vote"][-1] - study.data["vote"][-2]) < 0.02
  claims = {claim.name: claim for claim in study.claims}
  assert claims["vote_limit_error"].value < 0.02


def test_votes_lead_at_small_budgets(study):
  claims = {claim.name: claim for claim in study.claims}
  lead = claims["vote_lead_at_small_budgets_points"]
  assert lead.low > 0


def test_a_better_verifier_crosses_earlier_and_a_random_one_never(study):
  random, plain, good = study.data["sweep"]
  np.testing.assert_allclose(random["accuracy"], random["single"], atol=0.04)
  assert random["crossover"] is None
  assert good["crossover"] < (plain["crossover"] or np.inf)


def test_pools_have_the_planted_rates(recipe):
  drawn = sim.simulate(recipe)
  single = solved.coverage(drawn.pool, 1).by_problem
  error = np.sqrt(drawn.chance * (1 - drawn.chance) / recipe.solutions)
  assert (np.abs(single - drawn.chance) < 5 * error + 0.02).all()
  one = drawn.voted.values[:, 0]
  assert np.abs(one.mean() - drawn.chance.mean()) < 0.01
  # Verifications of one solution err together: their mean varies more
  # between solutions than independent verdicts' would.
  wrong = ~drawn.pool.correct
  means = drawn.verified.scores.mean(-1)[wrong]
  q = means.mean()
  assert means.var() > 1.5 * q * (1 - q) / recipe.verifications


def test_equal_solutions_for_every_quality(recipe):
  one, other = sim.simulate(recipe, 1.0), sim.simulate(recipe, 3.0)
  np.testing.assert_array_equal(one.pool.answers, other.pool.answers)


def test_a_study_is_written(study, tmp_path):
  simulation.publish(study, tmp_path / "solve_or_verify")
  assert (tmp_path / "solve_or_verify.json").stat().st_size > 1000
  assert (tmp_path / "solve_or_verify.png").stat().st_size > 10_000


def test_bad_recipes_are_refused():
  for fields, words in (
    ({"problems": 0}, "problems must be at least 1"),
    ({"problems": 1}, "problems must be at least 2"),
    ({"ratio": 0.0}, "ratio must be positive"),
    ({"chance": (0.0, 1.0)}, "chance must be positive"),
    ({"qualities": (0.5,)}, "must hold 1.0"),
  ):
    recipe = dataclasses.replace(
      config.get_config(), **({"solutions": 8, "verifications": 2} | fields)
    )
    with pytest.raises(ValueError, match=words):
      recipe.run()
