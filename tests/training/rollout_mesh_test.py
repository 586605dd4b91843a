# SPDX-License-Identifier: Apache-2.0
"""Rollouts on a mesh of eight devices are those of one device."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxttc import mesh as mesh_lib
from jaxttc.inference import bundle, rollouts
from jaxttc.tasks import prompt_sets
from jaxttc.testing import tiny_models
from jaxttc.training import (
  loop,
  metrics,
  policy_losses,
  rollout_collector,
  rollout_config,
  rollout_recipes,
)

TASK = prompt_sets.ModularTask(primes=(11, 13), max_steps=3)


@pytest.fixture(scope="module")
def policy():
  return tiny_models.tiny_bundles()[0]


@pytest.fixture(scope="module")
def prompts(policy):
  return prompt_sets.prompt_set(
    TASK.problems(8, "train", 0), policy.tokenizer, width=24
  )


def _same(one, other):
  """Equal whole numbers; log-probabilities to rounding."""
  for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
    np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)


def test_rows_split_over_devices_are_the_rows_of_one(policy, prompts):
  table = rollouts.Prompts(
    jnp.asarray(prompts.tokens), jnp.asarray(prompts.length)
  )
  task = jnp.array([0, 0, 0, 1, 2, 2, 3, 4, 5, 5, 5, 5, 6, 7, 8, 8])
  rank = jnp.arange(16)
  keys = rollouts.row_keys(jax.random.key(2), task, rank)

  def sample(params, table, task, keys):
    return rollouts.sample(
      policy.model, params, table, task, keys, policy.stop_rule, columns=8
    )

  alone = jax.jit(sample)(policy.params, table, task, keys)
  spread = mesh_lib.data_parallel(
    sample, mesh_lib.make_mesh(), replicated_argnums=(0, 1)
  )(policy.params, table, task, keys)
  assert len(spread.tokens.sharding.device_set) == 8
  np.testing.assert_array_equal(alone.tokens, spread.tokens)
  assert (np.asarray(alone.length)[:14] > 0).all()
  assert (np.asarray(alone.length)[14:] == 0).all()  # padding stays empty
  _same(alone, spread)


def test_a_fully_sharded_run_is_that_of_one_device(
  policy, tmp_path, monkeypatch
):
  def grade(self, which, tokens):
    size = (tokens >= 0).sum(axis=1)
    return ((size + which) % 3 > 0).astype(np.float32) * (which < 8)

  monkeypatch.setattr(prompt_sets.PromptSet, "grade", grade)
  bundle.save(str(tmp_path / "start.safetensors"), policy)
  made = rollout_recipes.RolloutRecipe(
    start=str(tmp_path / "start.safetensors"),
    task=TASK,
    problems=8,
    held_out=4,
    samples=2,
    rollouts=rollout_config.RolloutConfig(
      tasks=4, group=4, n_max=8, max_tokens=8, window=4
    ),
    loss=policy_losses.PolicyLossConfig(),
    train=loop.TrainConfig(
      steps=3,
      decay_steps=100,
      batch_size=8,
      length=32,
      learning_rate=1e-2,
      warmup_steps=0,
      log_every=1,
      fully_sharded=True,
    ),
  )
  alone = made.fit(str(tmp_path / "alone"))
  mesh = mesh_lib.make_mesh()
  spread = made.fit(str(tmp_path / "spread"), mesh)
  logged, seen = (
    metrics.read(str(tmp_path / name)) for name in ("alone", "spread")
  )
  assert len(logged) == 4 and all(r["grad_norm"] > 0 for r in logged[:3])
  for one, other in zip(logged, seen, strict=True):
    assert one == pytest.approx(other, rel=1e-3, abs=1e-5)
  # Each device holds an eighth of every matrix, and of what the optimizer has.
  for tree in (spread.params, spread.opt_state):
    for leaf in jax.tree.leaves(tree):
      part = leaf.addressable_shards[0].data.size
      assert part == leaf.size // (8 if leaf.size % 8 == 0 else 1)
  # Adam turns rounding into steps where a gradient is next to nothing.
  for one, other in zip(
    jax.tree.leaves(alone.params), jax.tree.leaves(spread.params), strict=True
  ):
    np.testing.assert_allclose(one, other, atol=2e-3)


@pytest.mark.parametrize("updates", [1, 2])
def test_a_collector_gives_a_mesh_what_it_gives_one_device(
  policy, prompts, updates
):
  config = rollout_config.RolloutConfig(
    tasks=4,
    group=4,
    n_max=8,
    max_tokens=8,
    window=4,
    updates=updates,
    minibatches=updates,
  )
  loss = policy_losses.PolicyLossConfig()
  if updates > 1:
    loss = policy_losses.PolicyLossConfig(
      kl="k3", kl_weight=0.1, sampler_cap=2.0
    )
  made = rollout_collector.collector(
    prompts,
    policy.model,
    policy.stop_rule,
    config,
    5,
    loss=loss,
    reference=None if updates == 1 else policy.params,
  )
  mesh = mesh_lib.make_mesh()
  start = jax.tree.map(jnp.array, policy.params)
  alone, spread = made.init(), mesh_lib.replicate(made.init(), mesh)
  params = mesh_lib.replicate(start, mesh)
  for step in range(2 * updates):
    batch, alone, figures = made.collect(start, alone, None, step)
    other, spread, seen = made.collect(params, spread, None, step)
    assert batch.rows.mask.any()
    assert (batch.reference is not None) == (updates > 1)
    np.testing.assert_array_equal(batch.rows.tokens, other.rows.tokens)
    _same(batch, other)
    _same((alone, figures), (spread, seen))
