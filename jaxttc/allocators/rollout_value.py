# SPDX-License-Identifier: Apache-2.0
"""What n rollouts of a task are worth that succeeds with probability p.

Rewards are 0 or 1, and an advantage is taken inside a task's group. A group
teaches something only if it is mixed: at least one success and one failure.

    mix(n, p)   = 1 - p^n - (1 - p)^n
    gain(p)     = p (1 - p)^2
    value(n, p) = mix(n, p) gain(p)

`gain` is the first-order rise of p when a gradient step raises log p: for
p = sigmoid(z), a step of size e moves z by e (1 - p), and dp/dz = p (1 - p).
From one rollout on the value is concave in n, each increment at most
max(p, 1 - p) times the one before; from 0 to 1 it gains nothing.

Functions broadcast, are safe in float32 near p = 0 and p = 1, and can be
differentiated with respect to p.

Reference:
  Li et al. (2025), Knapsack RL: Unlocking exploration of LLMs via optimizing
    budget allocation, arXiv:2509.25849.
"""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Float


def mix_probability(n: ArrayLike, p: ArrayLike) -> Float[Array, "..."]:
  """Probability that n rollouts hold a success and a failure; 0 for n <= 1."""
  n, p = _floats(n, p)
  rare = jnp.minimum(p, 1 - p)
  # Of the rarer outcome: at least one, less those groups that hold only it.
  mixed = -jnp.expm1(n * jnp.log1p(-rare)) - _power(rare, n)
  return jnp.where(n > 1, mixed, 0.0)


def info_gain(p: ArrayLike) -> Float[Array, "..."]:
  """First-order rise of p by one gradient step: p (1 - p)^2."""
  (p,) = _floats(p)
  return p * jnp.square(1 - p)


def rollout_value(n: ArrayLike, p: ArrayLike) -> Float[Array, "..."]:
  """Worth of n rollouts: the chance of a mixed group, times its gain."""
  return mix_probability(n, p) * info_gain(p)


def value_increment(n: ArrayLike, p: ArrayLike) -> Float[Array, "..."]:
  """Worth of the rollout after the n-th: value(n + 1) - value(n)."""
  n, p = _floats(n, p)
  step = _power(p, n) * (1 - p) + _power(1 - p, n) * p
  return jnp.where(n >= 1, info_gain(p) * step, 0.0)


def posterior_increments(
  alpha: Float[Array, " m"], beta: Float[Array, " m"], n_max: int
) -> Float[Array, "m n_max"]:
  """Expected increments where p is only known as Beta(alpha, beta).

  Expectations of p^i (1 - p)^j are ratios of rising factorials, so the whole
  table is a product along its rows. Rows fall from the second entry on.

  Args:
    alpha: successes seen, plus the prior's; positive.
    beta: failures seen, plus the prior's; positive.
    n_max: increments 0 -> 1, ..., n_max - 1 -> n_max; static.

  Returns:
    f[M, n_max], E[value(n + 1, p) - value(n, p)].
  """
  n = jnp.arange(n_max, dtype=alpha.dtype)[None, :]
  a, b = alpha[:, None], beta[:, None]
  whole = a + b
  four = whole * (whole + 1) * (whole + 2) * (whole + 3)
  # E[p^(n+1) q^3] and E[p^2 q^(n+2)], from n to n + 1 by one factor.
  successes = jnp.cumprod((a + n + 1) / (whole + n + 4), axis=1)
  failures = jnp.cumprod((b + n + 2) / (whole + n + 4), axis=1)
  first = a * b * (b + 1) / four
  ones = jnp.ones_like(a)
  shifted = lambda x: jnp.concatenate([ones, x[:, :-1]], axis=1)  # noqa: E731
  table = first * ((b + 2) * shifted(successes) + (a + 1) * shifted(failures))
  return jnp.where(n >= 1, table, 0.0)


def expected_draws_until_mixed(p: ArrayLike) -> Float[Array, "..."]:
  """Mean number of rollouts until both outcomes were seen: 1/(p q) - 1."""
  (p,) = _floats(p)
  spread = p * (1 - p)
  return jnp.where(
    spread > 0, 1 / jnp.where(spread > 0, spread, 1) - 1, jnp.inf
  )


def rollouts_for_confidence(
  p: ArrayLike, alpha: ArrayLike = 0.9
) -> Float[Array, "..."]:
  """Rollouts after which the rarer outcome was missed with chance 1 - alpha."""
  p, alpha = _floats(p, alpha)
  rare = jnp.minimum(p, 1 - p)
  some = jnp.where(rare > 0, rare, 0.5)
  needed = jnp.log1p(-alpha) / jnp.log1p(-some)
  return jnp.where(rare > 0, needed, jnp.inf)


def expected_effective_ratio(
  n: Float[Array, " m"], p: Float[Array, " m"]
) -> Float[Array, ""]:
  """Expected share of rollouts that sit in mixed groups.

  Args:
    n: rollouts of each task.
    p: success rates.
  """
  return (n * mix_probability(n, p)).sum() / n.sum()


def _floats(*values: ArrayLike) -> list[jax.Array]:
  """Arrays of one floating type and shape."""
  arrays = [jnp.asarray(value) for value in values]
  kind = jnp.result_type(*arrays, jnp.float32)
  return list(jnp.broadcast_arrays(*(x.astype(kind) for x in arrays)))


def _power(base, exponent):
  """base ** exponent for base in [0, 1], with finite gradients; 0^0 = 1."""
  some = jnp.where(base > 0, base, 1.0)
  power = jnp.exp(exponent * jnp.log(some))
  return jnp.where((base > 0) | (exponent == 0), power, 0.0)
