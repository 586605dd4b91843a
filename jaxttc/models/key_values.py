# SPDX-License-Identifier: Apache-2.0
"""Keys and values as attention stores them, and what a call attends to."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Int

from jaxttc.models import config as config_lib


class KeyValues(NamedTuple):
  """Keys and values of one layer.

  Keys lie transposed, so that both products of attention read their operand
  along its last axis as it is stored; on CPU that makes the first one three
  times as fast.

  Attributes:
    k: [G, K, E, C] for an arena, [G, R, K, E, S] for a scratch.
    v: [G, K, C, E] for an arena, [G, R, K, S, E] for a scratch.
  """

  k: jax.Array
  v: jax.Array


def empty_key_values(
  config: config_lib.TransformerConfig,
  batch: tuple[int, ...],
  length: int,
  dtype: jax.typing.DTypeLike = jnp.float32,
) -> tuple[KeyValues, ...]:
  """Zeros for `length` tokens in every layer, under leading axes `batch`."""
  shape = (*batch, config.kv_heads)
  return tuple(
    KeyValues(
      jnp.zeros((*shape, config.head_dim, length), dtype),
      jnp.zeros((*shape, length, config.head_dim), dtype),
    )
    for _ in range(config.layers)
  )


def widen(layers: tuple[KeyValues, ...], more: int) -> tuple[KeyValues, ...]:
  """The same keys and values with room for `more` tokens behind them."""

  def pad(x, axis):
    sizes = [(0, 0)] * x.ndim
    sizes[axis] = (0, more)
    return jnp.pad(x, sizes)

  return tuple(KeyValues(pad(kv.k, -1), pad(kv.v, -2)) for kv in layers)


def narrow(layers: tuple[KeyValues, ...], length: int) -> tuple[KeyValues, ...]:
  """The first `length` tokens."""
  return tuple(
    KeyValues(kv.k[..., :length], kv.v[..., :length, :]) for kv in layers
  )


def shift(
  layers: tuple[KeyValues, ...], by: Int[Array, ""]
) -> tuple[KeyValues, ...]:
  """Moves every token `by` places to the front, the first ones to the end."""
  return tuple(
    KeyValues(jnp.roll(kv.k, -by, axis=-1), jnp.roll(kv.v, -by, axis=-2))
    for kv in layers
  )


def flattened(layers: tuple[KeyValues, ...]) -> tuple[KeyValues, ...]:
  """A scratch as a decoding loop carries it: [G R K, E, S] and [G R K, S, E].

  With axes of size one in between, XLA for CPU does not write a column in
  place, but copies the whole scratch at every step.
  """
  return tuple(
    KeyValues(*(x.reshape(-1, *x.shape[-2:]) for x in kv)) for kv in layers
  )


class Context(NamedTuple):
  """What a call attends to beside its own tokens.

  Attributes:
    arena: a `KeyValues` a layer.
    arena_mask: bool[G, R, C], slots that hold an ancestor of the row.
    scratch: a `KeyValues` a layer, `flattened` or not; None if the call's
      own tokens are all that is private.
    scratch_mask: bool[G, R, S], columns the row may see, its own included.
    column: i32[], the column that this call's single token is written to.
    arena_position: i32[G, C], positions of the arena's tokens; local layers
      need it.
    length: i32[G, R], given where a call's own mask says no more than this:
      each row is one text from its start, so many of its tokens are real, and
      each sees the real ones up to itself.
  """

  arena: tuple[KeyValues, ...] | None = None
  arena_mask: Bool[Array, "G R C"] | None = None
  scratch: tuple[KeyValues, ...] | None = None
  scratch_mask: Bool[Array, "G R S"] | None = None
  column: Int[Array, ""] | None = None
  arena_position: Int[Array, "G C"] | None = None
  length: Int[Array, "G R"] | None = None


def causal_mask(
  segments: Int[Array, "B T"],
) -> Bool[Array, "B 1 T T"]:
  """Causal mask of packed sequences: token i sees j <= i of its own segment.

  Segment 0 is padding; it sees and is seen by padding only.
  """
  steps = segments.shape[-1]
  causal = jnp.tril(jnp.ones((steps, steps), bool))
  same = segments[:, None, :, None] == segments[:, None, None, :]
  return same & causal[None, None]
