# SPDX-License-Identifier: Apache-2.0
"""A study of slimmable networks, whole and in little, and its arithmetic."""

import dataclasses
import json
import pathlib

import jax
import numpy as np
import pytest

from jaxttc import results
from jaxttc.allocators import width_prices
from jaxttc.evaluation import hypervolume, width_scores
from jaxttc.models import slimmable as slimmable_lib
from jaxttc.studies import (
  slimming_analysis,
  slimming_cells,
  slimming_report,
  slimming_study,
  slimming_trainer,
  slimming_training,
)
from jaxttc.training import loop, multitask_recipes, slimmable

_UNTUNED = slimming_training.Tuning({}, {})


@pytest.fixture(scope="module")
def recipe():
  train = multitask_recipes.SlimmableRecipe(
    data="vectors",
    encoder={"kind": "mlp", "hidden": (16, 16)},
    hidden=16,
    menu=(0.5, 1.0),
    norm="none",
    held_out=64,
    sandwich=slimmable.Sandwich(widths=2),
    train=loop.TrainConfig(
      steps=80,
      batch_size=64,
      learning_rate=2e-2,
      warmup_steps=5,
      weight_decay=0.0,
      log_every=40,
      evaluate_every=80,
      checkpoint_every=80,
    ),
  )
  return slimming_study.StudyRecipe(
    recipe=train,
    seeds=(0,),
    hypernetworks=(
      ("norms", 0.5, 2e-2, "linear"),
      ("ray", 0.5, 1e-3, "exact"),
    ),
    branching=(0.5,),
    static=(0.5,),
    noise=1.0,
    ray_step=1 / 2,
    budgets=(0.5, 1.0),
  )


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
  return str(tmp_path_factory.mktemp("study"))


@pytest.fixture(scope="module")
def analysis(recipe, workdir):
  measured = slimming_training.train(recipe, 0, workdir, _UNTUNED)
  return slimming_analysis.SeedAnalysis(recipe, measured, 0)


def test_every_cell_is_trained_and_read_back(recipe, workdir, analysis):
  """A second run trains nothing, and finds the same figures."""
  names = {cell.name for cell in recipe.own_cells() + recipe.rivals({})}
  assert set(analysis.measured) == names
  assert {"slimmable", "separate_task_1", "branching_0.5"} <= names
  again = slimming_training.train(recipe, 0, workdir, _UNTUNED)
  for name, arrays in analysis.measured.items():
    for key, value in arrays.items():
      np.testing.assert_array_equal(value, again[name][key])


def test_scores_of_another_recipe_are_refused(recipe, workdir, analysis):
  del analysis  # which has filled the folder
  longer = dataclasses.replace(recipe.recipe, held_out=32)
  other = dataclasses.replace(recipe, recipe=longer)
  with pytest.raises(ValueError, match="slimmable.*of another recipe"):
    slimming_training.train(other, 0, workdir, _UNTUNED)


def test_scores_from_before_a_field_came_are_read(recipe, workdir, analysis):
  """Fields that were not there yet have their defaults."""
  file = pathlib.Path(workdir) / "seed_0" / "slimmable" / "scores.npz"
  with np.load(file) as found:
    arrays = dict(found)
  told = json.loads(str(arrays.pop("described")))
  for part in (told["recipe"], told["cell"][1]):
    del part["sandwich"]["momentum"]
  del told["recipe"]["teacher"], told["recipe"]["train"]["remat"]
  kept = file.read_bytes()
  try:
    np.savez(file, described=np.array(json.dumps(told)), **arrays)
    again = slimming_training.train(recipe, 0, workdir, _UNTUNED)
    np.testing.assert_array_equal(
      again["slimmable"]["test"], analysis.measured["slimmable"]["test"]
    )
    told["recipe"]["sandwich"]["widths"] = 3
    np.savez(file, described=np.array(json.dumps(told)), **arrays)
    with pytest.raises(ValueError, match="of another recipe"):
      slimming_training.train(recipe, 0, workdir, _UNTUNED)
  finally:
    file.write_bytes(kept)


def test_the_oracle_of_control_is_at_least_as_good(analysis):
  least = analysis.best_rank_control(0.5, 0.0).min()
  assert least >= analysis.rank_control(0.5).min() - 1e-9
  assert analysis.best_rank_control(0.5, 1.0).shape == (3,)


def test_a_table_says_what_every_configuration_scores(recipe, analysis):
  """The separable table equals measuring configurations one by one."""
  data = recipe.recipe.load_data()
  network = analysis.network
  params = slimmable_lib.init(network, jax.random.key(0))
  examples = data.held_out(32)
  table = width_scores.tabulate(network, params, data.tasks, examples)
  every = network.space.all_indices()
  found = width_scores.measure(network, params, data.tasks, examples, every)
  np.testing.assert_allclose(table(every), found, atol=1e-6)


