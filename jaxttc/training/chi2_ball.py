# SPDX-License-Identifier: Apache-2.0
"""The best that reweighting can do within a chi-square ball.

Among all w >= 0 with E[w] = 1 and E[(w - 1)^2] <= kappa, the mean reward
E[w r] is greatest for w = (r - tau)_+ / E[(r - tau)_+]. While no weight is cut
off this is 1 + sqrt(kappa) (r - E r) / sigma, and gains sqrt(kappa) sigma. That
is the ball of comparators in Setlur et al. (2025), arXiv:2502.12118.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float
import numpy as np

_HALVINGS = 50


class Tilt(NamedTuple):
  """The best reweighting.

  Attributes:
    weights: f32[N], with mean 1.
    value: f32[], the mean reward under them.
    divergence: f32[], E[(w - 1)^2], at most kappa.
  """

  weights: jax.Array
  value: jax.Array
  divergence: jax.Array


def chi2_tilt(
  rewards: Float[Array, " N"] | Float[np.ndarray, " N"],
  kappa: Float[Array, ""] | float,
  chances: Float[Array, " N"] | None = None,
) -> Tilt:
  """The best weights in the ball.

  Args:
    rewards: f32[N], finite.
    kappa: radius of the ball, not negative; may be traced.
    chances: f32[N], of each reward; all are equally likely if None. Rewards
      without a chance are not there.

  Raises:
    ValueError: if kappa is a number below 0.
  """
  if isinstance(kappa, int | float) and not kappa >= 0:
    raise ValueError(f"chi2_tilt: kappa must not be negative, got {kappa}")
  rewards = jnp.asarray(rewards, jnp.float32)
  if chances is None:
    chances = jnp.full(rewards.shape, 1 / rewards.size)
  there = chances > 0
  low = jnp.where(there, rewards, jnp.inf).min()
  high = jnp.where(there, rewards, -jnp.inf).max()
  mean = chances @ rewards
  sigma = jnp.sqrt(chances @ (rewards - mean) ** 2)

  def weigh(tau):
    above = jnp.maximum(rewards - tau, 0.0)
    scale = chances @ above
    return jnp.where(scale > 0, above / jnp.where(scale > 0, scale, 1), 1.0)

  def diverges(weights):
    return chances @ (weights - 1) ** 2

  def halve(_, ends):
    lower, upper = ends
    middle = (lower + upper) / 2
    beyond = diverges(weigh(middle)) > kappa
    return jnp.where(beyond, lower, middle), jnp.where(beyond, middle, upper)

  tau, _ = jax.lax.fori_loop(0, _HALVINGS, halve, (low, high))
  slope = jnp.where(
    sigma > 0, jnp.sqrt(kappa) / jnp.where(sigma > 0, sigma, 1), 0
  )
  whole = 1 + slope * (rewards - mean)
  best = (rewards == high) & there
  top = jnp.where(best, 1 / jnp.maximum(chances @ best, 1e-38), 0.0)
  weights = jnp.where(
    1 + slope * (low - mean) >= 0,
    whole,
    jnp.where(diverges(top) <= kappa, top, weigh(tau)),
  )
  weights = jnp.where(there, weights, 0.0)
  return Tilt(weights, (chances * weights) @ rewards, diverges(weights * there))
