# SPDX-License-Identifier: Apache-2.0
"""Log-probabilities of given tokens, and entropies, in float32.

Ratios of policies are only what they should be where both log-probabilities
have the sampler's temperature: give it here too. A sampler that cuts off rare
tokens (top-k, top-p, min-p) draws from yet another law, the one that is left
after cutting, made to sum to 1; `of_sampler` has its log-probabilities.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from jaxttc.inference import controllers
from jaxttc.models import key_values, transformer


class TokenLogProbs(NamedTuple):
  """What a model says of given tokens, in nats.

  Attributes:
    log_probs: f32[B, T], of each token.
    entropy: f32[B, T], of the distribution that each token is from.
  """

  log_probs: Float[Array, "B T"]
  entropy: Float[Array, "B T"]


def of_logits(
  logits: Float[Array, "B T V"],
  targets: Int[Array, "B T"],
  temperature: float = 1.0,
) -> TokenLogProbs:
  """Log-probabilities under logits, which may be -inf where excluded.

  Args:
    logits: at the place before each target.
    targets: token ids.
    temperature: that the logits are divided by.

  Raises:
    ValueError: if the temperature is not positive.
  """
  if not temperature > 0:
    raise ValueError(f"temperature must be positive, got {temperature}")
  scores = jax.nn.log_softmax(logits.astype(jnp.float32) / temperature)
  own = jnp.take_along_axis(scores, targets[..., None], axis=-1)[..., 0]
  finite = jnp.where(jnp.isfinite(scores), scores, 0.0)
  entropy = -(jnp.exp(scores) * finite).sum(-1)
  return TokenLogProbs(own, entropy)


def of_sampler(
  logits: Float[Array, "B T V"],
  targets: Int[Array, "B T"],
  sampler: controllers.Sampler,
) -> TokenLogProbs:
  """Log-probabilities under the law that a sampler draws from.

  Tokens are cut by the sampler's own controllers, under these logits, and the
  others made to sum to 1: for the parameters that sampled it is the law that
  was sampled from, and its gradient is that of this law, since what is cut
  does not change with a small step. Under other parameters the law cuts other
  tokens, and the ratio of both laws is what a sample of the one counts for the
  other. A target that would be cut is kept, so that its ratio, though small,
  is no 0: rounding may decide about the last token that is kept.

  Args:
    logits: at the place before each target, not yet divided.
    targets: token ids.
    sampler: how they were drawn; without a repetition penalty.

  Raises:
    ValueError: if the temperature is not positive, or there is a repetition
      penalty, whose law depends on all tokens before.
  """
  if sampler.repetition_penalty != 1:
    raise ValueError("log-probabilities know no repetition_penalty")
  cuts = sampler.top_k is not None or sampler.top_p < 1 or sampler.min_p > 0
  if cuts and sampler.temperature > 0:
    rows = jax.lax.stop_gradient(logits).reshape(-1, logits.shape[-1])
    controller = sampler.controller()
    bent = controller.apply(controller.init(rows.shape[0]), rows)
    ids = jax.lax.broadcasted_iota(targets.dtype, logits.shape, 2)
    kept = (bent > -jnp.inf).reshape(logits.shape) | (ids == targets[..., None])
    logits = jnp.where(kept, logits.astype(jnp.float32), -jnp.inf)
  return of_logits(logits, targets, sampler.temperature)


def of_model(
  model: transformer.Transformer,
  params: dict,
  tokens: Int[Array, "B T"],
  segments: Int[Array, "B T"],
  positions: Int[Array, "B T"],
  targets: Int[Array, "B T"],
  *,
  temperature: float = 1.0,
  chunk: int | None = None,
) -> TokenLogProbs:
  """Log-probabilities of the tokens that follow, by one forward pass.

  Args:
    model: the language model.
    params: its parameters.
    tokens: token ids.
    segments: as `packing.Packed` has them.
    positions: of each token in its own sequence.
    targets: the token that follows each.
    temperature: that logits are divided by.
    chunk: columns whose logits exist at once, forward and backward; None for
      all. They are computed again for the gradient: memory falls from B*T*V to
      B*chunk*V numbers, for one more product with the vocabulary.

  Raises:
    ValueError: if the temperature is not positive, or `chunk` is below 1.
  """
  if chunk is not None and chunk < 1:
    raise ValueError(f"chunk must be at least 1, got {chunk}")

  def score(hidden, following):
    logits = model.apply({"params": params}, hidden, method="logits")
    return of_logits(logits, following, temperature)

  hidden, _ = model.apply(
    {"params": params},
    tokens[:, None],
    positions[:, None],
    key_values.causal_mask(segments),
  )
  hidden = hidden[:, 0]
  if chunk is None:
    return score(hidden, targets)

  @jax.checkpoint
  def column(pair):
    found = score(pair[0][:, None], pair[1][:, None])
    return TokenLogProbs(*(x[:, 0] for x in found))

  columns = (hidden.swapaxes(0, 1), targets.T)
  found = jax.lax.map(column, columns, batch_size=chunk)
  return TokenLogProbs(*(x.T for x in found))
