# SPDX-License-Identifier: Apache-2.0
"""Routing between a weak and a strong model: PGR, APGR and CPT.

With a share x of the questions, those of greatest gain first, sent to the
strong model, the performance gap recovered is
PGR(x) = (score(x) - weak) / (strong - weak). The sweep is exact: one point a
question, and questions of equal gain count as sent in random order, of which
the expectation is taken.

Reference: Ong et al. (2024), RouteLLM, arXiv:2406.18665.
"""

from typing import NamedTuple

from jaxtyping import Float
import numpy as np

from jaxttc.evaluation import statistics


class Recovered(NamedTuple):
  """The gap recovered at each share of calls.

  Attributes:
    share: f64[N + 1], of calls to the strong model: 0 to 1.
    gap: f64[N + 1], PGR; it can exceed 1, since a mixture can beat both.
  """

  share: Float[np.ndarray, " P"]
  gap: Float[np.ndarray, " P"]

  @property
  def apgr(self) -> float:
    """The mean gap over shares; 1/2 in expectation for random routing."""
    return float(np.trapezoid(self.gap, self.share))

  def cpt(self, target: float) -> float:
    """The least share of strong calls that recovers a part of the gap.

    Args:
      target: e.g. 0.8.

    Returns:
      A share in [0, 1], interpolated; infinite if it is never recovered.
    """
    reached = np.flatnonzero(self.gap >= target)
    if not reached.size:
      return float("inf")
    place = int(reached[0])
    if place == 0:
      return float(self.share[0])
    pair = slice(place - 1, place + 1)
    return float(np.interp(target, self.gap[pair], self.share[pair]))


def recovered(
  gains: statistics.Values,
  weak: statistics.Values,
  strong: statistics.Values,
) -> Recovered:
  """The gap that is recovered when predicted gains decide.

  Args:
    gains: f64[N], predicted score of the strong model less that of the weak.
      Only their order counts.
    weak: f64[N], true scores of the weak model.
    strong: f64[N], those of the strong model.

  Raises:
    ValueError: if lengths differ, a number is not finite, or the weak model is
      as good as the strong one, which leaves no gap.
  """
  gains, weak, strong = (np.asarray(a, float) for a in (gains, weak, strong))
  if not len(gains) == len(weak) == len(strong) > 0:
    raise ValueError(
      "recovered: expected gains, weak and strong scores of one length, got "
      f"{len(gains)}, {len(weak)} and {len(strong)}"
    )
  if not np.isfinite([gains, weak, strong]).all():
    raise ValueError("recovered: expected finite gains and scores")
  gap = strong.mean() - weak.mean()
  if gap <= 0:
    raise ValueError(
      f"recovered: the strong model scores {strong.mean():.3f}, the weak one "
      f"{weak.mean():.3f}; there is no gap to recover"
    )
  order = np.argsort(-gains, kind="stable")
  step = _even_ties(gains[order], (strong - weak)[order])
  risen = np.concatenate([[0.0], np.cumsum(step)]) / len(gains)
  return Recovered(np.linspace(0, 1, len(gains) + 1), risen / gap)


def oracle_score(
  weak: Float[np.ndarray, " N"], strong: Float[np.ndarray, " N"], share: float
) -> float:
  """Mean score of the best use of a share of strong calls.

  Args:
    weak: f64[N].
    strong: f64[N].
    share: of calls, at most this many; in [0, 1].
  """
  gains = np.sort(np.asarray(strong, float) - weak)[::-1]
  calls = share * len(gains)
  whole = int(calls)
  gained = np.maximum(gains[:whole], 0).sum()
  if whole < len(gains):
    gained += (calls - whole) * max(gains[whole], 0)
  return float(np.mean(weak) + gained / len(gains))


def _even_ties(keys: np.ndarray, values: np.ndarray) -> np.ndarray:
  """Values with those of equal (sorted) keys replaced by their mean."""
  _, place, count = np.unique(-keys, return_inverse=True, return_counts=True)
  return (np.bincount(place, values) / count)[place]
