# SPDX-License-Identifier: Apache-2.0
"""Learned verifiers on a tiny language model, whole: points and the report."""

import dataclasses
import json

import numpy as np
import pytest

from configs import verifier_based_lm
from jaxttc import results, simulation
from jaxttc.studies import (
  verifier_language_bench,
  verifier_language_recipe,
  verifier_language_report,
  verifier_language_study,
  verifier_language_traces,
)
from jaxttc.tasks import prompt_sets
from jaxttc.training import recipes


def recipe(**changes):
  """The config's study, on a model that has read next to nothing."""
  found = verifier_based_lm.get_config()
  model = dataclasses.replace(
    found.base.model, width=16, layers=1, heads=2, kv_heads=1, head_dim=8
  )
  train = dataclasses.replace(
    found.base.train, steps=2, batch_size=2, warmup_steps=1
  )
  small = {
    "base": dataclasses.replace(found.base, model=model, train=train),
    "families": {"heterogeneous": "free", "homogeneous": "terse"},
    "steps": (2, 3),
    "tokens_a_step": 4,
    "ratios": (2, 4),
    "ratio": 4,
    "seeds": 2,
    "drawn": 4,
    "batch": 4,
    "epochs": 1,
    "rates": {name: (1e-3,) for name in verifier_language_recipe.METHODS},
    "ridges": (1.0,),
    "members": 2,
    "rollouts": (4, 2, 1),
    "tested": 6,
    "samples": 3,
    "judged": 2,
  }
  return dataclasses.replace(found, **(small | changes))


@pytest.fixture
def graded(monkeypatch):
  """Marks that a model which knows nothing can earn: an even first token.

  What was cut counts as ended, since it never ends a solution either; the
  answer is the first token.
  """

  def grade(self, which, tokens):
    del self, which
    return (tokens[:, 0] % 2 == 0).astype(np.float32)

  monkeypatch.setattr(prompt_sets.PromptSet, "grade", grade)
  monkeypatch.setattr(
    verifier_language_bench.Bench, "_answer", lambda self, row: str(row[0])
  )
  original = verifier_language_bench.rollouts.sample

  def sample(*args, **kwargs):
    drawn = original(*args, **kwargs)
    return drawn._replace(finished=drawn.length > 0)

  monkeypatch.setattr(verifier_language_bench.rollouts, "sample", sample)


@pytest.mark.slow
def test_every_method_trains_at_a_point(tmp_path, graded):
  made = recipe()
  runs = verifier_language_study._Runs(made, tmp_path)
  rates = {name: 1e-3 for name in verifier_language_recipe.METHODS}
  rates["verifier"] = 1.0
  run = runs.kept("run", ("heterogeneous", 2, 4), 0, rates)
  assert run["traces"] == 8 and run["horizon"] == 8
  methods = run["methods"]
  assert set(methods) == {"base", *verifier_language_recipe.METHODS}
  assert methods["clone_solved"]["labels"] >= 8
  for name in ("clone_charged", "reweight", "policy_gradient"):
    assert methods[name]["labels"] == 8
  assert methods["clone_expert"]["labels"] == 8 * made.drawn
  tokens = [methods[n]["sampled"] for n in ("clone_charged", "policy_gradient")]
  assert tokens[1] > tokens[0] > 0
  for scored in methods.values():
    assert 0 <= scored["accuracy"] <= 1
    assert 0 <= scored["reward"] <= run["horizon"]
  taken = run["selected"]
  assert taken["any"] >= max(taken["best_of_n"], taken["weighted_vote"])
  assert np.shape(run["base_rewards"]) == (made.tested, made.samples)
  # The same seed trains the same; another draws other problems.
  assert runs._measure(("heterogeneous", 2, 4), 0, rates) == run
  brier = runs._tuned(("heterogeneous", 2, 4), 0, rates, "verifier")
  assert brier == pytest.approx(-run["verifier"]["brier"])


def _found(monkeypatch, tmp_path, made):
  """A study whose training is replaced by a rule that is known."""
  trained = []

  def measure(self, point, seed, rates):
    family, steps, ratio = point
    trained.append((point, seed))
    methods = {"base": 10.0}
    for i, name in enumerate(verifier_language_recipe.METHODS):
      hetero = 1.0 if family == "heterogeneous" else 0.25
      methods[name] = 10 + hetero * i * steps + 0.01 * seed + rates[name]
    rng = np.random.default_rng(seed)
    return {
      "family": family,
      "steps": steps,
      "ratio": ratio,
      "seed": seed,
      "horizon": 4 * steps,
      "traces": ratio * steps,
      "base_rewards": rng.integers(0, 4, (6, 8)).astype(float).tolist(),
      "methods": {
        name: {"reward": value, "accuracy": value / 100, "tokens": 5.0}
        for name, value in methods.items()
      },
      "clone_vote": 0.5,
      "verifier": {"auc": 0.9, "brier": 0.1, "error": 0.05},
      "selected": {
        "vote": 0.4,
        "best_of_n": 0.5 + 0.05 * steps,
        "weighted_vote": 0.45,
        "any": 1.0,
      },
    }

  def tuned(self, point, seed, rates, name):
    trained.append((name, point))
    return -abs(rates[name] - 3e-4)

  monkeypatch.setattr(verifier_language_study._Runs, "_measure", measure)
  monkeypatch.setattr(verifier_language_study._Runs, "_tuned", tuned)
  return verifier_language_study.run(made, str(tmp_path)), trained


