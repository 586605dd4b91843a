# SPDX-License-Identifier: Apache-2.0
"""Unbiased accuracy-at-k estimators from one pool of n samples a problem.

Draw k of the n samples without replacement, combine them into one answer, and
ask how often that answer is right. Averaging over *all* subsets of size k is
the estimator of least variance that the pool allows, and here every average is
a closed form or a small dynamic program: no Monte-Carlo noise, no seeds, and
ties are broken uniformly at random rather than by sample order.

  pass_at_k       right if any of the k samples is right
  best_of_n_at_k  right if the sample of highest score is right
  maj_at_k        right if the most frequent answer is right (SC@k)

Each is unbiased for "k fresh samples", and each is for one problem: average
over problems, and take intervals by resampling problems.

References:
  Chen et al. (2021), Evaluating Large Language Models Trained on Code,
    equation 1 (pass@k).
  Singhi et al. (2025), When To Solve, When To Verify (best-of-N and
    self-consistency over sample pools).
"""

from typing import NamedTuple

from jaxtyping import Float
import numpy as np
import scipy.stats

from jaxttc.evaluation import statistics as statistics_lib


class ClassCounts(NamedTuple):
  """A pool of samples, reduced to what a vote depends on.

  Attributes:
    counts: i64[C], samples in each answer class.
    correct: bool[C], whether the class is right. Several may be, when grading
      accepts more than voting merges.
    abstained: samples without an answer. They are drawn, but do not vote.
  """

  counts: np.ndarray
  correct: np.ndarray
  abstained: int


def pass_at_k(n: int, c: int, k: int) -> float:
  """Probability that k of n samples, c of them right, hold a right one.

  1 - C(n - c, k) / C(n, k), as a sum of logarithms: it neither overflows for
  pools of thousands, nor loses digits when the result is near 0.

  Args:
    n: samples in the pool, at least 1.
    c: right ones among them, in [0, n].
    k: samples drawn, in [1, n].

  Returns:
    The probability, in [0, 1].

  Raises:
    ValueError: if k > n (the pool cannot tell), or an argument is out of
      range.
  """
  _check_k("pass_at_k", n, k)
  if not 0 <= c <= n:
    raise ValueError(f"pass_at_k: c must lie in [0, {n}], got {c}")
  if c > n - k:
    return 1.0
  # The two products are equal: c factors 1 - k / (n - i), or k factors
  # 1 - c / (n - i). Take the shorter.
  factors, part = (c, k) if c < k else (k, c)
  log_none = np.log1p(-part / (n - np.arange(factors))).sum()
  return float(-np.expm1(log_none))


def best_of_n_at_k(
  scores: statistics_lib.Values, correct: statistics_lib.Values, k: int
) -> float:
  """Probability that the best-scored of k samples is right.

  With samples sorted by falling score, sample i (from 0) wins if it is drawn
  and all k - 1 others come from behind it: C(n-1-i, k-1) / C(n, k). Samples
  with the same score share their group's mean correctness, which is what
  breaking ties at random amounts to.

  Args:
    scores: f64[n], the verifier's score of each sample; -inf is allowed.
    correct: bool or f64[n] in [0, 1], whether each sample is right.
    k: samples drawn, in [1, n].

  Returns:
    The probability, in [0, 1].

  Raises:
    ValueError: if the shapes differ, a score is NaN, or k is out of range.
  """
  score = np.asarray(scores, np.float64)
  right = np.asarray(correct, np.float64)
  if score.ndim != 1 or score.shape != right.shape:
    raise ValueError(
      "best_of_n_at_k: expected scores[n] and correct[n], got shapes "
      f"{score.shape} and {right.shape}"
    )
  _check_k("best_of_n_at_k", score.size, k)
  if np.isnan(score).any():
    raise ValueError("best_of_n_at_k: scores must not be NaN")
  _check_correct("best_of_n_at_k", right)
  group, size = np.unique(score, return_inverse=True, return_counts=True)[1:]
  shared = (np.bincount(group, right) / size)[group]
  falling = shared[np.argsort(-score, kind="stable")]
  return min(1.0, float(falling @ _win_probability(score.size, k)))


def _win_probability(n: int, k: int) -> Float[np.ndarray, " n"]:
  """C(n-1-i, k-1) / C(n, k) for i = 0..n-1, each from the one before."""
  i = np.arange(n - 1)
  step = np.maximum(n - k - i, 0) / (n - 1 - i)
  return np.concatenate([[1.0], np.cumprod(step)]) * (k / n)


def class_counts(
  answers: statistics_lib.Values, correct: statistics_lib.Values
) -> ClassCounts:
  """Counts a pool's answer classes, as `maj_at_k` wants them.

  Args:
    answers: i64[n], class of each sample's answer; negative for none.
    correct: bool[n], whether each sample is right.

  Returns:
    The counts.

  Raises:
    ValueError: if the shapes differ, answers are not integers, or a class is
      right in one sample and wrong in another.
  """
  answer = np.asarray(answers)
  right = np.asarray(correct, np.bool_)
  if answer.ndim != 1 or answer.shape != right.shape:
    raise ValueError(
      "class_counts: expected answers[n] and correct[n], got shapes "
      f"{answer.shape} and {right.shape}"
    )
  if answer.size and not np.issubdtype(answer.dtype, np.integer):
    raise ValueError(
      f"class_counts: answers must be integers, got {answer.dtype}"
    )
  votes = answer >= 0
  classes, member = np.unique(answer[votes], return_inverse=True)
  counts = np.bincount(member, minlength=classes.size)
  hits = np.bincount(member, right[votes], minlength=classes.size)
  mixed = (hits > 0) & (hits < counts)
  if mixed.any():
    raise ValueError(
      f"class_counts: class {classes[mixed][0]} is right in one sample and "
      "wrong in another"
    )
  return ClassCounts(counts, hits > 0, int((~votes).sum()))


