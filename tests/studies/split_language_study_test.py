# SPDX-License-Identifier: Apache-2.0
"""Both stages on a tiny language model, whole: the books, and resumption."""

import dataclasses
import json

import numpy as np
import pytest

from configs import preferences_lm
from jaxttc.studies import split_language_report, split_language_study
from jaxttc.tasks import prompt_sets


def recipe(**changes):
  """The config's study, on a model that has read next to nothing."""
  found = preferences_lm.get_config()
  found.base.model = dataclasses.replace(
    found.base.model, width=16, layers=1, heads=2, kv_heads=1, head_dim=8
  )
  found.base.train = dataclasses.replace(
    found.base.train, steps=2, decay_steps=None, batch_size=2, warmup_steps=1
  )
  for stage in (found.demonstrations, found.pairs):
    stage.train = dataclasses.replace(stage.train, batch_size=4)
    stage.epochs, stage.rates = 1, stage.rates[:1]
  small = {
    "budgets": (8, 16),
    "shares": (0.0, 0.5, 1.0),
    "largest": 16,
    "tuning_budget": 8,
    "seeds": 1,
    "draws": 2,
    "tested": 4,
    "max_tokens": 12,
  }
  return dataclasses.replace(found, **(small | changes))


@pytest.fixture
def graded(monkeypatch):
  """Marks that a model which knows nothing can earn: an even first token.

  What was cut counts as ended, since it never ends a solution either.
  """

  def grade(self, which, tokens):
    del self, which
    return (tokens[:, 0] % 2 == 0).astype(np.float32)

  monkeypatch.setattr(prompt_sets.PromptSet, "grade", grade)

  original = split_language_study.rollouts.sample

  def sample(*args, **kwargs):
    drawn = original(*args, **kwargs)
    return drawn._replace(finished=drawn.length > 0)

  monkeypatch.setattr(split_language_study.rollouts, "sample", sample)


@pytest.mark.slow
def test_both_stages_train_on_what_was_bought(tmp_path, graded):
  study = recipe()
  bench = split_language_study._Bench(study, tmp_path)
  row = bench.measured(16, 0.5, 0, {"demonstrations": 1e-3, "pairs": 1e-3})
  assert (row["sft"], row["pairs"], row["spent"]) == (4, 8, 16)
  assert row["marked"] >= row["pairs"] and 0 <= row["success"] <= 1
  assert row["chosen"] < 0 and row["rejected"] < 0
  kept = json.loads((tmp_path / "runs.jsonl").read_text().splitlines()[-1])
  assert kept == row and not (tmp_path / "now").exists()


def _found(monkeypatch, tmp_path, study):
  """A study whose training is replaced by a rule that is known."""
  trained = []

  def train(self, plan, seed, rates, folder):
    del self, folder
    trained.append((plan, seed, rates))
    best = 4e-3 if plan.sft else 2e-4
    right = 0.1 * plan.share + 0.01 * plan.spent / 16 + 0.001 * (seed % 7)
    good = 0.05 * (best in rates.values())
    return {"sft": plan.sft, "pairs": plan.pairs, "success": right + good}

  monkeypatch.setattr(split_language_study._Bench, "_train", train)
  found = split_language_study.run(study, str(tmp_path))
  return found, trained


def test_rates_order_resumption_and_report(tmp_path, monkeypatch):
  study = recipe(seeds=2)
  rates = preferences_lm.get_config()
  study.demonstrations.rates = rates.demonstrations.rates
  study.pairs.rates = rates.pairs.rates
  found, trained = _found(monkeypatch, tmp_path, study)
  assert found.rates == {"demonstrations": 4e-3, "pairs": 2e-4}
  assert [(r["budget"], r["share"], r["seed"]) for r in found.runs] == [
    (b, s, i) for b in study.budgets for s in study.shares for i in (0, 1)
  ]
  assert len(trained) == 6 + 12 + 2
  lines = (tmp_path / "runs.jsonl").read_text()
  torn = lines + '{"budget": 16, "sha'
  (tmp_path / "runs.jsonl").write_text(torn)
  again, anew = _found(monkeypatch, tmp_path, study)
  assert again.runs == found.runs and not anew
  assert (tmp_path / "runs.jsonl").read_text() == lines
  with pytest.raises(ValueError, match="runs of another recipe"):
    split_language_study.run(dataclasses.replace(study, draws=3), str(tmp_path))

  report = split_language_report.study(study, found)
  named = {claim.name: claim for claim in report.claims}
  success = 100 * split_language_study.scores(study, found.runs)
  gain = named["points_over_base_share_1_at_16"]
  assert gain.value == pytest.approx((success[1, 2] - 100 * found.base).mean())
  assert named["best_sft_share_at_16"].value == 1
  assert not named["best_sft_share_falls_with_budget"].holds
  assert named["cold_start_gap_most_budget"].holds
  json.dumps(report.data["runs"])
  pytest.importorskip("matplotlib", reason="extra `plot` not installed")
  report.draw(tmp_path / "split.png")
  assert (tmp_path / "split.png").stat().st_size > 10_000


def test_a_model_that_is_never_right_has_no_pairs(tmp_path):
  with pytest.raises(ValueError, match="only 0 of 32 problems .* 8 pairs are"):
    split_language_study.run(recipe(), str(tmp_path))


@pytest.mark.parametrize(
  ("change", "words"),
  [
    ({"budgets": (8,)}, "budgets must ascend"),
    ({"shares": (0.1, 1.0)}, "shares must go from 0 to 1"),
    ({"shares": (0.0, 1.0)}, "with one between"),
    ({"draws": 1}, "draws=1: a pair needs at least 2"),
    ({"budgets": (8, 32)}, "tuning_budget=8: expected at most largest=16"),
    ({"seeds": 0}, "seeds must be at least 1"),
  ],
)
def test_what_cannot_be_studied_is_named(change, words):
  with pytest.raises(ValueError, match=words):
    recipe(**change).validate()


def test_demonstrations_and_pairs_share_no_problem():
  study = preferences_lm.get_config()
  assert study.front() == study.plan(study.largest, 1.0).sft
  bought = [study.plan(b, s) for b in study.budgets for s in study.shares]
  assert max(plan.sft for plan in bought) <= study.front()
  assert study.pool() - study.front() >= max(plan.pairs for plan in bought)
