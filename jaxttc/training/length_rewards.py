# SPDX-License-Identifier: Apache-2.0
"""Rewards for right answers of a length that was asked for.

Length-controlled policy optimisation (Aggarwal and Welleck 2025, "L1",
arXiv:2503.04697): the prompt names a number of tokens N, and a rollout of n
tokens is rewarded for its answer and for n,

    exact   1[right] - alpha |N - n|
    max     1[right] clip(alpha (N - n) + delta, 0, 1)

The authors' code also has forms that are worth most just at the target,

    gaussian  1[right] exp(-((n - N) / (width N))^2 / 2)
    binary    1[right] 1[|n - N| <= tolerance N]

whose width and tolerance are shares of the target, so that one setting serves
short and long ones; binary has no gradient in n, and says nothing about how far
off a length is.

Their n counts the whole response, not its thinking alone: a model trained so
does not keep budgets of thinking. All take arrays of any one shape, go under
`jit`, `vmap` and `grad`, and their values are what
`group_advantages.group_advantages` takes, flat.
"""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int
import numpy as np

ALPHA = 3e-4
"""Reward of a token, in the paper."""
DELTA = 0.5
"""Reward of a right answer of just the length allowed, in the paper."""
WIDTH = 0.1
"""Of the bell, as a share of the target; our default."""
TOLERANCE = 0.1
"""Of binary rewards, likewise."""

Right = Bool[Array | np.ndarray, "..."]
Lengths = Int[Array | np.ndarray, "..."]


def lcpo_exact(
  right: Right, length: Lengths, target: Lengths, *, alpha: float = ALPHA
) -> Float[Array, "..."]:
  """Rewards right answers, and lengths near the target (equation 1).

  Args:
    right: whether each answer is.
    length: tokens of each rollout, n.
    target: tokens that its prompt asked for, N.
    alpha: what a token of distance costs, >= 0.

  Returns:
    f32 of their shape, at most 1; below 0 for wrong answers.

  Raises:
    ValueError: for a negative alpha, or shapes that differ.
  """
  _check(right, length, target, alpha)
  distance = jnp.abs(jnp.asarray(target) - jnp.asarray(length))
  return jnp.float32(right) - jnp.float32(alpha) * distance


def lcpo_max(
  right: Right,
  length: Lengths,
  target: Lengths,
  *,
  alpha: float = ALPHA,
  delta: float = DELTA,
) -> Float[Array, "..."]:
  """Rewards right answers, more if they are shorter than the target.

  Equation 2. A little longer than the target is still worth something, so
  that the gradient does not vanish there.

  Args:
    right: whether each answer is.
    length: tokens of each rollout, n.
    target: most tokens that its prompt allowed, N.
    alpha: what a token is worth, >= 0.
    delta: reward of a right answer at the target, in [0, 1].

  Returns:
    f32 of their shape, in [0, 1]; 0 for wrong answers.

  Raises:
    ValueError: for a negative alpha, a delta out of range, or shapes that
      differ.
  """
  _check(right, length, target, alpha)
  if not 0 <= delta <= 1:
    raise ValueError(f"lcpo_max: delta is {delta}; expected 0..1")
  spare = jnp.asarray(target) - jnp.asarray(length)
  worth = jnp.float32(alpha) * spare + jnp.float32(delta)
  return jnp.float32(right) * jnp.clip(worth, 0.0, 1.0)


def lcpo_gaussian(
  right: Right, length: Lengths, target: Lengths, *, width: float = WIDTH
) -> Float[Array, "..."]:
  """Rewards right answers, by a bell around the target.

  Args:
    right: whether each answer is.
    length: tokens of each rollout, n.
    target: tokens that its prompt asked for, N, at least 1.
    width: standard deviation of the bell, as a share of the target, > 0.

  Returns:
    f32 of their shape, in [0, 1]; 0 for wrong answers.

  Raises:
    ValueError: for a width that is not positive, or shapes that differ.
  """
  _check_share("width", width, right, length, target)
  off = _distance_share(length, target) / jnp.float32(width)
  return jnp.float32(right) * jnp.exp(-jnp.square(off) / 2)


def lcpo_binary(
  right: Right,
  length: Lengths,
  target: Lengths,
  *,
  tolerance: float = TOLERANCE,
) -> Float[Array, "..."]:
  """Rewards right answers whose length is near enough to the target.

  Args:
    right: whether each answer is.
    length: tokens of each rollout, n.
    target: tokens that its prompt asked for, N, at least 1.
    tolerance: largest distance, as a share of the target, > 0.

  Returns:
    f32 of their shape, 0 or 1.

  Raises:
    ValueError: for a tolerance that is not positive, or shapes that differ.
  """
  _check_share("tolerance", tolerance, right, length, target)
  near = _distance_share(length, target) <= jnp.float32(tolerance)
  return jnp.float32(right) * jnp.float32(near)


def _distance_share(length, target) -> Float[Array, "..."]:
  """|n - N| / N; a target of 0 is taken for 1."""
  aim = jnp.asarray(target)
  distance = jnp.abs(aim - jnp.asarray(length))
  return jnp.float32(distance) / jnp.maximum(aim, 1)


def _check_share(name, share, right, length, target):
  if not 0 < share < float("inf"):
    raise ValueError(f"lcpo: {name} is {share}; expected finite and > 0")
  _check(right, length, target)


def _check(right, length, target, alpha=0.0):
  if not 0 <= alpha < float("inf"):
    raise ValueError(f"lcpo: alpha is {alpha}; expected finite and >= 0")
  shapes = [np.shape(x) for x in (right, length, target)]
  if len(set(shapes)) > 1:
    raise ValueError(
      "lcpo: right, length and target of shapes "
      f"{', '.join(map(str, shapes))}; expected one shape"
    )
