# SPDX-License-Identifier: Apache-2.0
"""Tokens to vectors, and hidden states to logits; of floats or of int8."""

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from jaxttc.models import host_gradients, int8_weights


class Embedding(nn.Module):
  """A row a token; also the head, where that is tied to it.

  Attributes:
    rows: V.
    width: D.
    dtype: to compute in.
    apart: whether logits are products of a CPU's gradient (`host_gradients`).
  """

  rows: int
  width: int
  dtype: jnp.dtype = jnp.float32
  apart: bool = False

  def setup(self):
    """Creates the table."""
    self.embedding = self.param(
      "embedding",
      nn.initializers.normal(self.width**-0.5),
      (self.rows, self.width),
    )

  def __call__(self, tokens: Int[Array, "*B"]) -> Float[Array, "*B D"]:
    """The rows of tokens."""
    found = jnp.take(self.embedding, tokens, axis=0).astype(self.dtype)
    scale = int8_weights.scale_of(self, "embedding")
    if scale is None:
      return found
    return found * jnp.take(scale, tokens, axis=0).astype(self.dtype)[..., None]

  def attend(self, hidden: Float[Array, "*B D"]) -> Float[Array, "*B V"]:
    """Products of hidden states with all rows."""
    return _logits(
      hidden,
      self.embedding.T,
      int8_weights.scale_of(self, "embedding"),
      self.dtype,
      self.apart,
    )


class Head(nn.Module):
  """Hidden states to logits, where that is not the embedding.

  Attributes are those of `Embedding`.
  """

  rows: int
  dtype: jnp.dtype = jnp.float32
  apart: bool = False

  @nn.compact
  def __call__(self, hidden: Float[Array, "*B D"]) -> Float[Array, "*B V"]:
    """Products with all rows."""
    init = nn.initializers.lecun_normal()
    kernel = self.param("kernel", init, (hidden.shape[-1], self.rows))
    return _logits(
      hidden,
      kernel,
      int8_weights.scale_of(self, "kernel"),
      self.dtype,
      self.apart,
    )


def _logits(hidden, weight, scale, dtype, apart):
  hidden = hidden.astype(dtype)
  if apart:
    return host_gradients.dense(hidden, weight, scale, dtype)
  return int8_weights.product("...d,dv->...v", hidden, weight, scale, dtype)
