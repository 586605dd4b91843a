# SPDX-License-Identifier: Apache-2.0
"""Shared encoders whose width is chosen at run time.

An encoder lists its width groups and takes a count for each. Layers joined by
a skip connection are of one group, since they add up.
"""

import math

import flax.linen as nn

from jaxttc.models.slimmable import layers, norms, widths

# MobileNetV2's stages: expansion, channels, blocks, stride of the first
# (Sandler et al. 2018, table 2).
MOBILENET_V2 = (
  (1, 16, 1, 1),
  (6, 24, 2, 2),
  (6, 32, 3, 2),
  (6, 64, 4, 2),
  (6, 96, 3, 1),
  (6, 160, 3, 2),
  (6, 320, 1, 1),
)


def whole_group(name: str, channels: int) -> widths.WidthGroup:
  """The width group of a layer that is never slimmed: it has one width."""
  return widths.WidthGroup(name, channels, channels)


class MLPEncoder(nn.Module):
  """Dense layers over vectors [B, D]; a width group each.

  Attributes:
    hidden: units of each layer.
    norm: between a layer and its nonlinearity.
    quantum: units that widths are multiples of.
    neck: units of one more layer at the end, never slimmed; 0 for none.
  """

  hidden: tuple[int, ...] = (64, 64)
  norm: norms.NormChoice = norms.NormChoice("none")
  quantum: int = 8
  neck: int = 0

  def groups(self) -> tuple[widths.WidthGroup, ...]:
    """A width group a layer."""
    return tuple(
      widths.WidthGroup(f"encoder{i}", units, self.quantum)
      for i, units in enumerate(self.hidden)
    )

  def resized(self, counts: tuple[int, ...]) -> "MLPEncoder":
    """The same with other channels, one a width group."""
    return self.clone(hidden=tuple(counts))

  def split(self) -> tuple["MLPEncoder", ...]:
    """The same as encoders of one width group, to be run one after another."""
    parts = [self.clone(hidden=(units,), neck=0) for units in self.hidden]
    return (*parts[:-1], parts[-1].clone(neck=self.neck))

  def ends_whole(self) -> bool:
    """Whether features are as wide at every width."""
    return bool(self.neck)

  @nn.compact
  def __call__(self, x: layers.Prefix, counts, train=False) -> layers.Prefix:
    """Maps inputs to the features that all tasks share."""
    for i, group in enumerate(self.groups()):
      x = layers.Dense(group.channels)(x, counts[i])
      x = layers.elementwise(nn.gelu, self.norm.layer(group, train)(x))
    if not self.neck:
      return x
    end = self.norm.layer(whole_group("neck", self.neck), train)
    return layers.elementwise(nn.gelu, end(layers.Dense(self.neck)(x)))


