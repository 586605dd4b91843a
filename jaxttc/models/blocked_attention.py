# SPDX-License-Identifier: Apache-2.0
"""Causal attention, a block of queries at a time, with its own gradient.

For training on a CPU, where XLA writes every score to memory. A block meets the
keys up to its end only, so little more than half of the scores are computed.
The gradient is written out, for two reasons. Of the several arrays of scores
that JAX would keep, one is enough: the exponentials e. With row sums z and
the output o = e v / z,

  dv = e' (do / z),  ds = e (do v' - do o') / z,  dq = ds k,  dk = ds' q,

where do o' is a number a query, found from the output (Dao et al. 2022,
"FlashAttention", section 3.1 and appendix B). And XLA's products for CPU want
the summed axis last on the left and last but one on the right; another order
copies the operand first. Here only queries, keys and values are ever turned,
never scores.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

_BLOCK = 64  # queries; the fastest of 64, 96, 128 and 192 at 384 tokens
_MASKED = -1e30  # finite, so that no difference of scores is NaN


@jax.custom_vjp
def attend(
  q: Float[Array, "G R T K Q E"],
  k: Float[Array, "G R T K E"],
  v: Float[Array, "G R T K E"],
  mask: Bool[Array, "#G #R T T"],
) -> Float[Array, "G R T K Q E"]:
  """Attention of tokens among themselves.

  Args:
    q: queries, scaled already; those of a key-value head together.
    k: keys.
    v: values.
    mask: which keys each token sees: itself, and none that comes after it.

  Returns:
    Means of values, weighted by the softmax of scores. Scores are of the
    inputs' dtype, their exponentials and sums float32.
  """
  return _forward(q, k, v, mask)[0]


def _forward(q, k, v, mask):
  dtype, tokens = v.dtype, q.shape[2]
  q, v = q.transpose(0, 1, 3, 2, 4, 5), v.swapaxes(2, 3)
  # Held, or each product would turn its part anew.
  q, k_t, v = _held((q, k.transpose(0, 1, 3, 4, 2), v))
  mask = mask[:, :, None, :, None]
  mixed, weights, parts = [], [], []
  for start, stop in _blocks(tokens):
    scores = jnp.einsum(
      "grktqe,grkes->grktqs", q[:, :, :, start:stop], k_t[..., :stop]
    ).astype(jnp.float32)
    seen = mask[:, :, :, start:stop, :, :stop]
    scores = jnp.where(seen, scores, _MASKED)
    weight = jnp.exp(scores - scores.max(-1, keepdims=True))
    part = 1 / weight.sum(-1, keepdims=True)
    weight = _held(weight.astype(dtype))
    out = jnp.einsum("grktqs,grkse->grktqe", weight, v[:, :, :, :stop])
    mixed.append((out * part).astype(dtype))
    weights.append(weight)
    parts.append(part)
  mixed = jnp.concatenate(mixed, axis=3).transpose(0, 1, 3, 2, 4, 5)
  part = jnp.concatenate(parts, axis=3)
  return mixed, (q, k_t, v, weights, part, mixed)


def _backward(kept, d_mixed):
  q, k_t, v, weights, part, mixed = kept
  dtype = v.dtype
  turned = lambda x: x.transpose(0, 1, 3, 2, 4, 5)  # noqa: E731
  # A product with ones: XLA for CPU is slow at sums over short rows.
  ones = jnp.ones((v.shape[-1], 1), jnp.float32)
  shift = d_mixed.astype(jnp.float32) * mixed
  shift = jnp.matmul(shift, ones, precision="highest")
  shift = turned(shift) * part
  d_out = (turned(d_mixed) * part).astype(dtype)
  k, v_t = k_t.swapaxes(-1, -2), v.swapaxes(-1, -2)
  d_out, shift, k, v_t = _held((d_out, shift, k, v_t))
  d_q, d_k_t, d_v_t = [], [], []
  for weight, (start, stop) in zip(weights, _blocks(q.shape[3]), strict=True):
    block = d_out[:, :, :, start:stop]
    d_weight = jnp.einsum("grktqe,grkes->grktqs", block, v_t[..., :stop])
    d_score = weight * (d_weight - shift[:, :, :, start:stop])
    d_score = _held(d_score.astype(dtype))
    d_q.append(jnp.einsum("grktqs,grkse->grktqe", d_score, k[:, :, :, :stop]))
    d_k_t.append(
      jnp.einsum("grktqe,grktqs->grkes", q[:, :, :, start:stop], d_score)
    )
    d_v_t.append(jnp.einsum("grktqe,grktqs->grkes", block, weight))
  d_q = turned(jnp.concatenate(d_q, axis=3))
  return d_q, _total(d_k_t), _total(d_v_t), None


attend.defvjp(_forward, _backward)


def _blocks(tokens):
  """(start, stop) of each block of queries."""
  return [
    (start, min(start + _BLOCK, tokens)) for start in range(0, tokens, _BLOCK)
  ]


def _total(parts):
  """Sums [G, R, K, E, stop] of all blocks as [G, R, T, K, E].

  Block i has part in the keys up to its end. The sums are taken a block of
  keys at a time, so that none is padded.
  """
  sums = []
  for i, (start, stop) in enumerate(_blocks(parts[-1].shape[-1])):
    first, *others = (part[..., start:stop] for part in parts[i:])
    sums.append(sum(others, first))
  return jnp.concatenate(sums, axis=-1).transpose(0, 1, 4, 2, 3)


def _held(x):
  """Arrays that are computed once, not anew in each that reads them."""
  return jax.lax.optimization_barrier(x)
