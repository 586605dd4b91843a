# SPDX-License-Identifier: Apache-2.0
"""How a plan's credits become whole tokens: decay schedules and rounding.

A step's weight is its credit times a decay of its position, which favours the
early steps that everything after them rests on. The budget is split in
proportion to the weights and rounded so that it is spent to the last token.

Reference:
  Lin et al. (2025), arXiv:2505.16122, section on decay schedules.
"""

from collections.abc import Callable, Sequence
import difflib
import math
from typing import Any
import warnings

from jaxtyping import Float, Int
import numpy as np

Schedule = Callable[[np.ndarray, int], np.ndarray]
ROUNDINGS = ("source", "largest_remainder")


def constant(index: np.ndarray, steps: int) -> np.ndarray:
  """1 for every step."""
  del steps
  return np.ones(np.shape(index))


def linear(index: np.ndarray, steps: int) -> np.ndarray:
  """Steps that are left, with this one: m - j."""
  return steps - np.asarray(index, np.float64)


def polynomial(index: np.ndarray, steps: int, power: float = 2.0) -> np.ndarray:
  """(m - j)^power."""
  return linear(index, steps) ** power


def exponential(index: np.ndarray, steps: int, base: float = 0.9) -> np.ndarray:
  """base^j; nearly flat over the few steps of a plan."""
  del steps
  return base ** np.asarray(index, np.float64)


def cosine(index: np.ndarray, steps: int, offset: float = 0.1) -> np.ndarray:
  """Half a cosine from 1 to 0, plus an offset; 1 for a single step."""
  if steps == 1:
    return np.ones(np.shape(index))
  turn = math.pi * np.asarray(index, np.float64) / (steps - 1)
  return 0.5 * (1 + np.cos(turn)) + offset


SCHEDULES: dict[str, Schedule] = {
  "constant": constant,
  "linear": linear,
  "polynomial": polynomial,
  "exponential": exponential,
  "cosine": cosine,
}


def lookup(name: str) -> Schedule:
  """The schedule of a name.

  Raises:
    ValueError: if there is none; the nearest is named.
  """
  if name in SCHEDULES:
    return SCHEDULES[name]
  near = difflib.get_close_matches(name, SCHEDULES, n=1)
  hint = f"; did you mean {near[0]!r}?" if near else ""
  raise ValueError(
    f"schedule {name!r} is not one of {', '.join(SCHEDULES)}{hint}"
  )


def weights(
  credits: Sequence[Any] | np.ndarray, schedule: str | Schedule = "constant"
) -> Float[np.ndarray, " m"]:
  """Credits times the decay of their positions.

  Raises:
    ValueError: as `check_credits`, or for an unknown schedule.
  """
  held = check_credits(credits)
  decay = lookup(schedule) if isinstance(schedule, str) else schedule
  return held * decay(np.arange(held.size), held.size)


def allocate_tokens(
  credits: Sequence[Any] | np.ndarray,
  total: int,
  schedule: str | Schedule = "polynomial",
  *,
  rounding: str = "source",
  floor: int = 0,
) -> Int[np.ndarray, " m"]:
  """Splits whole tokens over the steps of a plan.

  Args:
    credits: of each step, not negative, not all zero.
    total: whole tokens.
    schedule: a name of `SCHEDULES`, or (positions, steps) -> decay.
    rounding: who gets the tokens that are left after rounding down: "source",
      as the released code does, one each to the steps of largest weight;
      "largest_remainder", to those that rounding down took most from. Ties
      go to the earlier step.
    floor: tokens that each step gets before the rest is split.

  Returns:
    i64[M], which sum to `total`.

  Raises:
    ValueError: if the credits, schedule or rounding cannot be, or `total` is
      not a whole number of at least M * floor.

  Warns:
    UserWarning: if the credits do not total 100, as planners are asked to.
  """
  if rounding not in ROUNDINGS:
    raise ValueError(f"rounding {rounding!r} is not one of {ROUNDINGS}")
  shares = weights(credits, schedule)
  total, floor = _whole("total", total), _whole("floor", floor)
  spare = total - floor * shares.size
  if spare < 0:
    raise ValueError(
      f"total is {total} tokens; expected at least {floor * shares.size}, "
      f"{floor} for each of {shares.size} steps"
    )
  if not math.isclose(sum(credits), 100.0):
    warnings.warn(
      f"credits total {sum(credits):g}, not 100", UserWarning, stacklevel=2
    )
  exact = spare * shares / shares.sum()
  tokens = np.floor(exact).astype(np.int64)
  first = shares if rounding == "source" else exact - tokens
  order = np.argsort(-first, kind="stable")
  tokens[order[: spare - tokens.sum()]] += 1
  return tokens + floor


def uniform_tokens(steps: int, total: int) -> Int[np.ndarray, " m"]:
  """The uniform baseline as released: total // steps for each, rest unspent.

  Raises:
    ValueError: if there are no steps or `total` is not a whole number.
  """
  if steps < 1:
    raise ValueError("a plan has at least 1 step, got 0")
  return np.full(steps, _whole("total", total) // steps, np.int64)


def check_credits(
  credits: Sequence[Any] | np.ndarray,
) -> Float[np.ndarray, " m"]:
  """Credits as an array.

  Raises:
    ValueError: if there are none, one is negative or no number (its step is
      named), or all are zero.
  """
  held = np.asarray(credits, np.float64)
  if held.ndim != 1 or not held.size:
    raise ValueError(f"expected a credit a step, got shape {held.shape}")
  bad = ~(np.isfinite(held) & (held >= 0))
  if bad.any():
    step = int(np.argmax(bad))
    raise ValueError(
      f"credit of step {step + 1} is {held[step]}; expected a finite number, "
      "not negative"
    )
  if not held.any():
    raise ValueError("all credits are zero: there is nothing to split by")
  return held


def _whole(name: str, number: int) -> int:
  if int(number) != number or number < 0:
    raise ValueError(f"{name} is {number}; expected a whole number >= 0")
  return int(number)
