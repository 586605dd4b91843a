# SPDX-License-Identifier: Apache-2.0
"""Which width of a language model, and which decoder, one budget buys best.

A budget of FLOPs pays for few tokens of a wide model or for many of a narrow
one. Which is better depends on the problems, so it is measured: each pair of
width and decoder solves calibration problems under some budgets, and what is
chosen for a budget is the pair that solved most of them within it.
"""

from collections.abc import Sequence
import math
from typing import NamedTuple


class Measured(NamedTuple):
  """What one width and decoder reached under one budget.

  Attributes:
    width: share of the model's width, in (0, 1].
    decoder: e.g. "astar(children=4)".
    flops: the budget of each problem, in FLOPs.
    accuracy: share of the calibration problems that were solved, in [0, 1].
  """

  width: float
  decoder: str
  flops: float
  accuracy: float


def front(measured: Sequence[Measured]) -> tuple[Measured, ...]:
  """The choices worth making, by rising budget and accuracy.

  A choice is on the front if nothing measured under its budget or a smaller
  one solved as much. Of equals under one budget the narrowest is kept, then
  the first.

  Args:
    measured: at least one.

  Raises:
    ValueError: if nothing was measured, or a number is out of range.
  """
  if not measured:
    raise ValueError("model_width: expected at least one measurement")
  for row in measured:
    _check(row)
  found: list[Measured] = []
  for row in sorted(measured, key=lambda r: (r.flops, -r.accuracy, r.width)):
    if not found or row.accuracy > found[-1].accuracy:
      found.append(row)
  return tuple(found)


def choose(measured: Sequence[Measured], flops: int | float) -> Measured:
  """The width and decoder to solve a problem with under a budget.

  Args:
    measured: on calibration problems like those to come.
    flops: what a problem may cost, in FLOPs.

  Returns:
    The most accurate measurement whose budget is no larger; of equals the one
    of the least budget, then the narrowest.

  Raises:
    ValueError: if the budget is no positive number, or below all that were
      measured, of which the least is named; or as `front`.
  """
  if not 0 < flops < math.inf:
    raise ValueError(f"flops must be positive and finite, got {flops!r}")
  choices = front(measured)
  fits = [row for row in choices if row.flops <= flops]
  if not fits:
    raise ValueError(
      f"flops={flops:g} is below every budget that was measured; the least is "
      f"{choices[0].flops:g}"
    )
  return fits[-1]


def _check(row: Measured) -> None:
  if not 0 < row.width <= 1:
    raise ValueError(f"width must be in (0, 1], got {row.width!r}")
  if not 0 < row.flops < math.inf:
    raise ValueError(f"flops must be positive and finite, got {row.flops!r}")
  if not 0 <= row.accuracy <= 1:
    raise ValueError(f"accuracy must be in [0, 1], got {row.accuracy!r}")
