# SPDX-License-Identifier: Apache-2.0
"""What multi-task predictions are worth: metrics that add up over batches.

A metric is a triple of pure functions over a NamedTuple of sums: `zeros`,
`update` and `result`. All work under `jit` and `vmap`; counts are exact, and
two states merge (`accumulators.merge`) to what one pass over both would give.
Labels that are not valid count for nothing; over nothing at all every result
is 0, with "count" 0 beside it, and `summary` leaves it out.

| kind           | headline      | beside it                                  |
| classes        | accuracy      |                                            |
| regression     | mse           |                                            |
| segmentation   | miou          | pixel_accuracy                             |
| depth          | rmse          | log_rmse, absolute_error, relative_error   |
| normals        | mean_angle    | median_angle, within_11.25, _22.5, _30     |
| edges          | max_f         |                                            |
| saliency       | max_f         | max_miou                                   |

Angles are in degrees, everything else in the labels' units or a share in
[0, 1]. Edges are compared pixel by pixel here, as a net is trained; the score
of the benchmarks, which forgives small displacements, is `edge_score`.

References:
  Eigen, Puhrsch and Fergus (2014), Depth map prediction from a single image
    (depth errors). Fouhey, Gupta and Hebert (2013), Data-driven 3D primitives
    (normals). Maninis et al. (2019), Attentive single-tasking (saliency).
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float
import numpy as np

from jaxttc.evaluation import count_metrics, error_metrics
from jaxttc.tasks.multitask import base
from jaxttc.training import task_losses

Results = dict[str, Array]


class Metric(NamedTuple):
  """How predictions of one kind are judged.

  Attributes:
    zeros: task -> the state of nothing.
    update: (state, prediction, label) -> the state with a batch added.
    result: state -> f32[] by name, with "count": how many places, or for
      saliency images, were judged.
    headline: which of the results stands for the task.
    lower_better: whether the headline is an error.
    score: f32[...] headline -> f32[...] in [0, 1], higher is better.
  """

  zeros: Callable[[base.Task], Any]
  update: Callable[[Any, Array, base.Label], Any]
  result: Callable[[Any], Results]
  headline: str
  lower_better: bool
  score: Callable[[Array], Array]


def zeros(task: base.Task) -> Any:
  """The state of a task's metric before any batch."""
  return METRICS[task.kind].zeros(task)


def update(
  task: base.Task, state: Any, prediction: Array, label: base.Label
) -> Any:
  """The state of a task's metric with one batch added.

  Args:
    task: static.
    state: from `zeros(task)` or `update`.
    prediction: what the task's head returns, f[B, ...]; see `task_losses`.
    label: the labels of the batch.

  Raises:
    ValueError: if shapes or types disagree with the task.
  """
  task_losses.check_shapes(task, prediction, label)
  prediction = jnp.asarray(prediction, jnp.float32)
  known = base.Label(jnp.asarray(label.value), jnp.asarray(label.valid))
  return METRICS[task.kind].update(state, prediction, known)


def result(task: base.Task, state: Any) -> Results:
  """A task's results so far, f32[] by name; see the module's table."""
  return METRICS[task.kind].result(state)


def score(task: base.Task, state: Any) -> Float[Array, ""]:
  """A task's headline as a number in [0, 1], higher is better.

  Accuracies, IoU and F are taken as they are. Mean squared errors of
  regression become 1 - mse, which is the share of variance explained where
  targets have variance 1; depth 1 / (1 + rmse); angles 1 - degrees / 90. What
  falls below 0 is 0, and so is the score over nothing.
  """
  metric = METRICS[task.kind]
  results = metric.result(state)
  value = metric.score(results[metric.headline])
  return jnp.where(results["count"] > 0, value, 0.0)


def summary(task: base.Task, state: Any) -> dict[str, float]:
  """A task's results on the host; empty if nothing valid was seen."""
  numbers = {name: float(x) for name, x in result(task, state).items()}
  return numbers if numbers.pop("count") else {}


def delta_mtl(
  values: Mapping[str, float],
  single_task_values: Mapping[str, float],
  lower_better: Mapping[str, bool],
) -> float:
  """Mean gain over single-task networks, in per cent.

  100 / K sum_t +-(M_t - S_t) / S_t, minus where less is better (Maninis et al.
  2019).

  Args:
    values: M_t by task name.
    single_task_values: S_t, what a network of each task's own reaches.
    lower_better: whether a task's value is an error.

  Raises:
    ValueError: if the three name different tasks, or none, if a value is not
      finite, or a single-task value is not positive.
  """
  names = sorted(values)
  if not names:
    raise ValueError("delta_mtl: there are no tasks")
  for what, other in (
    ("single-task values", single_task_values),
    ("directions", lower_better),
  ):
    if sorted(other) != names:
      raise ValueError(
        f"delta_mtl: values name {', '.join(names)}, but {what} "
        f"{', '.join(sorted(other)) or 'nothing'}"
      )
  gains = []
  for name in names:
    value, single = values[name], single_task_values[name]
    if not (np.isfinite(value) and np.isfinite(single) and single > 0):
      raise ValueError(
        f"delta_mtl: task {name!r} has {value} against {single}, expected "
        "finite numbers, the second positive"
      )
    gain = (value - single) / single
    gains.append(-gain if lower_better[name] else gain)
  return 100 * float(np.mean(gains))


def _as_it_is(value: Array) -> Array:
  return value


METRICS: dict[str, Metric] = {
  "classes": Metric(
    count_metrics.no_confusion,
    count_metrics.add_classes,
    count_metrics.accuracy,
    "accuracy",
    False,
    _as_it_is,
  ),
  "regression": Metric(
    error_metrics.errors(1),
    error_metrics.add_regression,
    error_metrics.regression_results,
    "mse",
    True,
    lambda mse: jnp.maximum(1 - mse, 0.0),
  ),
  "segmentation": Metric(
    count_metrics.no_confusion,
    count_metrics.add_classes,
    count_metrics.segmentation_results,
    "miou",
    False,
    _as_it_is,
  ),
  "depth": Metric(
    error_metrics.errors(4),
    error_metrics.add_depth,
    error_metrics.depth_results,
    "rmse",
    True,
    lambda rmse: 1 / (1 + rmse),
  ),
  "normals": Metric(
    error_metrics.no_angles,
    error_metrics.add_angles,
    error_metrics.angle_results,
    "mean_angle",
    True,
    lambda degrees: jnp.maximum(1 - degrees / 90, 0.0),
  ),
  "edges": Metric(
    count_metrics.no_levels,
    count_metrics.add_edges,
    count_metrics.edge_results,
    "max_f",
    False,
    _as_it_is,
  ),
  "saliency": Metric(
    count_metrics.no_masks,
    count_metrics.add_masks,
    count_metrics.mask_results,
    "max_f",
    False,
    _as_it_is,
  ),
}
