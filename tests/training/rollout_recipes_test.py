# SPDX-License-Identifier: Apache-2.0
"""A whole run by reinforcement, small: its books, its resumption, its arms."""

import dataclasses
import json
import pathlib
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxttc.inference import bundle
from jaxttc.models import config as config_lib
from jaxttc.tasks import problem_digest, prompt_sets
from jaxttc.tasks import problems as problems_lib
from jaxttc.testing import tiny_models
from jaxttc.training import (
  loop,
  low_rank,
  metrics,
  modular_model,
  policy_losses,
  prompt_files,
  rollout_config,
  rollout_recipes,
  rollout_rewards,
)

TASK = prompt_sets.ModularTask(primes=(11, 13), max_steps=3)


def recipe(start, **changes):
  rollouts = rollout_config.RolloutConfig(
    strategy=changes.pop("strategy", "knapsack"),
    tasks=4,
    group=4,
    n_max=8,
    max_tokens=12,
    window=4,
    updates=changes.pop("updates", 1),
    minibatches=changes.pop("minibatches", 1),
  )
  train = loop.TrainConfig(
    steps=changes.pop("steps", 3),
    decay_steps=1000,
    batch_size=8,
    length=36,
    learning_rate=changes.pop("rate", 1e-3),
    warmup_steps=0,
    weight_decay=0.0,
    log_every=1,
    evaluate_every=100,
    checkpoint_every=1,
  )
  model = config_lib.TransformerConfig(
    vocab_size=704,
    width=16,
    layers=1,
    heads=2,
    kv_heads=1,
    head_dim=8,
    mlp_width=32,
    max_length=64,
  )
  return rollout_recipes.RolloutRecipe(
    start=start,
    base=modular_model.ModularModelRecipe(
      model=model,
      task=TASK,
      train=dataclasses.replace(train, steps=2, batch_size=2, length=64),
    ),
    task=TASK,
    problems=8,
    held_out=4,
    samples=2,
    rollouts=rollouts,
    loss=changes.pop("loss", policy_losses.PolicyLossConfig()),
    train=train,
    **changes,
  )


@pytest.fixture(scope="module")
def start(tmp_path_factory):
  path = tmp_path_factory.mktemp("policy") / "tiny.safetensors"
  bundle.save(str(path), tiny_models.tiny_bundles()[0])
  return str(path)


@pytest.fixture(autouse=True)
def lenient(monkeypatch):
  """Text of a random policy is never right: its digits decide instead."""

  def grade(self, which, tokens):
    size = (tokens >= 0).sum(axis=1)
    real = which < len(self.problems)
    return (real & ((size + which) % 3 > 0)).astype(np.float32)

  monkeypatch.setattr(prompt_sets.PromptSet, "grade", grade)


def run_until_killed(made, folder, steps):
  class Killed(Exception):
    pass

  fit, left = loop.fit, [steps]

  def dying(*args, collector, **kwargs):
    def collect(*given):
      if not left[0]:
        raise Killed
      left[0] -= 1
      return collector.collect(*given)

    mortal = collector._replace(collect=collect)
    return fit(*args, collector=mortal, **kwargs)

  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(loop, "fit", dying)
    with pytest.raises(Killed):
      made.run(str(folder))


