# SPDX-License-Identifier: Apache-2.0
"""The gradient of a large batch, from one small part of it at a time.

A mean over the targets of a batch is no mean of its parts' means: parts have
unlike numbers of targets. So an objective that is to be accumulated says in its
metrics, under `WEIGHT`, what its loss is a mean over, and each part counts by
that: the sum over all parts of (loss x weight), divided by the sum of weights,
is the loss of the whole batch.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

WEIGHT = "weight"
"""Metric f32[]: targets, sequences or rows that a loss is the mean over."""


def gradients(
  objective: Callable[[Any, Any, jax.Array], tuple[jax.Array, dict]],
  parts: int = 1,
) -> Callable[[Any, Any, jax.Array], tuple[Any, dict]]:
  """Gradients of a batch as those of `parts` parts, one after the other.

  Only one part's activations are held at a time. Part i has rows i, i +
  parts, ..: those that a mesh spreads over its devices stay where they are. It
  is given `fold_in(key, i)`, so noise is drawn for each part.

  Args:
    objective: loss(params, batch, key) -> (f32[], metrics of f32[]); metrics
      hold `WEIGHT` if there is more than one part.
    parts: how many; 1 takes the whole batch, with the key as it is.

  Returns:
    (params, batch, key) -> (gradients, metrics). Metrics are means over parts,
    by weight, without the weight itself. It raises ValueError, when traced, if
    the rows of the batch are no multiple of `parts`, or `WEIGHT` is missing.
  """
  descend = jax.grad(objective, has_aux=True)

  def weighed(params, batch, key):
    grads, metrics = descend(params, batch, key)
    weight = metrics.get(WEIGHT)
    if weight is None and parts > 1:
      raise ValueError(
        f"train.accumulate={parts}: the objective's metrics have no "
        f"{WEIGHT!r}, which says what its loss is a mean over"
      )
    return (grads, {k: v for k, v in metrics.items() if k != WEIGHT}), weight

  if parts == 1:
    return lambda params, batch, key: weighed(params, batch, key)[0]

  def accumulated(params, batch, key):
    batch = jax.tree.map(lambda x: _split(x, parts), batch)
    rows = jax.tree.map(lambda x: x[0], batch)
    found, _ = jax.eval_shape(weighed, params, rows, key)
    start = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), found)

    def add(carry, part):
      sums, total = carry
      index, rows = part
      found, weight = weighed(params, rows, jax.random.fold_in(key, index))
      sums = jax.tree.map(
        lambda s, x: s + (x * weight).astype(s.dtype), sums, found
      )
      return (sums, total + weight), None

    (sums, total), _ = jax.lax.scan(
      add, (start, jnp.float32(0)), (jnp.arange(parts), batch)
    )
    total = jnp.maximum(total, 1e-6)
    return jax.tree.map(lambda s: (s / total).astype(s.dtype), sums)

  return accumulated


def _split(x, parts):
  rows = x.shape[0]
  if rows % parts:
    raise ValueError(
      f"a batch of {rows} rows cannot be split into train.accumulate={parts} "
      "parts; expected a multiple"
    )
  return x.reshape(rows // parts, parts, *x.shape[1:]).swapaxes(0, 1)
