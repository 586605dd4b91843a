# SPDX-License-Identifier: Apache-2.0
"""Cross-entropy of target tokens, and whether they were the likeliest."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int


@jax.custom_vjp
def nats(
  logits: Float[Array, "*B V"], targets: Int[Array, "*B"]
) -> Float[Array, "*B"]:
  """-log softmax(logits) at the targets, in float32.

  Its gradient, softmax - target, is taken in one pass over the logits. JAX's
  own puts the target's part into zeros of the logits' size, and adds that.

  Args:
    logits: finite, one a token of the vocabulary.
    targets: token ids.
  """
  return _forward(logits, targets)[0]


def _forward(logits, targets):
  scores = logits.astype(jnp.float32)
  most = scores.max(-1, keepdims=True)
  total = most + jnp.log(jnp.exp(scores - most).sum(-1, keepdims=True))
  own = jnp.take_along_axis(scores, targets[..., None], axis=-1)
  return (total - own)[..., 0], (logits, targets, total)


def _backward(kept, d_nats):
  logits, targets, total = kept
  d_nats = d_nats[..., None]
  d_logits = jnp.exp(logits.astype(jnp.float32) - total) * d_nats
  d_logits = jnp.where(_is(targets, logits), d_logits - d_nats, d_logits)
  return d_logits.astype(logits.dtype), None


nats.defvjp(_forward, _backward)


def likeliest(
  logits: Float[Array, "*B V"], targets: Int[Array, "*B"]
) -> Bool[Array, "*B"]:
  """Whether each target is the argmax, the first one if there are several.

  XLA for CPU finds an argmax one number at a time; this compares many at once.
  """
  logits = jax.lax.stop_gradient(logits)
  own = jnp.take_along_axis(logits, targets[..., None], axis=-1)
  ids = jax.lax.broadcasted_iota(jnp.int32, logits.shape, logits.ndim - 1)
  better = (logits > own) | ((logits == own) & (ids < targets[..., None]))
  return ~better.any(-1)


def _is(targets, logits):
  ids = jax.lax.broadcasted_iota(jnp.int32, logits.shape, logits.ndim - 1)
  return ids == targets[..., None]
