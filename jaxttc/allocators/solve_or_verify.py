# SPDX-License-Identifier: Apache-2.0
"""How many solutions to sample and how often to verify each, for one budget.

S solutions of T_s tokens by a model of P parameters, each verified V times in
T_v tokens by a model of P_v parameters, take about

    C(S, V) = 2 P T_s S + 2 P_v S (V T_v + r(V) T_p)                     FLOP,

where a verifier first reads T_p tokens of problem and solution: V times where
nothing is cached (r = V), once where its prefix is (r = 1), or, as published
comparisons count, at no cost (r = 0). With one model and r = 0 that is
S (1 + lambda V) solutions' worth, lambda = T_v / T_s; V = 0 is a plain vote.

Reference:
  Singhi et al. (2025), When To Solve, When To Verify: compute-optimal problem
    solving and generative verification for LLM reasoning, arXiv:2504.01005,
    section 3 (the compute model).
"""

from collections.abc import Callable
import dataclasses
from typing import NamedTuple

from jaxtyping import Float, Int, Shaped
import numpy as np

# Numbers, as many as there are splits.
Numbers = Shaped[np.ndarray, "..."] | int | float
PREFILL = ("free", "cached", "uncached")
_SLACK = 1e-9  # of a budget: whole multiples must not be lost to rounding


@dataclasses.dataclass(frozen=True, kw_only=True)
class SplitCosts:
  """What solutions and verifications cost.

  Attributes:
    solution_tokens: T_s, mean tokens of a sampled solution.
    verification_tokens: T_v, mean tokens of a sampled verification.
    solver_parameters: P.
    verifier_parameters: P_v.
    prefix_tokens: T_p, mean tokens that a verifier reads first.
    prefill: one of `PREFILL`, what reading them costs.

  Raises:
    ValueError: naming the field, if a size is not positive or the prefill is
      unknown.
  """

  solution_tokens: float | int
  verification_tokens: float | int
  solver_parameters: float | int = 1.0
  verifier_parameters: float | int = 1.0
  prefix_tokens: float | int = 0.0
  prefill: str = "free"

  def __post_init__(self) -> None:
    for name in (
      "solution_tokens",
      "verification_tokens",
      "solver_parameters",
      "verifier_parameters",
    ):
      value = getattr(self, name)
      if not 0 < value < np.inf:
        raise ValueError(
          f"SplitCosts.{name} must be positive and finite, got {value}"
        )
    if not 0 <= self.prefix_tokens < np.inf:
      raise ValueError(
        "SplitCosts.prefix_tokens must be finite and not negative, got "
        f"{self.prefix_tokens}"
      )
    if self.prefill not in PREFILL:
      raise ValueError(
        f"SplitCosts.prefill must be one of {', '.join(PREFILL)}, got "
        f"{self.prefill!r}"
      )

  @classmethod
  def of_ratio(cls, ratio: float | int) -> "SplitCosts":
    """One model, prefill free, and a verification of `ratio` solutions.

    Raises:
      ValueError: if the ratio is not positive.
    """
    return cls(solution_tokens=1.0, verification_tokens=ratio)

  @property
  def ratio(self) -> float:
    """Lambda: FLOP of generating a verification over those of a solution."""
    return (self.verifier_parameters * self.verification_tokens) / (
      self.solver_parameters * self.solution_tokens
    )

  def solutions_worth(
    self,
    solutions: Numbers,
    verifications: Numbers,
  ) -> Float[np.ndarray, "..."]:
    """Cost of S solutions, each verified V times, in units of one solution.

    Raises:
      ValueError: if there is no solution, or V is negative.
    """
    s = np.asarray(solutions, np.float64)
    v = np.asarray(verifications, np.float64)
    if (s < 1).any() or (v < 0).any():
      raise ValueError(
        "SplitCosts: expected S >= 1 and V >= 0, got S down to "
        f"{s.min():g} and V down to {v.min():g}"
      )
    reads = {"free": 0.0 * v, "cached": 1.0 * (v > 0), "uncached": v}
    prefix = self.ratio * self.prefix_tokens / self.verification_tokens
    return np.asarray(s * (1 + self.ratio * v + prefix * reads[self.prefill]))

  def flops(
    self,
    solutions: Numbers,
    verifications: Numbers,
  ) -> Float[np.ndarray, "..."]:
    """The same in FLOP: 2 a parameter and token, attention left out."""
    unit = 2 * self.solver_parameters * self.solution_tokens
    return np.asarray(unit * self.solutions_worth(solutions, verifications))

  def most_verifications(
    self, budget: float | int, solutions: Numbers
  ) -> Int[np.ndarray, "..."]:
    """The largest V that a budget pays for at S solutions; -1 if not S.

    Args:
      budget: in units of one solution.
      solutions: S, at least 1.
    """
    s = np.asarray(solutions, np.float64)
    spare = budget * (1 + _SLACK) / s - 1
    prefix = self.ratio * self.prefix_tokens / self.verification_tokens
    once = prefix if self.prefill == "cached" else 0.0
    each = self.ratio + (prefix if self.prefill == "uncached" else 0.0)
    most = np.floor((spare - once) / each)
    return np.where(spare < 0, -1, np.maximum(most, 0)).astype(np.int64)


