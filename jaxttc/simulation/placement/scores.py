# SPDX-License-Identifier: Apache-2.0
r"""How well a service would fit a node: two scores, for two moments.

With `f[r] = (capacity - load - usage) / capacity` once the service is placed,

    SIAS = min over r of f            for a new service: roomy nodes first
    SRAS = 1 - mean(f) - eta std(f)   for one that moves: tight fits first,
                                      so that large holes survive, and no
                                      lopsided ones

A node is feasible if min f >= headroom; other nodes score minus infinity. The
names are those of Sliwko and Getov's service scores; the formulas are ours.
"""

import jax.numpy as jnp
from jaxtyping import Array, Float

ETA = 0.5


def left_over(
  capacity: Float[Array, "*B R"],
  load: Float[Array, "*B R"],
  usage: Float[Array, "*B R"],
) -> Float[Array, "*B R"]:
  """Share of each resource that stays free once the service is placed.

  Minus infinity where the node has none of what the service needs, 0 where it
  has none and none is needed.
  """
  none = jnp.where(load + usage > 0, -jnp.inf, 0.0)
  safe = jnp.where(capacity > 0, capacity, 1.0)
  return jnp.where(capacity > 0, (capacity - load - usage) / safe, none)


def sias(
  capacity: Float[Array, "*B R"],
  load: Float[Array, "*B R"],
  usage: Float[Array, "*B R"],
  headroom: float = 0.0,
) -> Float[Array, "*B"]:
  """The initial score of nodes for a service; minus infinity: does not fit."""
  least = left_over(capacity, load, usage).min(-1)
  return jnp.where(least >= headroom, least, -jnp.inf)


def sras(
  capacity: Float[Array, "*B R"],
  load: Float[Array, "*B R"],
  usage: Float[Array, "*B R"],
  headroom: float = 0.0,
  eta: float = ETA,
) -> Float[Array, "*B"]:
  """The re-allocation score of nodes; minus infinity: does not fit."""
  free = left_over(capacity, load, usage)
  fits = free.min(-1) >= headroom
  free = jnp.where(jnp.isfinite(free), free, 0.0)
  return jnp.where(fits, 1.0 - free.mean(-1) - eta * free.std(-1), -jnp.inf)