def maj_at_k(
  counts: statistics_lib.Values,
  correct: statistics_lib.Values,
  k: int,
  abstained: int = 0,
) -> float:
  """Probability that the majority answer of k samples is right (SC@k).

  Exact for draws without replacement from a pool with these class counts,
  ties broken uniformly. A class wins with m votes if every other class has
  fewer, or as many and loses the toss; so the probability is a sum over m of
  products over classes, which one convolution a class evaluates. Subsets in
  which every sample abstains count as wrong.

  Args:
    counts: i64[C], samples in each answer class.
    correct: bool[C], whether each class is right.
    k: samples drawn, in [1, n], n = counts.sum() + abstained.
    abstained: samples of the pool that have no answer.

  Returns:
    The probability, in [0, 1], to rounding.

  Raises:
    ValueError: if the shapes differ, a count is negative or no integer, or k
      is out of range.
  """
  count = _check_counts(counts, abstained)
  right = np.asarray(correct, np.bool_)
  if count.shape != right.shape:
    raise ValueError(
      "maj_at_k: expected counts[C] and correct[C], got shapes "
      f"{count.shape} and {right.shape}"
    )
  n = int(count.sum()) + abstained
  _check_k("maj_at_k", n, k)
  total = 0.0
  sizes, classes_of_size = np.unique(count[right], return_counts=True)
  for size, classes in zip(sizes, classes_of_size, strict=True):
    if size:  # classes of one size are equally likely to win
      total += classes * _win_by_vote(count, int(size), n, k)
  return min(1.0, float(total))


def _win_by_vote(count: np.ndarray, size: int, n: int, k: int) -> float:
  """Probability that one given class with `size` samples wins the vote.

  Without replacement, C(a, t) / C(n, k) over all classes is the law of
  independent Binomial(a, p) draws given that they sum to k, for any p: with
  p = k / n all numbers stay in [0, 1] and none is subtracted from another.
  """
  p = k / n
  laws = {a: _binomial(a, a, p) for a in np.unique(count).tolist()}
  others = sorted(count.tolist(), reverse=True)
  others.remove(size)
  total = 0.0
  for m in range(1, min(size, k) + 1):
    rivals = [laws[a] for a in others if a >= m]
    # Classes too small to reach m votes add up to one big binomial.
    rest = n - size - sum(a for a in others if a >= m)
    small = _binomial(k - m, rest, p)
    total += laws[size][m] * _all_at_most(rivals, small, m)
  return total / float(_binomial(k, n, p)[k])


def _binomial(top: int, trials: int, p: float) -> Float[np.ndarray, " T"]:
  """Probabilities of 0..top successes in `trials` trials."""
  return scipy.stats.binom.pmf(np.arange(top + 1), trials, p)


def _all_at_most(rivals: list[np.ndarray], small: np.ndarray, m: int) -> float:
  """E[1 / (1 + rivals with m votes); none has more; the right sum].

  table[u, t] is the probability that u of the rivals so far have m votes, the
  others fewer, and all of them together with the small classes t.

  Args:
    rivals: the law of each rival's votes.
    small: f64[T], the law of all small classes' votes together; the right
      sum is T - 1.
    m: votes of the class that is to win.

  Returns:
    The expectation.
  """
  length = len(small)
  ties = min(len(rivals), (length - 1) // m)
  table = np.zeros((ties + 1, length))
  table[0] = small
  for law in rivals:
    fewer = [np.convolve(row, law[:m])[:length] for row in table]
    grown = np.stack(fewer)
    if ties:
      grown[1:, m:] += law[m] * table[:-1, : length - m]
    table = grown
  return float(table[:, -1] @ (1 / (1 + np.arange(ties + 1))))


def _check_k(where: str, n: int, k: int) -> None:
  if n < 1:
    raise ValueError(f"{where}: the pool is empty")
  if not 1 <= k <= n:
    raise ValueError(f"{where}: k must lie in [1, {n}], got {k}")


def _check_correct(where: str, right: np.ndarray) -> None:
  if not ((right >= 0) & (right <= 1)).all():
    raise ValueError(f"{where}: correct must lie in [0, 1]")


def _check_counts(counts: statistics_lib.Values, abstained: int) -> np.ndarray:
  count = np.asarray(counts)
  if count.ndim != 1 or (
    count.size and not np.issubdtype(count.dtype, np.integer)
  ):
    raise ValueError(
      "maj_at_k: expected counts[C] of integers, got shape "
      f"{count.shape} of {count.dtype}"
    )
  if (count < 0).any() or abstained < 0:
    raise ValueError("maj_at_k: counts must not be negative")
  return count.astype(np.int64)
