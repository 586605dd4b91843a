# SPDX-License-Identifier: Apache-2.0
"""What every split of rollouts keeps to: floors, ceilings, and who is fed.

Also the checks of everything that a user hands to an allocator.
"""

from collections.abc import Sequence
import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int
import numpy as np
import numpy.typing as npt

from jaxttc.allocators import rollout_value

SOLVERS = ("greedy", "dp", "uniform", "proportional")
NEEDS = ("probability", "expectation")
# What np.asarray takes, lists of numbers among it.
Values = npt.ArrayLike | Sequence[Any]


@dataclasses.dataclass(frozen=True)
class RolloutRules:
  """Settings of an allocation of rollouts; hashable, so static under `jit`.

  Attributes:
    n_min: least rollouts of a task in the knapsack, 0 < p < 1.
    n_max: most rollouts of any task.
    n_default: rollouts of a task whose rate is not known yet.
    n_failed: least rollouts of a task that never succeeded.
    n_solved: rollouts of a task that always succeeds, if nothing is left over.
    solver: "greedy" (exact for n_min >= 1), "dp" (exact always), or a
      baseline: "uniform", or "proportional" to difficulty 1 - p.
    fallback: whether rollouts beyond what mixed tasks need go to failed tasks.
    need: how that need is estimated: "probability", rollouts until the rarer
      outcome was missed with chance 1 - alpha; "expectation", mean rollouts
      until both outcomes were seen.
    alpha: see `need`.

  Raises:
    ValueError: if a bound is no whole number, n_min > n_max, a floor lies
      outside [0, n_max], alpha outside (0, 1), a name is unknown, or the
      greedy solver is asked for n_min = 0, where it is not exact.
  """

  n_min: int = 2
  n_max: int = 128
  n_default: int = 8
  n_failed: int = 2
  n_solved: int = 2
  solver: str = "greedy"
  fallback: bool = True
  need: str = "probability"
  alpha: float = 0.9

  def __post_init__(self) -> None:
    for name in ("n_min", "n_max", "n_default", "n_failed", "n_solved"):
      number = getattr(self, name)
      if not isinstance(number, int | np.integer) or isinstance(number, bool):
        raise ValueError(f"{name} is {number!r}; expected a whole number")
    if self.n_min > self.n_max:
      raise ValueError(f"n_min is {self.n_min}, above n_max, {self.n_max}")
    for name in ("n_min", "n_default", "n_failed", "n_solved"):
      if not 0 <= getattr(self, name) <= self.n_max:
        raise ValueError(
          f"{name} is {getattr(self, name)}; expected 0 to n_max, {self.n_max}"
        )
    for name, known in (("solver", SOLVERS), ("need", NEEDS)):
      if getattr(self, name) not in known:
        raise ValueError(
          f"{name} {getattr(self, name)!r} is not one of {', '.join(known)}"
        )
    if not 0 < self.alpha < 1:
      raise ValueError(f"alpha is {self.alpha}; expected between 0 and 1")
    if self.n_min == 0 and self.solver == "greedy":
      raise ValueError(
        "n_min is 0, from where one rollout gains nothing and greed is not "
        "exact; expected at least 1, or solver='dp'"
      )


class Classes:
  """Which tasks are unseen, failed, solved or mixed; each bool[M]."""

  def __init__(self, p: Float[Array, " m"], valid: Bool[Array, " m"]):
    self.unseen = ~valid
    self.failed = valid & (p <= 0)
    self.solved = valid & (p >= 1)
    self.mixed = valid & (p > 0) & (p < 1)

  def floors(self, rules: RolloutRules) -> jax.Array:
    """Least rollouts of each task, i32[M]."""
    return jnp.select(
      [self.unseen, self.failed, self.solved],
      [jnp.int32(rules.n_default), rules.n_failed, rules.n_solved],
      rules.n_min,
    ).astype(jnp.int32)


def needed(p: Float[Array, " m"], rules: RolloutRules) -> Int[Array, " m"]:
  """Rollouts that each task needs to be mixed, by `rules.need`, in bounds."""
  if rules.need == "probability":
    cost = rollout_value.rollouts_for_confidence(p, rules.alpha)
  else:
    cost = rollout_value.expected_draws_until_mixed(p)
  return jnp.ceil(jnp.clip(cost, rules.n_min, rules.n_max)).astype(jnp.int32)


def check_rates(
  p: Values, valid: Values | None = None
) -> tuple[np.ndarray, np.ndarray]:
  """Success rates f32[M] and which of them are known, bool[M].

  Raises:
    ValueError: if there are no tasks, shapes differ, or a known rate is not in
      [0, 1]; the task is named.
  """
  rates = np.asarray(p, np.float32)
  if rates.ndim != 1 or not rates.size:
    raise ValueError(f"p must hold a rate a task, got shape {rates.shape}")
  known = (
    np.ones(rates.shape, bool) if valid is None else np.asarray(valid, bool)
  )
  if known.shape != rates.shape:
    raise ValueError(f"valid has shape {known.shape}; expected {rates.shape}")
  bad = known & ~((rates >= 0) & (rates <= 1))
  if bad.any():
    task = int(np.argmax(bad))
    raise ValueError(f"p[{task}] is {rates[task]}; expected a rate in [0, 1]")
  return np.where(known, rates, np.float32(0)), known


def check_total(
  total: int | np.integer, p: np.ndarray, valid: np.ndarray, rules: RolloutRules
) -> None:
  """Refuses a total that no split within the bounds can have.

  Raises:
    ValueError: if `total` is no whole number, or not between the sum of floors,
      which baselines do not have, and the sum of ceilings.
  """
  if not isinstance(total, int | np.integer) or isinstance(total, bool):
    raise ValueError(f"total is {total!r} rollouts; expected a whole number")
  least = 0
  if rules.solver in ("greedy", "dp"):
    ends = ((p <= 0, rules.n_failed), (p >= 1, rules.n_solved))
    each = np.select(
      [~valid, *(at for at, _ in ends)],
      [rules.n_default, *(n for _, n in ends)],
      rules.n_min,
    )
    least = int(each.sum())
  most = rules.n_max * p.size
  if not least <= total <= most:
    raise ValueError(
      f"total is {total} rollouts for {p.size} tasks; expected {least} (their "
      f"floors) to {most} (their ceilings)"
    )
