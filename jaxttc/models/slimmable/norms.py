# SPDX-License-Identifier: Apache-2.0
"""Normalisation of values of which only the first channels are in use.

| kind | statistics over | what a narrow network has of its own |
|---|---|---|
| group | groups of so many channels, an example | nothing: exact at any width |
| layer | the channels in use, a place | nothing: it counts them |
| batch | the batch, a channel | statistics, recalibrated after training |
| switchable | the batch, a channel | statistics, and a scale and shift |
| none | | |

Statistics of a batch are never averaged during training, since those of
different widths do not mix (Yu & Huang 2019, arXiv:1903.05134): training uses
the batch's own, and `recalibrate` in `network.py` measures those of a
configuration afterwards. Under `jit` with a batch that is spread over devices,
means are over the whole batch.
"""

import dataclasses
import math

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxttc.models.slimmable import layers
from jaxttc.models.slimmable import widths as widths_lib

KINDS = ("group", "layer", "batch", "switchable", "none")
_EPSILON = 1e-5


@dataclasses.dataclass(frozen=True)
class NormChoice:
  """Which norm a network uses everywhere.

  Attributes:
    kind: one of `KINDS`.
    group: channels a group of the kind "group".
    menu: ratios that the network is trained at.

  Raises:
    ValueError: if the kind is unknown.
  """

  kind: str = "group"
  group: int = 8
  menu: tuple[float, ...] = (0.25, 0.5, 0.75, 1.0)

  def __post_init__(self) -> None:
    if self.kind not in KINDS:
      raise ValueError(f"norm {self.kind!r} is not one of {', '.join(KINDS)}")

  def layer(
    self, group: widths_lib.WidthGroup, train: bool, times: int = 1
  ) -> "Norm":
    """A norm for values that are `times` as wide as a width group."""
    counts = tuple(times * group.count(ratio) for ratio in self.menu)
    return Norm(self.kind, self.group, counts, train)


class Norm(nn.Module):
  """Normalises, scales and shifts a prefix.

  Attributes:
    kind: one of `KINDS`.
    group: channels a group of the kind "group"; divides every width.
    widths: counts that the layer may have, for the kind "switchable".
    train: whether to use the batch's own statistics, and to measure them if
      the collection "batch_stats" is mutable.

  Raises:
    ValueError: if groups do not divide the channels, or would be single
      numbers, or statistics of a batch are asked for that nobody measured, or
      that are of another width.
  """

  kind: str = "group"
  group: int = 8
  widths: tuple[int, ...] = ()
  train: bool = False

  @nn.compact
  def __call__(
    self, x: layers.Prefix, shift: jax.Array | None = None
  ) -> layers.Prefix:
    """Maps a prefix, to which a shift f32[C] is yet to be added, to as many."""
    if shift is not None and self.kind != "group":
      x = x._replace(values=x.values + layers.along(x.values, shift))
    if self.kind == "none":
      return x
    channels = x.values.shape[-1]
    if self.kind == "group":
      values = self._by_group(x, shift)
    elif self.kind == "layer":
      values = _by_place(x)
    else:
      values = self._by_batch(x)
    rows = (len(self.widths),) if self.kind == "switchable" else ()
    scale = self.param("scale", nn.initializers.ones, (*rows, x.features))
    bias = self.param("bias", nn.initializers.zeros, (*rows, x.features))
    if rows:
      row = jnp.searchsorted(jnp.asarray(self.widths), x.count)
      self.sow("rows", "row", row, reduce_fn=lambda _, new: new)
      scale, bias = scale[row], bias[row]
    scale = layers.along(values, scale[:channels])
    y = values * scale + layers.along(values, bias[:channels])
    layers.charge(self, 0, 2 * x.count, x.places * x.count)
    return x._replace(values=layers.silenced(y, x.count))

  def _by_group(self, x, shift):
    if x.features % self.group or (
      isinstance(x.count, int) and x.count % self.group
    ):
      raise ValueError(
        f"{x.count} of {x.features} channels are not a multiple of the norm's "
        f"groups of {self.group}; let the width group's quantum be one"
      )
    if self.group == 1 and x.values.ndim == 2:
      raise ValueError(
        "groups of one channel leave nothing of vectors; raise the quantum, or "
        "choose another norm"
      )
    # Sums over places first, then over a group's channels: on CPU, reductions
    # that keep a long last axis run several times faster. Two sums in one pass
    # leave a scale and a shift, in which what comes before and after fuses.
    batch, *places, channels = x.values.shape
    axes, size = tuple(range(1, x.values.ndim - 1)), math.prod(places)
    sums, squares = x.values.sum(axes), jnp.square(x.values).sum(axes)
    if shift is not None:
      shift = shift[None]
      squares = squares + shift * (2 * sums + size * shift)
      sums = sums + size * shift

    def means(sums):
      grouped = sums.reshape(batch, channels // self.group, self.group)
      return grouped.sum(-1) / (size * self.group)

    def spread(values):
      return jnp.repeat(values, self.group, axis=-1)

    mean = means(sums)
    variance = jnp.maximum(means(squares) - jnp.square(mean), 0)
    scale = spread(jax.lax.rsqrt(variance + _EPSILON))
    away = -spread(mean) if shift is None else shift - spread(mean)
    shape = (batch, *(1 for _ in places), channels)
    return x.values * scale.reshape(shape) + (away * scale).reshape(shape)

  def _by_batch(self, x):
    axes = tuple(range(x.values.ndim - 1))
    if self.train or self.is_initializing():
      mean = x.values.mean(axes)
      away = x.values - layers.along(x.values, mean)
      variance = jnp.square(away).mean(axes)
      if self.is_mutable_collection("batch_stats"):
        self.put_variable("batch_stats", "mean", mean)
        self.put_variable("batch_stats", "variance", variance)
    elif not self.has_variable("batch_stats", "mean"):
      raise ValueError(
        f"norm {self.kind!r} has no statistics at {x.count} of {x.features} "
        "channels: recalibrate this configuration first"
      )
    else:
      mean = self.get_variable("batch_stats", "mean")
      variance = self.get_variable("batch_stats", "variance")
      if mean.shape != x.values.shape[-1:]:
        raise ValueError(
          f"norm {self.kind!r} has statistics of {mean.size} channels, not of "
          f"{x.values.shape[-1]}: they are another configuration's"
        )
    scale = jax.lax.rsqrt(variance + _EPSILON)
    away = x.values - layers.along(x.values, mean)
    return away * layers.along(x.values, scale)


def _by_place(x):
  mean = x.values.sum(-1, keepdims=True) / x.count
  away = layers.silenced(x.values - mean, x.count)
  variance = jnp.square(away).sum(-1, keepdims=True) / x.count
  return away * jax.lax.rsqrt(variance + _EPSILON)
