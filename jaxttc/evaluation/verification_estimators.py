# SPDX-License-Identifier: Apache-2.0
"""What pools of solutions come to: coverage, votes, best-of-N, weighted votes.

Estimators ask how often k of a problem's n solutions, drawn without
replacement, lead to a right answer: exactly where there is a closed form, else
over random subsets, with a standard error. Intervals resample problems.

Reference:
  Singhi et al. (2025), When To Solve, When To Verify, arXiv:2504.01005.
"""

from collections.abc import Sequence
from typing import NamedTuple

from jaxtyping import Float
import numpy as np

from jaxttc.evaluation import estimators, statistics, verification_pools


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


def coverage(pool: verification_pools.SolutionPool, k: int) -> Estimate:
  """How often one of k solutions is right: exact.

  Raises:
    ValueError: if k is out of [1, n].
  """
  right = pool.correct.sum(1)
  return _estimate([estimators.pass_at_k(pool.size, int(c), k) for c in right])


def self_consistency(
  pool: verification_pools.SolutionPool,
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
  pool: verification_pools.SolutionPool,
  scores: Float[np.ndarray, "P n"],
  k: int,
) -> Estimate:
  """How often the best-scored of k solutions is right: exact.

  A solution without an answer has score 0, whatever the verifier says.

  Raises:
    ValueError: if k is out of range, or scores are NaN or of another shape.
  """
  return _estimate(best_of_n_values(pool, scores, (k,))[:, 0])


def best_of_n_values(
  pool: verification_pools.SolutionPool,
  scores: Float[np.ndarray, "P n"],
  ks: Sequence[int],
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


def _win_probability(
  pool: verification_pools.SolutionPool, k: int
) -> np.ndarray:
  """C(n-1-i, k-1) / C(n, k): solution i in rank is the best of k."""
  _check_k(pool, k)
  n = pool.size
  i = np.arange(n - 1)
  step = np.maximum(n - k - i, 0) / (n - 1 - i)
  return np.concatenate([[1.0], np.cumprod(step)]) * (k / n)


def weighted_sc(
  pool: verification_pools.SolutionPool,
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
  pool: verification_pools.SolutionPool,
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


def _checked_scores(
  pool: verification_pools.SolutionPool, scores
) -> np.ndarray:
  found = np.asarray(scores, np.float64)
  if found.shape != pool.answers.shape:
    raise ValueError(
      f"scores of shape {found.shape}, expected {pool.answers.shape}, one a "
      "solution"
    )
  if np.isnan(found).any():
    raise ValueError("scores must not be NaN; aggregate verifications first")
  return found


def _check_k(pool: verification_pools.SolutionPool, k: int) -> None:
  if not 1 <= k <= pool.size:
    raise ValueError(f"k must lie in [1, {pool.size}], got {k}")


def _estimate(values, error: float = 0.0) -> Estimate:
  by_problem = np.asarray(values, np.float64)
  found = statistics.bootstrap(by_problem, rng=np.random.default_rng(0))
  return Estimate(found.value, error, found.low, found.high, by_problem)
