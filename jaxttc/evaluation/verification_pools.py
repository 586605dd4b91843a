# SPDX-License-Identifier: Apache-2.0
"""Pools of solutions and of their verifications, and what they come to.

P problems with n sampled solutions each, and Vmax sampled verifications of
each solution. Estimators ask how often k of the n solutions, drawn without
replacement, lead to a right answer: exactly where there is a closed form, else
over random subsets, with a standard error. Intervals resample problems.

Reference:
  Singhi et al. (2025), When To Solve, When To Verify, arXiv:2504.01005.
"""

from collections.abc import Sequence
import dataclasses
from typing import NamedTuple

from jaxtyping import Bool, Float, Int
import numpy as np

from jaxttc.evaluation import estimators, statistics

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


class Estimate(NamedTuple):
  """A mean over problems.

  Attributes:
    value: the mean.
    standard_error: of random subsets alone; 0 where it is exact for the pool.
    low: lower end of the interval over problems.
    high: upper end.
    by_problem: f64[P].
  """

  value: float
  standard_error: float
  low: float
  high: float
  by_problem: Float[np.ndarray, " P"]


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


def coverage(pool: SolutionPool, k: int) -> Estimate:
  """How often one of k solutions is right: exact.

  Raises:
    ValueError: if k is out of [1, n].
  """
  right = pool.correct.sum(1)
  return _estimate([estimators.pass_at_k(pool.size, int(c), k) for c in right])


def self_consistency(
  pool: SolutionPool,
  k: int,
  *,
  method: str = "exact",
  draws: int = 200,
  seed: int = 0,
) -> Estimate:
  """How often the most frequent answer of k solutions is right.

  Args:
    pool: solutions.
    k: in [1, n].
    method: "exact", or "mc" for random subsets.
    draws: random subsets a problem.
    seed: of random subsets.

  Raises:
    ValueError: if k is out of range or the method unknown.
  """
  if method == "mc":
    return weighted_sc(
      pool, np.ones(pool.answers.shape), k, draws=draws, seed=seed
    )
  if method != "exact":
    raise ValueError(f"self_consistency: method {method!r}, not exact or mc")
  values = []
  for answers, correct in zip(pool.answers, pool.correct, strict=True):
    found = estimators.class_counts(answers, correct)
    values.append(
      estimators.maj_at_k(found.counts, found.correct, k, found.abstained)
    )
  return _estimate(values)


def best_of_n(
  pool: SolutionPool, scores: Float[np.ndarray, "P n"], k: int
) -> Estimate:
  """How often the best-scored of k solutions is right: exact.

  A solution without an answer has score 0, whatever the verifier says.

  Raises:
    ValueError: if k is out of range, or scores are NaN or of another shape.
  """
  return _estimate(best_of_n_values(pool, scores, (k,))[:, 0])


def best_of_n_values(
  pool: SolutionPool, scores: Float[np.ndarray, "P n"], ks: Sequence[int]
) -> Float[np.ndarray, "P K"]:
  """`best_of_n` of each problem at several k, sorted once.

  Raises:
    ValueError: as `best_of_n`.
  """
  score = np.where(pool.answers < 0, 0.0, _checked_scores(pool, scores))
  order = np.argsort(-score, axis=1, kind="stable")
  falling = np.take_along_axis(score, order, 1)
  right = np.take_along_axis(pool.correct, order, 1).astype(np.float64)
  # Ties share their mean: what breaking them at random amounts to.
  first = np.ones(score.shape, bool)
  first[:, 1:] = falling[:, 1:] != falling[:, :-1]
  starts = np.flatnonzero(first)  # a row's first entry always starts a group
  sizes = np.diff(np.append(starts, score.size))
  shared = np.repeat(np.add.reduceat(right.ravel(), starts) / sizes, sizes)
  wins = np.stack([_win_probability(pool, k) for k in ks], axis=1)
  return np.clip(shared.reshape(score.shape) @ wins, 0.0, 1.0)


