# SPDX-License-Identifier: Apache-2.0
"""When to escalate from a small model to a large one, by self-verification.

A question is in one of three hidden classes: *needy* (the small model fails,
the large one does not), *good* (the small one suffices) or *hopeless* (both
fail). What is seen is a verification score, put into bins. Counts on
calibration questions give each bin's expected gain; escalating pays in the
bins where it exceeds the price of the large model. Since the posterior of a
bin is all that is known, that set of bins is the optimal policy of the
partially observed decision process, found by one comparison a bin.

Reference: Aggarwal et al. (2023), AutoMix, arXiv:2310.12963.
"""

from typing import NamedTuple

from jaxtyping import Bool, Float
import numpy as np


class BinPolicy(NamedTuple):
  """Which bins of the verification score escalate.

  Attributes:
    edges: f64[B - 1], rising; a score equal to an edge is above it.
    gains: f64[B], expected gain of escalating in score.
    escalate: bool[B].
  """

  edges: Float[np.ndarray, " E"]
  gains: Float[np.ndarray, " B"]
  escalate: Bool[np.ndarray, " B"]

  def apply(
    self, verification: Float[np.ndarray, " n"]
  ) -> Bool[np.ndarray, " n"]:
    """bool[n], which questions go on to the large model."""
    return self.escalate[np.searchsorted(self.edges, verification, "right")]


class Band(NamedTuple):
  """Escalate only what is neither sure to be right nor sure to be wrong.

  Attributes:
    low: below it nothing is escalated (the question is hopeless).
    high: from it on nothing is escalated (the answer is good).
  """

  low: float
  high: float

  def apply(
    self, verification: Float[np.ndarray, " n"]
  ) -> Bool[np.ndarray, " n"]:
    """bool[n], which questions go on to the large model."""
    verification = np.asarray(verification)
    return (verification >= self.low) & (verification < self.high)


def fit_bins(
  verification: np.ndarray,
  small: np.ndarray,
  large: np.ndarray,
  price_of_large: float,
  *,
  bins: int = 8,
  prior: float = 1.0,
) -> BinPolicy:
  """The bins whose expected gain exceeds the price of the large model.

  Args:
    verification: f64[n], scores of the small model's answers.
    small: f64[n], true scores of the small model.
    large: f64[n], those of the large one.
    price_of_large: its cost, in score.
    bins: bins of about equal size; equal scores share one.
    prior: so many questions of mean gain are added to each bin.

  Raises:
    ValueError: if there are no questions, lengths differ, or the price is
      negative.
  """
  verification, gain = _checked(verification, small, large, price_of_large)
  inner = np.linspace(0, 1, bins + 1)[1:-1]
  edges = np.unique(np.quantile(verification, inner, method="higher"))
  edges = edges[edges > verification.min()]
  place = np.searchsorted(edges, verification, "right")
  count = np.bincount(place, minlength=len(edges) + 1)
  total = np.bincount(place, gain, minlength=len(edges) + 1)
  gains = (total + prior * gain.mean()) / np.maximum(count + prior, 1e-12)
  return BinPolicy(edges, gains, gains > price_of_large)


def fit_band(
  verification: np.ndarray,
  small: np.ndarray,
  large: np.ndarray,
  price_of_large: float,
  *,
  single: bool = False,
) -> Band:
  """The band of greatest mean score - price, over all pairs of thresholds.

  Escalating a band of the sorted scores gains the sum over it, so the best band
  is the interval of largest sum, found in one pass (Kadane).

  Args:
    verification: f64[n], scores of the small model's answers.
    small: f64[n], true scores of the small model.
    large: f64[n], those of the large one.
    price_of_large: its cost, in score.
    single: whether only the upper threshold is free: everything below it
      escalates.

  Raises:
    ValueError: as `fit_bins`.
  """
  verification, gain = _checked(verification, small, large, price_of_large)
  values, place = np.unique(verification, return_inverse=True)
  worth = np.bincount(place, gain - price_of_large)
  sums = np.concatenate([[0.0], np.cumsum(worth)])
  # Band [start, stop) of the values; the lowest sum before each stop is best.
  before = np.zeros_like(sums) if single else np.minimum.accumulate(sums)
  stop = int(np.argmax(sums - before))
  start = 0 if single else int(np.argmin(sums[: stop + 1]))
  if start == stop:
    return Band(np.inf, -np.inf)
  bounds = np.append(values, np.inf)
  low = -np.inf if start == 0 else float(bounds[start])
  return Band(low, float(bounds[stop]))


def _checked(verification, small, large, price):
  verification, small, large = (
    np.asarray(a, np.float64) for a in (verification, small, large)
  )
  if not len(verification) == len(small) == len(large) > 0 or not price >= 0:
    raise ValueError(
      "automix: expected questions with a verification and two scores each, "
      f"and a price >= 0, got {len(verification)}, {len(small)}, {len(large)} "
      f"and {price}"
    )
  return verification, large - small
