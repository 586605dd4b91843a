# SPDX-License-Identifier: Apache-2.0
"""Tokens to vectors, and hidden states to logits; of floats or of int8."""

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from jaxttc.models import int8_weights


class Embedding(nn.Module):
  """A row a token; also the head, where that is tied to it.

  Attributes:
    rows: V.
    width: D.
    dtype: to compute in.
  """

  rows: int
  width: int
  dtype: jnp.dtype = jnp.float32

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
    return int8_weights.product(
      "...d,dv->...v",
      hidden.astype(self.dtype),
      self.embedding.T,
      int8_weights.scale_of(self, "embedding"),
      self.dtype,
    )


class Head(nn.Module):
  """Hidden states to logits, where that is not the embedding."""

  rows: int
  dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(self, hidden: Float[Array, "*B D"]) -> Float[Array, "*B V"]:
    """Products with all rows."""
    init = nn.initializers.lecun_normal()
    kernel = self.param("kernel", init, (hidden.shape[-1], self.rows))
    return int8_weights.product(
      "...d,dv->...v",
      hidden.astype(self.dtype),
      kernel,
      int8_weights.scale_of(self, "kernel"),
      self.dtype,
    )
