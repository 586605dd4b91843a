# SPDX-License-Identifier: Apache-2.0
"""What training FLOP leave out: better algorithms, and search.

Two models of equal training compute are not equal if one was trained with a
later recipe, or searches at test time. Three ways to say by how much:

  effective          training FLOP in the FLOP of a day of reference
  lifetime           training FLOP and those of all queries
  train_multiples    the factor m of training compute that buys what k-fold
                     search buys, measured from curves of accuracy

References:
  Ho et al. (2024), Algorithmic progress in language models,
    arXiv:2403.05812: compute for equal loss halves in about 8 months, with an
    interval of 5 to 14. Contested, and specific to what they measured.
  Hooker (2024), On the limitations of compute thresholds, arXiv:2407.05694.
"""

from collections.abc import Sequence
import dataclasses
import datetime
import math

import numpy as np

from jaxttc.cost import estimate as estimate_lib

Estimate = estimate_lib.Estimate

DOUBLING_MONTHS = Estimate(
  value=8.0,
  low=5.0,
  high=14.0,
  unit="1",
  method="Ho et al. 2024, months to double algorithmic efficiency",
  provenance="assumed",
  shared="algorithmic progress",
)
_DAYS_A_MONTH = 365.25 / 12
_DRAWS = 10_000


def effective(
  training: Estimate,
  trained: datetime.date,
  reference: datetime.date,
  doubling_months: Estimate = DOUBLING_MONTHS,
  quality: Estimate | None = None,
  seed: int = 0,
) -> Estimate:
  """Training FLOP as FLOP of the algorithms of a day of reference.

  F * 2^((trained - reference) / doubling) * quality.

  Args:
    training: FLOP.
    trained: day of the recipe.
    reference: day whose algorithms are the unit.
    doubling_months: how long compute for equal quality takes to halve.
    quality: a factor for better data; None for 1. Nobody has measured one that
      holds in general.
    seed: of the Monte Carlo.

  Raises:
    ValueError: for wrong units, or a doubling time of 0.
  """
  estimate_lib.require(training, "FLOP", "training")
  estimate_lib.require(doubling_months, "1", "doubling_months")
  if doubling_months.low <= 0:
    raise ValueError("doubling_months must be positive")
  months = (trained - reference).days / _DAYS_A_MONTH
  factor = 1.0
  if quality is not None:
    factor = estimate_lib.require(quality, "1", "quality").value
  value = training.value * 2 ** (months / doubling_months.value) * factor
  drawn = training.draws(_DRAWS, seed, "training")
  drawn = drawn * 2 ** (
    months / doubling_months.draws(_DRAWS, seed, "doubling")
  )
  if quality is not None:
    drawn = drawn * quality.draws(_DRAWS, seed, "quality")
  low, high = (float(q) for q in np.quantile(drawn, [0.05, 0.95]))
  return Estimate(
    value=value,
    low=min(low, value),
    high=max(high, value),
    unit="FLOP",
    method=f"{training.method}, in algorithms of {reference}",
    provenance="assumed",
    shared=doubling_months.shared,
  )


def lifetime(
  training: Estimate, per_query: Estimate, queries: int | float
) -> Estimate:
  """FLOP of training and of so many queries.

  Raises:
    ValueError: for wrong units, or a number of queries that cannot be.
  """
  estimate_lib.require(training, "FLOP", "training")
  estimate_lib.require(per_query, "FLOP", "per_query")
  return training + per_query.scaled(queries)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Point:
  """A point of a curve.

  Attributes:
    compute: of search, how many times one answer; of training, FLOP.
    quality: an accuracy or any other score, higher is better.
    error: its standard error.
  """

  compute: float
  quality: float
  error: float = 0.0

  def __post_init__(self):
    if not 0 < self.compute < math.inf:
      raise ValueError(
        f"Point.compute must be positive and finite, got {self.compute}"
      )
    if not math.isfinite(self.quality):
      raise ValueError(f"Point.quality must be finite, got {self.quality}")
    if not 0 <= self.error < math.inf:
      raise ValueError(
        f"Point.error must be finite and not negative, got {self.error}"
      )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Multiple:
  """How much training some search is worth.

  Attributes:
    search: k, the search's compute in single answers.
    training: m, training compute over that of the model that searches.
    low: 5th percentile over the errors of both curves.
    high: 95th percentile; None where the curve of training ends below.
    beyond: share of the draws in which search is better than the largest
      training that was measured; `training` and `low` then are at least so.
  """

  search: float
  training: float
  low: float
  high: float | None
  beyond: float


def train_multiples(
  search: Sequence[Point],
  training: Sequence[Point],
  base: int | float,
  seed: int = 0,
  draws: int = 2000,
) -> list[Multiple]:
  """The multiple m of training compute that equals k-fold search.

  Qualities are made monotone in training compute (isotonic regression), and
  read between points on a logarithmic scale of compute. Nothing is
  extrapolated: below the curve m is its first point's, above it its last's.

  Args:
    search: of one model, quality against k.
    training: single answers of models trained with more and more compute.
    base: FLOP of training of the model that searches.
    seed: of draws of all qualities from normals of their errors.
    draws: how many.

  Returns:
    A multiple a point of `search`, in rising order of k.

  Raises:
    ValueError: for no points, fewer than two of training, two of one compute,
      or a base that is not positive.
  """
  if not search or len(training) < 2:
    raise ValueError(
      "train_multiples needs a point of search and two of training, got "
      f"{len(search)} and {len(training)}"
    )
  if not 0 < base < math.inf:
    raise ValueError(f"base must be positive and finite, got {base}")
  search, training = (
    sorted(points, key=lambda p: p.compute) for points in (search, training)
  )
  compute = np.array([p.compute for p in training])
  if len(set(compute)) < len(compute):
    raise ValueError("two points of training have one compute")
  rng = np.random.default_rng(seed)
  ours = _drawn(search, rng, draws)
  theirs = _drawn(training, rng, draws)
  logs = np.log(compute / base)
  found = np.stack(
    [np.interp(q, _rising(t), logs) for q, t in zip(ours, theirs, strict=True)]
  )
  past = np.stack(
    [q > _rising(t)[-1] for q, t in zip(ours, theirs, strict=True)]
  )
  multiples = []
  for i, point in enumerate(search):
    low, high = np.quantile(found[1:, i], [0.05, 0.95])
    middle, beyond = found[0, i], float(past[1:, i].mean())
    multiples.append(
      Multiple(
        search=point.compute,
        training=float(np.exp(middle)),
        low=float(np.exp(min(low, middle))),
        high=None if beyond > 0.05 else float(np.exp(max(high, middle))),
        beyond=beyond,
      )
    )
  return multiples


def _drawn(points, rng, draws) -> np.ndarray:
  """Qualities f64[1 + draws, P]; the first row is the values themselves."""
  quality = np.array([p.quality for p in points])
  error = np.array([p.error for p in points])
  noise = rng.standard_normal((draws, len(points)))
  return np.vstack([quality, quality + noise * error])


def _rising(quality: np.ndarray) -> np.ndarray:
  """The nearest curve that never falls, with ties made to rise by a hair."""
  import scipy.optimize  # not needed for anything else here

  fitted = scipy.optimize.isotonic_regression(quality).x
  return fitted + 1e-12 * np.arange(len(fitted))