class ResidualEncoder(nn.Module):
  """Stages of basic residual blocks over images; a width group a stage.

  Attributes:
    stages: (channels, blocks, stride of the first block) each.
    stem_stride: of the convolution in front, as wide as the first stage; 0
      for no such convolution.
    norm: behind each convolution.
    quantum: channels that widths are multiples of.
    neck: channels of a 1 x 1 convolution at the end, never slimmed; 0 for none.
  """

  stages: tuple[tuple[int, int, int], ...] = ((32, 1, 1), (64, 1, 2))
  stem_stride: int = 1
  norm: norms.NormChoice = norms.NormChoice()
  quantum: int = 8
  neck: int = 0

  def groups(self) -> tuple[widths.WidthGroup, ...]:
    """A width group a stage."""
    return tuple(
      widths.WidthGroup(f"stage{i}", stage[0], self.quantum)
      for i, stage in enumerate(self.stages)
    )

  def reduction(self) -> int:
    """How many times smaller than the image its features are, a side."""
    strides = (stage[2] for stage in self.stages)
    return math.prod(strides, start=self.stem_stride or 1)

  def resized(self, counts: tuple[int, ...]) -> "ResidualEncoder":
    """The same with other channels, one a width group."""
    pairs = zip(counts, self.stages, strict=True)
    return self.clone(stages=tuple((c, *stage[1:]) for c, stage in pairs))

  def split(self) -> tuple["ResidualEncoder", ...]:
    """The same as encoders of one stage, to be run one after another."""
    first, *rest = ((stage,) for stage in self.stages)
    later = [self.clone(stages=stage, stem_stride=0, neck=0) for stage in rest]
    parts = (self.clone(stages=first, neck=0), *later)
    return (*parts[:-1], parts[-1].clone(neck=self.neck))

  def ends_whole(self) -> bool:
    """Whether features are as wide at every width."""
    return bool(self.neck)

  @nn.compact
  def __call__(self, x: layers.Prefix, counts, train=False) -> layers.Prefix:
    """Maps images [B, H, W, C] to a smaller map of features."""
    groups = self.groups()
    norm = lambda group: self.norm.layer(group, train)  # noqa: E731
    if self.stem_stride:
      x = layers.Conv(groups[0].channels, 3, self.stem_stride)(x, counts[0])
      x = layers.elementwise(nn.relu, norm(groups[0])(x))
    for i, (channels, blocks, first) in enumerate(self.stages):
      group, count = groups[i], counts[i]
      for block in range(blocks):
        stride = first if block == 0 else 1
        y = layers.Conv(channels, 3, stride)(x, count, norm(group))
        y = layers.elementwise(nn.relu, y)
        y = layers.Conv(channels, 3)(y, count, norm(group))
        other = i > 0 or stride > 1 or not self.stem_stride
        if block == 0 and other:  # another width, or size
          x = layers.Conv(channels, 1, stride)(x, count, norm(group))
        x = layers.elementwise(nn.relu, layers.add(x, y))
    if not self.neck:
      return x
    end = norm(whole_group("neck", self.neck))
    return layers.elementwise(nn.relu, layers.Conv(self.neck, 1)(x, None, end))


class MobileNetV2Encoder(nn.Module):
  """Inverted residual blocks over images; a width group a stage.

  A block is as many times wider inside as its expansion says, at every width.

  Attributes:
    stages: (expansion, channels, blocks, stride of the first block) each.
    stem: channels of the convolution in front; a width group of its own.
    stem_stride: of that convolution.
    last: channels of the 1 x 1 convolution at the end, never slimmed; 0 for
      none.
    norm: behind each convolution.
    quantum: channels that widths are multiples of.
  """

  stages: tuple[tuple[int, int, int, int], ...] = MOBILENET_V2
  stem: int = 32
  stem_stride: int = 2
  last: int = 1280
  norm: norms.NormChoice = norms.NormChoice(group=4)
  quantum: int = 4

  def groups(self) -> tuple[widths.WidthGroup, ...]:
    """The stem's width group, and one a stage."""
    sizes = [("stem", self.stem)]
    sizes += [(f"stage{i}", s[1]) for i, s in enumerate(self.stages)]
    return tuple(widths.WidthGroup(*size, self.quantum) for size in sizes)

  def reduction(self) -> int:
    """How many times smaller than the image its features are, a side."""
    return math.prod((s[3] for s in self.stages), start=self.stem_stride)

  def resized(self, counts: tuple[int, ...]) -> "MobileNetV2Encoder":
    """The same with other channels, one a width group."""
    pairs = zip(counts[1:], self.stages, strict=True)
    return self.clone(
      stem=counts[0],
      stages=tuple((stage[0], c, *stage[2:]) for c, stage in pairs),
    )

  def ends_whole(self) -> bool:
    """Whether features are as wide at every width."""
    return bool(self.last)

  @nn.compact
  def __call__(self, x: layers.Prefix, counts, train=False) -> layers.Prefix:
    """Maps images [B, H, W, C] to a smaller map of features."""
    relu6 = lambda x: layers.elementwise(nn.relu6, x)  # noqa: E731
    norm = lambda group, times=1: self.norm.layer(group, train, times)  # noqa: E731
    groups = self.groups()
    stem = layers.Conv(self.stem, 3, self.stem_stride)
    x = relu6(stem(x, counts[0], norm(groups[0])))
    before = groups[0]
    for i, (times, channels, blocks, first) in enumerate(self.stages, 1):
      group, count = groups[i], counts[i]
      for block in range(blocks):
        stride = first if block == 0 else 1
        y = x
        if times > 1:
          wide = layers.Conv(times * x.features, 1)
          y = relu6(wide(x, times * x.count, norm(before, times)))
        y = relu6(norm(before, times)(layers.DepthwiseConv(3, stride)(y)))
        y = layers.Conv(channels, 1)(y, count, norm(group))
        x = layers.add(x, y) if block > 0 else y
        before = group
    if not self.last:
      return x
    end = whole_group("last", self.last)
    return relu6(norm(end)(layers.Conv(self.last, 1)(x)))


