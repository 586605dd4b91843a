# SPDX-License-Identifier: Apache-2.0
"""The gradient in chunks is the gradient; zero changes nothing."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxttc.inference import rollouts
from jaxttc.models import transformer
from jaxttc.testing import tiny_models
from jaxttc.training import log_probs, policy_gradient, policy_losses
from jaxttc.training import sequences as sequences_lib

_COLUMNS, _WIDTH, _ROWS = 6, 12, 7


@pytest.fixture(scope="module")
def policy():
  return tiny_models.tiny_bundles()[0]


@pytest.fixture(scope="module")
def batch(policy):
  rng = np.random.default_rng(0)
  start = rng.integers(1, 6, _ROWS)
  length = rng.integers(1, _COLUMNS + 1, _ROWS)
  length[2] = 0  # a row of padding
  start[2] = 0
  prompts = rollouts.Prompts(
    jnp.asarray(rng.integers(16, 700, (_ROWS, _WIDTH - _COLUMNS)), jnp.int32),
    jnp.asarray(np.maximum(start, 1), jnp.int32),
  )
  place = np.arange(_COLUMNS)
  tokens = rng.integers(16, 700, (_ROWS, _COLUMNS))
  sampled = rollouts.Rollouts(
    tokens=jnp.where(place < length[:, None], tokens, -1).astype(jnp.int32),
    length=jnp.asarray(length, jnp.int32),
    logprobs=jnp.asarray(
      -7.0 * rng.random((_ROWS, _COLUMNS)) * (place < length[:, None]),
      jnp.float32,
    ),
    finished=jnp.ones(_ROWS, bool),
    task=jnp.where(length > 0, jnp.arange(_ROWS), _ROWS).astype(jnp.int32),
  )
  rows = rollouts.sequences(prompts, sampled)
  advantages = jnp.array([0.0, 1.5, 2.0, 0.0, -0.5, 0.0, 1.0])
  return policy_gradient.RolloutBatch(rows, advantages)


def _direct(policy, config, batch):
  """The loss as one would write it, of all rows and columns at once."""
  rows = batch.rows

  def loss(params):
    logits = transformer.forward(
      policy.model, params, rows.tokens, rows.segments, rows.positions
    )
    found = log_probs.of_logits(logits, rows.targets, 0.8)
    return policy_losses.policy_loss(
      config,
      found.log_probs,
      rows.logprobs,
      batch.advantages[:, None],
      sequences_lib.Sequences(rows.mask),
    ).fraction.value

  return jax.grad(loss)(policy.params)


@pytest.mark.parametrize(
  ("aggregation", "chunk"), [("token_mean", 2), ("seq_mean_token_mean", 64)]
)
def test_chunks_of_live_rows_give_the_whole_gradient(
  policy, batch, aggregation, chunk
):
  config = policy_losses.PolicyLossConfig(aggregation=aggregation)
  descend = policy_gradient.gradients(
    policy.model, config, columns=_COLUMNS, temperature=0.8, chunk=chunk
  )
  found, metrics = jax.jit(descend)(policy.params, batch, jax.random.key(0))
  wanted = _direct(policy, config, batch)
  for one, other in zip(
    jax.tree.leaves(found), jax.tree.leaves(wanted), strict=True
  ):
    np.testing.assert_allclose(one, other, atol=2e-6)
  assert float(optax.tree.norm(found)) > 1e-3
  # Row 2 is padding: three rows are read, of seven.
  assert float(metrics["read_rows"]) == pytest.approx(3 / 7)


def test_no_advantage_no_gradient_no_step(policy, batch):
  nothing = batch._replace(advantages=jnp.zeros(_ROWS))
  descend = policy_gradient.gradients(
    policy.model, policy_losses.PolicyLossConfig(), columns=_COLUMNS
  )
  grads, metrics = jax.jit(descend)(policy.params, nothing, jax.random.key(0))
  assert float(optax.tree.norm(grads)) == 0
  assert float(metrics["read_rows"]) == 0
  assert all(np.isfinite(float(v)) for v in metrics.values())
  tx = policy_gradient.unless_zero(optax.adamw(0.1, weight_decay=0.5))
  params = {"w": jnp.ones(3)}
  state = tx.init(params)
  moved, state = tx.update({"w": jnp.ones(3)}, state, params)
  assert float(jnp.abs(moved["w"]).min()) > 0
  still, after = tx.update({"w": jnp.zeros(3)}, state, params)
  assert not still["w"].any()
  for one, other in zip(
    jax.tree.leaves(state), jax.tree.leaves(after), strict=True
  ):
    assert (one == other).all()


@pytest.mark.parametrize(
  ("changes", "message"),
  [
    ({"kl": "k2", "kl_weight": 0.1}, "kl='k2'"),
    ({"sampler_cap": 2.0}, "sampler_cap=2.0"),
    ({"entropy_weight": 0.1}, "entropy_weight=0.1"),
    ({"kind": "nothing"}, "kind='nothing'"),
  ],
)
def test_terms_that_need_every_row_are_refused(policy, changes, message):
  config = dataclasses.replace(policy_losses.PolicyLossConfig(), **changes)
  with pytest.raises(ValueError, match=message):
    policy_gradient.gradients(policy.model, config, columns=4)
