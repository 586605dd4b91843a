# SPDX-License-Identifier: Apache-2.0
"""Post-training from files, whole: a tiny model learns what its data say."""

import json

import jax
import numpy as np
import pytest

from jaxttc.inference import bundle as bundle_lib
from jaxttc.testing import tiny_models
from jaxttc.training import (
  loop,
  low_rank,
  metrics,
  preference_losses,
  preference_tuning,
  tuning_batches,
  tuning_data,
  tuning_recipes,
)


def _train(**fields):
  return loop.TrainConfig(
    **(
      {
        "steps": 12,
        "batch_size": 4,
        "length": 24,
        "learning_rate": 0.02,
        "warmup_steps": 1,
        "weight_decay": 0.0,
        "log_every": 1,
        "evaluate_every": 6,
        "checkpoint_every": 12,
      }
      | fields
    )
  )


@pytest.fixture(scope="module")
def start(tmp_path_factory):
  """A tiny language model's file."""
  path = tmp_path_factory.mktemp("start") / "tiny.safetensors"
  bundle_lib.save(str(path), tiny_models.tiny_bundles(0)[0])
  return str(path)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
  """Files of sums, and of pairs of a right and a wrong one."""
  folder = tmp_path_factory.mktemp("data")
  sums = [(a, b) for a in range(1, 5) for b in range(1, 4)]
  rows = {
    "sums.jsonl": [
      {"prompt": f"{a} + {b} =\n", "completion": f" {a + b}"} for a, b in sums
    ],
    "pairs.jsonl": [
      {
        "prompt": f"{a} + {b} =\n",
        "chosen": f" {a + b}",
        "rejected": f" {a + b + 1} .",
      }
      for a, b in sums
    ],
  }
  for name, lines in rows.items():
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (folder / name).write_text(text)
  return folder


def _source(data, name, **fields):
  return tuning_data.DataConfig(
    path=str(data / name), longest_prompt=8, held_out=2, **fields
  )


def _figures(workdir, name):
  return [r[name] for r in metrics.read(str(workdir)) if name in r]


@pytest.mark.parametrize("adapters", [None, low_rank.LowRankConfig(rank=4)])
def test_supervised(start, data, tmp_path, adapters):
  recipe = tuning_recipes.SupervisedRecipe(
    start=start,
    data=_source(data, "sums.jsonl"),
    adapters=adapters,
    train=_train(),
  )
  params = recipe.run(str(tmp_path))
  losses = _figures(tmp_path, "loss")
  assert losses[-1] < 0.8 * losses[0]
  assert len(_figures(tmp_path, "held_out_loss")) == 2
  out = str(tmp_path / "out.safetensors")
  recipe.export(params, out)
  found = bundle_lib.load(out)
  assert found.recipe["kind"] == "supervised"
  jax.tree.map(np.testing.assert_array_equal, found.params, params)
  embedding = bundle_lib.load(start).params["embed"]["embedding"]
  moved = np.any(found.params["embed"]["embedding"] != embedding)
  assert moved == (adapters is None)


@pytest.mark.parametrize("kind", ["dpo", "orpo", "kto"])
def test_preferences(start, data, tmp_path, kind):
  recipe = tuning_recipes.PreferenceRecipe(
    start=start,
    data=_source(data, "pairs.jsonl"),
    loss=preference_losses.PreferenceLossConfig(kind=kind, beta=0.5),
    train=_train(),
  )
  recipe.run(str(tmp_path))
  margins = _figures(tmp_path, "margin")
  assert margins[-1] > margins[0] + 0.5
  if kind == "dpo":  # where the run starts is its reference
    assert margins[0] == pytest.approx(0, abs=1e-5)
    assert _figures(tmp_path, "loss")[0] == pytest.approx(np.log(2), rel=1e-5)
  if kind == "kto":  # each answer is as likely to win as to lose
    assert _figures(tmp_path, "loss")[0] == pytest.approx(0.5, rel=1e-5)
    assert (tmp_path / "reference_train_mismatched.npz").exists()
  assert (tmp_path / "reference_train.npz").exists() == (kind != "orpo")


def test_reward_model(start, data, tmp_path):
  recipe = tuning_recipes.RewardRecipe(
    start=start, data=_source(data, "pairs.jsonl"), train=_train()
  )
  params = recipe.run(str(tmp_path))
  assert _figures(tmp_path, "agrees")[-1] == 1.0
  out = str(tmp_path / "judge.safetensors")
  recipe.export(params, out)
  assert bundle_lib.load(out).kind == "process_reward"


def test_the_reference_is_kept_for_its_own_parameters_and_pairs(
  start, data, tmp_path
):
  del data
  policy = bundle_lib.load(start)
  pairs = [
    tuning_batches.TokenPair(
      *(
        tuning_batches.tokenised(policy.tokenizer, "1 + 1 =", text, 16, 8)
        for text in (f"{i}", f"{i} .")
      )
    )
    for i in range(2, 5)
  ]

  def score(params, some):
    return preference_tuning.reference_log_probs(
      policy.model, params, some, 16, tmp_path / "reference.npz"
    )

  found = score(policy.params, pairs)
  assert found.shape == (3, 2)
  held = np.load(tmp_path / "reference.npz")
  np.savez(
    tmp_path / "reference.npz",
    log_probs=found + 1,
    fingerprint=held["fingerprint"],
  )
  np.testing.assert_array_equal(score(policy.params, pairs), found + 1)
  other = jax.tree.map(lambda x: 1.1 * x, policy.params)
  assert np.abs(score(other, pairs) - found).max() > 1e-3
  np.testing.assert_allclose(score(policy.params, pairs[:2]), found[:2])


def test_bad_recipes_and_rows_are_refused(start, data, tmp_path):
  def run(**fields):
    source = _source(data, "pairs.jsonl")
    for name, value in fields.items():
      setattr(source, name, value)
    tuning_recipes.RewardRecipe(
      start=start, data=source, train=_train(length=12)
    ).run(str(tmp_path))

  with pytest.raises(ValueError, match="longest_prompt=12 must be at least 1"):
    run(longest_prompt=12)
  with pytest.raises(ValueError, match="held_out=12 leaves none"):
    run(held_out=12)
  with pytest.raises(ValueError, match="is a process_reward; expected"):
    tuning_recipes.RewardRecipe(
      start="arithmetic_prm",
      data=_source(data, "pairs.jsonl"),
      train=_train(),
    ).run(str(tmp_path))
  long = tmp_path / "long.jsonl"
  row = {"prompt": "1", "chosen": "1 " * 20 + "2", "rejected": "1 " * 20 + "3"}
  long.write_text(json.dumps(row) + "\n")
  with pytest.raises(ValueError, match="long.jsonl, line 1: .* equal once cut"):
    run(path=str(long), held_out=0)
