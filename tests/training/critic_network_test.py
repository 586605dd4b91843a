# SPDX-License-Identifier: Apache-2.0
"""A critic starts at zero, judges by its values, and learns what is earned."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxttc.inference import rollouts
from jaxttc.testing import tiny_models
from jaxttc.training import (
  critic,
  critic_network,
  group_advantages,
  policy_gradient,
  policy_losses,
  rollout_batches,
  rollout_reading,
)

_COLUMNS, _ROWS = 5, 6


@pytest.fixture(scope="module")
def policy():
  return tiny_models.tiny_bundles()[0]


@pytest.fixture(scope="module")
def rows():
  rng = np.random.default_rng(0)
  length = np.array([5, 2, 3, 1, 4, 5])
  prompts = rollouts.Prompts(
    jnp.asarray(rng.integers(16, 700, (_ROWS, 4)), jnp.int32),
    jnp.asarray(rng.integers(1, 5, _ROWS), jnp.int32),
  )
  tokens = rng.integers(16, 700, (_ROWS, _COLUMNS))
  inside = np.arange(_COLUMNS) < length[:, None]
  return rollouts.sequences(
    prompts,
    rollouts.Rollouts(
      tokens=jnp.where(inside, tokens, -1).astype(jnp.int32),
      length=jnp.asarray(length, jnp.int32),
      logprobs=jnp.asarray(
        -6.5 * inside + 0.1 * rng.normal(size=inside.shape) * inside,
        jnp.float32,
      ),
      finished=jnp.ones(_ROWS, bool),
      task=jnp.arange(_ROWS, dtype=jnp.int32),
    ),
  )


@pytest.fixture(scope="module")
def params(policy):
  made = critic_network.init(policy.params, policy.config.width)
  noise = np.random.default_rng(1).normal(size=policy.config.width)
  made["head"] = {
    "kernel": jnp.asarray(0.3 * noise, jnp.float32),
    "bias": jnp.float32(0.2),
  }
  return {"policy": policy.params, "critic": made}


def test_a_critic_begins_with_a_copied_trunk_and_no_opinion(policy, rows):
  made = critic_network.init(policy.params, policy.config.width)
  assert set(policy.params) - set(made["trunk"]) == {"head"}
  for name, part in made["trunk"].items():
    jax.tree.map(np.testing.assert_array_equal, part, policy.params[name])
  found = critic_network.all_values(
    policy.model, made, rows, columns=_COLUMNS, chunk=4
  )
  assert found.shape == (_ROWS, _COLUMNS) and not found.any()


def test_values_see_only_what_was_written_before(policy, params, rows):
  read = lambda rows: critic_network.all_values(  # noqa: E731
    policy.model, params["critic"], rows, columns=_COLUMNS, chunk=4
  )
  plain = read(rows)
  mask = rollout_reading.responses(rows, _COLUMNS).mask
  assert np.asarray(plain)[np.asarray(mask)].std() > 1e-3
  assert not np.asarray(plain)[~np.asarray(mask)].any()
  start = int(jnp.argmax(rows.mask[0])) + 1  # row 0: its first sampled token
  changed = rows._replace(tokens=rows.tokens.at[0, start + 1].add(1))
  other = read(changed)
  np.testing.assert_allclose(other[0, :2], plain[0, :2], atol=1e-6)
  assert (np.abs(np.asarray(other - plain))[0, 2:] > 1e-6).all()
  np.testing.assert_allclose(other[1:], plain[1:], atol=1e-6)


def test_rewards_stand_at_the_last_token():
  config = critic_network.CriticConfig(trace=1.0)
  mask = jnp.arange(4)[None] < jnp.array([[4], [2], [0]])
  said = jnp.array([[0.1, 0.2, 0.3, 0.4], [0.5, 0.6, 9.0, 9.0], [9.0] * 4])
  earned = jnp.array([1.0, 0.0, jnp.nan])
  found = critic_network.judge(config, earned, said, mask)
  returns = np.array([[1, 1, 1, 1], [0, 0, 0, 0], [0, 0, 0, 0]])
  np.testing.assert_allclose(found.returns, returns, atol=1e-6)
  plain = jnp.where(mask, returns - said, 0.0)
  np.testing.assert_allclose(
    found.advantages, group_advantages.whiten(plain, mask), atol=1e-6
  )
  left = np.var(np.asarray(plain)[np.asarray(mask)])
  spread = np.var(returns[np.asarray(mask)])
  assert float(found.explained) == pytest.approx(1 - left / spread, abs=1e-5)
  same = critic_network.judge(config, jnp.ones(3), said, mask)
  assert float(same.explained) == 0


@pytest.mark.parametrize("clip", [0.05])
def test_its_gradient_is_that_of_both_losses_and_each_moves_its_own(
  policy, params, rows, clip
):
  rng = np.random.default_rng(2)
  mask = rollout_reading.responses(rows, _COLUMNS).mask
  draw = lambda: jnp.asarray(rng.normal(size=mask.shape), jnp.float32)  # noqa: E731
  batch = rollout_batches.RolloutBatch(
    rows,
    jnp.where(mask, draw(), 0.0),
    values=jnp.where(mask, draw(), 0.0),
    returns=jnp.where(mask, draw(), 0.0),
  )
  config = policy_losses.PolicyLossConfig()
  descend = policy_gradient.gradients(
    policy.model,
    config,
    columns=_COLUMNS,
    critic=critic_network.CriticConfig(clip=clip),
    chunk=4,
  )
  found, metrics = jax.jit(descend)(params, batch, jax.random.key(0))

  def value(of_critic):
    said = critic_network.values(
      policy.model, of_critic, rows, rollout_reading.responses(rows, _COLUMNS)
    )
    bound = () if clip is None else (batch.values, clip)
    errors = critic.value_loss(said, batch.returns, *bound)
    return jnp.where(mask, errors, 0.0).sum() / mask.sum()

  said, wanted = jax.value_and_grad(value)(params["critic"])
  for one, other in zip(
    jax.tree.leaves(found["critic"]), jax.tree.leaves(wanted), strict=True
  ):
    np.testing.assert_allclose(one, other, atol=3e-6, rtol=1e-4)
  assert float(metrics["value_loss"]) == pytest.approx(float(said), rel=1e-5)
  assert float(metrics["read_rows"]) == 1
  # The policy's part is that of advantages of tokens, and of nothing else.
  alone = policy_gradient.gradients(
    policy.model, config, columns=_COLUMNS, chunk=4
  )
  with pytest.raises(ValueError, match="values and returns, and a critic"):
    alone(params["policy"], batch, jax.random.key(0))
  flat = jax.tree.leaves(found["policy"])
  silent = batch._replace(advantages=jnp.zeros(mask.shape))
  found, _ = jax.jit(descend)(params, silent, jax.random.key(0))
  assert max(float(jnp.abs(x).max()) for x in flat) > 1e-4
  assert not any(x.any() for x in jax.tree.leaves(found["policy"]))
  assert any(x.any() for x in jax.tree.leaves(found["critic"]))


@pytest.mark.parametrize(
  ("field", "value"),
  [("discount", 1.5), ("trace", -0.1), ("clip", 0.0), ("learning_rate", 0.0)],
)
def test_what_cannot_be_is_named(field, value):
  config = critic_network.CriticConfig(**{field: value})
  with pytest.raises(ValueError, match=f"critic.{field} must be"):
    config.validate()