def _win_probability(pool: SolutionPool, k: int) -> np.ndarray:
  """C(n-1-i, k-1) / C(n, k): solution i in rank is the best of k."""
  _check_k(pool, k)
  n = pool.size
  i = np.arange(n - 1)
  step = np.maximum(n - k - i, 0) / (n - 1 - i)
  return np.concatenate([[1.0], np.cumprod(step)]) * (k / n)


def weighted_sc(
  pool: SolutionPool,
  scores: Float[np.ndarray, "P n"],
  k: int,
  *,
  draws: int = 200,
  seed: int = 0,
) -> Estimate:
  """How often the answer of most total score among k solutions is right.

  Random subsets without replacement; ties are shared.

  Args:
    pool: solutions.
    scores: weight of each, not negative.
    k: in [1, n].
    draws: subsets a problem, at least 2.
    seed: of the subsets; equal seeds give equal subsets, for any scores.

  Raises:
    ValueError: if k or draws are out of range, or scores cannot be.
  """
  shares = weighted_sc_shares(pool, scores, (k,), draws=draws, seed=seed)[
    ..., 0
  ]
  error = np.sqrt((shares.var(0, ddof=1) / draws).sum()) / len(pool.ids)
  return _estimate(shares.mean(0), float(error))


def weighted_sc_shares(
  pool: SolutionPool,
  scores: Float[np.ndarray, "P n"],
  ks: Sequence[int],
  *,
  draws: int,
  seed: int,
) -> Float[np.ndarray, "D P K"]:
  """Share of right answers among a subset's winners, at several k.

  A subset of k is the beginning of the subset of k + 1.

  Raises:
    ValueError: as `weighted_sc`.
  """
  weights = _checked_scores(pool, scores)
  if (weights < 0).any() or draws < 2:
    raise ValueError(
      "weighted_sc: expected weights >= 0 and at least 2 draws, got weights "
      f"down to {weights.min():g} and {draws} draws"
    )
  for k in ks:
    _check_k(pool, k)
  rng = np.random.default_rng(seed)
  out = np.zeros((draws, len(pool.ids), len(ks)))
  at = np.asarray(ks) - 1
  for p, (answer, correct) in enumerate(
    zip(pool.answers, pool.correct, strict=True)
  ):
    order = np.argsort(rng.random((draws, pool.size)), axis=1)
    classes, member = np.unique(answer, return_inverse=True)
    if classes[-1] < 0:
      continue  # no answer at all
    right = np.bincount(member, correct) > 0
    chosen = np.eye(classes.size)[member]
    # Rounded, so that equal sums in another order tie.
    total = np.cumsum((chosen * weights[p][:, None])[order], axis=1)[:, at]
    seen = np.cumsum(chosen[order], axis=1)[:, at] > 0
    total = np.where(seen & (classes >= 0), np.round(total, 9), -1.0)
    wins = (total == total.max(-1, keepdims=True)) & (total >= 0)
    out[:, p] = (wins & right).sum(-1) / np.maximum(wins.sum(-1), 1)
  return out


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


def _checked_scores(pool: SolutionPool, scores) -> np.ndarray:
  found = np.asarray(scores, np.float64)
  if found.shape != pool.answers.shape:
    raise ValueError(
      f"scores of shape {found.shape}, expected {pool.answers.shape}, one a "
      "solution"
    )
  if np.isnan(found).any():
    raise ValueError("scores must not be NaN; aggregate verifications first")
  return found


def _check_k(pool: SolutionPool, k: int) -> None:
  if not 1 <= k <= pool.size:
    raise ValueError(f"k must lie in [1, {pool.size}], got {k}")


def _estimate(values, error: float = 0.0) -> Estimate:
  by_problem = np.asarray(values, np.float64)
  found = statistics.bootstrap(by_problem, rng=np.random.default_rng(0))
  return Estimate(found.value, error, found.low, found.high, by_problem)