def test_rates_order_resumption_and_report(tmp_path, monkeypatch):
  rates = verifier_based_lm.get_config().rates
  made = recipe(rates=rates, ridges=(0.3, 3.0, 30.0))
  found, trained = _found(monkeypatch, tmp_path, made)
  chosen = {found.rates[name] for name in verifier_language_recipe.CLONES}
  assert chosen == {3e-4}
  assert found.rates["verifier"] == 0.3
  assert len(trained) == 6 * 3 + 5 * made.seeds
  assert trained[0] == ("verifier", ("heterogeneous", 3, 4))
  lines = (tmp_path / "runs.jsonl").read_text()
  (tmp_path / "runs.jsonl").write_text(lines + '["run')  # torn
  again, anew = _found(monkeypatch, tmp_path, made)
  assert again.runs == found.runs and not anew
  assert (tmp_path / "runs.jsonl").read_text() == lines
  with pytest.raises(ValueError, match="runs of another recipe"):
    verifier_language_study.run(
      dataclasses.replace(made, kappa=1.0), str(tmp_path)
    )

  study = verifier_language_report.study(made, found)
  named = {claim.name: claim for claim in study.claims}
  # Methods differ by a step each: 4 of the gradient, 3 of reweighting.
  assert named["gap_at_3_steps"].value == pytest.approx(4 * 3)
  assert named["gap_slope_in_horizon"].value == pytest.approx(4 / np.log2(1.5))
  assert named["gap_exponent_in_horizon"].value == pytest.approx(1)
  assert named["reweight_gap_at_3_steps"].value == pytest.approx(3 * 3)
  assert named["gap_over_homogeneous_at_3_steps"].value == pytest.approx(9)
  best = named["heterogeneous_best_of_3_points_over_clone_vote_at_3_steps"]
  assert best.value == pytest.approx(15) and best.holds
  pytest.importorskip("matplotlib", reason="extra `plot` not installed")
  written = simulation.write(study, tmp_path / "found")
  read = results.read(written[0])
  assert json.dumps(read.data["measured"]["heterogeneous"])
  assert (tmp_path / "found.png").stat().st_size > 10_000


@pytest.mark.slow
def test_a_base_that_is_never_right_has_nothing_to_clone(tmp_path):
  with pytest.raises(ValueError, match="only 0 of 48 solutions are right, 12"):
    verifier_language_study.run(recipe(), str(tmp_path))


def _traces(right, length, answers):
  return verifier_language_traces.Traces(
    None, None, np.array(length), np.array(right, float), answers
  )


def test_right_solutions_are_found_rank_by_rank():
  right = [[1, 0, 0, 1], [0, 1, 0, 1]]
  traces = _traces(right, np.ones((2, 4), int), [])
  found, checked = verifier_language_traces.first_right(traces, 3, 2)
  np.testing.assert_array_equal(found, [[0, 1], [0, 1]])
  assert checked == 3 + 2
  with pytest.raises(ValueError, match="only 2 of 6 solutions are right, 3"):
    verifier_language_traces.first_right(traces, 3, 3)


def test_one_answer_out_of_many():
  right = [[1, 0], [0, 0], [0, 1]]
  answers = [["4", "1"], ["5", "1"], ["5", "2"]]
  traces = _traces(right, np.ones((3, 2), int), answers)
  chance = np.array([[0.9, 0.1], [0.3, 0.2], [0.4, 0.9]])
  found = verifier_language_traces.accuracy(traces, chance)
  assert found == {
    "vote": 0.0,
    "best_of_n": 1.0,
    "weighted_vote": 1.0,
    "any": 1.0,
  }
  nobody = _traces(np.zeros((3, 2)), np.ones((3, 2), int), [[None] * 2] * 3)
  silent = verifier_language_traces.accuracy(nobody, chance)
  assert silent["vote"] == silent["weighted_vote"] == 0


def test_draws_of_the_ball_follow_its_weights():
  """Radius S - 1 allows all weight on the best; radius 0 none at all."""
  rewards = np.tile(np.array([[0.0], [2.0], [5.0], [1.0]]), (1, 400))
  best = verifier_language_traces.tilted(rewards, 3.0, 0)
  assert (best == 2).all()
  same = verifier_language_traces.tilted(rewards, 0.0, 0)
  np.testing.assert_allclose(np.bincount(same) / 400, 0.25, atol=0.07)


@pytest.mark.parametrize(
  ("change", "said"),
  [
    ({"steps": (4, 2)}, "steps must be positive and ascend"),
    ({"steps": (2, 9)}, "the base is trained on 2 to 8"),
    ({"tokens_a_step": 70}, "max_length=192: 235 tokens are needed"),
    ({"ratio": 3}, "ratio=3 is not one of"),
    ({"families": {}}, "families: expected at least one"),
    ({"families": {"a": "tersely"}}, "Unknown style 'tersely'"),
    ({"rates": {"reweight": (1.0,)}}, "rates of \\['reweight'\\]"),
    ({"ridges": (1.0, 2.0)}, "expected equally many, above 0"),
    ({"samples": 2}, "samples must be at least 3"),
    ({"kappa": -1.0}, "kappa and pessimism must not be negative"),
    ({"rollouts": (8, 1, 1)}, "a group of 2 or more"),
  ],
)
def test_recipes_that_cannot_be_are_refused(change, said):
  with pytest.raises(ValueError, match=said):
    recipe(**change).validate()


def test_a_base_of_another_text_is_refused():
  base = recipes.LanguageModelRecipe(
    model=recipe().base.model,
    mix=verifier_based_lm.recipes.arithmetic.TrainingMix(),
    train=recipe().base.train,
  )
  with pytest.raises(ValueError, match="expected a ModularMix"):
    recipe(base=base).validate()
