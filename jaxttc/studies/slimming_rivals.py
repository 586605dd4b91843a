# SPDX-License-Identifier: Apache-2.0
"""The published rivals of a slimmable network, built around one of one width.

A rival is a network that answers all tasks, its target, and what changes it by
the preference. The target alone is an ordinary network, which can be trained
first.
"""

from collections.abc import Callable
import functools
import re
from typing import Any, NamedTuple

import flax.linen as nn
import jax

from jaxttc.models import branching, hypernetworks, slimmable
from jaxttc.models.slimmable import layers
from jaxttc.studies import slimming_cells
from jaxttc.training import preference_models


class Rival(NamedTuple):
  """A rival before it is trained.

  Attributes:
    initial: key -> parameters of the target.
    forward: (these, inputs) -> predictions of all tasks; no preference.
    spread: parameters of the target, trained alone -> those that `build` takes.
    build: (initial, draws) -> the model, whose target starts as `initial` makes
      it and which sees so many preferences a step.
  """

  initial: hypernetworks.Initial
  forward: preference_models.Forward
  spread: Callable[[Any], Any]
  build: Callable[[hypernetworks.Initial, int], Any]


def hypernetwork(
  cell: slimming_cells.Hypernetwork,
  network: slimmable.MultiTaskNetwork,
  task_losses: preference_models.TaskLosses,
) -> Rival:
  """A network whose parameters follow the preference.

  Args:
    cell: which kind.
    network: the target, at its full width.
    task_losses: (predictions, batch) -> f32[K].
  """
  counts = network.space.counts(network.space.uniform())

  def forward(params, inputs):
    return network.apply({"params": params}, inputs, counts, True)[0]

  def build(initial, draws):
    return preference_models.hypernetwork(
      _module(cell, initial),
      forward,
      task_losses,
      len(network.decoders),
      exact=cell.search == "exact",
      draws=draws,
    )

  initial = functools.partial(slimmable.init, network)
  return Rival(initial, forward, lambda params: params, build)


def branching_network(
  cell: slimming_cells.Branching,
  anchor: branching.Anchor,
  inputs: jax.Array,
  task_losses: preference_models.TaskLosses,
) -> Rival:
  """A network whose branching follows preference and compute.

  Its target is the anchor with all tasks on the first stream; trained alone, it
  is copied to all streams.

  Args:
    cell: how it is trained.
    anchor: the streams, see `anchor_of`.
    inputs: an example batch of one.
    task_losses: (predictions, batch) -> f32[K].
  """
  initial = lambda key: branching.init(anchor, key, inputs)  # noqa: E731
  one = branching.one_stream(anchor)

  def build(initial, draws):
    return preference_models.branching(
      anchor,
      inputs,
      task_losses,
      initial=initial,
      follows=_modulated(initial),
      draws=draws,
      **_variation(cell),
    )

  return Rival(
    initial,
    lambda params, x: branching.run(anchor, params, one, x),
    branching.copied,
    build,
  )


def anchor_of(network: slimmable.MultiTaskNetwork) -> branching.Anchor:
  """Streams like the encoder of a network, a stage a width group."""
  return branching.Anchor(
    tuple(_Stage(stage) for stage in network.encoder.split()),
    tuple(_Head(head) for _, head in network.decoders),
    tuple(task for task, _ in network.decoders),
  )


class _Stage(nn.Module):
  """A part of an encoder at its full width, from array to array."""

  encoder: nn.Module

  @nn.compact
  def __call__(self, x):
    counts = [group.channels for group in self.encoder.groups()]
    return self.encoder(layers.whole(x), counts, True).values


class _Head(nn.Module):
  """A decoder at its full width, from features to a prediction."""

  head: nn.Module

  @nn.compact
  def __call__(self, x):
    return self.head(layers.whole(x), self.head.hidden, True)


def _module(cell: slimming_cells.Hypernetwork, initial: Callable) -> nn.Module:
  """The hypernetwork of a cell, for a target.

  Without norms, "norms" scales and shifts the features of hidden layers.
  """
  how = _variation(cell)
  if cell.kind == "ray":
    return hypernetworks.RayHypernetwork(initial, **how)
  if cell.kind == "chunked":
    return hypernetworks.ChunkedHypernetwork(initial)
  return hypernetworks.NormHypernetwork(initial, _modulated(initial), **how)


def _variation(cell: Any) -> dict[str, float]:
  """What a cell says of the start, as an argument if it says anything."""
  variation = cell.training.variation
  return {} if variation is None else {"variation": variation}


def _modulated(initial: Callable) -> Callable[[str], bool]:
  """Which parameters follow the preference, where only norms are to.

  Those of norms; without any, all of hidden layers.
  """
  leaves, _ = hypernetworks.leaves_of(initial)
  paths = [leaf.path for leaf in leaves]
  if any(map(hypernetworks.is_norm, paths)):
    return hypernetworks.is_norm
  layer_of = lambda path: path.rsplit("/", 1)[0]  # noqa: E731
  part_of = lambda path: layer_of(path).rsplit("/", 1)[0]  # noqa: E731
  last = {part_of(path): layer_of(path) for path in sorted(paths)}
  # The last layer of a decoder predicts: it has no features to modulate.
  outputs = {
    layer for part, layer in last.items() if re.search("decoder|head", part)
  }
  return lambda path: layer_of(path) not in outputs
