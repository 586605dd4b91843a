# SPDX-License-Identifier: Apache-2.0
"""Task decoders: from shared features to one task's prediction.

A decoder has one width group, its hidden channels. What it predicts is never
slimmed.
"""

import flax.linen as nn
import jax

from jaxttc.models.slimmable import layers, norms, widths


class VectorHead(nn.Module):
  """One prediction an example: a hidden layer, and the outputs.

  Features of images are averaged over their places first.

  Attributes:
    outputs: classes, or numbers.
    hidden: units of the hidden layer at full width.
    norm: behind the hidden layer.
    quantum: units that widths are multiples of.
  """

  outputs: int
  hidden: int = 64
  norm: norms.NormChoice = norms.NormChoice("none")
  quantum: int = 8

  def group(self, task: str) -> widths.WidthGroup:
    """The decoder's width group."""
    return widths.WidthGroup(f"decoder {task}", self.hidden, self.quantum)

  @nn.compact
  def __call__(
    self, x: layers.Prefix, count: layers.Count, train: bool = False
  ) -> jax.Array:
    """Maps features [B, .., C] to f32[B, outputs]."""
    if x.values.ndim > 2:
      axes = tuple(range(1, x.values.ndim - 1))
      x = x._replace(values=x.values.mean(axes))
    x = layers.Dense(self.hidden)(x, count)
    x = self.norm.layer(self.group(""), train)(x)
    return layers.Dense(self.outputs)(layers.elementwise(nn.gelu, x)).values


class MapHead(nn.Module):
  """One prediction an image, by a decoder that knows where things are.

  A convolution of stride two, and outputs that see each place by itself.

  Attributes:
    outputs: classes, or numbers.
    hidden: channels at full width.
    norm: behind the convolution.
    quantum: channels that widths are multiples of.
  """

  outputs: int
  hidden: int = 64
  norm: norms.NormChoice = norms.NormChoice()
  quantum: int = 8

  def group(self, task: str) -> widths.WidthGroup:
    """The decoder's width group."""
    return widths.WidthGroup(f"decoder {task}", self.hidden, self.quantum)

  @nn.compact
  def __call__(
    self, x: layers.Prefix, count: layers.Count, train: bool = False
  ) -> jax.Array:
    """Maps features [B, h, w, C] to f32[B, outputs]."""
    x = layers.Conv(self.hidden, 3, 2)(x, count)
    x = self.norm.layer(self.group(""), train)(x)
    return layers.MapDense(self.outputs)(layers.elementwise(nn.relu, x)).values


class DenseHead(nn.Module):
  """A prediction at every pixel: convolutions, enlarged to the image's size.

  Attributes:
    outputs: classes, or numbers a pixel.
    hidden: channels at full width.
    scale: how many times smaller the features are than the image.
    norm: behind each hidden convolution.
    quantum: channels that widths are multiples of.
  """

  outputs: int
  hidden: int = 64
  scale: int = 2
  norm: norms.NormChoice = norms.NormChoice()
  quantum: int = 8

  def group(self, task: str) -> widths.WidthGroup:
    """The decoder's width group."""
    return widths.WidthGroup(f"decoder {task}", self.hidden, self.quantum)

  @nn.compact
  def __call__(
    self, x: layers.Prefix, count: layers.Count, train: bool = False
  ) -> jax.Array:
    """Maps features [B, h, w, C] to f32[B, h scale, w scale, outputs]."""
    norm = lambda: self.norm.layer(self.group(""), train)  # noqa: E731
    x = layers.elementwise(
      nn.relu, layers.Conv(self.hidden, 3)(x, count, norm())
    )
    if self.scale > 1:
      batch, high, wide, channels = x.values.shape
      shape = (batch, high * self.scale, wide * self.scale, channels)
      x = x._replace(values=jax.image.resize(x.values, shape, "bilinear"))
    x = layers.elementwise(
      nn.relu, layers.Conv(self.hidden, 3)(x, count, norm())
    )
    return layers.Conv(self.outputs, 1)(x).values
