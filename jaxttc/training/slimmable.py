# SPDX-License-Identifier: Apache-2.0
"""Training one network at all its widths at once.

Every step runs the full network, the smallest, and a few of random widths (the
sandwich rule, Yu & Huang 2019, arXiv:1903.05134). The full network learns from
labels; the narrow ones from labels, optionally from the full network's
predictions (in-place distillation), and their shared features are held to those
of the full encoder (configuration-invariant knowledge distillation, Aich et al.
2023, arXiv:2308.11744). One update a step, on the sum.

The paper's code is not public: which distance its distillation takes between
features of different widths is our reading. There are five:

*  relational: one minus the correlation of the cosine similarities that two
   encoders see between places,
*  attention: of the energy a place, sum over channels of z^2, normalised,
*  prefix: of the channels that both have, standardised,
*  functional: of what the first layers of the decoders would make of them,
*  neck: of the features themselves, of encoders that end in a layer which is
   never slimmed, so that those of all widths are as wide,

the last four squared and divided by the variance of what the full encoder
gives. By default both sides move, the full encoder too: all widths share their
weights, so with a gradient that stops at the full encoder a step towards it
moves it away, and features come out no closer (a study of vectors says by how
much). No distance here can shrink by shrinking features.

A teacher can also be a full network of its own (`distillation_teacher`): the
mean of the student over the last steps ("ema"), or one that was trained before
("frozen"). It is what narrow networks are held to, by features and by
predictions; that takes one more forward pass a step.
"""

from collections.abc import Callable, Sequence
import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import optax

from jaxttc.models.slimmable import network as network_lib
from jaxttc.tasks.multitask import base
from jaxttc.training import distillation_teacher, loop, task_losses

DISTANCES = ("relational", "attention", "prefix", "functional", "neck")
TEACHERS = ("mutual", "stopped", "ema", "frozen")
_PLACES = 256  # that similarities are taken between
_EPSILON = 1e-6


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sandwich:
  """Which widths a step trains, and what narrow ones learn from.

  Attributes:
    widths: configurations a step, the full one included.
    smallest: whether one of them is always the smallest.
    in_place: weight of distillation from the full network's predictions.
    invariance: weight of the distance to the full encoder's features.
    distance: one of `DISTANCES`.
    teacher: "mutual" if both sides of the distance move, "stopped" if the
      full encoder is a constant to it; "ema" or "frozen" for a network of its
      own.
    momentum: share of itself that the teacher "ema" keeps a step.
    uniform: whether random configurations have one ratio everywhere, instead
      of one a width group.
  """

  widths: int = 4
  smallest: bool = True
  in_place: float = 0.0
  invariance: float = 0.1
  distance: str = "relational"
  teacher: str = "mutual"
  momentum: float = 0.999
  uniform: bool = False

  def validate(self) -> None:
    """Raises ValueError, naming the field, for values that cannot be."""
    if self.widths < 1 + self.smallest:
      raise ValueError(
        f"sandwich.widths={self.widths} must be at least {1 + self.smallest}"
      )
    if self.distance not in DISTANCES:
      raise ValueError(
        f"sandwich.distance={self.distance!r} is not one of "
        f"{', '.join(DISTANCES)}"
      )
    if self.teacher not in TEACHERS:
      raise ValueError(
        f"sandwich.teacher={self.teacher!r} is not one of {', '.join(TEACHERS)}"
      )
    if not 0 <= self.momentum < 1:
      raise ValueError(
        f"sandwich.momentum must be in [0, 1), got {self.momentum}"
      )
    for name in ("in_place", "invariance"):
      if not 0 <= getattr(self, name) < float("inf"):
        raise ValueError(
          f"sandwich.{name} must be finite and not negative, got "
          f"{getattr(self, name)}"
        )


def separate_teacher(sandwich: Sandwich) -> float | None:
  """The momentum of a teacher that is a network of its own; None if it is not.

  A frozen one has a momentum of 1.
  """
  return {"ema": sandwich.momentum, "frozen": 1.0}.get(sandwich.teacher)


