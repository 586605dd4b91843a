# SPDX-License-Identifier: Apache-2.0
"""The usual network of dense prediction: a dilated ResNet, atrous decoders.

The last stages of the encoder keep their size; their windows are dilated
instead, so that features are an eighth as large as the image and see as much
of it (Yu et al. 2017, arXiv:1705.09914). A decoder looks at them through
windows of several rates and at their mean, and joins what it saw (Chen et al.
2017, arXiv:1706.05587). All of it is slimmable.
"""

from collections.abc import Callable, Sequence
import math

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxttc.models.slimmable import layers, norms, widths

# (channels, blocks, stride of the first, dilation) a stage.
RESNET_18 = ((64, 2, 1, 1), (128, 2, 2, 1), (256, 2, 1, 2), (512, 2, 1, 4))
RESNET_50 = ((64, 3, 1, 1), (128, 4, 2, 1), (256, 6, 1, 2), (512, 3, 1, 4))
RATES = (12, 24, 36)


class DilatedResNetEncoder(nn.Module):
  """A ResNet over images (He et al. 2015, arXiv:1512.03385).

  A width group a stage; a stage with an expansion is so many times wider
  between its blocks than in them, at every width.

  Attributes:
    stages: (channels, blocks, stride of the first block, dilation) each.
    expansion: 4 for blocks with a bottleneck (ResNet-50), 1 for basic ones
      (ResNet-18 and 34).
    norm: behind each convolution.
    quantum: channels that widths are multiples of.
    neck: channels of a 1 x 1 convolution at the end, never slimmed; 0 for none.

  Raises:
    ValueError: for another expansion.
  """

  stages: tuple[tuple[int, int, int, int], ...] = RESNET_50
  expansion: int = 4
  norm: norms.NormChoice = norms.NormChoice()
  quantum: int = 8
  neck: int = 0

  def __post_init__(self) -> None:
    if self.expansion not in (1, 4):
      raise ValueError(f"expansion must be 1 or 4, got {self.expansion}")
    super().__post_init__()

  def groups(self) -> tuple[widths.WidthGroup, ...]:
    """A width group a stage; the first convolution is as wide as the first."""
    return tuple(
      widths.WidthGroup(f"stage{i}", stage[0], self.quantum)
      for i, stage in enumerate(self.stages)
    )

  def reduction(self) -> int:
    """How many times smaller than the image its features are, a side."""
    return math.prod((stage[2] for stage in self.stages), start=4)

  def resized(self, counts: tuple[int, ...]) -> "DilatedResNetEncoder":
    """The same with other channels, one a width group."""
    pairs = zip(counts, self.stages, strict=True)
    return self.clone(stages=tuple((c, *stage[1:]) for c, stage in pairs))

  def ends_whole(self) -> bool:
    """Whether features are as wide at every width."""
    return bool(self.neck)

  @nn.compact
  def __call__(self, x: layers.Prefix, counts, train=False) -> layers.Prefix:
    """Maps images [B, H, W, C] to a smaller map of features."""
    groups = self.groups()
    norm = lambda group, times=1: self.norm.layer(group, train, times)  # noqa: E731
    x = layers.Conv(groups[0].channels, 7, 2)(x, counts[0], norm(groups[0]))
    x = _pooled(layers.elementwise(nn.relu, x))
    for i, (_, blocks, first, dilation) in enumerate(self.stages):
      for block in range(blocks):
        stride = first if block == 0 else 1
        # Where a stride was, the window reaches half as far.
        reach = max(1, dilation // 2) if block == 0 else dilation
        y = self._block(x, groups[i], counts[i], stride, reach, dilation, norm)
        if block == 0 and (i > 0 or self.expansion > 1):
          wide = layers.Conv(self.expansion * groups[i].channels, 1, stride)
          x = wide(
            x, self.expansion * counts[i], norm(groups[i], self.expansion)
          )
        x = layers.elementwise(nn.relu, layers.add(x, y))
    if not self.neck:
      return x
    end = norm(widths.WidthGroup("neck", self.neck, self.neck))
    return layers.elementwise(nn.relu, layers.Conv(self.neck, 1)(x, None, end))

  def _block(self, x, group, count, stride, reach, dilation, norm):
    """What a block adds to its input."""
    if self.expansion == 1:
      y = layers.Conv(group.channels, 3, stride, reach)(x, count, norm(group))
      y = layers.elementwise(nn.relu, y)
      return layers.Conv(group.channels, 3, 1, dilation)(y, count, norm(group))
    y = layers.Conv(group.channels, 1)(x, count, norm(group))
    y = layers.elementwise(nn.relu, y)
    y = layers.Conv(group.channels, 3, stride, reach)(y, count, norm(group))
    y = layers.elementwise(nn.relu, y)
    times = self.expansion
    wide = layers.Conv(times * group.channels, 1)
    return wide(y, times * count, norm(group, times))


def _pooled(x: layers.Prefix) -> layers.Prefix:
  """The greatest of each window of 3 x 3, every other place."""
  # Nothing is below zero after a relu, so channels not in use stay zero.
  return x._replace(
    values=nn.max_pool(x.values, (3, 3), strides=(2, 2), padding="SAME")
  )


class Join(nn.Module):
  """A 1 x 1 convolution over several prefixes, as if concatenated.

  A prefix of a concatenation would be all of its first parts; what is in use
  are the first channels of each. So each part has a kernel of its own.

  Attributes:
    features: outputs at full width.
  """

  features: int

  @nn.compact
  def __call__(
    self,
    parts: Sequence[layers.Prefix],
    count: layers.Count,
    norm: Callable[[layers.Prefix, jax.Array], layers.Prefix],
  ) -> layers.Prefix:
    """Maps parts of equal width to the first `count` outputs, normalised.

    Args:
      parts: prefixes of one shape.
      count: outputs in use.
      norm: as `layers.Conv` takes it.
    """
    first = parts[0]
    kernel = self.param(
      "kernel",
      nn.initializers.he_normal(in_axis=(0, 1)),
      (len(parts), first.features, self.features),
    )
    bias = self.param("bias", nn.initializers.zeros, (self.features,))
    out, channels = layers.kept(self.features, count), first.values.shape[-1]
    y = sum(
      part.values @ kernel[i, :channels, :out] for i, part in enumerate(parts)
    )
    inputs = len(parts) * first.count
    layers.charge(
      self,
      first.places * inputs * count,
      (inputs + 1) * count,
      first.places * count,
    )
    y = layers.Prefix(layers.silenced(y, count), count, self.features)
    return norm(y, layers.silenced(jnp.asarray(bias[:out]), count))


class AtrousHead(nn.Module):
  """A prediction at every pixel, by an atrous spatial pyramid.

  A 1 x 1 convolution, one a rate, and the mean over all places; their join; a
  convolution, the outputs, and an enlargement to the image's size.

  Attributes:
    outputs: classes, or numbers a pixel.
    hidden: channels at full width of all its layers.
    scale: how many times smaller the features are than the image.
    rates: dilations of its windows.
    norm: behind each hidden convolution but that of the mean, one place.
    quantum: channels that widths are multiples of.
  """

  outputs: int
  hidden: int = 256
  scale: int = 8
  rates: tuple[int, ...] = RATES
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
    relu = lambda x: layers.elementwise(nn.relu, x)  # noqa: E731
    parts = [relu(layers.Conv(self.hidden, 1)(x, count, norm()))]
    parts += [
      relu(layers.Conv(self.hidden, 3, 1, rate)(x, count, norm()))
      for rate in self.rates
    ]
    mean = x._replace(values=x.values.mean((1, 2), keepdims=True))
    mean = relu(layers.Conv(self.hidden, 1)(mean, count))
    shape = (*x.values.shape[:3], mean.values.shape[-1])
    parts.append(mean._replace(values=jnp.broadcast_to(mean.values, shape)))
    y = relu(Join(self.hidden)(parts, count, norm()))
    y = relu(layers.Conv(self.hidden, 3)(y, count, norm()))
    y = layers.Conv(self.outputs, 1)(y).values
    if self.scale == 1:
      return y
    batch, high, wide, _ = y.shape
    larger = (batch, high * self.scale, wide * self.scale, self.outputs)
    return jax.image.resize(y, larger, "bilinear")