@pytest.mark.parametrize("updates", [1, 4])
def test_a_resumed_run_repeats_what_an_unbroken_one_does(
  start, tmp_path, updates
):
  """Also where it was killed between two updates of the same rollouts."""
  settings = {
    "steps": 6,
    "updates": updates,
    "minibatches": min(updates, 2),
    "rate": 1e-3 if updates == 1 else 3e-2,
  }
  state = recipe(start, **settings).fit(str(tmp_path / "whole"))
  whole, books = state.params, state.collected
  draws = -(-6 // updates)
  assert books.tracker.seen.sum() == books.rollouts == 16 * draws
  cut = recipe(start, **settings)
  run_until_killed(cut, tmp_path / "cut", steps=2)
  resumed = cut.run(str(tmp_path / "cut"))
  for one, other in zip(
    jax.tree.leaves(whole), jax.tree.leaves(resumed), strict=True
  ):
    assert (one == other).all()
  logged, again = (
    metrics.read(str(tmp_path / name)) for name in ("whole", "cut")
  )
  assert logged == again
  steps = [record for record in logged if "reward" in record]
  drawn = [16 * (1 + step // updates) for step in range(6)]
  assert [record["rollouts"] for record in steps] == drawn
  moved = [record["kl_old"] for record in steps]
  clipped = [record["clip_fraction"] for record in steps]
  if updates == 1:
    assert max(moved) < 1e-6 and not any(clipped)
    assert all(record["logprob_difference"] < 1e-4 for record in steps)
  else:  # first updates are on-policy; later ones have left the sampler
    assert max(moved[0], moved[4]) < 1e-6 and not clipped[0] + clipped[4]
    assert moved[1] > 1e-6 and moved[3] > 1e-4
    assert max(clipped[1:4]) > 0
  shares = [key for key in steps[0] if key.startswith("difficulty")]
  assert sum(steps[0][key] for key in shares) == pytest.approx(1, abs=1e-6)


def test_a_run_knows_its_problems_wherever_they_are(
  start, tmp_path, monkeypatch
):
  def grade(self, which, tokens):
    gold = np.array([int(self.problems[i].answer) for i in which])
    return (((tokens >= 0).sum(axis=1) + gold) % 3 > 0).astype(np.float32)

  monkeypatch.setattr(prompt_files.AnsweredPrompts, "grade", grade)
  path = tmp_path / "sums.jsonl"

  def write(sums):
    rows = [
      {"question": f"{a} + {b} ?", "answer": f"#### {b}"} for a, b in sums
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))

  def asks(**changes):
    task = prompt_files.PromptFile(path=str(path), held_out=str(path))
    made = recipe(start, steps=4)
    return dataclasses.replace(made, task=task, check_steps=False, **changes)

  sums = [(i, i % 4) for i in range(8)]
  write(sums)
  whole = asks().fit(str(tmp_path / "whole"))
  run_until_killed(asks(), tmp_path / "cut", steps=2)
  shutil.copytree(tmp_path / "cut", tmp_path / "more")
  # In another order it is the same file, and the same run to the last bit.
  write(sums[3:] + sums[:3])
  cut = asks().fit(str(tmp_path / "cut"))
  jax.tree.map(np.testing.assert_array_equal, whole.params, cut.params)
  jax.tree.map(np.testing.assert_array_equal, whole.collected, cut.collected)
  assert float(whole.collected.tracker.faded[:, 0].sum()) > 4  # some were right
  # One answer was corrected, and two problems are new.
  write([(9, 1), (0, 7), *sums[1:], (10, 1)])
  folder = str(tmp_path / "more")
  with pytest.raises(ValueError, match="2 are gone .* number 1 of the run's"):
    asks().run(folder)
  with pytest.raises(ValueError, match="differs in problems"):
    asks(problems=10).run(folder)
  state = asks(problems=10, carry_rates=True).fit(folder)
  assert int(state.step) == 4
  held = state.collected
  now = problem_digest.digests(
    [
      problems_lib.Problem(id="", text=f"{a} + {b} ?", answer=f"{b}")
      for a, b in [*sums[1:], (9, 1), (0, 7), (10, 1)]
    ]
  )
  np.testing.assert_array_equal(held.digests, now)
  # Sixteen rollouts a step; the four of what was corrected are forgotten.
  assert int(held.rollouts) == 64 == int(held.tracker.seen.sum()) + 4


@pytest.mark.parametrize("adapters", [None, low_rank.LowRankConfig(rank=2)])
def test_every_term_has_a_part_in_training(start, tmp_path, adapters):
  made = recipe(
    start,
    rate=1e-2,
    loss=policy_losses.PolicyLossConfig(
      kl="k3", kl_weight=0.1, entropy_weight=0.01, sampler_cap=2.0
    ),
    rewards=rollout_rewards.RewardConfig(
      parts=("right", "answered"),
      weights=(1.0, 0.2),
      overlong=6,
      kl_weight=0.05,
    ),
    adapters=adapters,
  )
  params = made.run(str(tmp_path))
  steps = [r for r in metrics.read(str(tmp_path)) if "reward" in r]
  # The run starts at its reference, and the trainer is its own sampler.
  assert steps[0]["kl"] == pytest.approx(0, abs=1e-6)
  assert all(record["kl"] > 1e-6 for record in steps[1:])
  for record in steps:
    assert record["sampler_weight"] == pytest.approx(1, abs=1e-4)
    assert record["read_rows"] == 1
    assert record["entropy"] > 0
    assert record["earned"] != record["reward"]
  began = bundle.load(start).params
  moved = jax.tree.map(lambda a, b: bool((a != b).any()), params, began)
  if adapters is None:
    assert all(jax.tree.leaves(moved))
  else:  # only matrices have adapters
    assert not moved["embed"]["embedding"]
    assert any(jax.tree.leaves(moved))
  assert jax.tree.map(jnp.shape, params) == jax.tree.map(jnp.shape, began)


def test_a_policy_is_made_where_none_is_given(tmp_path):
  made = recipe(None, steps=1)
  params = made.run(str(tmp_path))
  made.export(params, str(tmp_path / "out.safetensors"))
  found = bundle.load(str(tmp_path / "out.safetensors"))
  assert found.recipe == json.loads(json.dumps(made.describe()))
  assert (tmp_path / "base" / "metrics.jsonl").exists()


@pytest.mark.parametrize(
  ("field", "value", "message"),
  [
    ("held_out", 0, "held_out must be at least 1"),
    ("start", "arithmetic_prm", "holds a process_reward"),
    ("problems", 3, "of 3 problems"),
    ("loss", policy_losses.PolicyLossConfig(kl="k1", kl_weight=0.1), "kl='k1'"),
    ("rewards", rollout_rewards.RewardConfig(overlong=13), "overlong=13"),
    ("start", None, "expected start"),
  ],
)
def test_what_cannot_be_is_named(start, tmp_path, field, value, message):
  made = dataclasses.replace(recipe(start), base=None)
  made = dataclasses.replace(made, **{field: value})
  with pytest.raises(ValueError, match=message):
    made.run(str(tmp_path))


def test_a_batch_in_parts_is_refused_before_the_base_is_trained(tmp_path):
  made = recipe(None)
  train = dataclasses.replace(made.train, accumulate=2)
  with pytest.raises(ValueError, match="train.accumulate=2: expected 1"):
    dataclasses.replace(made, train=train).run(str(tmp_path))
  assert not (tmp_path / "base").exists()


def test_a_published_start_is_exported_with_its_own_tokenizer(tmp_path):
  data = pathlib.Path(__file__).parents[1] / "data/hf"
  start = tmp_path / "start"
  shutil.copytree(data / "qwen2", start)
  shutil.copytree(data / "tokenizer", start, dirs_exist_ok=True)
  began = bundle.load(str(start))
  recipe(str(start)).export(began.params, str(tmp_path / "out"))
  ended = bundle.load(str(tmp_path / "out"))
  text = "1 + 1 = 2"
  assert ended.tokenizer.encode(text) == began.tokenizer.encode(text)
  jax.tree.map(np.testing.assert_array_equal, ended.params, began.params)
