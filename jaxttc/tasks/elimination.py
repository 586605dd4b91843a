# SPDX-License-Identifier: Apache-2.0
"""Guess the right one of K answers, testing candidates one by one.

An episode tests a candidate. Whoever must answer names the right one if it was
tested, or else the likeliest untested one, so the success rate of a forced
answer is known exactly after every episode. The prior over answers falls
geometrically; testing in its order is best at every budget.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int
import numpy as np


class Elimination(NamedTuple):
  """The world.

  Attributes:
    prior: f[K], of each answer being right; sums to 1.
    episodes: in a trace.
  """

  prior: Float[Array, " k"]
  episodes: int


def geometric(
  answers: int = 8, ratio: float = 0.8, episodes: int = 12
) -> Elimination:
  """A world with a geometric prior.

  Raises:
    ValueError: if there are fewer than 2 answers or no episode, or the ratio is
      outside (0, 1].
  """
  if answers < 2 or episodes < 1 or not 0 < ratio <= 1:
    raise ValueError(
      f"{answers} answers, {episodes} episodes and ratio {ratio}; expected at"
      " least 2, at least 1, and a ratio in (0, 1]"
    )
  weights = ratio ** np.arange(answers)
  return Elimination(
    jnp.asarray(weights / weights.sum(), jnp.float32), episodes
  )


def values(
  world: Elimination, right: Int[Array, "*b"], tested: Int[Array, "*b j"]
) -> Float[Array, "*b i"]:
  """Success rates of a forced answer before and after each episode.

  Args:
    world: the world.
    right: the right answer.
    tested: the candidate of each episode.

  Returns:
    f[.., J + 1]; the first before any episode.
  """
  answers = world.prior.shape[0]
  seen = jnp.cumsum(jax.nn.one_hot(tested, answers), axis=-2) > 0
  none = jnp.zeros((*seen.shape[:-2], 1, answers), bool)
  seen = jnp.concatenate([none, seen], axis=-2)
  left = jnp.where(seen, 0.0, world.prior)
  found = jnp.take_along_axis(seen, right[..., None, None], axis=-1)[..., 0]
  mass = jnp.maximum(left.sum(-1), 1e-9)
  return jnp.where(found, 1.0, left.max(-1) / mass)


def oracle(world: Elimination) -> Float[np.ndarray, " j"]:
  """Expected success rates, J_0 on, when tested in the prior's order."""
  prior = np.sort(np.asarray(world.prior, np.float64))[::-1]
  known = np.cumsum(np.append(prior, 0.0))
  at = np.minimum(np.arange(world.episodes + 1), len(prior))
  return np.minimum(known[at], 1.0)