def task_terms(
  network: network_lib.MultiTaskNetwork,
  tasks: Sequence[base.Task],
  sandwich: Sandwich,
) -> Callable:
  """What training adds up, before tasks are weighed against each other.

  Args:
    network: the slimmable network.
    tasks: what its decoders predict.
    sandwich: the widths of a step.

  Returns:
    terms(params, batch, key) -> (f32[K], f32[], metrics), where params hold a
    `distillation_teacher.PARAMS` if the teacher is a network of its own: a loss
    a task, the mean over the step's widths, in-place distillation included; the
    weighted distance between features; and metrics: `loss_<task>` of the full
    network, `narrow_<task>` of the smallest, and `distance`, before its weight.

  Raises:
    ValueError: if the sandwich cannot be, or tasks and decoders differ; for
      the distance "neck" and an encoder whose last layer is slimmed.
  """
  sandwich.validate()
  space = network.space
  if tuple(task.name for task in tasks) != space.tasks:
    raise ValueError(
      f"the network decodes {', '.join(space.tasks)}; the data have "
      f"{', '.join(task.name for task in tasks)}"
    )
  if sandwich.distance == "neck" and not network.encoder.ends_whole():
    raise ValueError(
      "sandwich.distance='neck' needs an encoder whose last layer is never "
      "slimmed: give it a neck"
    )
  full = space.counts(space.uniform())

  def terms(params, batch: base.Examples, key: jax.Array):
    of = lambda params, counts: network.apply(  # noqa: E731
      {"params": params}, batch.inputs, counts, train=True
    )
    run = lambda counts: of(params, counts)  # noqa: E731
    apart = params.get(distillation_teacher.PARAMS)
    params = distillation_teacher.student(params)
    predictions, features = run(full)
    losses = task_losses.losses(tasks, predictions, batch.labels)
    metrics = {
      f"loss_{task.name}": loss
      for task, loss in zip(tasks, losses, strict=True)
    }
    if sandwich.widths == 1:
      return losses, jnp.float32(0), metrics
    teacher = predictions
    if separate_teacher(sandwich) is not None:
      teacher, features = of(apart, full)
    teacher = jax.lax.stop_gradient(teacher)
    if sandwich.teacher != "mutual":
      features = jax.lax.stop_gradient(features)

    def narrow(indices):
      counts = space.counts_at(indices)
      predictions, own = run(counts)
      found = task_losses.losses(tasks, predictions, batch.labels)
      if sandwich.in_place:
        found += sandwich.in_place * jnp.stack(
          [
            task_losses.distillation(
              task, predictions[task.name], teacher[task.name]
            )
            for task in tasks
          ]
        )
      away = _distance(
        sandwich.distance, own, features, counts.encoder[-1], params
      )
      return found, away

    indices = _draw(key, space, sandwich)
    found, away = jax.vmap(narrow)(indices)
    metrics |= {"distance": away.mean()}
    if sandwich.smallest:
      metrics |= {
        f"narrow_{task.name}": loss
        for task, loss in zip(tasks, found[0], strict=True)
      }
    mean = (losses + found.sum(0)) / sandwich.widths
    return mean, sandwich.invariance * away.mean(), metrics

  return terms


def optimizer(
  config: loop.TrainConfig, sandwich: Sandwich
) -> optax.GradientTransformation:
  """`loop.optimizer`, which moves a teacher of its own, too."""
  momentum, tx = separate_teacher(sandwich), loop.optimizer(config)
  if momentum is None:
    return tx
  return distillation_teacher.following(tx, momentum)


