# SPDX-License-Identifier: Apache-2.0
"""E^3 and its kin: accuracy and thrift in one number.

    E^3 = A^2 / T,   A accuracy in percent, T mean tokens a question.

Squaring makes accuracy count for more than tokens do. The number depends on
the tokenizer and on what A is (percent of right answers, or a graded score
times 100): compare runs of one kind. T is told twice, without the planner's
tokens, as published, and all-in.

Reference:
  Lin et al. (2025), Plan and Budget, arXiv:2505.16122 (E^3).
"""

from typing import NamedTuple

import numpy as np

from jaxttc.evaluation import statistics


class Thrift(NamedTuple):
  """One run.

  Attributes:
    accuracy: in percent.
    tokens: mean a question, without the planner's.
    planner_tokens: mean a question.
    e3: of `tokens`.
    e3_all_in: of `tokens` and `planner_tokens`.
    accuracy_per_token: percent a token, without the planner's.
  """

  accuracy: statistics.Interval
  tokens: statistics.Interval
  planner_tokens: statistics.Interval
  e3: statistics.Interval
  e3_all_in: statistics.Interval
  accuracy_per_token: statistics.Interval


def e3(accuracy_percent: float, mean_tokens: float) -> float:
  """Squared accuracy over tokens.

  Raises:
    ValueError: if the accuracy is outside [0, 100], or there are no tokens.
  """
  return accuracy_percent * accuracy_per_token(accuracy_percent, mean_tokens)


def accuracy_per_token(accuracy_percent: float, mean_tokens: float) -> float:
  """Percent of accuracy a token.

  Raises:
    ValueError: as `e3`.
  """
  if not 0 <= accuracy_percent <= 100:
    raise ValueError(
      f"accuracy is {accuracy_percent}; expected percent, 0 to 100"
    )
  if not (np.isfinite(mean_tokens) and mean_tokens > 0):
    raise ValueError(f"mean tokens are {mean_tokens}; expected more than 0")
  return float(accuracy_percent / mean_tokens)


def measure(
  scores: statistics.Values,
  tokens: statistics.Values,
  planner_tokens: statistics.Values | None = None,
  *,
  resamples: int = 2000,
  level: float = 0.95,
  rng: np.random.Generator,
) -> Thrift:
  """Measures a run, with intervals over its questions.

  Args:
    scores: f64[N], of each question in [0, 1].
    tokens: f64[N], generated for each question, without the planner's.
    planner_tokens: f64[N]; 0 if None.
    resamples: of questions.
    level: of the intervals.
    rng: source of randomness; it is advanced.

  Raises:
    ValueError: if lengths differ, a score lies outside [0, 1], tokens are
      negative, or there are none at all.
  """
  rows = _rows(scores, tokens, planner_tokens)
  count = statistics.resample_counts(len(rows), resamples, rng)
  means = np.vstack([rows.mean(0), count @ rows / len(rows)])
  accuracy, spent, planning = 100 * means[:, 0], means[:, 1], means[:, 2]
  found = (
    accuracy,
    spent,
    planning,
    statistics.ratio(accuracy**2, spent),
    statistics.ratio(accuracy**2, spent + planning),
    statistics.ratio(accuracy, spent),
  )
  return Thrift(
    *(statistics.percentile_interval(x[0], x[1:], level) for x in found)
  )


def e3_over(
  run: tuple[statistics.Values, statistics.Values],
  other: tuple[statistics.Values, statistics.Values],
  *,
  resamples: int = 2000,
  level: float = 0.95,
  rng: np.random.Generator,
) -> statistics.Interval:
  """How many times the E^3 of another run on the same questions.

  Args:
    run: scores in [0, 1] and tokens, f64[N] each; add the planner's tokens to
      them for the all-in ratio.
    other: the same of the other run, question by question.
    resamples: of questions, the same for both.
    level: of the interval.
    rng: source of randomness; it is advanced.

  Raises:
    ValueError: as `measure`, if the runs differ in length, or if the other
      run has no right answer.
  """
  both = [_rows(*side, None) for side in (run, other)]
  if len(both[0]) != len(both[1]):
    raise ValueError(
      f"runs of {len(both[0])} and {len(both[1])} questions; expected the same"
    )
  count = statistics.resample_counts(len(both[0]), resamples, rng)
  parts = []
  for rows in both:
    means = np.vstack([rows.mean(0), count @ rows / len(rows)])
    parts.append(statistics.ratio(means[:, 0] ** 2, means[:, 1]))
  if not parts[1][0] > 0:
    raise ValueError("the other run has no right answer: its E^3 is 0")
  found = statistics.ratio(*parts)
  return statistics.percentile_interval(found[0], found[1:], level)


def _rows(scores, tokens, planner_tokens):
  scores = np.asarray(scores, np.float64)
  if planner_tokens is None:
    planner_tokens = np.zeros(scores.shape)
  parts = (scores, tokens, planner_tokens)
  names = ("scores", "tokens", "planner_tokens")
  rows = [np.asarray(part, np.float64) for part in parts]
  for name, row in zip(names, rows, strict=True):
    if row.shape != scores.shape or row.ndim != 1 or not row.size:
      raise ValueError(
        f"{name} have shape {row.shape}; expected one number a question"
      )
    bad = ~(np.isfinite(row) & (row >= 0) & ((row <= 1) | (name != "scores")))
    if bad.any():
      at = int(np.argmax(bad))
      expected = "0 to 1" if name == "scores" else "0 or more"
      raise ValueError(
        f"{name} of question {at} are {row[at]}; expected {expected}"
      )
  if not rows[1].sum() > 0:
    raise ValueError("the run generated no tokens: E^3 is not defined")
  return np.stack(rows, axis=1)
