# SPDX-License-Identifier: Apache-2.0
import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest

from jaxttc import results, simulation
from jaxttc.cost import budget as budget_lib
from jaxttc.predictors import routing
from jaxttc.solving import (
  arm_tables,
  budget_policies,
  comparing,
  cost_laws,
  loading,
  policy_fitting,
  policy_solving,
  problem_sets,
  routed_models,
  solve_recipe,
)
from jaxttc.solving.cascade_fitting import CascadeOptions
from jaxttc.studies import model_arms_study

_SOURCE = problem_sets.ProblemSource(
  count=12, family="modular", steps=(2, 3), style="terse"
)


@pytest.fixture(scope="module", name="recipe")
def _recipe(models):
  """Two widths of a tiny model, two decoders, two caps."""
  nested = str(models / "nested.safetensors")
  return model_arms_study.StudyRecipe(
    models=(f"{nested}@0.5", nested),
    compare=comparing.CompareRecipe(
      problems=_SOURCE,
      budgets=(10, 20),
      methods=(
        comparing.MethodSpec(label="greedy", decoder="greedy"),
        comparing.MethodSpec(label="two", decoder="best_of_n(n=2)"),
      ),
      tree_method="greedy",
      verifier=str(models / "verifier.safetensors"),
      sampling=solve_recipe.SamplingOptions(step_tokens=8, max_tokens=16),
      batch=12,
    ),
    fit=policy_fitting.FitOptions(
      heads=("means",),
      field="flops",
      budgets=(1e5, 4e5),
      cascade=CascadeOptions(choose="never"),
      folds=2,
      bits=5,
      rank=2,
    ),
    folds=2,
    resamples=20,
  )


@pytest.fixture(scope="module", name="found")
def _found(recipe, tmp_path_factory):
  workdir = tmp_path_factory.mktemp("cells")
  return model_arms_study.run(recipe, workdir, progress=False)


def test_arms_of_all_models_are_compared(recipe, found):
  table = found.table
  assert {arm.model for arm in table.arms} == set(recipe.models)
  assert len(np.unique(table.groups)) == 4  # models x decoders
  small, large = (
    [i for i, arm in enumerate(table.arms) if arm.model == name]
    for name in recipe.models
  )
  flops = table.spent("flops").mean((0, 1))
  tokens = table.tokens.mean((0, 1))
  # Greedy under its smaller cap: the narrow model is the cheaper.
  assert (flops / tokens)[small[0]] < (flops / tokens)[large[0]]
  assert set(found.replays) == {model_arms_study.ALL, *recipe.models}
  for replay in found.replays.values():
    assert replay.overspent <= 1


def test_the_report_holds_together(recipe, found, tmp_path):
  pytest.importorskip("matplotlib", reason="extra `plot` not installed")
  study = model_arms_study.report(recipe, found)
  json_path, _ = simulation.write(study, tmp_path / "arms")
  claims = {c.name: c for c in results.read(json_path).claims}
  assert claims["never_overspent"].holds
  whole = claims["points_over_best_single_model_and_decoder"]
  assert whole.low <= whole.value <= whole.high
  parts = [claims[f"{whole.name}_at_{budget:g}"].value for budget in (1e5, 4e5)]
  assert whole.value == pytest.approx(np.mean(parts))
  for shares in zip(*study.data["models_asked"].values(), strict=True):
    assert sum(shares) <= 1 + 1e-9


@pytest.fixture(scope="module", name="hopeful")
def _hopeful(recipe, found):
  """A policy that expects more of the large model (tiny ones solve nothing)."""
  table, engines = (
    found.table,
    routed_models.load(recipe.models, recipe.compare.verifier),
  )
  greedy = np.array([arm.decoder.startswith("greedy") for arm in table.arms])
  large = np.array([arm.model == recipe.models[1] for arm in table.arms])
  wide = table.caps == 20
  chance = np.where(greedy & wide, np.where(large, 0.6, 0.4), 0.01)
  policy = dataclasses.replace(
    found.policy,
    arms=table.arms,
    success=routing.Constant(jnp.asarray(chance, jnp.float32)),
    share=routing.Constant(jnp.full(len(chance), 0.9)),
    laws=policy_fitting.fitted_laws(table),
    models={
      name: tuple(map(loading.weights_fingerprint, engine))
      for name, engine in engines.items()
    },
  )
  tokens = np.tile(0.9 * table.caps, (1, 1))
  cost = cost_laws.expected(policy.laws, ("flops",), tokens, table.caps)
  mean = float(cost[0, greedy & wide, 0].mean())  # half of them get the large
  return policy, engines, mean


def test_a_policy_chooses_among_models_for_real(recipe, hopeful, tmp_path):
  made, engines, mean = hopeful
  path = tmp_path / "policy.npz"
  budget_policies.save(made, path)
  policy = budget_policies.load(path)
  assert policy.fingerprint == made.fingerprint
  assert policy.arms == made.arms and policy.models == made.models
  budget = budget_lib.Budget(flops=mean)
  rows = policy_solving.solve(
    _SOURCE.load(), engines, budget, policy=policy, batch=6
  )
  assert sum(row["cost"]["flops"] for row in rows) <= mean * len(rows)
  asked = {row["arm"]["model"] for row in rows if row["arm"]}
  assert asked == set(recipe.models)
  assert any(
    row["next"]["model"] == recipe.models[1] for row in rows if row["next"]
  )
  swapped = dict(zip(engines, reversed(engines.values()), strict=True))
  with pytest.raises(ValueError, match="fitted for the language model"):
    policy_solving.solve(_SOURCE.load(), swapped, budget, policy=policy)
  with pytest.raises(ValueError, match="fitted for the models"):
    policy_solving.solve(
      _SOURCE.load(), engines[recipe.models[0]], budget, policy=policy
    )


def test_tables_of_other_questions_are_not_joined(found):
  table = found.table
  other = table.take(np.arange(3))
  with pytest.raises(ValueError, match="one list of questions"):
    arm_tables.joined([table, other])
  with pytest.raises(ValueError, match="the same arm"):
    arm_tables.joined([table, table])
  with pytest.raises(ValueError, match="at least one table"):
    arm_tables.joined([])


@pytest.mark.parametrize(
  "change, message",
  [
    (dict(models=("nested_lm",)), "at least two"),
    (dict(models=("nested_lm@x", "nested_lm")), "has the width 'x'"),
    (dict(folds=1), "folds >= 2"),
    (
      dict(fit=policy_fitting.FitOptions(field="seconds")),
      "fit.field='seconds'",
    ),
  ],
)
def test_a_recipe_that_cannot_be_run_is_refused(recipe, change, message):
  with pytest.raises(ValueError, match=message):
    dataclasses.replace(recipe, **change).check()
