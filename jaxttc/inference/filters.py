# SPDX-License-Identifier: Apache-2.0
"""What the usual samplers do to logits, as functions of a batch of rows.

Every parameter is one number for all rows, or an array f32[B, 1] with one a
row: `controllers` makes the first into controllers whose settings are part of
the program, `row_sampling` the second into one whose settings are data.

A token that is dropped has logit -inf. Results are float32, unnormalised. A
row with a NaN keeps it, so that the draw can tell.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

Rows = Float[Array, "b 1"]


def cool(
  logits: Float[Array, "b v"], tau: Rows | float | int
) -> Float[Array, "b v"]:
  """Divides by tau > 0, with the maximum moved to 0.

  So a small tau cannot overflow to +inf.
  """
  logits = logits.astype(jnp.float32)
  return (logits - logits.max(axis=-1, keepdims=True)) / tau


def keep_best(logits: Float[Array, "b v"]) -> Float[Array, "b v"]:
  """Keeps the likeliest token, the lowest id on ties."""
  logits = logits.astype(jnp.float32)
  best = jnp.argmax(logits, axis=-1, keepdims=True)
  ids = jax.lax.broadcasted_iota(best.dtype, logits.shape, 1)
  return jnp.where(ids == best, logits, -jnp.inf)


def keep_top_k(
  logits: Float[Array, "b v"], k: Int[Array, "b 1"] | int
) -> Float[Array, "b v"]:
  """Keeps the logits that are >= the k-th largest; ties with it are kept."""
  logits = logits.astype(jnp.float32)
  least = threshold(logits, jnp.ones_like(logits), k)
  return jnp.where(logits < least, -jnp.inf, logits)


def keep_top_p(
  logits: Float[Array, "b v"], p: Rows | float | int
) -> Float[Array, "b v"]:
  """Keeps the smallest set of likeliest tokens with probability >= p.

  In order of falling probability (rising id on ties), a token is kept while
  the mass before it is < p. The likeliest token is always kept.
  """
  logits = logits.astype(jnp.float32)
  mass = jax.nn.softmax(logits, axis=-1)
  least = threshold(mass, mass, p)
  above = jnp.where(mass > least, mass, 0).sum(axis=-1, keepdims=True)
  tie = mass == least
  before = above + (jnp.cumsum(tie, axis=-1) - 1) * least
  return jnp.where((mass < least) | (tie & (before >= p)), -jnp.inf, logits)


def keep_min_p(
  logits: Float[Array, "b v"], log_m: Rows | float
) -> Float[Array, "b v"]:
  """Keeps tokens at least exp(`log_m`) times as likely as the likeliest."""
  logits = logits.astype(jnp.float32)
  floor = logits.max(axis=-1, keepdims=True) + log_m
  return jnp.where(logits < floor, -jnp.inf, logits)


def threshold(
  x: Float[Array, "b v"],
  weight: Float[Array, "b v"],
  limit: Array | float | int,
) -> Float[Array, "b 1"]:
  """The smallest t for which the entries of x above t weigh < limit.

  It is the entry of x at which the weight, summed from the largest down,
  reaches the limit. Bisecting the 2^32 floats in their order takes 32 sums,
  several times less than sorting on a CPU, and is as exact.

  Args:
    x: f32[B, V].
    weight: f32[B, V], >= 0.
    limit: > 0; a number, or [B, 1].

  Returns:
    t f32[B, 1]; NaN, below which nothing lies, where all of x weighs < limit
    or a weight is NaN.
  """

  def halve(_: Array, bounds: tuple[Array, Array]) -> tuple[Array, Array]:
    low, high = bounds
    middle = (low & high) + ((low ^ high) >> 1)  # the mean, rounded down
    heavy = jnp.where(ordered > middle, weight, 0).sum(axis=-1, keepdims=True)
    light = heavy < limit
    return jnp.where(light, low, middle + 1), jnp.where(light, middle, high)

  def flip(bits: Array) -> Array:
    """Between the bits of a float and integers in the floats' order."""
    return bits ^ ((bits >> 31) & 0x7FFFFFFF)

  ordered = flip(jax.lax.bitcast_convert_type(x, jnp.int32))
  ends = jnp.iinfo(jnp.int32)
  low = jnp.full((x.shape[0], 1), ends.min, jnp.int32)
  high = jnp.full((x.shape[0], 1), ends.max, jnp.int32)
  _, high = jax.lax.fori_loop(0, 32, halve, (low, high))
  return jax.lax.bitcast_convert_type(flip(high), jnp.float32)
