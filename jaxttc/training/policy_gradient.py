# SPDX-License-Identifier: Apache-2.0
"""The gradient of a policy loss over one step's rollouts, and nothing more.

Without a term that all rollouts have a part in (a divergence from the
reference, the entropy), one whose advantage is 0 has no gradient, and it need
not be read again. The rows that have one are put first and read a chunk at a
time, by a loop as long as there are such chunks: one program, and a step in
which half of the groups are not mixed takes half the time. Sums are those of
the whole step, so chunks change nothing but their order.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool
import optax

from jaxttc.inference import controllers
from jaxttc.models import transformer
from jaxttc.training import critic as critic_lib
from jaxttc.training import (
  critic_network,
  loop,
  policy_losses,
  rollout_batches,
  rollout_reading,
)
from jaxttc.training import sequences as sequences_lib

_PLAIN = controllers.Sampler()
_MEANS = ("policy_loss", "ratio", "clip_fraction", "kl_old", "entropy")


def live(
  config: policy_losses.PolicyLossConfig, batch: rollout_batches.RolloutBatch
) -> Bool[Array, " b"]:
  """Which rows have a gradient.

  Args:
    config: the loss.
    batch: the rollouts.
  """
  some = batch.rows.mask.any(axis=1)
  if (
    config.kl is not None or config.entropy_weight or batch.returns is not None
  ):
    return some
  rows = batch.advantages.shape[0]
  return some & (batch.advantages != 0).reshape(rows, -1).any(axis=1)


def gradients(
  model: transformer.Transformer,
  config: policy_losses.PolicyLossConfig,
  *,
  columns: int,
  sampler: controllers.Sampler = _PLAIN,
  critic: critic_network.CriticConfig | None = None,
  chunk: int = 64,
) -> loop.Gradients:
  """What `loop.fit(gradients=)` takes.

  Args:
    model: the policy.
    config: the loss. Ratios are against the sampler's log-probabilities; with a
      `sampler_cap` against the batch's `old` ones.
    columns: most tokens of a rollout.
    sampler: how rollouts were drawn; ratios are of the laws it draws from
      (`log_probs.of_sampler`).
    critic: how a critic learns beside the policy; parameters are then
      {"policy": .., "critic": ..}, and advantages those of tokens. Its loss is
      a mean over tokens, and moves the critic alone.
    chunk: rows read at once.

  Returns:
    (params, `RolloutBatch`, key) -> (gradients, metrics). Metrics are means
    over tokens of the rows that were read, but for `logprob_difference`, the
    largest difference of sampler and trainer, in nats (of a batch that was
    trained on before, what the policy has moved by, too), and `read_rows`, the
    share of rows read. `value_loss` is the critic's.

  Raises:
    ValueError: if the config cannot be; the chunk is below 1; or, when traced,
      the batch lacks log-probabilities that the loss reads.
  """
  config.validate()
  if chunk < 1 or columns < 1:
    raise ValueError(f"chunk={chunk}, columns={columns}: expected at least 1")
  means = list(_MEANS)
  means += ["kl"] * (config.kl is not None)
  means += ["sampler_weight"] * (config.sampler_cap is not None)
  means += ["value_loss"] * (critic is not None)

  def loss(params, batch: rollout_batches.RolloutBatch, denominator, whole):
    rows = rollout_reading.responses(batch.rows, columns)
    acting = params if critic is None else params["policy"]
    found = rollout_reading.read(model, acting, batch.rows, rows, sampler)
    advantages = batch.advantages.reshape(rows.mask.shape[0], -1)
    corrects = config.sampler_cap is not None
    made = policy_losses.policy_loss(
      config,
      found.log_probs,
      batch.old if corrects else rows.logprobs,
      advantages,
      sequences_lib.Sequences(rows.mask),
      reference_log_probs=batch.reference if config.kl is not None else None,
      sampler_log_probs=rows.logprobs if corrects else None,
      entropy=found.entropy,
    )
    gap = jnp.where(rows.mask, found.log_probs - rows.logprobs, 0.0)
    tokens = rows.mask.sum().astype(jnp.float32)
    sums = {k: tokens * v for k, v in made.metrics.items() if k in means}
    value = made.fraction.numerator / denominator
    if critic is not None:
      sums["value_loss"] = critic_loss(params["critic"], batch, rows)
      value += sums["value_loss"] / whole
    seen = sums | {"tokens": tokens, "gap": jnp.abs(gap).max()}
    return value, seen

  def critic_loss(params, batch, rows):
    said = critic_network.values(model, params, batch.rows, rows)
    bound = () if critic.clip is None else (batch.values, critic.clip)
    errors = critic_lib.value_loss(said, batch.returns, *bound)
    return jnp.where(rows.mask, errors, 0.0).sum()

  def descend(params: Any, batch: rollout_batches.RolloutBatch, key: jax.Array):
    del key
    if config.sampler_cap is not None and batch.old is None:
      raise ValueError("sampler_cap needs a batch with `old` log-probabilities")
    if (critic is None) != (batch.returns is None):
      raise ValueError("expected a batch with values and returns, and a critic")
    size = batch.advantages.shape[0]
    taught = live(config, batch)
    order = jnp.argsort(~taught, stable=True)
    pad = -size % chunk
    ordered = jax.tree.map(
      lambda x: jnp.pad(x[order], ((0, pad),) + ((0, 0),) * (x.ndim - 1)),
      batch,
    )
    whole = sequences_lib.aggregate(
      jnp.zeros(batch.rows.mask.shape),
      sequences_lib.Sequences(batch.rows.mask),
      config.aggregation,
      length=config.length,
    )
    denominator = jnp.maximum(whole.denominator, 1e-6)
    tokens = jnp.maximum(batch.rows.mask.sum(), 1).astype(jnp.float32)

    def read(i, carry):
      grads, seen = carry
      part = jax.tree.map(
        lambda x: jax.lax.dynamic_slice_in_dim(x, i * chunk, chunk), ordered
      )
      (value, more), slope = jax.value_and_grad(loss, has_aux=True)(
        params, part, denominator, tokens
      )
      gap = jnp.maximum(seen["gap"], more.pop("gap"))
      added = {k: seen[k] + v for k, v in (more | {"loss": value}).items()}
      return jax.tree.map(jnp.add, grads, slope), added | {"gap": gap}

    nothing = dict.fromkeys((*means, "loss", "tokens", "gap"), jnp.float32(0))
    start = (jax.tree.map(jnp.zeros_like, params), nothing)
    chunks = (taught.sum() + chunk - 1) // chunk
    grads, seen = jax.lax.fori_loop(0, chunks, read, start)
    read_tokens = jnp.maximum(seen["tokens"], 1.0)
    return grads, {name: seen[name] / read_tokens for name in means} | {
      "loss": seen["loss"],
      "logprob_difference": seen["gap"],
      "read_rows": taught.mean(),
    }

  return descend


def unless_zero(
  tx: optax.GradientTransformation,
) -> optax.GradientTransformation:
  """The transformation, but a gradient of exactly 0 changes nothing.

  Else a step from which nothing was learnt would still move the parameters, by
  momentum and decay.
  """

  def update(grads, state, params=None):
    some = optax.tree.norm(grads) > 0
    return jax.lax.cond(
      some,
      lambda: tx.update(grads, state, params),
      lambda: (jax.tree.map(jnp.zeros_like, grads), state),
    )

  return optax.GradientTransformation(tx.init, update)
