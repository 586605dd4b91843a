# SPDX-License-Identifier: Apache-2.0
"""Next-token prediction of models of all widths at once.

The sandwich rule (Yu and Huang 2019, "Universally slimmable networks"): each
step trains the full width, the least, and what lies between, on one summed
gradient. The full width reads every row and teaches: its probabilities, with
their gradient stopped, are targets of the narrower widths beside the text's.
These read every row, too, or share the rows among them, which costs no more
than the full width and one narrower. In equal time, shared rows taught every
width more than the least width and one drawn by `lax.switch` on all rows; half
of distillation taught more than all of it.
"""

from collections.abc import Callable, Sequence
import functools

import jax
import jax.numpy as jnp
import optax

from jaxttc.models import attention_backend, nested_transformer, transformer
from jaxttc.models import config as config_lib
from jaxttc.training import cross_entropy, packing


def objective(
  config: config_lib.TransformerConfig,
  widths: Sequence[int | float],
  distillation: int | float,
  shared_rows: bool = True,
  dtype: jax.typing.DTypeLike = jnp.float32,
  remat: bool = False,
  backend: str = attention_backend.AUTO,
) -> Callable:
  """Weighted next-token cross-entropy, averaged over a menu of widths.

  Args:
    config: the whole model's sizes.
    widths: the menu, rising to 1.
    distillation: in [0, 1], how much of a narrower width's loss is the cross-
      entropy to the full width's probabilities in place of the text.
    shared_rows: whether each row is read by one of the narrower widths, in
      turn, or by all of them.
    dtype: as in `transformer.Transformer`.
    remat: likewise.
    backend: likewise.

  Returns:
    loss(params, batch, key) -> (f32[], metrics), with a `packing.Packed` of
    device arrays as batch; rows that are shared are at least as many as the
    narrower widths. Metrics: `loss` (nats a target token at full width),
    `accuracy` (share of target tokens that are its argmax), and for each
    narrower width `loss_<width>` (nats a target token of its rows).

  Raises:
    ValueError: if the menu or the share cannot be; from the loss, if there are
      too few rows.
  """
  nested_transformer.check_widths(widths)
  if not 0 <= distillation <= 1:
    raise ValueError(f"distillation must be in [0, 1], got {distillation}")
  make = functools.partial(
    transformer.Transformer,
    dtype=jnp.dtype(dtype),
    remat=remat,
    backend=backend,
  )
  full = make(config)
  slim = [
    (width, nested_transformer.narrowed(config, width)) for width in widths[:-1]
  ]
  turns = len(slim) if shared_rows else 1

  def loss(params, batch: packing.Packed, key: jax.Array):
    del key
    rows = batch.tokens.shape[0]
    if rows < turns:
      raise ValueError(
        f"train.batch_size={rows} must be at least {turns}: a row for each "
        "width below 1"
      )
    logits = _logits(full, params, batch)
    nats, total = _nats(logits, batch)
    right = cross_entropy.likeliest(logits, batch.targets) * batch.weights
    metrics = {"loss": nats, "accuracy": right.sum() / total}
    taught = jax.lax.stop_gradient(jax.nn.softmax(logits))
    losses = [nats]
    for i, (width, small) in enumerate(slim):
      read = slice(i % turns, None, turns)
      own = jax.tree.map(lambda x, read=read: x[read], batch)
      logits = _logits(
        make(small),
        nested_transformer.narrow(params, config, small),
        own,
      )
      nats, total = _nats(logits, own)
      soft = optax.softmax_cross_entropy(logits, taught[read])
      copied = (soft * own.weights).sum() / total
      losses.append((1 - distillation) * nats + distillation * copied)
      metrics[f"loss_{width:g}"] = nats
    return jnp.stack(losses).mean(), metrics

  return loss


def _logits(model, params, batch):
  return transformer.forward(
    model, params, batch.tokens, batch.segments, batch.positions
  )


def _nats(logits, batch):
  """Mean cross-entropy of the batch's targets, and their total weight."""
  nats = cross_entropy.nats(logits, batch.targets)
  total = jnp.maximum(batch.weights.sum(), 1e-6)
  return (nats * batch.weights).sum() / total, total
