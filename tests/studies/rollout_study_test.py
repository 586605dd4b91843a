# SPDX-License-Identifier: Apache-2.0
"""The study of strategies: what it claims of curves, and one run for real."""

import dataclasses
import json
import pathlib

import numpy as np
import pytest

from jaxttc import results, simulation
from jaxttc.models import config as config_lib
from jaxttc.studies import rollout_report, rollout_study
from jaxttc.tasks import prompt_sets
from jaxttc.training import (
  loop,
  modular_model,
  policy_losses,
  rollout_config,
  rollout_recipes,
)

TASK = prompt_sets.ModularTask(primes=(11,), max_steps=2)


def _recipe(**changes):
  train = loop.TrainConfig(
    steps=2,
    decay_steps=1000,
    batch_size=16,
    length=32,
    learning_rate=1e-3,
    warmup_steps=0,
    log_every=1,
    evaluate_every=1,
  )
  arm = rollout_recipes.RolloutRecipe(
    base=modular_model.ModularModelRecipe(
      model=config_lib.TransformerConfig(
        vocab_size=704,
        width=16,
        layers=1,
        heads=2,
        kv_heads=1,
        head_dim=8,
        mlp_width=32,
        max_length=64,
      ),
      task=TASK,
      train=dataclasses.replace(train, batch_size=2, length=64),
    ),
    task=TASK,
    problems=4,
    held_out=2,
    samples=2,
    rollouts=rollout_config.RolloutConfig(
      tasks=4, group=4, n_max=8, max_tokens=8
    ),
    loss=policy_losses.PolicyLossConfig(),
    train=train,
  )
  made = {
    "strategies": ("uniform", "knapsack"),
    "budgets": (2.0,),
    "seeds": 1,
    "rates": (1e-3,),
    "tuning_steps": 1,
    "last": 1,
  }
  return rollout_study.StudyRecipe(arm=arm, **(made | changes))


def _run(success, effective, steps=4):
  spread = np.arange(steps, dtype=float)
  held = np.full(2, success)
  return rollout_study.Run(
    {
      "effective_gradient_ratio": np.full(steps, effective),
      "effective_prompt_ratio": np.full(steps, effective),
      "allocation_max": spread + 1,
      "reward": spread,
      "rollouts": spread,
      "sampled_tokens": spread,
      "read_rows": spread / 4,
      "logprob_difference": spread * 1e-6,
      "difficulty_0": spread / 4,
      "difficulty_1": spread / 4,
    },
    {
      "step": np.array([2, 4]),
      "held_out_success": held - 0.1,
      "train_success": held,
      "held_out_unsolved": (1 - held) / 2,
      "train_unsolved": (1 - held) / 4,
    },
  )


@pytest.fixture
def found():
  return rollout_study.Found(
    {
      f"{which}_{what}": np.full(2, 0.3)
      for which in ("train", "held_out")
      for what in ("success", "unsolved")
    },
    dict.fromkeys(("uniform", "knapsack", "uniform_2x"), 1e-3),
    {"uniform": {1e-3: 0.4}},
    {
      "uniform": [_run(0.5, 0.4), _run(0.6, 0.5)],
      "knapsack": [_run(0.6, 0.6), _run(0.7, 0.75)],
      "uniform_2x": [_run(0.7, 0.4), _run(0.7, 0.5)],
    },
  )


@pytest.mark.parametrize(
  ("successes", "wanted", "times"),
  [
    ((0.5, 0.7, 0.8), 0.6, 2**0.5),
    ((0.5, 0.7, 0.8), 0.7, 2.0),
    ((0.5, 0.7, 0.8), 0.75, 8**0.5),
    ((0.5, 0.7, 0.8), 0.9, 4.0),
    ((0.5, 0.7, 0.8), 0.5, 1.0),
    ((0.5, 0.7, 0.8), 0.4, 2**-0.5),
    ((0.5, 0.7, 0.8), 0.1, 0.5),
    # A dip is noise: what a smaller budget reached is reached.
    ((0.5, 0.7, 0.6), 0.7, 2.0),
    ((0.5, 0.4, 0.6), 0.5, 1.0),
    ((0.5, 0.4, 0.6), 0.55, 8**0.5),
    # More rollouts bring nothing, so no budget matches.
    ((0.5, 0.5, 0.5), 0.6, 4.0),
    ((0.5, 0.5, 0.5), 0.3, 1.0),
  ],
)
def test_budget_to_match_is_read_off_the_curve(successes, wanted, times):
  found = rollout_report.budget_to_match((1.0, 2.0, 4.0), successes, wanted)
  assert found == pytest.approx(times)