def test_plans_keep_to_their_budgets_and_volumes_are_theirs(recipe, analysis):
  """The budget-aware hypervolume, from its parts."""
  points = analysis.planned("slimmable")
  rays = len(analysis.rays)
  budgets = analysis.budgets
  assert points.scores.shape == (rays * len(budgets), 3)
  assert (points.costs.reshape(-1, rays).max(1) <= budgets).all()
  by_hand = hypervolume.hypervolume(
    np.column_stack([points.scores, 1 - points.costs]), np.zeros(4)
  )
  assert points.volume() == pytest.approx(by_hand)


def test_fixed_decoders_and_random_search_are_bounded_by_brute_force(analysis):
  """Point by point, against a loop over what each may choose from."""
  same = {
    "slimmable": {
      "calibration": analysis.measured["slimmable"]["test"],
      "test": analysis.measured["slimmable"]["test"],
    }
  }
  oracle = slimming_analysis.SeedAnalysis(analysis.recipe, same, 0)
  table, space = oracle.table("slimmable", "test"), oracle.network.space
  low, high = (table(oracle.prices.ends[end])[0] for end in ("low", "high"))
  weights = oracle.rays / np.maximum(high - low, 0.01)
  every = space.all_indices()
  costs = oracle.prices(every, "fraction")
  stages = len(space.encoder)
  fixed = (every[:, stages:] == len(space.menu) - 1).all(1)
  expected = []
  for budget in oracle.budgets:
    for weight in weights:
      values = [
        table(row[None])[0] @ weight
        for row, cost, whole in zip(every, costs, fixed, strict=True)
        if whole and cost <= budget
      ]
      expected += [max(values)] if values else []
  found = oracle.fixed_decoders("slimmable")
  reached = (
    found.scores.reshape(-1, len(weights), len(oracle.tasks)) * weights
  ).sum(-1)
  np.testing.assert_allclose(reached.ravel(), expected)
  chance = oracle.random_search("slimmable")
  value = oracle.planned("slimmable", "value")
  assert chance.scores.shape == value.scores.shape
  random, best = (
    (points.scores.reshape(-1, len(weights), 3) * weights).sum(-1)
    for points in (chance, value)
  )
  assert (random <= best + 1e-9).all()
  assert chance.volume() == oracle.random_search("slimmable").volume()


def test_the_best_rule_by_its_own_scores_is_the_brute_force(analysis):
  """With test scores to plan by, "value" is the optimum: a ratio of one."""
  same = {
    "slimmable": {
      "calibration": analysis.measured["slimmable"]["test"],
      "test": analysis.measured["slimmable"]["test"],
    }
  }
  oracle = slimming_analysis.SeedAnalysis(analysis.recipe, same, 0)
  assert oracle.over_brute_force("value") == pytest.approx(1)
  assert oracle.over_brute_force("proportional") <= 1 + 1e-12


def test_separate_networks_pay_for_every_encoder(analysis):
  """The cheapest choice costs three narrow networks."""
  points = analysis.separate()
  least = width_prices.WidthPrices(analysis.network)
  assert points.costs.min() > least(least.ends["low"], "fraction")[0]
  assert points.costs.max() <= 1


def test_the_report_holds_claims_and_draws(recipe, analysis, tmp_path):
  """The files that a study leaves."""
  out = tmp_path / "study"
  own = slimming_report.own_figures(recipe, analysis)
  figures = {0: slimming_report.seed_figures(recipe, own, analysis)}
  claims = slimming_report.write(recipe, figures, out, "a command")
  read = results.read(out.with_suffix(".json"))
  assert list(read.claims) == claims
  names = {claim.name for claim in claims if claim.bar is not None}
  assert names == {
    "preference_rank_correlation",
    "hypervolume_over_uniform",
    "hypervolume_over_hypernetwork",
    "configuration_variance_cut",
    "planner_over_brute_force",
    "rivals_with_a_collapsed_task",
  }
  assert out.with_suffix(".png").stat().st_size > 10_000


def test_a_task_collapsed_if_it_gains_nothing_over_a_constant():
  """By hand: our narrowest network gains 0.3, 0.1 and 0.005."""
  constant = np.array([0.1, 0.5, 0.7])
  ours = np.array([[0.4, 0.6, 0.705], [0.6, 0.9, 0.8]])
  trained = np.array([[0.26, 0.5, 0.6], [0.1, 0.56, 0.72]])
  at_chance = np.array([[0.24, 0.54, 0.7], [0.1, 0.5, 0.709]])
  for scores, expected in (
    (trained, [False, False, False]),
    (at_chance, [True, True, True]),
  ):
    found = slimming_report.collapsed(constant, ours, scores)
    assert found.tolist() == expected


def test_ranges_are_those_of_the_weaker_budget(recipe, analysis):
  """By hand: plans at the only budget of the two that the study has."""
  own = slimming_report.own_figures(recipe, analysis)
  figures = slimming_report.seed_figures(recipe, own, analysis)["figures"]
  table = analysis.table("slimmable", "test")
  scores = table(analysis.plans("slimmable", 0.5)[0])
  for task, moved in zip(analysis.tasks, np.ptp(scores, axis=0), strict=True):
    assert figures[f"score_range_of_{task}"] == pytest.approx(moved, abs=1e-4)


