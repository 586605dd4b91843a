# SPDX-License-Identifier: Apache-2.0
"""Intervals for accuracies, costs, and ratios of costs.

The unit of resampling is the *problem*: attempts at one problem resemble each
other, so all seeds of a problem are drawn, or left out, together. Comparing
two methods on the same problems, resample the same problems for both; what
made a problem hard then cancels, and the interval shrinks accordingly.

References:
  Wilson (1927), Probable inference, the law of succession, and statistical
    inference.
  Efron and Tibshirani (1993), An Introduction to the Bootstrap, chapter 13
    (percentile intervals).
  Owen (2007), The pigeonhole bootstrap (resampling the rows and the columns
    of a table, as `crossed_means` does for seeds and problems).
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from jaxtyping import Float, Int
import numpy as np
import numpy.typing as npt
import scipy.stats

Statistic = Callable[[np.ndarray], float]
# What np.asarray takes. NumPy's own type leaves out plain lists of int or bool
# (to a type checker they pass for complex numbers, at run time they do not).
Values = npt.ArrayLike | Sequence[Any]


class Interval(NamedTuple):
  """An estimate, and the ends of its confidence interval."""

  value: float
  low: float
  high: float


def wilson_interval(
  successes: int | float, n: int, level: float = 0.95
) -> Interval:
  """Wilson's score interval of a proportion.

  Holds its level even when few or none of `n` independent trials succeeded,
  where the textbook interval `p +- z * sqrt(p (1 - p) / n)` has no width.

  Args:
    successes: how many trials succeeded, in [0, n].
    n: independent trials, at least 1.
    level: confidence level, in (0, 1).

  Returns:
    The proportion and its interval, within [0, 1].

  Raises:
    ValueError: if an argument is out of range.
  """
  _check_level(level)
  if n < 1:
    raise ValueError(f"wilson_interval: n must be at least 1, got {n}")
  if not 0 <= successes <= n:
    raise ValueError(
      f"wilson_interval: successes must lie in [0, {n}], got {successes}"
    )
  p = float(successes) / n
  z = float(scipy.stats.norm.ppf(0.5 + level / 2))
  centre = (p + z * z / (2 * n)) / (1 + z * z / n)
  spread = p * (1 - p) / n + z * z / (4 * n * n)
  half = z * float(np.sqrt(spread)) / (1 + z * z / n)
  # Rounding must not push an end past the proportion itself at 0 or 1.
  low, high = min(p, centre - half), max(p, centre + half)
  return Interval(p, max(0.0, low), min(1.0, high))


def percentile_interval(
  value: float, draws: Values, level: float = 0.95
) -> Interval:
  """The percentile bootstrap interval from resampled values.

  Args:
    value: the statistic of the data themselves.
    draws: f64[R], the statistic of each resample. Infinite draws count (a
      ratio may be unbounded); NaN draws (undefined there) are left out.
    level: confidence level, in (0, 1).

  Returns:
    `value` between two of the draws. The ends are draws, never mixtures of
    two, so that infinite draws do no harm.

  Raises:
    ValueError: if the level is out of range or every draw is NaN.
  """
  _check_level(level)
  draws = np.asarray(draws, np.float64)
  draws = draws[~np.isnan(draws)]
  if not draws.size:
    raise ValueError("percentile_interval: no draw is a number")
  tail = (1 - level) / 2
  low = np.quantile(draws, tail, method="inverted_cdf")
  high = np.quantile(draws, 1 - tail, method="inverted_cdf")
  return Interval(float(value), float(low), float(high))


def resample_counts(
  size: int, resamples: int, rng: np.random.Generator
) -> Int[np.ndarray, "R N"]:
  """How often each of `size` items is drawn in each bootstrap resample.

  Args:
    size: items N, at least 1.
    resamples: resamples R, at least 1.
    rng: source of randomness; it is advanced.

  Returns:
    i64[R, N]; every row sums to N.

  Raises:
    ValueError: if there is nothing to draw, or nothing to draw it for.
  """
  if size < 1 or resamples < 1:
    raise ValueError(
      "resample_counts: size and resamples must be at least 1, got "
      f"{size} and {resamples}"
    )
  return rng.multinomial(size, np.full(size, 1 / size), size=resamples)


def crossed_means(
  values: Float[np.ndarray, "S N"],
  seed_counts: Int[np.ndarray, "R S"],
  problem_counts: Int[np.ndarray, "R N"],
) -> Float[np.ndarray, " R"]:
  """Means of a seeds-by-problems table under resampled seeds and problems.

  Cell (s, n) weighs `seed_counts[r, s] * problem_counts[r, n]` in resample r
  (Owen's pigeonhole bootstrap). The interval errs on the wide side.

  Args:
    values: f64[S, N], one row a seed.
    seed_counts: i64[R, S], from `resample_counts`.
    problem_counts: i64[R, N], from `resample_counts`.

  Returns:
    f64[R], one mean a resample.
  """
  total = np.einsum("rn,rn->r", seed_counts @ values, problem_counts)
  return total / values.size


def bootstrap(
  values: Values,
  statistic: Statistic = np.mean,
  *,
  resamples: int = 2000,
  level: float = 0.95,
  rng: np.random.Generator,
) -> Interval:
  """Percentile bootstrap of a statistic over problems.

  Args:
    values: [N, ...], one row a problem: its seeds, or whatever `statistic`
      reads. Rows are drawn whole, with replacement.
    statistic: from resampled rows [N, ...] to a number.
    resamples: how many resamples.
    level: confidence level, in (0, 1).
    rng: source of randomness; it is advanced.

  Returns:
    The statistic of `values`, and its interval.

  Raises:
    ValueError: if there are no values, or one of them is not finite.
  """
  rows = _rows("bootstrap", values)
  count = resample_counts(len(rows), resamples, rng)
  items = np.arange(len(rows))
  draws = [statistic(rows[np.repeat(items, row)]) for row in count]
  return percentile_interval(float(statistic(rows)), draws, level)


def paired_difference(
  a: Values,
  b: Values,
  *,
  resamples: int = 2000,
  level: float = 0.95,
  rng: np.random.Generator,
) -> Interval:
  """Bootstrap of mean(a) - mean(b), the same problems drawn for both.

  Args:
    a: [N] or [N, S], one row a problem, one column a seed.
    b: the same problems in the same order; it may have other seeds.
    resamples: how many resamples.
    level: confidence level, in (0, 1).
    rng: source of randomness; it is advanced.

  Returns:
    The difference, and its interval.

  Raises:
    ValueError: if the two hold different numbers of problems, or none.
  """
  left, right = _paired("paired_difference", a, b)
  count = resample_counts(len(left), resamples, rng)
  gap = left - right
  return percentile_interval(gap.mean(), count @ gap / len(gap), level)


def ratio_of_means(
  a: Values,
  b: Values,
  *,
  resamples: int = 2000,
  level: float = 0.95,
  rng: np.random.Generator,
) -> Interval:
  """Bootstrap of mean(a) / mean(b), the same problems drawn for both.

  The ratio of mean costs, not the mean of ratios: it is what the bill of a
  whole test set is divided by.

  Args:
    a: [N] or [N, S], costs >= 0, one row a problem, one column a seed.
    b: the same problems in the same order; it may have other seeds.
    resamples: how many resamples.
    level: confidence level, in (0, 1).
    rng: source of randomness; it is advanced.

  Returns:
    The ratio, and its interval; infinite where b costs nothing.

  Raises:
    ValueError: if the two hold different numbers of problems, or none, if a
      cost is negative, or if both cost nothing at all.
  """
  above, below = _paired("ratio_of_means", a, b)
  if min(above.min(), below.min()) < 0:
    raise ValueError("ratio_of_means: costs must not be negative")
  if not above.any() and not below.any():
    raise ValueError("ratio_of_means: 0 / 0, both sides cost nothing")
  count = resample_counts(len(above), resamples, rng)
  draws = ratio(count @ above, count @ below)
  value = ratio(np.asarray(above.sum()), np.asarray(below.sum()))
  return percentile_interval(float(value), draws, level)


def ratio(
  above: Float[np.ndarray, "*B"], below: Float[np.ndarray, "*B"]
) -> Float[np.ndarray, "*B"]:
  """above / below for costs >= 0: x / 0 = inf, and 0 / 0 = inf / inf = NaN."""
  with np.errstate(divide="ignore", invalid="ignore"):
    return np.asarray(np.divide(above, below))


def _rows(where: str, values: Values) -> np.ndarray:
  rows = np.asarray(values, np.float64)
  if rows.ndim < 1 or not rows.size:
    raise ValueError(f"{where}: expected values[problem, ...], got none")
  if not np.isfinite(rows).all():
    raise ValueError(f"{where}: values must be finite")
  return rows


def _paired(where: str, a: Values, b: Values) -> tuple[np.ndarray, np.ndarray]:
  """Means over the seeds of each problem, for both sides."""
  left, right = _rows(where, a), _rows(where, b)
  if len(left) != len(right):
    raise ValueError(
      f"{where}: expected the same problems on both sides, got "
      f"{len(left)} and {len(right)}"
    )
  return (
    left.reshape(len(left), -1).mean(axis=1),
    right.reshape(len(right), -1).mean(axis=1),
  )


def _check_level(level: float) -> None:
  if not 0 < level < 1:
    raise ValueError(f"level must lie strictly between 0 and 1, got {level}")
