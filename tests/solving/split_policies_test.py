# SPDX-License-Identifier: Apache-2.0
import dataclasses
import json

import numpy as np
import pytest

from jaxttc.cost import budget as budget_lib
from jaxttc.evaluation import verification_curves
from jaxttc.inference import bundle as bundle_lib
from jaxttc.inference import local_prices
from jaxttc.solving import (
  measured_splits,
  policy_solving,
  problem_sets,
  solve_recipe,
  split_policies,
)
from jaxttc.testing import tiny_models

_SOURCE = problem_sets.ProblemSource(
  count=4, family="modular", steps=(2,), style="terse"
)


@pytest.fixture(scope="module", name="engine")
def _engine():
  policy, _ = tiny_models.tiny_bundles()
  return policy, bundle_lib.as_verifier(policy)


@pytest.fixture(scope="module", name="measured")
def _measured(engine):
  """Votes saturate at once; checks go on gaining, S before V."""
  grid = np.array([1, 2, 4])
  worth = 0.3 + 0.1 * np.log2(grid)[:, None] + 0.02 * np.arange(2)[None]
  return measured_splits.MeasuredSplits(
    models=tuple(each.weights_fingerprint for each in engine),
    style="terse",
    sampling=solve_recipe.SamplingOptions(
      step_tokens=8,
      max_tokens=16,
      checks=solve_recipe.CheckOptions(samples=2, max_tokens=8),
    ),
    solution_tokens=11.6,
    verification_tokens=7.5,
    read_tokens=35.0,
    voted=verification_curves.Votes(grid, np.full((1, 3), 0.3)),
    surfaces={
      "best_of_n": verification_curves.Surface(
        grid, np.array([1, 2]), worth[None]
      )
    },
    origin="a test",
  )


def _flops(engine, measured, solutions, verifications):
  """What a split is expected to cost, its prompt included."""
  solver, judge = (
    local_prices.local_tariff(model, None, role)[0]
    for model, role in zip(engine, ("policy", "verifier"), strict=True)
  )
  read = local_prices.local_tariff(engine[0], None, "prompt")[0]
  prompt = round(measured.read_tokens - measured.solution_tokens)
  costs = measured.costs(solver, judge)
  return read.prompt(prompt).flops + float(
    costs.flops(solutions, verifications)
  )


def test_a_generous_budget_buys_the_best_split_that_was_measured(
  engine, measured
):
  made = split_policies.make(
    measured, {"": engine}, budget_lib.Budget(flops=1e9)
  )
  assert made.splits == ((4, 2),)
  assert made.arms[0].decoder == "best_of_n(n=4, verifications=2)"
  assert made.success[0] == pytest.approx(0.52)
  decoder, settings = made.build(made.arms[0].decoder)
  assert (decoder.shape.nodes, settings.checks.samples) == (5, 2)


def test_arms_are_the_best_splits_of_their_budgets(engine, measured):
  whole = _flops(engine, measured, 4, 2)
  made = split_policies.make(
    measured, {"": engine}, budget_lib.Budget(flops=whole)
  )
  # Checks are worth it from the first on, and more solutions more than that.
  assert made.splits[-1] == (4, 2)
  assert all(split.verifications for split in made.splits[1:])
  assert (np.diff(made.success) > 0).all() and (
    np.diff(made.expected) > 0
  ).all()
  for share, expected in zip((0.25, 0.5, 1.0), made.expected, strict=False):
    assert expected <= share * whole * (1 + 1e-9)


def test_problems_are_solved_within_the_budget(engine, measured):
  small = dataclasses.replace(  # an arm to compile
    measured,
    voted=verification_curves.Votes(np.array([1, 2]), np.array([[0.3, 0.3]])),
    surfaces={
      "best_of_n": verification_curves.Surface(
        np.array([1, 2]), np.array([1]), np.array([[[0.3], [0.5]]])
      )
    },
  )
  each = 3 * _flops(engine, small, 2, 1)
  made = split_policies.make(small, {"": engine}, budget_lib.Budget(flops=each))
  rows = policy_solving.solve(
    _SOURCE.load(),
    engine,
    budget_lib.Budget(flops=each),
    policy=made,
    batch=4,
  )
  assert [row["id"] for row in rows] == [p.id for p in _SOURCE.load()]
  assert sum(row["cost"]["flops"] for row in rows) <= 4 * each
  tried = [row for row in rows if row["arm"]]
  checked = [r for r in tried if "verifications=1" in r["arm"]["decoder"]]
  assert checked and sum(row["stages"]["verify"] for row in checked) > 0
  for row in tried:
    place = made.arms.index(tuple(row["arm"].values()))
    assert row["cost"]["flops"] <= made.most[place]


def test_files_are_read_as_written(measured, tmp_path):
  path = tmp_path / "splits.json"
  measured_splits.save(measured, path)
  again = measured_splits.load(path)
  assert again.described() == measured.described()
  assert split_policies.is_one(str(path))
  assert not split_policies.is_one("auto")
  about = json.loads(path.read_text())
  for change, words in (
    ({"kind": "other"}, "holds no measured splits"),
    ({"voted": {"solutions": [2], "values": [0.5]}}, "rises from 1"),
    ({"voted": {"solutions": [1], "values": [1.5]}}, "success rates of shape"),
    ({"read_tokens": 0}, "read_tokens must be positive"),
    ({"models": ["a"]}, "damaged"),
  ):
    path.write_text(json.dumps(about | change))
    with pytest.raises(ValueError, match=words):
      measured_splits.load(path)
  with pytest.raises(ValueError, match="expected a JSON file"):
    measured_splits.load(tmp_path / "none.json")


def test_what_cannot_be_is_refused_at_once(engine, measured):
  def refuses(words, engines, **limits):
    with pytest.raises(ValueError, match=words):
      split_policies.make(measured, engines, budget_lib.Budget(**limits))

  refuses("expected flops alone", {"": engine}, generated_tokens=80)
  refuses("expected flops alone", {"": engine}, flops=1e9, verifier_calls=3)
  refuses("does not pay for one solution", {"": engine}, flops=10.0)
  refuses("leave the router out", {"a": engine, "b": engine}, flops=1e9)
  refuses("a generative verifier, both", {"": (engine[0], None)}, flops=1e9)
  other, _ = tiny_models.tiny_bundles(seed=1)
  refuses("was measured with", {"": (other, engine[1])}, flops=1e9)
  changed = dataclasses.replace(measured, models=("x", measured.models[1]))
  with pytest.raises(ValueError, match="the language model x"):
    split_policies.make(changed, {"": engine}, budget_lib.Budget(flops=1e9))
