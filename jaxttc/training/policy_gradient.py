# SPDX-License-Identifier: Apache-2.0
"""The gradient of a policy loss over one step's rollouts, and nothing more.

A rollout whose advantage is 0 has no gradient, and it need not be read again.
The rows that have one are put first and read a chunk at a time, by a loop as
long as there are such chunks: one program, and a step in which half of the
groups are not mixed takes half the time. Sums are those of the whole step, so
chunks change nothing but their order.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float
import optax

from jaxttc.inference import rollouts
from jaxttc.models import key_values, transformer
from jaxttc.training import log_probs, loop, policy_losses
from jaxttc.training import sequences as sequences_lib

_MEANS = ("policy_loss", "ratio", "clip_fraction", "entropy")


class RolloutBatch(NamedTuple):
  """What a step learns from.

  Attributes:
    rows: the rollouts; W tokens a row.
    advantages: f32[B].
  """

  rows: rollouts.Sequences
  advantages: Float[Array, " b"]


def check(config: policy_losses.PolicyLossConfig) -> None:
  """Refuses losses that rows without an advantage have a part in.

  Raises:
    ValueError: naming the field.
  """
  config.validate()
  for name in ("kl", "sampler_cap"):
    if getattr(config, name) is not None:
      raise ValueError(f"{name}={getattr(config, name)!r}: expected None here")
  if config.entropy_weight:
    raise ValueError(f"entropy_weight={config.entropy_weight}: expected 0 here")


def gradients(
  model: transformer.Transformer,
  config: policy_losses.PolicyLossConfig,
  *,
  columns: int,
  temperature: float = 1.0,
  chunk: int = 64,
) -> loop.Gradients:
  """What `loop.fit(gradients=)` takes.

  Args:
    model: the policy.
    config: the loss. Ratios are against the sampler's log-probabilities.
    columns: most tokens of a rollout.
    temperature: at which rollouts were sampled.
    chunk: rows read at once.

  Returns:
    (params, `RolloutBatch`, key) -> (gradients, metrics). Metrics are means
    over tokens of the rows that were read, but for `logprob_difference`, the
    largest difference of sampler and trainer, in nats, and `read_rows`, the
    share of rows read.

  Raises:
    ValueError: if the config cannot be, or has terms in which rows without an
      advantage take part; or the chunk is below 1.
  """
  check(config)
  if chunk < 1 or columns < 1:
    raise ValueError(f"chunk={chunk}, columns={columns}: expected at least 1")

  def loss(params, batch: RolloutBatch, denominator):
    rows = _responses(batch.rows, columns)
    hidden, _ = model.apply(
      {"params": params},
      batch.rows.tokens[:, None],
      batch.rows.positions[:, None],
      key_values.causal_mask(batch.rows.segments),
    )
    hidden = jnp.take_along_axis(hidden[:, 0], rows.place[..., None], axis=1)
    logits = model.apply({"params": params}, hidden, method="logits")
    found = log_probs.of_logits(logits, rows.targets, temperature)
    made = policy_losses.policy_loss(
      config,
      found.log_probs,
      rows.logprobs,
      batch.advantages[:, None],
      sequences_lib.Sequences(rows.mask),
      entropy=found.entropy,
    )
    gap = jnp.where(rows.mask, found.log_probs - rows.logprobs, 0.0)
    tokens = rows.mask.sum().astype(jnp.float32)
    sums = {name: tokens * made.metrics[name] for name in _MEANS}
    seen = sums | {"tokens": tokens, "gap": jnp.abs(gap).max()}
    return made.fraction.numerator / denominator, seen

  def descend(params: Any, batch: RolloutBatch, key: jax.Array):
    del key
    size = batch.advantages.shape[0]
    live = (batch.advantages != 0) & batch.rows.mask.any(axis=1)
    order = jnp.argsort(~live, stable=True)
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

    def read(i, carry):
      grads, seen = carry
      part = jax.tree.map(
        lambda x: jax.lax.dynamic_slice_in_dim(x, i * chunk, chunk), ordered
      )
      (value, more), slope = jax.value_and_grad(loss, has_aux=True)(
        params, part, denominator
      )
      gap = jnp.maximum(seen["gap"], more.pop("gap"))
      added = {k: seen[k] + v for k, v in (more | {"loss": value}).items()}
      return jax.tree.map(jnp.add, grads, slope), added | {"gap": gap}

    nothing = dict.fromkeys((*_MEANS, "loss", "tokens", "gap"), jnp.float32(0))
    start = (jax.tree.map(jnp.zeros_like, params), nothing)
    chunks = (live.sum() + chunk - 1) // chunk
    grads, seen = jax.lax.fori_loop(0, chunks, read, start)
    tokens = jnp.maximum(seen["tokens"], 1.0)
    return grads, {name: seen[name] / tokens for name in _MEANS} | {
      "loss": seen["loss"],
      "logprob_difference": seen["gap"],
      "read_rows": live.mean(),
    }

  return descend


class _Responses(NamedTuple):
  """The sampled part of each row, S columns."""

  place: jax.Array  # i32[B, S], column of the row that predicts the token
  targets: jax.Array
  mask: jax.Array
  logprobs: jax.Array


def _responses(rows: rollouts.Sequences, columns: int) -> _Responses:
  first = jnp.argmax(rows.mask, axis=1)[:, None]
  place = first + jnp.arange(columns)[None]
  inside = place < rows.mask.shape[1]
  place = jnp.minimum(place, rows.mask.shape[1] - 1)
  pick = lambda x: jnp.take_along_axis(x, place, axis=1)  # noqa: E731
  return _Responses(
    place, pick(rows.targets), pick(rows.mask) & inside, pick(rows.logprobs)
  )


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