def with_teacher(params: Any, sandwich: Sandwich, taught: Any = None) -> Any:
  """Parameters to start from: with a teacher's, where that is of its own.

  Args:
    params: the student's.
    sandwich: says which teacher.
    taught: parameters of a full network that was trained before, of a "frozen"
      teacher.

  Raises:
    ValueError: if a frozen teacher is not given or another is; if it is
      another network's.
  """
  if (sandwich.teacher == "frozen") != (taught is not None):
    raise ValueError(
      f"sandwich.teacher={sandwich.teacher!r}: a network that was trained "
      "before is what a frozen teacher needs, and no other takes"
    )
  if separate_teacher(sandwich) is None:
    return params
  return distillation_teacher.init(params, taught)


def objective(
  network: network_lib.MultiTaskNetwork,
  tasks: Sequence[base.Task],
  sandwich: Sandwich,
) -> Callable:
  """The sum of `task_terms`, tasks weighed as they say.

  Returns:
    loss(params, batch, key) -> (f32[], metrics) for `loop.fit`.
  """
  terms = task_terms(network, tasks, sandwich)
  weights = jnp.array([task.weight for task in tasks])

  def loss(params, batch: base.Examples, key: jax.Array):
    losses, distance, metrics = terms(params, batch, key)
    total = (weights * losses).sum() + distance
    return total, metrics | {"loss": total}

  return loss


def _draw(key, space, sandwich):
  """Menu indices of the step's narrow configurations, i32[widths - 1, G]."""
  rows, groups = sandwich.widths - 1, len(space.groups)
  shape = (rows, 1 if sandwich.uniform else groups)
  drawn = jax.random.randint(key, shape, 0, len(space.menu))
  drawn = jnp.broadcast_to(drawn, (rows, groups))
  return drawn.at[0].set(0) if sandwich.smallest else drawn


def _distance(kind, features, full, count, params):
  """How far narrow features [B, .., C] are from the full encoder's, f32[]."""
  z, t = (places(x) for x in (features, full))
  if kind == "relational":
    z, t = (g - g.mean() for g in (similarities(z), similarities(t)))
    sizes = jnp.square(z).mean() * jnp.square(t).mean()
    return 1 - (z * t).mean() * jax.lax.rsqrt(sizes + _EPSILON**2)
  elif kind == "attention":
    z, t = (_normalised(jnp.square(x).sum(-1)) for x in (z, t))
  elif kind == "prefix":
    mean = t.mean(0, keepdims=True)
    spread = jnp.std(t, 0, keepdims=True) + _EPSILON
    inside = jnp.arange(z.shape[-1])[None] < count
    z, t = ((x - mean) / spread * inside for x in (z, t))
    scale = z.shape[-1] / count  # the mean is over channels in use
    return scale * jnp.square(z - t).mean()
  elif kind == "functional":
    kernels = jax.lax.stop_gradient(_first_kernels(params))
    z, t = z @ kernels, t @ kernels
  return jnp.square(z - t).mean() / (jnp.var(t) + _EPSILON)


def places(features: jax.Array) -> jax.Array:
  """The rows that similarities are taken between, [N, C] of [B, .., C].

  At most 256 of a batch's places, evenly spaced.
  """
  flat = features.reshape(-1, features.shape[-1])
  return flat[:: max(1, -(-len(flat) // _PLACES))]


def similarities(rows: jax.Array) -> jax.Array:
  """Cosine similarities f32[N, N] of rows f32[N, C]."""
  unit = rows * jax.lax.rsqrt(
    jnp.square(rows).sum(-1, keepdims=True) + _EPSILON
  )
  return unit @ unit.T


def _normalised(x):
  return x * jax.lax.rsqrt(jnp.square(x).sum() + _EPSILON)


def _first_kernels(params: Any) -> jax.Array:
  """What the decoders' first layers do to one place, [C, decoders x hidden].

  Of layers over several places, the mean over these.
  """
  found = []
  for name, decoder in sorted(params.items()):
    if name.startswith("decoder_"):
      layers = [
        decoder.get(f"{kind}_0") for kind in ("MapDense", "Conv", "Dense")
      ]
      kernel = next(layer for layer in layers if layer)["kernel"]
      found.append(kernel.mean(tuple(range(kernel.ndim - 2))))
  return jnp.concatenate(found, axis=-1)
