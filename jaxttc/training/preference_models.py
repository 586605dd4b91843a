# SPDX-License-Identifier: Apache-2.0
"""Models that answer to a preference, put together for the train loop.

Each function joins a model to its objective: what `loop.fit` needs, and how
to predict afterwards. They are the published alternatives to networks whose
width is slimmed, so what they have in common is one code path: the data, the
losses of tasks, the draws of preferences and the loop are the caller's and
the same for all.

    model = hypernetwork(RayHypernetwork(initial), forward, task_losses, 3)
    loop.fit(config, model.objective, model.init, batches, workdir)
    model.predict(params, preference, inputs)

Losses of tasks should be of like size: their weights in the data set belong
into `task_losses`, so that a preference is the only other weight.
"""

from collections.abc import Callable
import dataclasses
import functools
import math
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from jaxttc.models import branching as branching_lib
from jaxttc.models import hypernetworks
from jaxttc.training import loop, pareto

# (the target's parameters, inputs) -> predictions.
Forward = Callable[[Any, Any], Any]
# (predictions, batch) -> losses f32[K], in the order of preferences. A batch
# is `tasks.multitask.Examples`, or anything else with `inputs`.
TaskLosses = Callable[[Any, Any], jax.Array]


# Parameters that a target has without any preference; the rest generates.
_TARGETS = ("plain", "head_bias", "scaling")


class PreferenceModel(NamedTuple):
  """A model that is told how much each task matters.

  Attributes:
    init: key -> parameters.
    objective: loss(params, batch, key) -> (f32[], metrics).
    predict: (params, preference f32[K], inputs) -> predictions; vmappable
      over preferences.
    gradients: (params, batch, key) -> (gradients, metrics), to train with in
      place of the objective's gradient; None if that is it.
  """

  init: Callable[[jax.Array], Any]
  objective: pareto.Objective
  predict: Callable[[Any, jax.Array, Any], Any]
  gradients: pareto.Gradients | None = None


def optimizer(
  config: loop.TrainConfig, share: float
) -> optax.GradientTransformation:
  """`loop.optimizer`, at which what follows the preference moves slower.

  A layer that writes many parameters at once moves them all by one step of its
  own. At the learning rate of an ordinary network the layers before it lose
  their ReLUs within a few hundred steps, and the preference is ignored from
  then on.

  Args:
    config: the schedule of what the target has without any preference: its
      plain parameters, the biases of the heads that write it (PHN), its gains
      and offsets (CHN).
    share: learning rate of all else, as a share of that.

  Raises:
    ValueError: if the share is not in (0, 1].
  """
  if not 0 < share <= 1:
    raise ValueError(f"share must be in (0, 1], got {share}")
  if share == 1:
    return loop.optimizer(config)
  slow = dataclasses.replace(config, learning_rate=share * config.learning_rate)

  def of(path, _):
    names = {getattr(entry, "key", None) for entry in path}
    return "target" if names.intersection(_TARGETS) else "generator"

  return optax.multi_transform(
    {"target": loop.optimizer(config), "generator": loop.optimizer(slow)},
    lambda params: jax.tree_util.tree_map_with_path(of, params),
  )


def static(
  initial: hypernetworks.Initial,
  forward: Forward,
  task_losses: TaskLosses,
  preference: tuple[float, ...],
) -> PreferenceModel:
  """An ordinary network, trained for one preference: linear scalarisation.

  With a one-hot preference it is a single-task network.

  Args:
    initial: key -> parameters.
    forward: (parameters, inputs) -> predictions.
    task_losses: (predictions, batch) -> f32[K].
    preference: weights of the tasks; scaled to sum to one.

  Returns:
    The model; what it predicts does not depend on the preference asked for.

  Raises:
    ValueError: if weights are negative or not finite, or all zero.
  """
  total = sum(preference)
  if not (math.isfinite(total) and total > 0 and min(preference) >= 0):
    raise ValueError(
      "a preference needs finite weights >= 0, not all zero, got "
      f"{tuple(preference)}"
    )
  weights = jnp.asarray(preference, jnp.float32) / total

  def objective(params, batch, key):
    del key
    losses = task_losses(forward(params, batch.inputs), batch)
    loss = (weights * losses).sum()
    return loss, {"loss": loss}

  def predict(params, preference, inputs):
    del preference
    return forward(params, inputs)

  return PreferenceModel(initial, objective, predict)


