# SPDX-License-Identifier: Apache-2.0
"""Drawing ancestors in proportion to weights: four unbiased schemes.

Each scheme returns `P` ancestors such that the expected number of copies of
particle i is P w_i. They differ in variance: multinomial has most; residual
and stratified have less; systematic has counts of floor or ceil of P w_i.
Douc and Cappe, "Comparison of resampling schemes for particle filtering"
(2005).
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

# Lets P w_i that is a whole number up to rounding count as that number.
_ROUNDING = 1e-5

Scheme = Callable[[jax.Array, Array], Array]


def invert(
  weight: Float[Array, " P"], u: Float[Array, " Q"]
) -> Int[Array, " Q"]:
  """The particle at each point `u` in [0, 1) of the cumulative weights.

  Particles of weight 0 are never returned, unless all weights are 0.
  """
  total = jnp.cumsum(weight)
  index = jnp.searchsorted(total, u * total[-1], side="right")
  # Rounding can put the last point on the total itself.
  last = weight.shape[0] - 1 - jnp.argmax(weight[::-1] > 0)
  return jnp.minimum(index, last).astype(jnp.int32)


def multinomial(key: jax.Array, weight: Float[Array, " P"]) -> Int[Array, " P"]:
  """Independent draws."""
  return invert(weight, jax.random.uniform(key, weight.shape))


def stratified(key: jax.Array, weight: Float[Array, " P"]) -> Int[Array, " P"]:
  """One draw in each of `P` equal strata."""
  count = weight.shape[0]
  u = jax.random.uniform(key, weight.shape)
  return invert(weight, (jnp.arange(count) + u) / count)


def systematic(key: jax.Array, weight: Float[Array, " P"]) -> Int[Array, " P"]:
  """One draw a stratum, all at the same place of theirs."""
  count = weight.shape[0]
  return invert(weight, (jnp.arange(count) + jax.random.uniform(key)) / count)


def residual(key: jax.Array, weight: Float[Array, " P"]) -> Int[Array, " P"]:
  """floor(P w_i) copies of each, and independent draws from what is left."""
  count = weight.shape[0]
  expected = count * weight / weight.sum()
  copies = jnp.floor(expected + _ROUNDING)
  ends = jnp.cumsum(copies)
  slot = jnp.arange(count)
  copied = jnp.searchsorted(ends, slot.astype(ends.dtype), side="right")
  left = jnp.maximum(expected - copies, 0.0)
  drawn = invert(left, jax.random.uniform(key, weight.shape))
  return jnp.where(slot < ends[-1], copied, drawn).astype(jnp.int32)


SCHEMES: dict[str, Scheme] = {
  "multinomial": multinomial,
  "residual": residual,
  "stratified": stratified,
  "systematic": systematic,
}
