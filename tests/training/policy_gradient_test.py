# SPDX-License-Identifier: Apache-2.0
"""The gradient in chunks is the gradient; zero changes nothing."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxttc.inference import controllers, rollouts
from jaxttc.models import transformer
from jaxttc.testing import tiny_models
from jaxttc.training import (
  log_probs,
  policy_gradient,
  policy_losses,
  policy_variants,
  rollout_batches,
  rollout_reading,
)
from jaxttc.training import sequences as sequences_lib

_SAMPLER = controllers.Sampler(temperature=0.8)
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
  return rollout_batches.RolloutBatch(rows, advantages)


def _direct(policy, config, batch, old=None, reference=None):
  """The loss as one would write it, of all rows and columns at once."""
  rows = batch.rows
  corrects = config.sampler_cap is not None

  def loss(params):
    logits = transformer.forward(
      policy.model, params, rows.tokens, rows.segments, rows.positions
    )
    found = log_probs.of_logits(logits, rows.targets, 0.8)
    return policy_losses.policy_loss(
      config,
      found.log_probs,
      old if corrects else rows.logprobs,
      batch.advantages[:, None],
      sequences_lib.Sequences(rows.mask),
      reference_log_probs=None if config.kl is None else reference,
      sampler_log_probs=rows.logprobs if corrects else None,
      entropy=found.entropy,
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
    policy.model, config, columns=_COLUMNS, sampler=_SAMPLER, chunk=chunk
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
  ("changes", "read"),
  [
    ({"kl": "k2", "kl_weight": 0.3}, 6),
    ({"kl": "k3_corrected", "kl_weight": 0.3, "entropy_weight": 0.2}, 6),
    ({"sampler_cap": 1.2}, 3),
    *((policy_variants.make(name, 6), 3) for name in policy_variants.NAMES),
  ],
)
def test_every_term_has_its_whole_gradient(policy, batch, changes, read):
  """Against all rows at once; rows without an advantage pull to a reference."""
  if isinstance(changes, policy_variants.Variant):
    config = changes.loss
  else:
    config = policy_losses.PolicyLossConfig(**changes)
  noise = np.random.default_rng(1).normal(size=(2, *batch.rows.mask.shape))
  old, reference = (
    jnp.asarray(batch.rows.logprobs + 0.5 * x, jnp.float32) for x in noise
  )
  place = rollout_reading.responses(batch.rows, _COLUMNS).place
  pick = lambda x: jnp.take_along_axis(x, place, axis=1)  # noqa: E731
  descend = policy_gradient.gradients(
    policy.model, config, columns=_COLUMNS, sampler=_SAMPLER, chunk=4
  )
  given = batch._replace(old=pick(old), reference=pick(reference))
  found, metrics = jax.jit(descend)(policy.params, given, jax.random.key(0))
  wanted = _direct(policy, config, batch, old, reference)
  for one, other in zip(
    jax.tree.leaves(found), jax.tree.leaves(wanted), strict=True
  ):
    np.testing.assert_allclose(one, other, atol=3e-6, rtol=1e-4)
  assert float(optax.tree.norm(found)) > 1e-4
  assert float(metrics["read_rows"]) == pytest.approx(read / _ROWS)
  assert ("kl" in metrics) == (config.kl is not None)


def test_a_batch_without_old_log_probabilities_is_refused(policy, batch):
  config = policy_losses.PolicyLossConfig(sampler_cap=2.0)
  descend = policy_gradient.gradients(policy.model, config, columns=_COLUMNS)
  with pytest.raises(ValueError, match="`old` log-probabilities"):
    descend(policy.params, batch, jax.random.key(0))


def test_all_rows_are_read_as_one_would_be(policy, batch):
  rows = batch.rows
  logits = transformer.forward(
    policy.model, policy.params, rows.tokens, rows.segments, rows.positions
  )
  wanted = log_probs.of_logits(logits, rows.targets, 0.8).log_probs
  found = rollout_reading.read_all(
    policy.model,
    policy.params,
    rows,
    columns=_COLUMNS,
    sampler=_SAMPLER,
    chunk=3,
  )
  responses = rollout_reading.responses(rows, _COLUMNS)
  wanted = jnp.take_along_axis(wanted, responses.place, axis=1)
  np.testing.assert_allclose(
    found, jnp.where(responses.mask, wanted, 0), atol=1e-5
  )
