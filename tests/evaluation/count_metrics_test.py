# SPDX-License-Identifier: Apache-2.0
"""Tests of metrics of classes, edges and masks against loops."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxttc.evaluation import count_metrics, dense_metrics
from jaxttc.tasks.multitask import base

updated = jax.jit(dense_metrics.update, static_argnums=0)


def summary(kind, outputs, prediction, value, valid):
  task = base.Task("it", kind, outputs)
  state = updated(
    task,
    dense_metrics.zeros(task),
    jnp.asarray(prediction, jnp.float32),
    base.Label(value, valid),
  )
  return dense_metrics.summary(task, state)


def logit(p):
  return np.log(p / (1 - p))


def test_accuracy_counts_valid_examples():
  found = summary(
    "classes",
    3,
    np.eye(3)[[0, 1, 2, 2]],
    np.array([0, 1, 1, 255]),
    np.array([True, True, True, False]),
  )
  assert found == {"accuracy": pytest.approx(2 / 3)}


def test_iou_agrees_with_a_loop_over_classes():
  rng = np.random.default_rng(0)
  classes = 7
  prediction = rng.normal(size=(3, 8, 8, classes))
  prediction[..., 5:] -= 100  # never predicted
  value = rng.choice([0, 1, 2, 3, 5], (3, 8, 8))  # 4 and 6 are never true
  valid = rng.random((3, 8, 8)) < 0.8
  found = summary("segmentation", classes, prediction, value, valid)
  guess, truth = prediction.argmax(-1)[valid], value[valid]
  ious = []
  for c in range(classes):
    either = ((guess == c) | (truth == c)).sum()
    if either:
      ious.append(((guess == c) & (truth == c)).sum() / either)
  assert len(ious) == 6  # class 6 occurs nowhere, and is left out
  assert found["miou"] == pytest.approx(np.mean(ious), rel=1e-6)
  assert found["pixel_accuracy"] == pytest.approx((guess == truth).mean())


def test_absent_classes_do_not_lower_the_mean():
  labels = np.zeros((1, 2, 2), np.int32)
  prediction = np.zeros((1, 2, 2, 40))
  prediction[..., 0] = 1
  found = summary("segmentation", 40, prediction, labels, labels == 0)
  assert found == {"miou": 1.0, "pixel_accuracy": 1.0}


def test_ids_that_no_class_has_count_for_nothing():
  prediction = np.eye(3)[[0, 1, 2, 0]]
  found = summary(
    "classes", 3, prediction, np.array([0, -1, 3, 1]), np.ones(4, bool)
  )
  assert found == {"accuracy": 0.5}


def f_score(hits, predicted, true):
  return 2 * hits / (predicted + true) if predicted + true else 0.0


def test_edge_f_agrees_with_a_loop_over_thresholds():
  rng = np.random.default_rng(1)
  p = rng.uniform(0.003, 0.997, (2, 6, 6, 1))
  p[0, 0, 0] = 0.5  # on a threshold, up to rounding
  value = (rng.random(p.shape) < 0.4 * p + 0.1).astype(np.float32)
  valid = rng.random((2, 6, 6)) < 0.8
  found = summary("edges", 1, logit(p), value, valid)
  guess, truth = p[valid][:, 0], value[valid][:, 0] == 1
  best = max(
    f_score((truth & (guess > t)).sum(), (guess > t).sum(), truth.sum())
    for t in count_metrics.EDGE_THRESHOLDS
  )
  assert found == {"max_f": pytest.approx(best, rel=1e-5)}


def test_saliency_agrees_with_a_loop_over_images_and_thresholds():
  rng = np.random.default_rng(2)
  p = rng.uniform(0.01, 0.99, (5, 6, 6, 1))
  value = (rng.random(p.shape) < p).astype(np.float32)
  value[1] = 0  # nothing salient
  p[2] = 0.05  # nothing found
  valid = rng.random((5, 6, 6)) < 0.8
  valid[3] = False
  found = summary("saliency", 1, logit(p), value, valid)
  overlaps, fs = [], []
  for t in count_metrics.SALIENCY_THRESHOLDS:
    rows = []
    for i in (0, 1, 2, 4):
      guess, truth = p[i, ..., 0][valid[i]] > t, value[i, ..., 0][valid[i]] == 1
      hits = (guess & truth).sum()
      either = (guess | truth).sum()
      rows.append(
        (
          hits / either if either else 1.0,
          hits / guess.sum() if guess.any() else float(not truth.any()),
          hits / truth.sum() if truth.any() else 1.0,
        )
      )
    overlap, precision, recall = np.mean(rows, axis=0)
    overlaps.append(overlap)
    fs.append(2 * precision * recall / (precision + recall))
  assert found["max_miou"] == pytest.approx(max(overlaps), rel=1e-5)
  assert found["max_f"] == pytest.approx(max(fs), rel=1e-5)


def test_there_are_fifteen_thresholds_of_saliency_and_99_of_edges():
  np.testing.assert_allclose(np.diff(count_metrics.SALIENCY_THRESHOLDS), 0.05)
  assert len(count_metrics.SALIENCY_THRESHOLDS) == 15
  assert len(count_metrics.EDGE_THRESHOLDS) == 99
