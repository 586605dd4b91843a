# SPDX-License-Identifier: Apache-2.0
"""Counts of right and wrong classes, edges and masks, over batches.

For classification, segmentation, edges and saliency; `dense_metrics` has their
table.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int
import numpy as np

from jaxttc.evaluation import accumulators
from jaxttc.tasks.multitask import base

Results = dict[str, Array]

EDGE_THRESHOLDS = np.arange(1, 100) / 100
SALIENCY_THRESHOLDS = np.linspace(0.2, 0.9, 15)


class Confusion(NamedTuple):
  """Counts of (label, prediction): WideCount[C, C]."""

  counts: accumulators.WideCount


class Levels(NamedTuple):
  """Places by label (0, 1) and by thresholds passed: WideCount[2, T + 1]."""

  counts: accumulators.WideCount


class Masks(NamedTuple):
  """Sums over images of IoU, precision and recall f32[3, T] of thresholds."""

  count: accumulators.WideCount
  sums: accumulators.WideSum


def no_confusion(task: base.Task) -> Confusion:
  """`zeros` of classes and segmentation."""
  return Confusion(accumulators.no_count((task.outputs, task.outputs)))


def add_classes(
  state: Confusion, prediction: Array, label: base.Label
) -> Confusion:
  """`update` of classes and segmentation; of equal logits the first wins."""
  classes = prediction.shape[-1]
  known = label.valid & (label.value >= 0) & (label.value < classes)
  pair = label.value * classes + jnp.argmax(prediction, -1)
  counts = accumulators.histogram(pair, known, classes**2).reshape(
    classes, classes
  )
  return Confusion(accumulators.count(state.counts, counts))


def accuracy(state: Confusion) -> Results:
  """`result` of classes: the share that is right."""
  counts = accumulators.number(state.counts)
  total = counts.sum()
  return {
    "accuracy": accumulators.share(jnp.trace(counts), total),
    "count": total,
  }


def segmentation_results(state: Confusion) -> Results:
  """Mean IoU over the classes that occur in labels or predictions."""
  counts = accumulators.number(state.counts)
  both = jnp.diagonal(counts)
  either = counts.sum(0) + counts.sum(1) - both
  present = (either > 0).sum().astype(jnp.float32)
  total = counts.sum()
  return {
    "miou": accumulators.share(accumulators.share(both, either).sum(), present),
    "pixel_accuracy": accumulators.share(both.sum(), total),
    "count": total,
  }


def no_levels(task: base.Task) -> Levels:
  """`zeros` of edges."""
  del task
  return Levels(accumulators.no_count((2, len(EDGE_THRESHOLDS) + 1)))


def _passed(logits: Array, thresholds: np.ndarray) -> Int[Array, "..."]:
  """How many of the rising thresholds a probability is above."""
  limits = jnp.asarray(thresholds, jnp.float32)
  return jnp.searchsorted(limits, jax.nn.sigmoid(logits), side="left")


def add_edges(state: Levels, prediction: Array, label: base.Label) -> Levels:
  """`update` of edges, from logits [B, H, W, 1]."""
  levels = len(EDGE_THRESHOLDS) + 1
  passed = _passed(prediction[..., 0], EDGE_THRESHOLDS)
  ones = (label.value[..., 0] >= 0.5).astype(jnp.int32)
  counts = accumulators.histogram(
    ones * levels + passed, label.valid, 2 * levels
  )
  return Levels(accumulators.count(state.counts, counts.reshape(2, levels)))


def edge_results(state: Levels) -> Results:
  """The best F of one threshold, 2 TP / (2 TP + FP + FN), over all pixels."""
  counts = accumulators.number(state.counts)
  above = _above(counts)
  hits, predicted, true = above[1], above.sum(0), counts[1].sum()
  return {
    "max_f": accumulators.share(2 * hits, predicted + true).max(),
    "count": counts.sum(),
  }


def _above(counts: Float[Array, "*N levels"]) -> Float[Array, "*N thresholds"]:
  """How many places are above each threshold."""
  return jnp.cumsum(counts[..., ::-1], -1)[..., -2::-1]


def no_masks(task: base.Task) -> Masks:
  """`zeros` of saliency."""
  del task
  sums = accumulators.no_sum((3, len(SALIENCY_THRESHOLDS)))
  return Masks(accumulators.no_count(), sums)


def add_masks(state: Masks, prediction: Array, label: base.Label) -> Masks:
  """`update` of saliency; an image without a valid pixel is left out."""
  levels = len(SALIENCY_THRESHOLDS) + 1
  passed = _passed(prediction[..., 0], SALIENCY_THRESHOLDS)
  ones = (label.value[..., 0] >= 0.5).astype(jnp.int32)
  images = jax.vmap(
    lambda bins, valid: accumulators.histogram(bins, valid, 2 * levels)
  )
  counts = images(ones * levels + passed, label.valid).astype(jnp.float32)
  counts = counts.reshape(-1, 2, levels)
  hits, predicted = _above(counts[:, 1]), _above(counts.sum(1))
  true = jnp.broadcast_to(counts[:, 1].sum(-1, keepdims=True), hits.shape)
  measures = jnp.stack(
    [
      _overlap(hits, predicted + true - hits),
      # Finding nothing is precise only if there is nothing to find.
      jnp.where(predicted > 0, accumulators.share(hits, predicted), true == 0),
      _overlap(hits, true),
    ],
    axis=1,
  )
  seen = label.valid.any(axis=(1, 2))
  sums = jnp.where(seen[:, None, None], measures, 0.0).sum(0)
  return Masks(
    accumulators.count(state.count, seen.sum()),
    accumulators.add(state.sums, sums),
  )


def _overlap(part: Array, whole: Array) -> Array:
  """part / whole, 1 where the whole is empty."""
  return jnp.where(whole > 0, accumulators.share(part, whole), 1.0)


def mask_results(state: Masks) -> Results:
  """The best thresholds of mean IoU, and of F of mean precision and recall."""
  total = accumulators.number(state.count)
  means = accumulators.share(accumulators.number(state.sums), total)
  overlap, precision, recall = means
  f = accumulators.share(2 * precision * recall, precision + recall)
  return {"max_f": f.max(), "max_miou": overlap.max(), "count": total}
