# SPDX-License-Identifier: Apache-2.0
"""Measured scores of the configurations of a slimmable network.

The decoders of a network do not see each other, so a task's score depends on
the encoder's widths and on its own decoder's. All configurations, menu **
(stages + tasks) of them, follow exactly from menu ** (stages + 1) passes over
the data, in which all decoders are equally wide.
"""

from collections.abc import Mapping, Sequence
import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxttc.evaluation import dense_metrics
from jaxttc.models import slimmable
from jaxttc.tasks.multitask import base


@dataclasses.dataclass(frozen=True)
class ScoreTable:
  """Scores of every configuration; a function for `allocators.plan`.

  Attributes:
    values: f64[menu, .., menu, menu, K]: an axis an encoder group, one for the
      decoder of the task, and the tasks. Higher is better, in [0, 1].
  """

  values: np.ndarray

  def __call__(self, indices: np.ndarray) -> np.ndarray:
    """Scores f64[N, K] at menu indices i32[N, groups]."""
    indices = np.asarray(indices)
    tasks = self.values.shape[-1]
    stages = self.values.ndim - 2
    encoder = tuple(indices[:, i, None] for i in range(stages))
    decoders = indices[:, stages:]
    return self.values[(*encoder, decoders, np.arange(tasks)[None])]


def measure(
  network: slimmable.MultiTaskNetwork,
  params: Any,
  tasks: Sequence[base.Task],
  examples: base.Examples,
  indices: np.ndarray,
) -> np.ndarray:
  """Scores f64[N, K] of configurations at menu indices i32[N, groups].

  One compiled program runs them all. Batch norms use the statistics of
  `examples`, so that these should be many.
  """
  space = network.space

  @jax.jit
  def scan(params, indices):
    def one(indices):
      predictions, _ = network.apply(
        {"params": params}, examples.inputs, space.counts_at(indices), True
      )
      return scores(tasks, predictions, examples.labels)

    return jax.lax.map(one, indices)

  return np.asarray(scan(params, jnp.asarray(indices)), np.float64)


def scores(
  tasks: Sequence[base.Task],
  predictions: Mapping[str, jax.Array],
  labels: Mapping[str, base.Label],
) -> jax.Array:
  """Scores f32[K] of one batch: each task's headline, in [0, 1]."""

  def one(task):
    state = dense_metrics.update(
      task,
      dense_metrics.zeros(task),
      predictions[task.name],
      labels[task.name],
    )
    return dense_metrics.score(task, state)

  return jnp.stack([one(task) for task in tasks])


def tabulate(
  network: slimmable.MultiTaskNetwork,
  params: Any,
  tasks: Sequence[base.Task],
  examples: base.Examples,
) -> ScoreTable:
  """Scores of all configurations on some examples.

  Raises:
    ValueError: if the encoder has so many groups that the table is too large;
      `predictors.width_scores` fits one to a sample then.
  """
  space = network.space
  stages, entries = len(space.encoder), len(space.menu)
  shared = space.all_indices(stages + 1)
  indices = np.concatenate(
    [shared[:, :stages], np.repeat(shared[:, stages:], len(tasks), 1)], 1
  )
  found = measure(network, params, tasks, examples, indices)
  return ScoreTable(found.reshape(*(entries,) * (stages + 1), len(tasks)))