def hypernetwork(
  network: nn.Module,
  forward: Forward,
  task_losses: TaskLosses,
  tasks: int,
  *,
  exact: bool = False,
  draws: int = 1,
  concentration: float = 0.2,
) -> PreferenceModel:
  """PHN, CHN or PHN-BN: a network whose parameters follow the preference.

  Args:
    network: `RayHypernetwork`, `ChunkedHypernetwork` or `NormHypernetwork`.
    forward: (the target's parameters, inputs) -> predictions.
    task_losses: (predictions, batch) -> f32[K].
    tasks: K.
    exact: whether to train by the exact Pareto search instead of linear
      scalarisation; then `gradients` is what to train with.
    draws: preferences a step; each sees the whole batch.
    concentration: of their Dirichlet distribution.
  """

  def init(key):
    return network.init(key, jnp.full(tasks, 1 / tasks))["params"]

  def predict(params, preference, inputs):
    return hypernetworks.apply(network, forward, params, preference, inputs)

  def losses(params, preference, batch, key):
    del key
    return task_losses(predict(params, preference, batch.inputs), batch)

  settings: dict[str, Any] = {"draws": draws, "concentration": concentration}
  return PreferenceModel(
    init,
    pareto.linear(losses, tasks, **settings),
    predict,
    pareto.exact(losses, tasks, **settings) if exact else None,
  )


class BranchingModel(NamedTuple):
  """A network whose branching follows preference and compute.

  Attributes:
    init: key -> parameters.
    objective: loss(params, batch, key) -> (f32[], metrics).
    choose: (params, preference f32[N], compute f32[]) -> (the likeliest tree,
      one-hot f32[S, N, N]; the anchor's parameters with its norms fitted).
      `branching.run` on `branching.tree_of` the first computes that tree only.
    predict: (params, preference, compute, inputs) -> predictions by task, as
      that tree's; vmappable, at the cost of all nodes.
  """

  init: Callable[[jax.Array], Any]
  objective: pareto.Objective
  choose: Callable[[Any, jax.Array, jax.Array], tuple[jax.Array, Any]]
  predict: Callable[[Any, jax.Array, jax.Array, Any], Any]


