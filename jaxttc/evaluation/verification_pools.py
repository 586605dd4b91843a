# SPDX-License-Identifier: Apache-2.0
"""Pools of solutions, and of their verifications.

P problems with n sampled solutions each, and Vmax sampled verifications of
each solution. What solutions come to is in `verification_estimators`.

Reference:
  Singhi et al. (2025), When To Solve, When To Verify, arXiv:2504.01005.
"""

from collections.abc import Sequence
import dataclasses
from typing import NamedTuple

from jaxtyping import Bool, Float, Int
import numpy as np

AGGREGATES = ("mean", "median", "logit_mean", "beta_posterior")
NAN_POLICIES = ("drop", "raise")
_CLIP = 1e-3  # scores of 0 and 1 have no logit


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class SolutionPool:
  """Sampled solutions of some problems.

  Attributes:
    ids: name of each problem.
    answers: i64[P, n], class of each answer within its problem; -1 for none.
    correct: bool[P, n].
    tokens: i64[P, n], tokens of each solution.
    voting: the equivalence that made the classes.
    grading: the equivalence that said what is correct.

  Raises:
    ValueError: if the pool is empty, shapes differ, an id occurs twice, a
      solution without an answer is correct, or tokens are negative.
  """

  ids: tuple[str, ...]
  answers: Int[np.ndarray, "P n"]
  correct: Bool[np.ndarray, "P n"]
  tokens: Int[np.ndarray, "P n"]
  voting: str = "string"
  grading: str = "string"

  def __post_init__(self) -> None:
    shape = self.answers.shape
    if len(shape) != 2 or 0 in shape:
      raise ValueError(f"SolutionPool: empty, answers of shape {shape}")
    for name in ("correct", "tokens"):
      if getattr(self, name).shape != shape:
        raise ValueError(
          f"SolutionPool: {name} of shape {getattr(self, name).shape}, "
          f"expected {shape} as answers"
        )
    if len(self.ids) != shape[0]:
      raise ValueError(
        f"SolutionPool: {len(self.ids)} ids for {shape[0]} problems"
      )
    double = {name for name in self.ids if self.ids.count(name) > 1}
    if double:
      raise ValueError(f"SolutionPool: id {min(double)!r} occurs twice")
    if (self.correct & (self.answers < 0)).any():
      raise ValueError("SolutionPool: a solution without answer is correct")
    if (self.tokens < 0).any():
      raise ValueError("SolutionPool: tokens must not be negative")

  @property
  def size(self) -> int:
    """n, solutions a problem."""
    return self.answers.shape[1]

  def some(self, problems: Sequence[int] | np.ndarray) -> "SolutionPool":
    """The same of some problems."""
    index = np.asarray(problems)
    return dataclasses.replace(
      self,
      ids=tuple(self.ids[i] for i in index),
      answers=self.answers[index],
      correct=self.correct[index],
      tokens=self.tokens[index],
    )


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class VerificationPool:
  """Sampled verifications of a pool's solutions.

  Attributes:
    ids: name of each problem, those of the solutions' pool.
    scores: f64[P, n, Vmax] in [0, 1]; NaN where a verification says nothing.
    tokens: i64[P, n, Vmax], tokens of each.

  Raises:
    ValueError: if shapes differ, the pool is empty or a score is out of range.
  """

  ids: tuple[str, ...]
  scores: Float[np.ndarray, "P n Vmax"]
  tokens: Int[np.ndarray, "P n Vmax"]

  def __post_init__(self) -> None:
    shape = self.scores.shape
    if len(shape) != 3 or 0 in shape:
      raise ValueError(f"VerificationPool: empty, scores of shape {shape}")
    if self.tokens.shape != shape or len(self.ids) != shape[0]:
      raise ValueError(
        f"VerificationPool: tokens of shape {self.tokens.shape} and "
        f"{len(self.ids)} ids, expected {shape} and {shape[0]}"
      )
    known = self.scores[~np.isnan(self.scores)]
    if ((known < 0) | (known > 1)).any():
      raise ValueError("VerificationPool: scores must lie in [0, 1]")

  @property
  def missing(self) -> float:
    """Share of verifications that say nothing."""
    return float(np.isnan(self.scores).mean())

  def check(self, solutions: SolutionPool) -> None:
    """Raises ValueError if these verify another pool's solutions."""
    if self.ids != solutions.ids:
      raise ValueError(
        "mixed pools: verifications and solutions are of other problems"
      )
    if self.scores.shape[:2] != solutions.answers.shape:
      raise ValueError(
        f"mixed pools: verifications of {self.scores.shape[:2]} solutions, "
        f"expected {solutions.answers.shape}"
      )


