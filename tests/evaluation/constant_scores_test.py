# SPDX-License-Identifier: Apache-2.0
"""Chance, against its closed forms and against other constants."""

import jax.numpy as jnp
import numpy as np
import pytest

from jaxttc.evaluation import constant_scores, width_scores
from jaxttc.tasks.multitask import base

TASKS = (
  base.Task("classes", "classes", 4),
  base.Task("segmentation", "segmentation", 4),
  base.Task("regression", "regression", 2),
  base.Task("depth", "depth", 1),
  base.Task("normals", "normals", 3),
  base.Task("edges", "edges", 1),
  base.Task("saliency", "saliency", 1),
)
IMAGES, SIDE = 12, 5


@pytest.fixture(scope="module")
def labels():
  """Uneven labels; some places are not valid, and hold nonsense."""
  rng = np.random.default_rng(0)
  found = {}
  for task in TASKS:
    places = (IMAGES, SIDE, SIDE) if task.dense else (IMAGES,)
    valid = rng.random(places) < 0.7
    if task.kind in ("classes", "segmentation"):
      # Class 3 never occurs, so that it is none of the mean's.
      value = rng.choice(3, places, p=(0.2, 0.5, 0.3)).astype(np.int32)
      value[~valid] = 3
    elif task.kind in ("edges", "saliency"):
      value = (rng.random((*places, 1)) < 0.3).astype(np.float32)
      value[~valid] = 1
    else:
      value = rng.normal(size=(*places, task.outputs), loc=2, scale=0.5)
      value[~valid] = -9
      value = value.astype(np.float32)
    found[task.name] = base.Label(jnp.asarray(value), jnp.asarray(valid))
  return found


@pytest.fixture(scope="module")
def chance(labels):
  found = constant_scores.scores(TASKS, labels)
  return {task.name: x for task, x in zip(TASKS, found, strict=True)}


def _kept(label):
  return np.asarray(label.value)[np.asarray(label.valid)]


def test_closed_forms(labels, chance):
  for name, classes in (("classes", 1), ("segmentation", 3)):
    share = np.bincount(_kept(labels[name])).max() / len(_kept(labels[name]))
    assert chance[name] == pytest.approx(share / classes)
  variance = _kept(labels["regression"]).var(0).mean()
  assert chance["regression"] == pytest.approx(1 - variance, abs=1e-5)
  spread = _kept(labels["depth"]).std()
  assert chance["depth"] == pytest.approx(1 / (1 + spread), abs=1e-5)
  share = _kept(labels["edges"]).mean()
  assert chance["edges"] == pytest.approx(2 * share / (1 + share))
  normals = _kept(labels["normals"])
  normals /= np.linalg.norm(normals, axis=-1, keepdims=True)
  mean = _kept(labels["normals"]).mean(0)
  angles = np.degrees(np.arccos(normals @ mean / np.linalg.norm(mean)))
  assert chance["normals"] == pytest.approx(1 - angles.mean() / 90, abs=1e-4)


@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.name)
def test_no_other_constant_is_better(task, labels, chance):
  """Against random ones; of normals, which are a stand-in, almost."""
  rng = np.random.default_rng(1)
  label = labels[task.name]
  slack = 0.005 if task.kind == "normals" else 1e-6
  for constant in rng.normal(size=(20, task.outputs), scale=3, loc=1):
    everywhere = jnp.broadcast_to(
      jnp.asarray(constant, jnp.float32), (*label.valid.shape, task.outputs)
    )
    (found,) = width_scores.scores(
      [task], {task.name: everywhere}, {task.name: label}
    )
    assert float(found) <= chance[task.name] + slack
