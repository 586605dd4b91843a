# SPDX-License-Identifier: Apache-2.0
"""Chance: what predictions score that are the same for every input.

| kind         | the constant             | its score                          |
| classes      | the most frequent class  | its share q                        |
| segmentation | the most frequent class  | q / the number of classes present  |
| regression   | the mean                 | 1 - variance                       |
| depth        | the mean                 | 1 / (1 + standard deviation)       |
| normals      | the mean direction       | 1 - mean angle to it / 90          |
| edges        | an edge everywhere       | 2q / (1 + q), of the share q       |
| saliency     | an object everywhere     | F of recall 1 and the mean share   |

No constant is better, with two exceptions: the direction of the least mean
angle has no closed form (the mean direction has the least mean squared
distance), and saliency has another best constant where most images are empty.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from jaxttc.evaluation import accumulators, width_scores
from jaxttc.tasks.multitask import base

_SURE = 20.0  # a logit whose probability is above every threshold


def scores(
  tasks: Sequence[base.Task], labels: dict[str, base.Label]
) -> np.ndarray:
  """Scores f64[K] of the best constant predictions, as networks are scored.

  Args:
    tasks: K of them.
    labels: of all examples that are scored; those not valid are not read.
  """

  @jax.jit
  def run(labels):
    constants = {
      task.name: _everywhere(task, labels[task.name]) for task in tasks
    }
    return width_scores.scores(tasks, constants, labels)

  return np.asarray(run(labels), np.float64)


def _everywhere(task: base.Task, label: base.Label) -> jax.Array:
  """The constant at every place, f32[..., outputs]."""
  value, valid = jnp.asarray(label.value), jnp.asarray(label.valid)
  if task.kind in ("classes", "segmentation"):
    known = valid & (value >= 0) & (value < task.outputs)
    counts = accumulators.histogram(value, known, task.outputs)
    best = jax.nn.one_hot(counts.argmax(), task.outputs)
  elif task.kind in ("edges", "saliency"):
    best = jnp.full(task.outputs, _SURE)
  else:
    # Of normals only its direction counts.
    best = accumulators.sum_over(valid, value) / jnp.maximum(valid.sum(), 1)
  return jnp.broadcast_to(best, (*valid.shape, best.size))
