# SPDX-License-Identifier: Apache-2.0
"""How well a budget of thinking is kept, and what more of it brings.

`control`, `scaling` and `performance` judge a method by its runs at several
budgets (Muennighoff et al. 2025, s1, equations 1 to 3); `adherence` looks at
the traces of one budget. Lengths and budgets count the same tokens: here those
of the thinking span, its closing one included.
"""

import itertools
from typing import NamedTuple

from jaxtyping import Bool, Float, Int
import numpy as np

Lengths = Int[np.ndarray, " _"] | Float[np.ndarray, " _"]


def control(lengths: Lengths, least: float | int, most: float | int) -> float:
  """Share of runs whose length lies in [least, most].

  Args:
    lengths: tokens of each run.
    least: fewest allowed.
    most: most allowed, at least `least`.

  Raises:
    ValueError: if there are no runs, or the bounds are out of order.
  """
  if not len(lengths) or not least <= most:
    raise ValueError(
      f"control: {len(lengths)} runs and bounds {least}..{most}; expected at "
      "least one run, and least <= most"
    )
  return float(np.mean((lengths >= least) & (lengths <= most)))


def scaling(lengths: Lengths, accuracy: Float[np.ndarray, " _"]) -> float:
  """Mean slope of accuracy over length, of all pairs of budgets.

  Args:
    lengths: tokens of each budget, or what was spent at it; no two equal.
    accuracy: there.

  Returns:
    Accuracy a token; positive if more tokens help.

  Raises:
    ValueError: if there are fewer than two budgets, two of them have one
      length, or the arrays' sizes differ.
  """
  if len(lengths) != len(accuracy) or len(lengths) < 2:
    raise ValueError(
      f"scaling: {len(lengths)} lengths and {len(accuracy)} accuracies; "
      "expected one each of at least 2 budgets"
    )
  if len(np.unique(lengths)) < len(lengths):
    raise ValueError("scaling: two budgets have one length; expected others")
  slopes = [
    (accuracy[b] - accuracy[a]) / (lengths[b] - lengths[a])
    for a, b in itertools.combinations(range(len(lengths)), 2)
  ]
  return float(np.mean(slopes))


def performance(accuracy: Float[np.ndarray, " _"]) -> float:
  """The best accuracy at any budget.

  Raises:
    ValueError: if there is no budget.
  """
  if not len(accuracy):
    raise ValueError("performance: no accuracies; expected at least one")
  return float(np.max(accuracy))


class Adherence(NamedTuple):
  """How a set of traces kept to their budgets.

  Attributes:
    error: mean |n - N|, in tokens.
    deviation: mean |n - N| / N.
    overshoot: share of traces with n > N.
    forced: share of spans that were closed by force.
  """

  error: float
  deviation: float
  overshoot: float
  forced: float


def adherence(
  lengths: Int[np.ndarray, " B"],
  budgets: Int[np.ndarray, " _"],
  forced: Bool[np.ndarray, " _"],
) -> Adherence:
  """Compares the lengths of traces with what was asked for.

  Args:
    lengths: n, tokens of each span.
    budgets: N, of each, at least 1.
    forced: whether each was closed by force.

  Raises:
    ValueError: if there are no traces, sizes differ, or a budget is below 1.
  """
  sizes = len(lengths), len(budgets), len(forced)
  if len(set(sizes)) > 1 or not sizes[0]:
    raise ValueError(
      f"adherence: {sizes[0]} lengths, {sizes[1]} budgets, {sizes[2]} flags; "
      "expected one of each a trace, and a trace at least"
    )
  if (budgets < 1).any():
    raise ValueError(f"adherence: a budget of {budgets.min()}; expected >= 1")
  distance = np.abs(np.int64(lengths) - np.int64(budgets))
  return Adherence(
    error=float(distance.mean()),
    deviation=float((distance / budgets).mean()),
    overshoot=float((lengths > budgets).mean()),
    forced=float(forced.mean()),
  )
