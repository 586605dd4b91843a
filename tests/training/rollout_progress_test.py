# SPDX-License-Identifier: Apache-2.0
"""Rewards of progress in a trainer: whose they are, what they cost, a run."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxttc.inference import bundle, forced_answers
from jaxttc.tasks import hidden_numbers
from jaxttc.testing import tiny_models
from jaxttc.training import (
  episode_credit,
  filtered_traces,
  loop,
  metrics,
  policy_losses,
  rollout_config,
  rollout_progress,
  rollout_recipes,
  stopped_traces,
)

TASK = hidden_numbers.HiddenTask(modulus=11, numbers=8)


def _forced(values, there, episode):
  place = np.cumsum(np.asarray(there), axis=1)
  return rollout_progress.Forced(
    forced_answers.Stops(
      jnp.asarray(place), jnp.asarray(there), jnp.asarray(episode)
    ),
    jnp.asarray(values),
    jnp.zeros(np.shape(values)),
    jnp.int32(0),
  )


def test_ragged_advantages_by_hand():
  bonuses = jnp.array([[0.5, 0.2], [0.1, 9.0], [0.3, 0.4], [7.0, 7.0]])
  there = jnp.array([[1, 1], [1, 0], [1, 1], [1, 1]], bool)
  task = jnp.array([0, 0, 1, 2])  # of two tasks: the last row is padding
  found = episode_credit.ragged_advantages(bonuses, there, task, 2)
  centred = np.array([[0.2, 0], [-0.2, 0], [0, 0], [0, 0]])
  spread = np.sqrt((centred**2).sum() / 5)
  np.testing.assert_allclose(found, centred / spread, rtol=1e-4, atol=1e-6)


def test_a_full_group_is_normalised_as_the_dense_form_is():
  """One group whose rollouts have all episodes: the same up to its ddof."""
  rng = np.random.default_rng(0)
  bonuses = jnp.asarray(rng.normal(size=(6, 3)), jnp.float32)
  dense = episode_credit.advantages(jnp.zeros((1, 6)), bonuses[None], 1.0)[0]
  there, task = jnp.ones((6, 3), bool), jnp.zeros(6, jnp.int32)
  found = episode_credit.ragged_advantages(bonuses, there, task, 1)
  np.testing.assert_allclose(found, dense * np.sqrt(6 / 5), rtol=1e-4)


def test_tokens_get_the_bonus_of_their_episode():
  config = rollout_progress.ProgressConfig(alpha=2.0, episodes=2)
  values = [[0.0, 1.0, 1.0], [0.0, 0.0, 0.5]]
  there = [[True, True, False], [True, True, True]]
  episode = [[0, 0, -1, -1], [0, 1, 1, -1]]
  found = rollout_progress.token_bonus(
    config, _forced(values, there, episode), jnp.zeros(2, jnp.int32), 1
  )
  # Only the first rollout's first episode is compared with another.
  size = 0.5 / np.sqrt(0.5 / 3)
  wanted = 2 * size * np.array([[1, 1, 0, 0], [-1, 0, 0, 0]])
  np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-6)
  whole = rollout_progress.token_bonus(
    dataclasses.replace(config, credit="telescoped"),
    _forced(values, there, episode),
    jnp.zeros(2, jnp.int32),
    1,
  )
  # Credited with all from it on, 1 against 0.5.
  np.testing.assert_allclose(np.sign(whole), np.sign(wanted))
  seen = rollout_progress.figures(_forced(values, there, episode))
  assert tuple(seen) == rollout_progress.FIGURES
  assert seen["stops"] == 2.5
  assert seen["value_of_stops"] == pytest.approx(1.5 / 5)


def _recipe(start, **changes):
  made = {
    "progress": rollout_progress.ProgressConfig(
      episodes=3, branches=2, answer_tokens=3
    ),
  }
  return rollout_recipes.RolloutRecipe(
    start=start,
    task=TASK,
    check_steps=False,
    problems=8,
    held_out=4,
    samples=2,
    rollouts=rollout_config.RolloutConfig(
      strategy=changes.pop("strategy", "uniform"),
      tasks=4,
      group=4,
      n_max=8,
      max_tokens=12,
      updates=changes.pop("updates", 1),
    ),
    loss=policy_losses.PolicyLossConfig(),
    train=loop.TrainConfig(
      steps=2,
      decay_steps=100,
      batch_size=8,
      length=28,
      learning_rate=1e-2,
      warmup_steps=0,
      weight_decay=0.0,
      log_every=1,
      evaluate_every=100,
      checkpoint_every=1,
    ),
    **(made | changes),
  )


@pytest.fixture(scope="module")
def start(tmp_path_factory):
  path = tmp_path_factory.mktemp("policy") / "tiny.safetensors"
  bundle.save(str(path), tiny_models.tiny_bundles()[0])
  return str(path)


def test_a_run_is_paid_for_progress(start, tmp_path):
  plain = _recipe(start, progress=None).fit(str(tmp_path / "plain"))
  whole = _recipe(start).fit(str(tmp_path / "whole"))
  logged, other = (
    [r for r in metrics.read(str(tmp_path / name)) if "reward" in r]
    for name in ("whole", "plain")
  )
  # The first rollouts are the same; forced answers cost tokens of their own.
  first = logged[0]
  assert first["reward"] == other[0]["reward"]
  extra = first["sampled_tokens"] - other[0]["sampled_tokens"]
  assert extra == first["forced_tokens"] > 0
  assert 1 < first["stops"] <= 4
  moved = jax.tree.map(
    lambda a, b: bool((a != b).any()), whole.params, plain.params
  )
  assert any(jax.tree.leaves(moved))


def test_chances_are_read_where_a_batch_serves_twice(start, tmp_path):
  config = rollout_progress.ProgressConfig(episodes=3, branches=0)
  _recipe(start, progress=config, updates=2).run(str(tmp_path))
  steps = [r for r in metrics.read(str(tmp_path)) if "reward" in r]
  # "####", a number and the line's end, once a stop.
  stops = 16 * steps[0]["stops"]
  assert steps[0]["forced_tokens"] == pytest.approx(3 * stops)
  assert 0 < steps[0]["value_of_stops"] < 1


@pytest.mark.parametrize(
  ("changes", "message"),
  [
    ({"episodes": 0}, "progress.episodes must be at least 1"),
    ({"branches": -1}, "progress.branches must be at least 0"),
    ({"alpha": -1.0}, "progress.alpha must not be negative"),
    ({"credit": "all"}, "progress.credit='all'"),
    ({"opening": ""}, "progress.opening is empty"),
  ],
)
def test_settings_that_cannot_be_are_named(start, tmp_path, changes, message):
  config = rollout_progress.ProgressConfig(**changes)
  with pytest.raises(ValueError, match=message):
    _recipe(start, progress=config).run(str(tmp_path))


def _traces():
  """Of three problems: two right traces, one wrong, and two, one right."""
  nan = np.nan
  return stopped_traces.Traces(
    which=np.array([0, 0, 1, 2, 2]),
    written=np.full((5, 4), 300),
    right=np.array([1.0, 1.0, 0.0, 0.0, 1.0]),
    tokens=np.array(
      [[3, 8, 13], [3, 8, nan], [3, 8, 13], [3, nan, nan], [3, 8, nan]]
    ),
    values=np.array(
      [[0.0, 0.0, 1.0], [0.0, 1.0, 0.0], [1, 1, 1], [1, 0, 0], [0.5, 1, 0]],
      float,
    ),
    spent=0,
  )


def test_the_right_trace_of_least_regret_is_kept():
  traces = _traces()
  assert filtered_traces.choose(traces, "right", 16).tolist() == [0, 4]
  assert filtered_traces.choose(traces, "progress", 16).tolist() == [1, 4]
  none = traces._replace(right=np.zeros(5))
  assert not filtered_traces.choose(none, "progress", 16).size


def test_a_policy_is_finetuned_on_what_is_kept(start, tmp_path, monkeypatch):
  """Text of a random policy is never right: short traces pass here."""
  monkeypatch.setattr(
    hidden_numbers.HiddenPrompts,
    "grade",
    lambda self, which, tokens: ((tokens >= 0).sum(1) % 2 > 0).astype(
      np.float32
    ),
  )
  recipe = filtered_traces.FilteredRecipe(
    start=start,
    task=TASK,
    problems=6,
    samples=4,
    max_tokens=12,
    progress=rollout_progress.ProgressConfig(episodes=3, branches=2),
    train=loop.TrainConfig(
      steps=2, batch_size=2, length=32, warmup_steps=0, log_every=1
    ),
  )
  params = recipe.run(str(tmp_path / "run"))
  recipe.export(params, str(tmp_path / "out.safetensors"))
  assert bundle.load(str(tmp_path / "out.safetensors")).recipe["keep"]
  books = json.loads((tmp_path / "run" / "traces.json").read_text())
  assert books["traces"] == 24 and 0 < books["kept"] <= 6
  moved = jax.tree.map(
    lambda a, b: bool((a != b).any()), params, bundle.load(start).params
  )
  assert all(jax.tree.leaves(moved))
  with pytest.raises(ValueError, match="keep='best'"):
    dataclasses.replace(recipe, keep="best").run(str(tmp_path / "no"))
