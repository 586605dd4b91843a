# SPDX-License-Identifier: Apache-2.0
"""How far a cheaper model does what the dear one did: loyalty, compression.

A student may be as accurate as its teacher and still decide otherwise. Label
loyalty is the share of examples on which both say the same; probability
loyalty compares what they would have said besides (Xu et al. 2021, "Beyond
preserved accuracy", arXiv:2109.03228).
"""

import numpy as np

from jaxttc.evaluation import statistics as statistics_lib

_TOLERANCE = 1e-3  # of a sum of float32 probabilities


def label_loyalty(
  teacher: statistics_lib.Values, student: statistics_lib.Values
) -> float:
  """Share of examples with the same most probable class.

  Args:
    teacher: f64[N, C], probabilities or logits.
    student: f64[N, C], the same of the student.

  Raises:
    ValueError: for shapes that disagree, no examples, or NaN.
  """
  ours, theirs = _pair(teacher, student)
  return float((ours.argmax(-1) == theirs.argmax(-1)).mean())


def probability_loyalty(
  teacher: statistics_lib.Values, student: statistics_lib.Values
) -> float:
  """1 less the Jensen-Shannon distance of the predictions, averaged.

  The distance is the root of the divergence in bits: 0 for equal predictions,
  1 for disjoint ones.

  Args:
    teacher: f64[N, C], probabilities.
    student: f64[N, C], probabilities.

  Returns:
    The loyalty, in [0, 1].

  Raises:
    ValueError: for shapes that disagree, no examples, or rows that are no
      probabilities.
  """
  p, q = _pair(teacher, student)
  for name, rows in (("teacher", p), ("student", q)):
    bad = (rows < 0).any(-1) | (abs(rows.sum(-1) - 1) > _TOLERANCE)
    if bad.any():
      row = int(np.flatnonzero(bad)[0])
      raise ValueError(
        f"probability_loyalty: row {row} of {name} is no distribution (sum "
        f"{rows[row].sum():.4g}, least {rows[row].min():.4g})"
      )
  middle = (p + q) / 2
  divergence = (_bits(p, middle) + _bits(q, middle)) / 2
  return float(1 - np.sqrt(np.clip(divergence, 0.0, 1.0)).mean())


def _bits(p: np.ndarray, q: np.ndarray) -> np.ndarray:
  """Kullback-Leibler divergence of rows, in bits; q > 0 where p > 0."""
  ratio = np.divide(p, q, out=np.ones_like(p), where=p > 0)
  return (p * np.log2(ratio)).sum(-1)


def _pair(teacher, student) -> tuple[np.ndarray, np.ndarray]:
  p, q = (np.asarray(x, np.float64) for x in (teacher, student))
  if p.ndim != 2 or p.shape != q.shape or not p.size:
    raise ValueError(
      f"loyalty: expected teacher[N, C] and student[N, C], got {p.shape} and "
      f"{q.shape}"
    )
  if not (np.isfinite(p).all() and np.isfinite(q).all()):
    raise ValueError("loyalty: predictions must be finite")
  return p, q
