# SPDX-License-Identifier: Apache-2.0
"""Layers that can be made narrower after training.

Every layer holds parameters for its full width, and is told at each call how
many of its channels to use. What flows between layers is a `Prefix`: values,
and how many of their channels are in use. There are two ways to run, decided by
what kind of number a count is:

*  a Python int cuts weights and values to size while the program is traced:
   the compiled program is as small as the narrow network (serving);
*  a traced integer leaves tensors whole and puts zeros behind the channels in
   use: one program for all widths, that `vmap` can map over them (training and
   search).

Both compute the same numbers. The rule of nesting is one: a narrow layer uses
the first channels of a wide one (Yu et al. 2018, arXiv:1812.08928).

Each layer adds what it costs to the variable collection "cost", if the caller
makes that mutable: "macs" (multiply-adds an example), "parameters" (numbers
read), and "activations" (numbers written an example).
"""

from collections.abc import Callable
import math
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from jaxttc.models.slimmable import windows

Count = Any  # an int, or a traced i32[]


class Prefix(NamedTuple):
  """Values of which the first `count` channels are in use.

  Attributes:
    values: f32[B, .., C]; C is `count` if that is an int, else `features`,
      with zeros from `count` on.
    count: an int, or i32[].
    features: channels at full width.
  """

  values: jax.Array
  count: Count
  features: int

  @property
  def places(self) -> int:
    """Positions of an example: 1 for vectors, H W for images."""
    return math.prod(self.values.shape[1:-1])


def whole(values: jax.Array) -> Prefix:
  """All channels of an array, such as a network's input."""
  return Prefix(values, values.shape[-1], values.shape[-1])


def elementwise(function, x: Prefix) -> Prefix:
  """A function with f(0) = 0, such as relu, gelu or tanh, of each value."""
  return x._replace(values=function(x.values))


def add(x: Prefix, y: Prefix) -> Prefix:
  """The sum of two prefixes of one width group."""
  return x._replace(values=x.values + y.values)


def along(
  values: jax.Array, vector: jax.Array | np.ndarray
) -> jax.Array | np.ndarray:
  """A vector f32[C] shaped [1, .., C], to be added to values f32[.., C]."""
  return vector.reshape((1,) * (values.ndim - 1) + vector.shape)


def kept(features: int, count: Count) -> int:
  """Channels to compute: those in use if that is known, else all.

  Raises:
    ValueError: if so many channels cannot be.
  """
  if not isinstance(count, int):
    return features
  if not 0 < count <= features:
    raise ValueError(f"{count} of {features} channels cannot be used")
  return count


def silenced(values: jax.Array, count: Count, axis: int = -1) -> jax.Array:
  """Values with zeros behind the channels in use, unless they are cut off."""
  if isinstance(count, int):
    return values
  shape = [1] * values.ndim
  shape[axis] = values.shape[axis]
  inside = jnp.arange(values.shape[axis]).reshape(shape) < count
  return jnp.where(inside, values, 0)


def charge(module: nn.Module, macs, parameters, activations) -> None:
  """Adds figures to a module's cost; they may be traced.

  Products of many counts overrun an int32; `costs.tabulate` counts in 64 bits.
  """
  found = {"macs": macs, "parameters": parameters, "activations": activations}
  for name, value in found.items():
    module.sow(
      "cost", name, value, init_fn=lambda: 0, reduce_fn=lambda a, b: a + b
    )


class Dense(nn.Module):
  """A dense layer on the last axis.

  Attributes:
    features: outputs at full width.
  """

  features: int

  @nn.compact
  def __call__(self, x: Prefix, count: Count | None = None) -> Prefix:
    """Maps a prefix of inputs to the first `count` outputs, or to all."""
    count = self.features if count is None else count
    kernel = self.param(
      "kernel",
      nn.initializers.lecun_normal(),
      (x.features, self.features),
    )
    bias = self.param("bias", nn.initializers.zeros, (self.features,))
    out = kept(self.features, count)
    y = x.values @ kernel[: x.values.shape[-1], :out]
    y = y + along(y, bias[:out])
    charge(
      self,
      x.places * x.count * count,
      (x.count + 1) * count,
      x.places * count,
    )
    return Prefix(silenced(y, count), count, self.features)


class MapDense(nn.Module):
  """A dense layer over all places of a map, each with weights of its own.

  Unlike a mean over places it knows where things are. Flattening would mix
  places and channels, of which only the first are in use.

  Attributes:
    features: outputs at full width.
  """

  features: int

  @nn.compact
  def __call__(self, x: Prefix, count: Count | None = None) -> Prefix:
    """Maps [B, .., C] to [B, F]: the first `count` outputs, or all."""
    count = self.features if count is None else count
    kernel = self.param(
      "kernel",
      nn.initializers.lecun_normal(in_axis=(0, 1)),
      (x.places, x.features, self.features),
    )
    bias = self.param("bias", nn.initializers.zeros, (self.features,))
    out, channels = kept(self.features, count), x.values.shape[-1]
    flat = x.values.reshape(x.values.shape[0], x.places, channels)
    y = jnp.einsum("bpc,pcf->bf", flat, kernel[:, :channels, :out])
    y = y + along(y, bias[:out])
    charge(
      self,
      x.places * x.count * count,
      (x.places * x.count + 1) * count,
      count,
    )
    return Prefix(silenced(y, count), count, self.features)


