# SPDX-License-Identifier: Apache-2.0
"""Exponents and trends of what is measured at several sizes and seeds.

Seeds are resampled whole: a seed keeps its measurements at all sizes.
"""

from collections.abc import Callable

from jaxtyping import Float, Shaped
import numpy as np

from jaxttc.evaluation import statistics


def exponent(
  sizes: Shaped[np.ndarray, " X"],
  values: Float[np.ndarray, "S X"],
  *,
  rng: np.random.Generator,
  summary: Callable[[np.ndarray], np.ndarray] = lambda rows: rows.mean(0),
  resamples: int = 2000,
  level: float = 0.95,
) -> statistics.Interval:
  """The slope of log(summary over seeds) on log(size), by least squares.

  Args:
    sizes: [X], positive, at least two different ones.
    values: f64[S, X], one row a seed.
    rng: source of randomness; it is advanced.
    summary: from rows [S, X] to positive numbers [X]; the mean if left out.
    resamples: of seeds, for the interval. Those whose summary is not positive
      everywhere have no exponent, and are left out.
    level: confidence level, in (0, 1).

  Raises:
    ValueError: if the summary of all seeds is not positive everywhere, or sizes
      are not as said.
  """
  sizes, values = _checked("exponent", sizes, values)
  found = summary(values)
  if not (found > 0).all():
    raise ValueError(f"exponent: {found} is not positive everywhere")

  def slope(rows):
    point = summary(rows)
    if not (point > 0).all():
      return np.nan
    return np.polyfit(np.log(sizes), np.log(point), 1)[0]

  return _bootstrap(values, slope, resamples, level, rng)


def trend(
  sizes: Shaped[np.ndarray, " X"],
  values: Float[np.ndarray, "S X"],
  *,
  rng: np.random.Generator,
  resamples: int = 2000,
  level: float = 0.95,
) -> statistics.Interval:
  """The slope of the mean over seeds on log2(size): what a doubling adds.

  Arguments and errors are those of `exponent`; values may be of any sign.
  """
  sizes, values = _checked("trend", sizes, values)

  def slope(rows):
    return np.polyfit(np.log2(sizes), rows.mean(0), 1)[0]

  return _bootstrap(values, slope, resamples, level, rng)


def _bootstrap(values, slope, resamples, level, rng):
  drawn = rng.integers(len(values), size=(resamples, len(values)))
  draws = [slope(values[rows]) for rows in drawn]
  return statistics.percentile_interval(slope(values), draws, level)


def _checked(where, sizes, values):
  sizes, values = np.asarray(sizes, np.float64), np.asarray(values, np.float64)
  if values.ndim != 2 or sizes.shape != values.shape[1:] or not len(values):
    raise ValueError(
      f"{where}: expected values[seed, size] for {sizes.size} sizes, got shape "
      f"{values.shape}"
    )
  if not (sizes > 0).all() or len(set(sizes.tolist())) < 2:
    raise ValueError(
      f"{where}: expected two or more positive sizes, got {sizes.tolist()}"
    )
  return sizes, values