def test_rivals_alone_are_trained_beside_recorded_figures(
  recipe, workdir, analysis, tmp_path
):
  """The same report as of a run that trained everything."""
  whole, again = tmp_path / "whole", tmp_path / "again"
  own = slimming_report.own_figures(recipe, analysis)
  figures = {0: slimming_report.seed_figures(recipe, own, analysis)}
  claims = slimming_report.write(recipe, figures, whole, "first")
  recorded = slimming_report.Recorded(whole.with_suffix(".json"), recipe)
  measured = slimming_training.train(recipe, 0, workdir, _UNTUNED, own=False)
  assert set(measured) == {cell.name for cell in recipe.rivals({})}
  rivals = slimming_analysis.SeedAnalysis(recipe, measured, 0)
  figures = {
    0: slimming_report.seed_figures(recipe, recorded.own_figures(0), rivals)
  }
  found = slimming_report.write(
    recipe, figures, again, "second", recorded=recorded.source
  )
  for claim in claims:
    (same,) = (c for c in found if c.name == claim.name)
    assert same.value == pytest.approx(claim.value, abs=1e-4)
  report = recorded.figures(0)  # without any training
  assert report["figures"] == {claim.name: claim.value for claim in claims}
  data = results.read(again.with_suffix(".json")).data
  assert data["recorded"]["command"] == "first"


def test_figures_of_another_study_are_not_taken(recipe, analysis, tmp_path):
  own = slimming_report.own_figures(recipe, analysis)
  figures = {0: slimming_report.seed_figures(recipe, own, analysis)}
  slimming_report.write(recipe, figures, tmp_path / "a", "first")
  longer = dataclasses.replace(recipe.recipe, held_out=32)
  for change, message in (
    ({"recipe": longer}, "of another recipe"),
    ({"seeds": (0, 1)}, "no figures of seed 1"),
    ({"ray_step": 1 / 3}, "plans"),
  ):
    other = dataclasses.replace(recipe, **change)
    with pytest.raises(ValueError, match=message):
      slimming_report.Recorded(tmp_path / "a.json", other)


def test_open_learning_rates_are_tuned_on_examples_that_are_not_reported(
  recipe, tmp_path
):
  """The chosen rate is the better one, measured by hand, of a third seed."""
  tuned = dataclasses.replace(
    recipe,
    hypernetworks=(("norms", 0.5, None, "linear"),),
    branching=(),
    rivals_training=slimming_cells.RivalTraining(share=0.5, start=0.25),
    rates=(1e-3, 2e-2),
    tuning_seed=7,
  )
  tuning = slimming_training.tune(tuned, str(tmp_path))
  volumes = tuning.volumes["norms_0.5_linear"]
  full = width_prices.WidthPrices(
    tuned.recipe.spec(tuned.recipe.load_data()).build()
  )
  top = full(full.ends["high"], "macs")[0]
  for rate in tuned.rates:
    file = tmp_path / "tuning" / f"norms_0.5_linear_{rate:g}" / "scores.npz"
    with np.load(file) as found:
      saved = 1 - found["cost"] / top
      points = np.column_stack(
        [found["test"], np.full(len(tuned.rays()), saved)]
      )
    by_hand = hypervolume.hypervolume(points, np.zeros(4))
    assert volumes[rate] == pytest.approx(by_hand)
  best = max(tuned.rates, key=volumes.__getitem__)
  assert tuning.chosen == {"norms_0.5_linear": best}
  (cell,) = tuned.rivals(tuning.chosen)
  assert cell.learning_rate == best
  trainer = slimming_trainer.Trainer(
    tuned.recipe, 7, tmp_path / "tuning", tuned.rays(), tuning=True
  )
  np.testing.assert_array_equal(trainer.test.inputs, trainer.calibration.inputs)


def test_rates_that_cannot_be_tuned_are_refused(recipe):
  with pytest.raises(ValueError, match="needs `rates`"):
    dataclasses.replace(recipe, hypernetworks=(("ray", 0.5, None, "linear"),))
  with pytest.raises(ValueError, match="tuning_seed=0 must be none"):
    dataclasses.replace(recipe, tuning_seed=0)


def test_losses_cut_are_shares_of_the_error(recipe):
  """By hand, from two tables."""
  recipe = dataclasses.replace(recipe, noise=0.0)
  shape = (2, 2, 2, 3)
  measured = {
    "a": {"test": np.full(shape, 0.5)},
    "b": {"test": np.full(shape, 0.6)},
  }
  found = slimming_analysis.SeedAnalysis(recipe, measured, 0)
  assert found.loss_cut("a", "b", 0) == pytest.approx(0.2)