class Conv(nn.Module):
  """A convolution over [B, H, W, C], padded so that strides divide the size.

  Attributes:
    features: outputs at full width.
    size: of the square window.
    stride: of the window.
    dilation: between the window's taps.
  """

  features: int
  size: int = 3
  stride: int = 1
  dilation: int = 1

  @nn.compact
  def __call__(
    self,
    x: Prefix,
    count: Count | None = None,
    norm: Callable[[Prefix, jax.Array], Prefix] | None = None,
  ) -> Prefix:
    """Maps a prefix of inputs to the first `count` outputs, or to all.

    Args:
      x: the inputs.
      count: outputs in use.
      norm: maps what comes out before the bias, and the bias f32[C], to the
        result: a norm can take a bias in without another pass over the values.
    """
    count = self.features if count is None else count
    taps = self.size * self.size
    kernel = self.param(
      "kernel",
      nn.initializers.he_normal(),
      (self.size, self.size, x.features, self.features),
    )
    bias = self.param("bias", nn.initializers.zeros, (self.features,))
    out = kept(self.features, count)
    y = windows.convolve(
      x.values,
      kernel[:, :, : x.values.shape[-1], :out],
      self.stride,
      self.dilation,
    )
    bias = silenced(jnp.asarray(bias[:out]), count)
    if norm is None:
      y = y + along(y, bias)
    result = Prefix(silenced(y, count), count, self.features)
    charge(
      self,
      taps * result.places * x.count * count,
      (taps * x.count + 1) * count,
      result.places * count,
    )
    return result if norm is None else norm(result, bias)


class DepthwiseConv(nn.Module):
  """A convolution of each channel by itself; as wide as its input.

  Attributes:
    size: of the square window.
    stride: of the window.
  """

  size: int = 3
  stride: int = 1

  @nn.compact
  def __call__(self, x: Prefix) -> Prefix:
    """Maps a prefix to as many channels."""
    taps = self.size * self.size
    kernel = self.param(
      "kernel",
      nn.initializers.he_normal(in_axis=(0, 1), out_axis=-1),
      (self.size, self.size, 1, x.features),
    )
    bias = self.param("bias", nn.initializers.zeros, (x.features,))
    channels = x.values.shape[-1]
    y = windows.convolve(
      x.values, kernel[..., :channels], self.stride, groups=channels
    )
    y = silenced(y + along(y, bias[:channels]), x.count)
    result = x._replace(values=y)
    charge(
      self,
      taps * result.places * x.count,
      (taps + 1) * x.count,
      result.places * x.count,
    )
    return result


class MLP(nn.Module):
  """Two dense layers around a nonlinearity; the hidden units are slimmed.

  Attributes:
    hidden: units at full width.
  """

  hidden: int

  @nn.compact
  def __call__(self, x: Prefix, count: Count) -> Prefix:
    """Maps a prefix to as many channels, through `count` hidden units."""
    h = elementwise(nn.gelu, Dense(self.hidden, name="up")(x, count))
    return Dense(x.features, name="down")(h, x.count)


class Attention(nn.Module):
  """Self-attention over [B, T, C] that can use fewer of its heads.

  Attributes:
    heads: at full width.
    head_dim: size of each.
  """

  heads: int
  head_dim: int

  @nn.compact
  def __call__(self, x: Prefix, count: Count) -> Prefix:
    """Maps a prefix to as many channels, through the first `count` heads."""
    init = nn.initializers.lecun_normal
    qkv = self.param(
      "qkv",
      init(in_axis=0, out_axis=(1, 2, 3)),
      (x.features, 3, self.heads, self.head_dim),
    )
    out = self.param(
      "out",
      init(in_axis=(0, 1), out_axis=2),
      (self.heads, self.head_dim, x.features),
    )
    heads, channels = kept(self.heads, count), x.values.shape[-1]
    q, k, v = jnp.einsum("btc,cihe->ibthe", x.values, qkv[:channels, :, :heads])
    scores = jnp.einsum("bqhe,bkhe->bhqk", q, k) * self.head_dim**-0.5
    mixed = jnp.einsum("bhqk,bkhe->bqhe", nn.softmax(scores), v)
    mixed = silenced(mixed, count, axis=2)
    y = jnp.einsum("bqhe,hec->bqc", mixed, out[:heads, :, :channels])
    tokens, size = x.places, count * self.head_dim
    charge(
      self,
      4 * tokens * x.count * size + 2 * tokens * tokens * size,
      4 * x.count * size,
      tokens * (4 * size + x.count) + tokens * tokens * count,
    )
    return x._replace(values=silenced(y, x.count))