def branching(
  anchor: branching_lib.Anchor,
  inputs: Any,
  task_losses: TaskLosses,
  *,
  initial: hypernetworks.Initial | None = None,
  anchor_params: Any = None,
  follows: Callable[[str], bool] = hypernetworks.is_norm,
  variation: float = 0.1,
  compute_weight: float = 1.0,
  inactive_weight: float = 0.1,
  temperature: float = 1.0,
  draws: int = 1,
  concentration: float = 0.2,
) -> BranchingModel:
  """CDMTA-lite: see `models.branching`.

  A step draws preferences and compute shares c, uniform in [1/N, 1], samples
  a tree for each, and lowers the weighted task loss, plus `compute_weight`
  times what the expected compute share is above c, plus `inactive_weight`
  times the inactive loss.

  Args:
    anchor: the network.
    inputs: an example batch of one; for shapes and for costs.
    task_losses: (predictions by task, batch) -> f32[N].
    initial: key -> parameters of the anchor to start from; `branching.init` if
      None.
    anchor_params: trained ones (`single_task_streams`), which then stay as
      they are; None to train the anchor along.
    follows: path -> whether a parameter of the anchor follows the preference.
      Paths are as "stage_0/stream_1/LayerNorm_0/scale".
    variation: how far preferences are apart at the start, as of
      `hypernetworks.NormHypernetwork`.
    compute_weight: of the compute penalty.
    inactive_weight: of the inactive loss.
    temperature: of the Gumbel-softmax.
    draws: pairs of preference and share a step; each sees the whole batch.
    concentration: of the preferences' Dirichlet distribution.
  """
  tasks, stages = len(anchor.heads), len(anchor.stages)
  if initial is None:
    initial = lambda key: branching_lib.init(anchor, key, inputs)  # noqa: E731
  parts = branching_lib.costs(
    anchor, jax.eval_shape(initial, jax.random.key(0)), inputs
  )
  edge_network = branching_lib.EdgeHypernetwork(stages)
  norm_network = hypernetworks.NormHypernetwork(
    initial, follows, variation=variation
  )

  def init(key):
    first, second = jax.random.split(key)
    ray, share = jnp.full(tasks, 1 / tasks), jnp.float32(1)
    told = branching_lib.condition(
      ray, share, jnp.zeros((stages, tasks, tasks))
    )
    norms = dict(norm_network.init(second, told)["params"])
    if anchor_params is not None:
      del norms["plain"]
    edges = edge_network.init(first, ray, share)["params"]
    return {"edges": edges, "norms": norms}

  def logits(params, ray, share):
    return edge_network.apply({"params": params["edges"]}, ray, share)

  def weights(params, ray, share, edges):
    told = branching_lib.condition(ray, share, jax.lax.stop_gradient(edges))
    norms = params["norms"]
    if anchor_params is not None:
      norms = norms | {"plain": anchor_params}
    return norm_network.apply({"params": norms}, told)

  def choose(params, preference, compute):
    edges = branching_lib.likeliest_edges(logits(params, preference, compute))
    return edges, weights(params, preference, compute, edges)

  def predict(params, preference, compute, inputs):
    edges, fitted = choose(params, preference, compute)
    return branching_lib.apply(anchor, fitted, edges, inputs)

  def one(params, batch, ray, share, key):
    choices = logits(params, ray, share)
    edges = branching_lib.sample_edges(key, choices, temperature)
    fitted = weights(params, ray, share, edges)
    out = branching_lib.apply(anchor, fitted, edges, batch.inputs)
    soft = jax.nn.softmax(choices)
    used = branching_lib.expected_share(parts, soft)
    return {
      "loss": (ray * task_losses(out, batch)).sum(),
      "compute_share": used,
      "compute_excess": jax.nn.relu(used - share),
      "inactive_loss": branching_lib.inactive_loss(ray, soft),
    }

  def objective(params, batch, key):
    draw, level, choice = jax.random.split(key, 3)
    rays = pareto.sample_preferences(draw, draws, tasks, concentration)
    shares = jax.random.uniform(level, (draws,), minval=1 / tasks)
    found = pareto.over_draws(
      functools.partial(one, params, batch),
      rays,
      shares,
      jax.random.split(choice, draws),
    )
    metrics = {name: value.mean() for name, value in found.items()}
    total = (
      metrics["loss"]
      + compute_weight * metrics["compute_excess"]
      + inactive_weight * metrics["inactive_loss"]
    )
    return total, metrics

  return BranchingModel(init, objective, choose, predict)


def single_task_streams(
  anchor: branching_lib.Anchor, inputs: Any, task_losses: TaskLosses
) -> PreferenceModel:
  """An anchor as N separate networks, trained side by side.

  Args:
    anchor: the network.
    inputs: an example batch of one; for shapes.
    task_losses: (predictions by task, batch) -> f32[N].

  Returns:
    A model whose parameters are an anchor's. No task's loss moves another's
    stream, so the objective, their plain sum, trains each as if alone.
  """
  tasks, stages = len(anchor.heads), len(anchor.stages)
  own = jnp.broadcast_to(jnp.eye(tasks), (stages, tasks, tasks))

  def predict(params, preference, inputs):
    del preference
    return branching_lib.apply(anchor, params, own, inputs)

  def objective(params, batch, key):
    del key
    loss = task_losses(predict(params, own, batch.inputs), batch).sum()
    return loss, {"loss": loss}

  def init(key):
    return branching_lib.init(anchor, key, inputs)

  return PreferenceModel(init, objective, predict)