class Split(NamedTuple):
  """How a budget is split.

  Attributes:
    solutions: S, at least 1.
    verifications: V of each solution; 0 is a plain vote.
  """

  solutions: int
  verifications: int


class SplitModel(NamedTuple):
  """What a split costs and how often it succeeds.

  Attributes:
    costs: prices.
    success: (S i64[M], V i64[M]) -> f64[M], success rate of each split.
    most_solutions: largest S that is asked about.
    most_verifications: largest V that is asked about; 0 never verifies.
  """

  costs: SplitCosts
  success: Callable[[np.ndarray, np.ndarray], np.ndarray]
  most_solutions: int
  most_verifications: int


def feasible_splits(
  budget: float | int, model: SplitModel
) -> tuple[Int[np.ndarray, " M"], Int[np.ndarray, " M"]]:
  """All pairs (S, V) that a budget pays for, V = 0 among them.

  Args:
    budget: in units of one solution, at least 1.
    model: prices and limits.

  Raises:
    ValueError: if the budget does not pay for one solution, or a limit cannot
      be.
  """
  if not 1 <= budget < np.inf:
    raise ValueError(
      f"the budget must pay for at least one solution, got {budget} of one"
    )
  if model.most_solutions < 1 or model.most_verifications < 0:
    raise ValueError(
      "SplitModel: expected most_solutions >= 1 and most_verifications >= 0, "
      f"got {model.most_solutions} and {model.most_verifications}"
    )
  largest = min(model.most_solutions, int(budget * (1 + _SLACK)))
  solutions = np.arange(1, largest + 1)
  most = np.minimum(
    model.costs.most_verifications(budget, solutions),
    model.most_verifications,
  )
  s = np.repeat(solutions, most + 1)
  v = np.concatenate([np.arange(count + 1) for count in most])
  return s, v


def allocate(budget: float | int, model: SplitModel) -> Split:
  """The split of a budget that succeeds most often, by trying all.

  Args:
    budget: in units of one solution, at least 1.
    model: prices, success rates and limits.

  Returns:
    The pair; of equally good ones the cheapest, then that of fewest
    verifications.

  Raises:
    ValueError: as `feasible_splits`; or if a success rate is NaN or not one a
      pair.
  """
  s, v = feasible_splits(budget, model)
  value = np.asarray(model.success(s, v), np.float64)
  if value.shape != s.shape or np.isnan(value).any():
    raise ValueError(
      f"SplitModel.success: expected {s.size} numbers, got shape "
      f"{value.shape}" + (" with NaN" if np.isnan(value).any() else "")
    )
  best = np.lexsort((v, model.costs.solutions_worth(s, v), -value))[0]
  return Split(int(s[best]), int(v[best]))
