# SPDX-License-Identifier: Apache-2.0
"""Regret over tokens: how good a trace is at every budget, not only its end.

A trace that is stopped after each of its parts, and made to answer, gives a
curve of accuracy over tokens. Its regret at a budget is what is missing to an
answer that is always right, on average up to the budget.

Reference:
  Qu et al. (2025), Optimizing Test-Time Compute via Meta Reinforcement
  Fine-Tuning, arXiv:2503.07572, section 4 and the released analysis.
"""

from jaxtyping import Float
import numpy as np

Curve = Float[np.ndarray, " n"]


def normalised_regret(
  tokens: Curve,
  accuracy: Curve,
  budgets: Float[np.ndarray, " b"],
  start: float = 0.0,
) -> Float[np.ndarray, " b"]:
  """1 - mean accuracy from no token up to each budget.

  The curve is linear between its points, and goes on at its last value.

  Args:
    tokens: at each stop, prompt and forced answer included; positive, rising.
    accuracy: at each stop, in [0, 1].
    budgets: tokens, positive, rising.
    start: accuracy without a token; 0 as published.

  Raises:
    ValueError: if there are no points, shapes differ, tokens or budgets are
      not positive and rising, or an accuracy is outside [0, 1].
  """
  tokens, accuracy = np.asarray(tokens, float), np.asarray(accuracy, float)
  if tokens.ndim != 1 or not tokens.size or tokens.shape != accuracy.shape:
    raise ValueError(
      f"expected tokens[N] and accuracy[N], got {tokens.shape} and"
      f" {accuracy.shape}"
    )
  _check_rising("tokens", tokens)
  _check_rising("budgets", np.asarray(budgets, float))
  for value in (start, *accuracy):
    if not 0 <= value <= 1:
      raise ValueError(f"accuracy is {value}; expected 0 to 1")
  x, y = np.append(0.0, tokens), np.append(start, accuracy)
  found = []
  for budget in np.asarray(budgets, float):
    inside = x < budget
    height = np.interp(budget, x, y)  # beyond the last point: its value
    at = np.append(x[inside], budget)
    found.append(1 - np.trapezoid(np.append(y[inside], height), at) / budget)
  return np.array(found)


def stopped_accuracy(
  tokens: Float[np.ndarray, "n k"],
  accuracy: Float[np.ndarray, "n k"],
  budgets: Float[np.ndarray, " b"],
) -> Float[np.ndarray, " b"]:
  """Mean accuracy of traces, each stopped as late as a budget allows.

  A trace that has no stop inside the budget is wrong.

  Args:
    tokens: of N traces at each of their stops, forced answer included; NaN
      where a trace has no more stops.
    accuracy: at each stop, in [0, 1].
    budgets: tokens.

  Raises:
    ValueError: if an accuracy is outside [0, 1].
  """
  there = ~np.isnan(tokens)
  if not ((accuracy[there] >= 0) & (accuracy[there] <= 1)).all():
    raise ValueError("accuracy is outside [0, 1]")
  found = []
  for budget in budgets:
    inside = np.where(there, tokens, np.inf) <= budget
    last = np.where(inside, tokens, -np.inf).argmax(axis=1)
    reached = np.take_along_axis(accuracy, last[:, None], axis=1)[:, 0]
    found.append(np.where(inside.any(axis=1), reached, 0.0).mean())
  return np.array(found)


def cumulative_regret(accuracy: Curve, oracle: Curve) -> float:
  """Sum over episodes of what an oracle would have had more.

  Args:
    accuracy: of a forced answer after each episode.
    oracle: of the best policy for so many episodes.

  Raises:
    ValueError: if lengths differ, or an entry is outside [0, 1].
  """
  mine, best = np.asarray(accuracy, float), np.asarray(oracle, float)
  if mine.shape != best.shape or mine.ndim != 1:
    raise ValueError(f"expected equal lengths, got {mine.shape}, {best.shape}")
  for curve in (mine, best):
    if not ((curve >= 0) & (curve <= 1)).all():
      raise ValueError("accuracy is outside [0, 1]")
  return float((best - mine).sum())


def tokens_to_reach(tokens: Curve, accuracy: Curve, level: float) -> float:
  """Tokens at which a curve first has an accuracy; infinite if never.

  Linear between points, from (0, 0) on.
  """
  x = np.append(0.0, np.asarray(tokens, float))
  y = np.append(0.0, np.asarray(accuracy, float))
  above = np.flatnonzero(y >= level)
  if not above.size:
    return float("inf")
  at = above[0]
  if at == 0:
    return 0.0
  rise = (level - y[at - 1]) / (y[at] - y[at - 1])
  return float(x[at - 1] + rise * (x[at] - x[at - 1]))


def token_efficiency(
  mine: tuple[Curve, Curve], other: tuple[Curve, Curve], level: float
) -> float:
  """How many times the tokens another curve needs for the same accuracy.

  Args:
    mine: tokens and accuracy.
    other: likewise.
    level: the accuracy, in (0, 1].

  Returns:
    The ratio; infinite if only the other never reaches it.

  Raises:
    ValueError: if the level is outside (0, 1], or this curve never reaches it.
  """
  if not 0 < level <= 1:
    raise ValueError(f"level is {level}; expected more than 0, at most 1")
  needed = tokens_to_reach(*mine, level)
  if not np.isfinite(needed):
    raise ValueError(f"the curve never reaches {level}")
  return tokens_to_reach(*other, level) / needed


def _check_rising(name: str, numbers: np.ndarray) -> None:
  if numbers.ndim != 1 or not numbers.size:
    raise ValueError(f"expected {name}[N], got shape {numbers.shape}")
  if not (numbers[0] > 0 and (np.diff(numbers) > 0).all()):
    raise ValueError(f"{name} must be positive and rising, got {numbers}")