def test_claims_are_paired_by_seed(found):
  made = {
    claim.name: claim
    for claim in rollout_report.claims(
      _recipe(seeds=2, last=2), found, [0.2, 0.3, 0.7]
    )
  }
  gain = made["effective_ratio_gain_points"]
  assert (gain.value, gain.low, gain.high) == pytest.approx((22.5, 20, 25))
  assert gain.holds
  assert made["points_over_uniform"].value == pytest.approx(10)
  # 0.55 -> 0.70 by twice as many: 0.65 needs 2^(2/3) times.
  assert made["uniform_budget_to_match"].value == pytest.approx(2 ** (2 / 3))
  assert made["uniform_2x_points_over_uniform"].value == pytest.approx(15)
  assert made["knapsack_unsolved"].value == pytest.approx(0.35 / 4)
  assert made["allocate_ms_512x4096"].value == pytest.approx(0.3)
  assert made["largest_group"].value == 4


def test_a_study_is_drawn(found, tmp_path):
  pytest.importorskip("matplotlib")
  rollout_report.draw(_recipe(seeds=2), found, tmp_path / "study.png")
  assert (tmp_path / "study.png").stat().st_size > 10_000


def _logged(folder, recipe):
  """What a run would log: better where the knapsack is, and with more rows."""
  folder.mkdir(parents=True, exist_ok=True)
  with open(folder / "metrics.jsonl", "w", encoding="utf-8") as file:
    for step in range(1, recipe.train.steps + 1):
      figures = {k: float(v[0]) for k, v in _run(0, 0.5).steps.items()}
      rows = recipe.rollouts.rows
      figures |= {"step": step, "rollouts": rows * step}
      file.write(json.dumps(figures) + "\n")
      success = 0.5 + recipe.train.learning_rate + rows / 1000
      figures = {
        f"{which}_{what}": success
        for which in ("train", "held_out")
        for what in ("success", "unsolved")
      }
      file.write(json.dumps({"step": step} | figures) + "\n")


def test_a_study_goes_on_where_it_was(tmp_path, monkeypatch):
  recipe, folder = _recipe(rates=(1e-3, 1e-2)), tmp_path / "work"
  recipe.arm.start = "arithmetic_lm"
  trained = []

  def run(self, workdir):
    if len(trained) == 7:
      raise KeyboardInterrupt
    config = self.rollouts
    trained.append((config.strategy, config.group, self.train.learning_rate))
    _logged(pathlib.Path(workdir), self)

  arm = rollout_recipes.RolloutRecipe
  monkeypatch.setattr(arm, "run", run)
  monkeypatch.setattr(
    arm,
    "measure",
    lambda *_: {
      "train_success": 0.5,
      "held_out_success": 0.4,
      "train_unsolved": 0.2,
    },
  )
  with pytest.raises(KeyboardInterrupt):
    rollout_study.run(recipe, str(folder))
  done = list(trained)
  # Rates are tried on each arm, which then has its best.
  arms = (("uniform", 4), ("knapsack", 4), ("uniform", 8))
  tried = [(*one, rate) for one in arms for rate in (1e-3, 1e-2)]
  assert done == [*tried, ("uniform", 4, 1e-2)]
  trained.clear()
  found = rollout_study.run(recipe, str(folder))
  assert trained == [("knapsack", 4, 1e-2), ("uniform", 8, 1e-2)]
  names = ("uniform", "knapsack", "uniform_2x")
  assert found.rates == dict.fromkeys(names, 1e-2)
  study = rollout_report.report(recipe, found)
  simulation.write(study, tmp_path / "knapsack_rl")
  held = results.read(tmp_path / "knapsack_rl.json")
  rows = held.data["runs"]["uniform_2x"][0]["steps"]["rollouts"]
  assert rows == [32, 64]
  (folder / "uniform-0" / "done.json").write_text(json.dumps({}))
  with pytest.raises(ValueError, match="holds a run of another recipe"):
    rollout_study.run(recipe, str(folder))


@pytest.mark.parametrize(
  ("changes", "message"),
  [
    ({"strategies": ("uniform", "posterior")}, "lack knapsack"),
    ({"budgets": ()}, "expected ascending numbers"),
    ({"budgets": (2.0, 1.5)}, "expected ascending numbers"),
    ({"budgets": (1.3,)}, "1.3 times groups of 4"),
    ({"budgets": (3.0,)}, "at most arm.rollouts.n_max=8"),
    ({"strategies": ("uniform", "knapsak")}, "did you mean 'knapsack'"),
    ({"rates": ()}, "rates"),
    ({"tuned_on": "success"}, "tuned_on='success'"),
    ({"seeds": 0}, "seeds must be at least 1"),
    ({"last": 3}, "last=3"),
  ],
)
def test_studies_that_cannot_be_are_named(changes, message):
  with pytest.raises(ValueError, match=message):
    _recipe(**changes).validate()