class VisionTransformerEncoder(nn.Module):
  """A vision transformer with nested heads and hidden units.

  The residual stream keeps its width; every segment of layers has a width group
  for its attention heads and one for its hidden units (Dosovitskiy et al.
  2020, arXiv:2010.11929; Devvrit et al. 2023, arXiv:2310.07707).

  Attributes:
    patch: side of a patch; divides the image's sides.
    width: of the residual stream.
    segments: (layers, attention heads, hidden units) each.
    head_dim: size of a head.
    quantum: hidden units that widths are multiples of.
  """

  patch: int = 4
  width: int = 64
  segments: tuple[tuple[int, int, int], ...] = ((2, 4, 256), (2, 4, 256))
  head_dim: int = 16
  quantum: int = 8

  def groups(self) -> tuple[widths.WidthGroup, ...]:
    """Heads and hidden units, a segment."""
    pairs = [
      (
        widths.WidthGroup(f"heads{i}", heads, 1),
        widths.WidthGroup(f"mlp{i}", mlp, self.quantum),
      )
      for i, (_, heads, mlp) in enumerate(self.segments)
    ]
    return tuple(group for pair in pairs for group in pair)

  def reduction(self) -> int:
    """How many times smaller than the image its features are, a side."""
    return self.patch

  def resized(self, counts: tuple[int, ...]) -> "VisionTransformerEncoder":
    """The same with other heads and hidden units, as `groups` lists them."""
    pairs = zip(self.segments, counts[::2], counts[1::2], strict=True)
    return self.clone(
      segments=tuple((depth, h, m) for (depth, _, _), h, m in pairs)
    )

  def ends_whole(self) -> bool:
    """Whether features are as wide at every width: the stream always is."""
    return True

  @nn.compact
  def __call__(self, x: layers.Prefix, counts, train=False) -> layers.Prefix:
    """Maps images [B, H, W, C] to features [B, H / patch, W / patch, width]."""
    batch, high, wide, _ = x.values.shape
    if high % self.patch or wide % self.patch:
      raise ValueError(
        f"images of {high} x {wide} pixels cannot be cut into patches of "
        f"{self.patch} x {self.patch}"
      )
    norm = lambda: norms.Norm("layer", train=train)  # noqa: E731
    x = layers.Conv(self.width, self.patch, self.patch)(x)
    rows, columns = high // self.patch, wide // self.patch
    places = self.param(
      "places", nn.initializers.normal(0.02), (rows * columns, self.width)
    )
    patches = x.values.reshape(batch, rows * columns, self.width)
    x = x._replace(values=patches + places[None])
    layers.charge(self, 0, places.size, 0)
    for i, (depth, heads, mlp) in enumerate(self.segments):
      for _ in range(depth):
        mix = layers.Attention(heads, self.head_dim)
        x = layers.add(x, mix(norm()(x), counts[2 * i]))
        x = layers.add(x, layers.MLP(mlp)(norm()(x), counts[2 * i + 1]))
    x = norm()(x)
    return x._replace(values=x.values.reshape(batch, rows, columns, self.width))
