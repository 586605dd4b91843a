# SPDX-License-Identifier: Apache-2.0
"""A critic's part of a policy gradient: advantages of tokens, value loss.

References:
  Schulman et al. (2016), Generalized advantage estimation, arXiv:1506.02438.
  Schulman et al. (2017), PPO, arXiv:1707.06347.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float


class Estimates(NamedTuple):
  """What a critic's values say of sampled tokens.

  Attributes:
    advantages: f32[B, T], not whitened; 0 where the mask is 0.
    returns: f32[B, T], advantages plus values: what the critic should say.
  """

  advantages: Float[Array, "B T"]
  returns: Float[Array, "B T"]


def generalised_advantages(
  rewards: Float[Array, "B T"],
  values: Float[Array, "B T"],
  mask: Bool[Array, "B T"],
  *,
  discount: float = 1.0,
  trace: float = 0.95,
) -> Estimates:
  """Generalised advantage estimation, a sequence a row.

  Tokens that do not count (a tool's reply, padding) are passed over: the token
  before them is followed by the next one that counts.

  Args:
    rewards: of each token; an outcome's reward stands at the last one.
    values: of the critic, before each token.
    mask: tokens that count.
    discount: gamma in [0, 1].
    trace: lambda in [0, 1].

  Raises:
    ValueError: if `discount` or `trace` lies outside [0, 1].
  """
  for name, value in (("discount", discount), ("trace", trace)):
    if not 0 <= value <= 1:
      raise ValueError(f"{name} must be in [0, 1], got {value}")
  values = jax.lax.stop_gradient(values)

  def back(carry, token):
    following, advantage = carry
    reward, value, counts = token
    own = reward + discount * following - value + discount * trace * advantage
    carry = (
      jnp.where(counts, value, following),
      jnp.where(counts, own, advantage),
    )
    return carry, jnp.where(counts, own, 0.0)

  nothing = jnp.zeros(rewards.shape[0], jnp.float32)
  _, advantages = jax.lax.scan(
    back, (nothing, nothing), (rewards.T, values.T, mask.T), reverse=True
  )
  return Estimates(advantages.T, jnp.where(mask, advantages.T + values, 0.0))


def value_loss(
  values: Float[Array, "B T"],
  returns: Float[Array, "B T"],
  old_values: Float[Array, "B T"] | None = None,
  clip: float | None = None,
) -> Float[Array, "B T"]:
  """Half the squared error of each token's value, to be aggregated.

  With a clip, the worse of the error and that of the value kept within `clip`
  of the old one: a step that overshoots gains nothing.

  Raises:
    ValueError: if one of `old_values` and `clip` is given without the other,
      or `clip` is not positive.
  """
  if (old_values is None) != (clip is None):
    raise ValueError("give both old_values and clip, or none")
  returns = jax.lax.stop_gradient(returns)
  error = (values - returns) ** 2
  if old_values is None:
    return error / 2
  if not clip > 0:
    raise ValueError(f"clip must be positive, got {clip}")
  old = jax.lax.stop_gradient(old_values)
  near = old + jnp.clip(values - old, -clip, clip)
  return jnp.maximum(error, (near - returns) ** 2) / 2
