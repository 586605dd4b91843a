# SPDX-License-Identifier: Apache-2.0
"""Routing between real models by their states, in little."""

import dataclasses

import numpy as np
import pytest

from jaxttc import results, simulation
from jaxttc.evaluation import routing_curves
from jaxttc.studies import (
  state_routing_report,
  state_routing_study,
  two_speed_recipe,
)


@pytest.fixture(scope="module", name="recipe")
def _recipe():
  return state_routing_study.StudyRecipe(
    bench=two_speed_recipe.StudyRecipe(
      fast_model="fast_sums_lm", additions=(1, 6), slots=32
    ),
    train=40,
    test=24,
    heads=("ridge",),
    rank=4,
    prices=16,
    seeds=(0,),
  )


@pytest.fixture(scope="module", name="study")
def _study(recipe, tmp_path_factory):
  folder = tmp_path_factory.mktemp("states")
  return folder, state_routing_study.run(recipe, folder)


def test_models_differ_in_cost_and_in_what_they_can(study, recipe):
  folder, found = study
  single = found.single[0]
  assert single.cost[0] < single.cost[1] < single.cost[2]
  assert single.score[2] > 0.9 > single.score[0]
  with np.load(folder / "asked_0.npz") as asked:
    assert len(set(asked["queries"].tolist())) == recipe.train + recipe.test
    # Reading a question for its state is less than answering it.
    assert (0 < asked["reading"]).all()
    assert (asked["reading"] < asked["flops"][:, 0]).all()
    assert (asked["voting"] > asked["flops"][:, 0]).all()
    shares = set(np.round(asked["agreed"], 3))
    assert shares <= {0.0, 0.333, 0.667, 1.0}


def test_states_tell_what_the_small_model_cannot(study, recipe, tmp_path):
  _, found = study
  report = state_routing_report.report(recipe, found)
  path, _ = simulation.write(report, tmp_path / "states")
  claims = {claim.name: claim for claim in results.read(path).claims}
  equal = "cost_over_best_single_at_equal_score"
  assert (
    claims[f"oracle_{equal}"].value <= claims[f"states_ridge_{equal}"].value
  )
  assert claims[f"states_ridge_{equal}"].value <= 1
  # One addition or six: whoever sees that saves a good deal.
  below = "cost_over_best_single_5_points_below"
  assert claims[f"states_ridge_{below}"].value < 0.95
  # No policy but the oracle is above the oracle, at any cost.
  single = found.single[0]
  policies = found.policies[0]
  oracle = routing_curves.hull(*policies["oracle"])
  for name in ("states, ridge", "n-grams, ridge"):
    front = routing_curves.hull(*policies[name])
    grid = np.linspace(single.cost[0], single.cost[2], 30)
    assert (front.at(grid) <= oracle.at(grid) + 1e-6).all()


def test_goes_on_where_it_was(study, recipe):
  folder, found = study
  again = state_routing_study.run(recipe, folder)
  for name, policy in found.policies[0].items():
    np.testing.assert_array_equal(policy.cost, again.policies[0][name].cost)
  with pytest.raises(ValueError, match="another recipe"):
    state_routing_study.run(dataclasses.replace(recipe, votes=4), folder)


@pytest.mark.parametrize(
  "change, message",
  [
    (dict(bench=two_speed_recipe.StudyRecipe()), "fast_model: expected the"),
    (dict(heads=()), "heads: expected at least one"),
    (dict(heads=("nearest",)), "unknown head"),
    (dict(test=2), "test >= 8"),
    (dict(tolerances=(1.0,)), "tolerances"),
    (dict(seeds=(1, 1)), "different ones"),
  ],
)
def test_what_cannot_be_run_is_refused(recipe, tmp_path, change, message):
  with pytest.raises(ValueError, match=message):
    state_routing_study.run(dataclasses.replace(recipe, **change), tmp_path)
