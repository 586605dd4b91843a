# SPDX-License-Identifier: Apache-2.0
"""Tests of the metrics' table: merging, scores, gains over single tasks."""

import functools
import math

import hypothesis
from hypothesis import strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxttc.evaluation import accumulators, dense_metrics
from jaxttc.tasks.multitask import base

OUTPUTS = {"classes": 4, "regression": 3, "segmentation": 4, "normals": 3}
TASKS = {k: base.Task("it", k, OUTPUTS.get(k, 1)) for k in base.KINDS}
BATCH, SIZE = 6, 5


def drawn(kind, seed=0):
  """A prediction and labels of a kind; the last image has none."""
  rng = np.random.default_rng(seed)
  task = TASKS[kind]
  places = (BATCH, SIZE, SIZE) if task.dense else (BATCH,)
  prediction = rng.normal(size=(*places, task.outputs)).astype(np.float32)
  if kind in ("classes", "segmentation"):
    value = rng.integers(0, task.outputs, places).astype(np.int32)
  elif kind in ("edges", "saliency"):
    value = (rng.random((*places, 1)) < 0.3).astype(np.float32)
  else:
    value = rng.uniform(0.5, 2, prediction.shape).astype(np.float32)
  valid = rng.random(places) < 0.7
  valid[-1] = False
  return task, jnp.asarray(prediction), base.Label(value, valid)


@functools.partial(jax.jit, static_argnums=0)
def updated(task, state, prediction, label):
  return dense_metrics.update(task, state, prediction, label)


def seen(task, prediction, label, rows):
  """The state after the given rows, the others not valid."""
  valid = label.valid & np.isin(np.arange(BATCH), rows).reshape(
    -1, *[1] * (label.valid.ndim - 1)
  )
  label = base.Label(label.value, valid)
  return updated(task, dense_metrics.zeros(task), prediction, label)


@pytest.mark.parametrize("kind", base.KINDS)
@hypothesis.settings(max_examples=10)
@hypothesis.given(
  st.integers(0, 99), st.lists(st.booleans(), min_size=BATCH, max_size=BATCH)
)
def test_two_states_merge_to_one_pass(kind, seed, side):
  task, prediction, label = drawn(kind, seed)
  left, right = np.flatnonzero(side), np.flatnonzero(np.logical_not(side))
  whole = dense_metrics.summary(
    task, seen(task, prediction, label, np.arange(BATCH))
  )
  parts = [seen(task, prediction, label, rows) for rows in (left, right)]
  merged = dense_metrics.summary(task, accumulators.merge(*parts))
  assert merged == pytest.approx(whole, rel=1e-5, abs=1e-6)
  one = seen(task, prediction, label, left)
  other = base.Label(
    label.value,
    label.valid & ~np.asarray(side).reshape(-1, *[1] * (label.valid.ndim - 1)),
  )
  after = dense_metrics.summary(task, updated(task, one, prediction, other))
  assert after == pytest.approx(whole, rel=1e-5, abs=1e-6)


@pytest.mark.parametrize("kind", base.KINDS)
def test_nothing_valid_has_no_result(kind):
  task, prediction, label = drawn(kind)
  state = seen(task, prediction, label, [])
  assert dense_metrics.summary(task, state) == {}
  assert dense_metrics.score(task, state) == 0
  for value in dense_metrics.result(task, state).values():
    assert value == 0


def perfect(task, label):
  """The prediction that the labels ask for."""
  if task.kind in ("classes", "segmentation"):
    return 9.0 * jax.nn.one_hot(label.value, task.outputs)
  if task.kind in ("edges", "saliency"):
    return 20.0 * jnp.asarray(label.value) - 10.0
  return jnp.asarray(label.value)


@pytest.mark.parametrize("kind", base.KINDS)
def test_the_score_is_one_for_the_labels_and_less_for_others(kind):
  task, prediction, label = drawn(kind)
  metric = dense_metrics.METRICS[kind]
  rows = np.arange(BATCH)
  best = seen(task, perfect(task, label), label, rows)
  other = seen(task, prediction, label, rows)
  headlines = [
    dense_metrics.summary(task, state)[metric.headline]
    for state in (best, other)
  ]
  assert (headlines[0] < headlines[1]) == metric.lower_better
  assert dense_metrics.score(task, best) == pytest.approx(1.0, abs=1e-6)
  assert 0 <= dense_metrics.score(task, other) < 1


@pytest.mark.parametrize("kind", base.KINDS)
def test_scores_are_bounded_and_fall_with_errors(kind):
  metric = dense_metrics.METRICS[kind]
  values = jnp.linspace(0.0, 180.0 if metric.lower_better else 1.0, 50)
  scores = np.asarray(jax.vmap(metric.score)(values))
  assert scores.min() >= 0
  assert scores.max() <= 1
  change = np.diff(scores)
  assert (change <= 0).all() if metric.lower_better else (change >= 0).all()


@pytest.mark.parametrize("kind", ["segmentation", "normals", "saliency"])
def test_metrics_work_under_vmap(kind):
  task, prediction, label = drawn(kind)
  both = jnp.stack([prediction, perfect(task, label)])

  def scores(prediction):
    state = dense_metrics.update(
      task, dense_metrics.zeros(task), prediction, label
    )
    return dense_metrics.score(task, state)

  together = jax.jit(jax.vmap(scores))(both)
  np.testing.assert_allclose(together, [scores(p) for p in both], rtol=1e-5)


def test_updates_check_shapes():
  task, prediction, label = drawn("depth")
  state = dense_metrics.zeros(task)
  with pytest.raises(ValueError, match=r"task 'it'.*\(6, 5\), expected \[B, H"):
    dense_metrics.update(task, state, prediction[..., 0, 0], label)


def test_delta_mtl_of_a_hand_case():
  found = dense_metrics.delta_mtl(
    {"seg": 0.5, "depth": 0.6},
    {"seg": 0.4, "depth": 0.5},
    {"seg": False, "depth": True},
  )
  assert found == pytest.approx(100 * (0.25 - 0.2) / 2)


@pytest.mark.parametrize(
  ("values", "single", "lower", "said"),
  [
    ({}, {}, {}, "there are no tasks"),
    ({"a": 1.0}, {"b": 1.0}, {"a": True}, "name a, but single-task values b"),
    ({"a": 1.0}, {"a": 1.0}, {}, "but directions nothing"),
    ({"a": 1.0}, {"a": 0.0}, {"a": True}, "task 'a' has 1.0 against 0.0"),
    ({"a": math.nan}, {"a": 1.0}, {"a": True}, "task 'a' has nan"),
  ],
)
def test_delta_mtl_refuses(values, single, lower, said):
  with pytest.raises(ValueError, match=said):
    dense_metrics.delta_mtl(values, single, lower)
