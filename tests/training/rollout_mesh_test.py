# SPDX-License-Identifier: Apache-2.0
"""Rollouts on a mesh of eight devices are those of one device."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxttc import mesh as mesh_lib
from jaxttc.inference import rollouts
from jaxttc.tasks import prompt_sets
from jaxttc.testing import tiny_models
from jaxttc.training import policy_losses, rollout_collector, rollout_config

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
