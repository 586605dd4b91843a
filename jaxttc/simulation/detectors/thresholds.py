# SPDX-License-Identifier: Apache-2.0
"""Roots of nonincreasing functions, differentiable through the root.

A stage that may keep one event in r sets its threshold where the share of
events above it is 1 / r. That share never grows with the threshold, so halving
an interval always finds it, also where Newton's method would leave a flat
stretch of a measured distribution at its wrong end. Derivatives come from the
implicit function theorem, not from the halvings.
"""

from collections.abc import Callable

import jax
from jax import lax
import jax.numpy as jnp
from jaxtyping import Array, Float


def solve(
  excess: Callable[[Float[Array, ""]], Float[Array, ""]],
  low: Float[Array, ""],
  high: Float[Array, ""],
) -> Float[Array, ""]:
  """The root of a nonincreasing function between `low` and `high`.

  Where the function is flat at its root, any point of the flat is returned,
  and its derivative is zero. An end is returned where the sign does not change.

  Args:
    excess: the function; may close over traced values, in which the root is
      differentiable, forwards and backwards.
    low: where `excess` is not negative.
    high: where `excess` is not positive.

  Returns:
    The root, to the last bits of its dtype.
  """
  low, high = lax.stop_gradient((low, high))
  halvings = jnp.finfo(jnp.result_type(low)).nmant + 12

  def halve(function, _):
    def step(_, ends):
      left, right = ends
      middle = 0.5 * (left + right)
      above = function(middle) > 0
      return jnp.where(above, middle, left), jnp.where(above, right, middle)

    left, right = lax.fori_loop(0, halvings, step, (low, high))
    return 0.5 * (left + right)

  return lax.custom_root(excess, 0.5 * (low + high), halve, _divide_by_slope)


def _divide_by_slope(
  linear: Callable[[jax.Array], jax.Array], target: jax.Array
) -> jax.Array:
  """Solves linear(x) = target for a scalar; zero where the slope is zero."""
  slope = linear(jnp.ones_like(target))
  tiny = jnp.finfo(slope.dtype).tiny
  flat = jnp.abs(slope) <= tiny
  return jnp.where(flat, 0.0, target / jnp.where(flat, 1.0, slope))
