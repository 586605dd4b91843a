# SPDX-License-Identifier: Apache-2.0
"""The Bayesian budget allocation model: tokens where doubt falls fastest.

What b tokens leave undecided about sub-question j falls as a power of b,

    U_j(b) = c_j / b^beta_j + aleatoric_j,

with c_j the doubt at the start and beta_j how fast tokens dispel it. A budget
B is split so that the sum of all U_j is least. At the optimum one more token
would do as much good anywhere: there is a multiplier L with

    c_j beta_j / b_j^(beta_j + 1) = L,   b_j = (c_j beta_j / L)^(1/(beta_j+1)),

clipped to [floor_j, cap_j]. The one unknown, log L, is found by bisection, and
differentiated implicitly (`lax.custom_root`), so that `solve` may sit in
`jit`, `vmap` and `grad` of any order. Everything keeps the dtype it is given.

A step with c = 0 has nothing to gain and gets its floor: rows of unequal
length are padded with it.

The paper's preprint calls the model BBAM, its final version BAM. The paper
assumes beta >= 1; nothing here needs it.

Reference:
  Lin et al. (2025), Plan and Budget: Effective and efficient test-time scaling
    on large language model reasoning, arXiv:2505.16122, equations 5-7. The
    exact solution is ours.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Int
import numpy as np

from jaxttc.allocators import unit_filling

_MOST_TOKENS = 1 << 30


class Split(NamedTuple):
  """A budget, split.

  Attributes:
    tokens: f[M], of each step.
    multiplier: f[], fall of the total doubt that one more token would bring;
      0 where every step has its cap.
  """

  tokens: Float[Array, " m"]
  multiplier: Float[Array, ""]


def uncertainty(
  c: ArrayLike, beta: ArrayLike, tokens: ArrayLike, aleatoric: ArrayLike = 0.0
) -> Float[Array, "..."]:
  """U(tokens) of each step; infinite where c > 0 and there are no tokens.

  It may exceed 1 for few tokens: clip it to read it as a probability.
  """
  c = jnp.asarray(c)
  falls = jnp.where(c > 0, c * jnp.power(tokens, -jnp.asarray(beta)), 0.0)
  return falls + aleatoric


def marginal(
  c: ArrayLike, beta: ArrayLike, tokens: ArrayLike
) -> Float[Array, "..."]:
  """How much one more token lowers U: c beta / tokens^(beta + 1).

  Of the steps of one plan, the largest is the step that is starved, the
  smallest the one that is over-served; at the optimum all are equal.
  """
  beta = jnp.asarray(beta)
  return beta / tokens * uncertainty(c, beta, tokens)


def utility(
  c: ArrayLike,
  beta: ArrayLike,
  tokens: ArrayLike,
  aleatoric: ArrayLike = 0.0,
  scale: ArrayLike = 1.0,
) -> Float[Array, "..."]:
  """r = scale (1 - U) of each step; negative where tokens are very few."""
  return scale * (1 - uncertainty(c, beta, tokens, aleatoric))


def value(
  c: Float[Array, " m"],
  beta: Float[Array, " m"],
  budget: ArrayLike,
  floor: ArrayLike = 0.0,
  cap: ArrayLike = jnp.inf,
) -> Float[Array, ""]:
  """The least total doubt that a budget buys, without its aleatoric part.

  For one beta and no bounds it is K / B^beta, where
  K = (sum_j c_j^(1/(beta+1)))^(beta+1).
  """
  tokens = solve(c, beta, budget, floor, cap).tokens
  return uncertainty(c, beta, tokens).sum()


def solve(
  c: Float[Array, " m"],
  beta: Float[Array, " m"],
  budget: ArrayLike,
  floor: ArrayLike = 0.0,
  cap: ArrayLike = jnp.inf,
) -> Split:
  """Splits a budget so that the sum of all doubts is least.

  Arguments that are traced cannot be checked; `check` says what they must be.

  Args:
    c: f[M], doubt at the start, non-negative, not all 0.
    beta: f[M], positive.
    budget: tokens to split, positive.
    floor: least tokens of a step, f[] or f[M].
    cap: most tokens of a step, f[] or f[M], above `floor`.

  Returns:
    Tokens that sum to the budget, unless the steps with c > 0 reach their
    caps before, and the multiplier.

  Raises:
    ValueError: if an argument that is not traced cannot be; see `check`.
  """
  if not any(
    isinstance(x, jax.core.Tracer) for x in (c, beta, budget, floor, cap)
  ):
    check(c, beta, budget, floor, cap)
  floor, cap = (
    jnp.broadcast_to(jnp.asarray(x, c.dtype), c.shape) for x in (floor, cap)
  )
  budget = jnp.asarray(budget, c.dtype)
  wanted = c > 0
  # The logarithm of c beta, with harmless gradients where c is 0.
  weight = jnp.log(jnp.where(wanted, c, 1.0)) + jnp.log(beta)
  cap = jnp.where(wanted, cap, floor)
  reach = jnp.minimum(cap.sum(), budget)

  def tokens_at(log_price):
    free = jnp.exp((weight - log_price) / (beta + 1))
    return jnp.clip(jnp.where(wanted, free, floor), floor, cap)

  bracket = jax.lax.stop_gradient(
    _bracket(weight, beta, wanted, floor, cap, budget)
  )
  log_price = jax.lax.custom_root(
    lambda log_price: tokens_at(log_price).sum() - reach,
    jnp.zeros((), c.dtype),
    lambda excess, _: _bisect(excess, *bracket),
    _divide,
  )
  saturated = budget >= cap.sum()
  tokens = jnp.where(saturated, cap, tokens_at(log_price))
  return Split(tokens, jnp.where(saturated, 0.0, jnp.exp(log_price)))


def solve_integer(
  c: Float[Array, " m"],
  beta: Float[Array, " m"],
  budget: ArrayLike,
  floor: ArrayLike = 1,
  cap: ArrayLike = _MOST_TOKENS,
) -> Int[Array, " m"]:
  """Splits a budget into whole tokens, exactly.

  Doubt is convex in tokens, so tokens are bought one by one where they lower
  it most (`unit_filling.fill`).

  Args:
    c: as in `solve`.
    beta: as in `solve`.
    budget: whole tokens, at least the sum of floors; times the number of
      steps, below 2^30.
    floor: i32[] or i32[M]; at least 1 where c > 0, since no tokens leave
      infinite doubt.
    cap: i32[] or i32[M].

  Returns:
    i32[M], which sum to the budget if caps let them. Steps with c = 0 get what
    no other step can take.

  Raises:
    ValueError: as `solve`, for a floor below 1, and a budget that is too large.
  """
  if not any(
    isinstance(x, jax.core.Tracer) for x in (c, beta, budget, floor, cap)
  ):
    check(c, beta, budget, floor, cap)
    if np.any((np.asarray(floor) < 1) & (np.asarray(c) > 0)):
      raise ValueError("floor must be at least 1 token where c is positive")
    if float(np.asarray(budget)) * c.shape[0] >= _MOST_TOKENS:
      raise ValueError(
        f"budget is {budget} tokens for {c.shape[0]} steps; expected a product "
        "below 2^30: count in larger units, or use solve"
      )
  floor, cap = (
    jnp.broadcast_to(jnp.asarray(x, jnp.int32), c.shape) for x in (floor, cap)
  )
  budget = jnp.asarray(budget, jnp.int32)
  spare = budget - floor.sum()

  def gain(tokens):
    later = (tokens + 1).astype(c.dtype)
    # c (b^-beta - (b+1)^-beta), without the difference of two near numbers.
    fall = jnp.expm1(-beta * jnp.log1p(-1 / later))
    return jnp.where(c > 0, c * jnp.power(later, -beta) * fall, 0.0)

  return unit_filling.fill(
    gain, floor, jnp.minimum(cap, floor + spare), spare, _MOST_TOKENS
  ).units


def best_total(
  c: Float[Array, " m"], beta: Float[Array, " m"], ceiling: ArrayLike
) -> Float[Array, ""]:
  """The budget at which E^3, squared accuracy over tokens, is largest.

  Accuracy is taken to be ceiling - value(B), which must be positive for some
  B. There B times the multiplier is half the accuracy. For one beta this is
  (K (1 + 2 beta) / ceiling)^(1/beta), K as in `value`.

  Args:
    c: f[M].
    beta: f[M].
    ceiling: accuracy without end of tokens, positive.

  Returns:
    f[], tokens.
  """
  ceiling = jnp.asarray(ceiling, c.dtype)

  def excess(log_budget):
    split = solve(c, beta, jnp.exp(log_budget))
    left = uncertainty(c, beta, split.tokens).sum()
    return 2 * split.multiplier * jnp.exp(log_budget) + left - ceiling

  # B times the multiplier is at most max(beta) times the doubt. So at `high`,
  # split equally, the excess is negative; at `low` one step alone is enough.
  wanted = c > 0
  steps = wanted.sum().astype(c.dtype)
  ratio = jnp.log(jnp.where(wanted, c, 1.0) / ceiling)
  spread = jnp.log(steps * (1 + 2 * jnp.where(wanted, beta, 0.0).max()))
  low = jnp.where(wanted, ratio / beta, -jnp.inf).max()
  high = jnp.where(wanted, (ratio + spread) / beta, -jnp.inf).max()
  return jnp.exp(_bisect(excess, low, high + jnp.log(steps)))


def check(
  c: ArrayLike,
  beta: ArrayLike,
  budget: ArrayLike,
  floor: ArrayLike = 0.0,
  cap: ArrayLike = jnp.inf,
) -> None:
  """Refuses what cannot be split, on the host.

  Raises:
    ValueError: if there are no steps or lengths differ; if a c is negative, a
      beta not positive, a floor negative or above its cap, or one of them not
      a number; if all c are 0; if the budget is not positive or below the sum
      of floors. The step is named.
  """
  c, beta = np.asarray(c), np.asarray(beta)
  if c.ndim != 1 or not c.size:
    raise ValueError(f"c must hold a number a step, got shape {c.shape}")
  if beta.shape != c.shape:
    raise ValueError(f"{beta.size} betas for {c.size} steps")
  floor, cap = (
    _each(name, x, c.shape) for name, x in (("floor", floor), ("cap", cap))
  )
  rules = (
    ("c", c, np.isfinite(c) & (c >= 0), "finite and not negative"),
    ("beta", beta, np.isfinite(beta) & (beta > 0), "finite and positive"),
    ("floor", floor, np.isfinite(floor) & (floor >= 0), "finite, not negative"),
    ("cap", cap, cap >= floor, "at least its floor"),
  )
  for name, numbers, holds, expected in rules:
    if not holds.all():
      step = int(np.argmin(holds))
      raise ValueError(
        f"{name}[{step}] is {numbers[step]}; expected {expected}"
      )
  if not c.any():
    raise ValueError("all c are 0: there is no doubt to spend tokens on")
  total = float(np.asarray(budget))
  if not (np.isfinite(total) and total > 0 and total >= floor.sum()):
    raise ValueError(
      f"budget is {total:g} tokens; expected a positive number, at least the "
      f"{floor.sum():g} tokens of the floors"
    )


def _each(name, numbers, shape):
  try:
    return np.broadcast_to(np.asarray(numbers, np.float64), shape)
  except ValueError as error:
    raise ValueError(
      f"{name} has shape {np.shape(numbers)}; expected {shape} or one number"
    ) from error


def _bracket(weight, beta, wanted, floor, cap, budget):
  """Logarithms of prices at which too much, and at most enough, is spent."""
  tiny = jnp.finfo(weight.dtype).tiny
  log_marginal = lambda tokens: (  # noqa: E731
    weight - (beta + 1) * jnp.log(jnp.maximum(tokens, tiny))
  )
  # No step gets more than the budget, and not all get more than an equal
  # share of what the floors leave.
  most = log_marginal(jnp.minimum(cap, budget))
  share = jnp.maximum(budget - floor.sum(), 0) / weight.shape[0]
  least = log_marginal(floor + share)
  low = jnp.where(wanted, most, jnp.inf).min()
  high = jnp.where(wanted, least, -jnp.inf).max()
  return low, jnp.maximum(high, low)


def _bisect(excess, low, high):
  """Where a falling function crosses 0, between low and high."""
  steps = 64 if jnp.asarray(low).dtype == jnp.float64 else 40

  def halve(_, bracket):
    low, high = bracket
    middle = low + (high - low) / 2
    above = excess(middle) > 0
    return jnp.where(above, middle, low), jnp.where(above, high, middle)

  low, high = jax.lax.fori_loop(0, steps, halve, (low, high))
  return low + (high - low) / 2


def _divide(linear, right):
  """Solves linear(x) = right; 0 where nothing is free to move."""
  slope = linear(jnp.ones_like(right))
  moves = slope != 0
  return jnp.where(moves, right / jnp.where(moves, slope, 1.0), 0.0)
