# SPDX-License-Identifier: Apache-2.0
"""Causal attention, a row and a block of queries at a time, with its gradient.

For training on a CPU, where XLA writes every score to memory. The scores of one
row's block fit into a core's cache, and a block meets the keys up to its end
only, so little more than half of them are computed. None are kept: from each
query's log-sum-exp l the gradient computes its weights p anew,

  p = exp(s - l),  dv = p' do,  ds = p (do v' - do o'),  dq = ds k,  dk = ds' q,

where do o' is a number a query, found from the output (Dao et al. 2022,
"FlashAttention", section 3.1 and appendix B). XLA's products for CPU want the
summed axis last on the left and last but one on the right; another order copies
the operand first. Here only queries, keys and values are ever turned, never
scores.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

_BLOCK = 128  # queries; the fastest of 64, 96, 128, 192 and 384 at 384 tokens
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
  mask = jnp.broadcast_to(mask, (*q.shape[:2], *mask.shape[2:]))
  mixed, log_sums = _over_rows(_row, q, k, v, mask)
  return mixed, (q, k, v, mask, mixed, log_sums)


def _backward(kept, d_mixed):
  return *_over_rows(_row_gradient, *kept, d_mixed), None


attend.defvjp(_forward, _backward)


def _over_rows(fn: Callable[..., Any], *arrays: jax.Array) -> Any:
  """Calls `fn` on every row of arrays [G, R, ...].

  One after the other on one device. Rows that several devices may share have
  to stay one array, or each device would be sent all of them.
  """
  if jax.device_count() > 1:
    return jax.vmap(jax.vmap(fn))(*arrays)
  groups, rows = arrays[0].shape[:2]
  flat = [x.reshape(groups * rows, *x.shape[2:]) for x in arrays]
  out = jax.lax.map(lambda row: fn(*row), flat)
  return jax.tree.map(lambda x: x.reshape(groups, rows, *x.shape[1:]), out)


def _row(q, k, v, mask):
  """([T, K, Q, E], [T, K, E] twice, [T, T]) -> ([T, K, Q, E], [K, T, Q, 1])."""
  q, k_t, v = _held((q.swapaxes(0, 1), k.transpose(1, 2, 0), v.swapaxes(0, 1)))
  mixed, log_sums = [], []
  for start, stop in _blocks(len(mask)):
    scores = _scores(q, k_t, mask, start, stop)
    most = scores.max(-1, keepdims=True)
    weight = jnp.exp(scores - most)
    total = weight.sum(-1, keepdims=True)
    weight = _held(weight.astype(v.dtype))
    out = jnp.einsum("ktqs,kse->ktqe", weight, v[:, :stop])
    mixed.append((out / total).astype(v.dtype))
    log_sums.append(most + jnp.log(total))
  mixed = jnp.concatenate(mixed, axis=1).swapaxes(0, 1)
  return mixed, jnp.concatenate(log_sums, axis=1)


def _row_gradient(q, k, v, mask, mixed, log_sums, d_mixed):
  """What `_row` took and gave, and d_mixed [T, K, Q, E] -> dq, dk, dv."""
  dtype = v.dtype
  # A product with ones: XLA for CPU is slow at sums over short rows.
  ones = jnp.ones((v.shape[-1], 1), jnp.float32)
  shift = d_mixed.astype(jnp.float32) * mixed
  shift = jnp.matmul(shift, ones, precision="highest").swapaxes(0, 1)
  q, k, d_mixed = (x.swapaxes(0, 1) for x in (q, k, d_mixed))
  k_t, v_t = k.swapaxes(1, 2), v.transpose(1, 2, 0)
  q, k, k_t, v_t, d_mixed, shift = _held((q, k, k_t, v_t, d_mixed, shift))
  d_q, d_k_t, d_v_t = [], [], []
  for start, stop in _blocks(len(mask)):
    scores = _scores(q, k_t, mask, start, stop)
    weight = jnp.exp(scores - log_sums[:, start:stop])
    block = d_mixed[:, start:stop]
    d_weight = jnp.einsum("ktqe,kes->ktqs", block, v_t[..., :stop])
    d_score = weight * (d_weight - shift[:, start:stop])
    weight, d_score = _held((weight.astype(dtype), d_score.astype(dtype)))
    d_q.append(jnp.einsum("ktqs,kse->ktqe", d_score, k[:, :stop]))
    d_k_t.append(jnp.einsum("ktqe,ktqs->kes", q[:, start:stop], d_score))
    d_v_t.append(jnp.einsum("ktqe,ktqs->kes", block, weight))
  d_q = jnp.concatenate(d_q, axis=1).swapaxes(0, 1)
  return d_q, _total(d_k_t), _total(d_v_t)


def _scores(q, k_t, mask, start, stop):
  """Scores [K, start:stop, Q, :stop], float32."""
  scores = jnp.einsum("ktqe,kes->ktqs", q[:, start:stop], k_t[..., :stop])
  seen = mask[None, start:stop, None, :stop]
  return jnp.where(seen, scores.astype(jnp.float32), _MASKED)


def _blocks(tokens):
  """(start, stop) of each block of queries."""
  return [
    (start, min(start + _BLOCK, tokens)) for start in range(0, tokens, _BLOCK)
  ]


def _total(parts):
  """Sums [K, E, stop] of all blocks as [T, K, E].

  Block i has part in the keys up to its end. The sums are taken a block of
  keys at a time, so that none is padded.
  """
  sums = []
  for i, (start, stop) in enumerate(_blocks(parts[-1].shape[-1])):
    first, *others = (part[..., start:stop] for part in parts[i:])
    sums.append(sum(others, first))
  return jnp.concatenate(sums, axis=-1).transpose(2, 0, 1)


def _held(x):
  """Arrays that are computed once, not anew in each that reads them."""
  return jax.lax.optimization_barrier(x)