def aggregate_verifications(
  scores: Float[np.ndarray, "*B Vmax"],
  verifications: int,
  how: str = "mean",
  *,
  nan_policy: str = "drop",
) -> Float[np.ndarray, "*B"]:
  """One score from the first V verifications that say something.

  `mean` and `median` are those; `logit_mean` is the mean log-odds, as a
  probability (scores are kept 0.001 from 0 and 1); `beta_posterior` is the
  posterior mean of a rate under a flat prior, (1 + sum) / (2 + count), which
  trusts many verifications more than few.

  Args:
    scores: NaN where a verification says nothing.
    verifications: V, in [1, Vmax].
    how: one of `AGGREGATES`.
    nan_policy: "drop" passes over missing verifications, and gives 0 where all
      are missing; "raise" refuses solutions whose verifications are all
      missing.

  Raises:
    ValueError: if V is out of range, a name is unknown, or all verifications
      of a solution are missing under "raise".
  """
  most = scores.shape[-1] if scores.ndim else 0
  if not 1 <= verifications <= most:
    raise ValueError(
      f"aggregate_verifications: V must lie in [1, {most}], got {verifications}"
    )
  if how not in AGGREGATES or nan_policy not in NAN_POLICIES:
    raise ValueError(
      f"aggregate_verifications: how={how!r}, nan_policy={nan_policy!r}; "
      f"expected {', '.join(AGGREGATES)} and {', '.join(NAN_POLICIES)}"
    )
  said = ~np.isnan(scores)
  if nan_policy == "raise" and not said.any(-1).all():
    place = np.argwhere(~said.any(-1))[0].tolist()
    raise ValueError(
      f"aggregate_verifications: all verifications of solution {place} are "
      "missing"
    )
  used = said & (np.cumsum(said, axis=-1) <= verifications)
  count = used.sum(-1)
  value = _aggregate(np.where(used, scores, np.nan), count, how)
  return np.where(count > 0, value, 0.0)


def _aggregate(kept, count, how):
  some = np.maximum(count, 1)
  if how == "median":
    filled = np.where((count > 0)[..., None], kept, 0.0)
    return np.nanmedian(filled, axis=-1)
  if how == "logit_mean":
    clipped = np.clip(kept, _CLIP, 1 - _CLIP)
    odds = np.log(clipped) - np.log1p(-clipped)
    return 1 / (1 + np.exp(-np.nansum(odds, axis=-1) / some))
  total = np.nansum(kept, axis=-1)
  return (1 + total) / (2 + count) if how == "beta_posterior" else total / some


class VarianceComponents(NamedTuple):
  """Where the variance of single verdicts comes from; adds up to `total`.

  Attributes:
    within: mean variance of verdicts on one solution: falls as 1 / V.
    solutions: variance between solutions of one problem of the mean verdict.
    problems: variance between problems.
    total: variance of all verdicts.
  """

  within: float
  solutions: float
  problems: float
  total: float


def variance_components(
  scores: Float[np.ndarray, "P n V"],
) -> VarianceComponents:
  """The law of total variance on a pool without missing verdicts.

  Raises:
    ValueError: if a score is missing.
  """
  if np.isnan(scores).any():
    raise ValueError("variance_components: expected no missing verdicts")
  by_solution = scores.mean(-1)
  return VarianceComponents(
    float(scores.var(-1).mean()),
    float(by_solution.var(-1).mean()),
    float(by_solution.mean(-1).var()),
    float(scores.var()),
  )
