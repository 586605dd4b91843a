# SPDX-License-Identifier: Apache-2.0
"""Which steps of a plan are thought through, and which answered at once.

A policy maps the difficulties of a plan's steps, in [0, 1], to modes, True for
slow (System 2). `threshold` looks at each step alone, so it can be asked
before later steps are known; `budgeted` needs them all.

References:
  Xiao et al. (2025), SCALE. The cost model of `budgeted` is ours: modes that
  maximise the log of the product of the steps' success rates, under a cap on
  tokens; a threshold is optimal where difficulty is monotone in gain a token.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Bool, Float, Int
import numpy as np

from jaxttc.allocators import choice_knapsack

Scores = Float[np.ndarray, " n"]
Modes = Bool[np.ndarray, " n"]


class ModePolicy(NamedTuple):
  """How modes are chosen.

  Attributes:
    choose: difficulties f64[n], and whether the last of them is the plan's
      last step -> modes bool[n].
    stepwise: whether each mode depends on its own difficulty alone.
    last_step_floor: least difficulty that the last step is taken to have.
  """

  choose: Callable[[Scores, bool], Modes]
  stepwise: bool
  last_step_floor: float = 0.0

  def modes(self, scores: Scores, complete: bool = True) -> Modes:
    """The modes of the steps.

    Args:
      scores: difficulties of the first steps, or of all.
      complete: whether they are all.

    Raises:
      ValueError: if a difficulty lies outside [0, 1], there are none, or the
        policy needs them all and they are not.
    """
    scores = check_scores(scores)
    if not complete and not self.stepwise:
      raise ValueError(
        "this policy needs the difficulties of all steps at once"
      )
    if complete:
      scores = scores.copy()
      scores[-1] = max(scores[-1], self.last_step_floor)
    return self.choose(scores, complete)


def check_scores(scores: Scores) -> Scores:
  """Difficulties as f64[n].

  Raises:
    ValueError: if there are none, or one is not in [0, 1].
  """
  scores = np.asarray(scores, np.float64)
  if scores.ndim != 1 or not scores.size:
    raise ValueError(f"expected a difficulty a step, got shape {scores.shape}")
  bad = ~((scores >= 0) & (scores <= 1))
  if bad.any():
    at = int(np.argmax(bad))
    raise ValueError(
      f"difficulty of step {at + 1} is {scores[at]}; expected 0 to 1"
    )
  return scores


def threshold(tau: float, last_step_floor: float = 0.9) -> ModePolicy:
  """Slow where the difficulty is above `tau`, strictly.

  Args:
    tau: in [0, 1]; at 1 nothing is slow.
    last_step_floor: least difficulty of the last step; 0.9 is published, 0
      leaves it as it is.

  Raises:
    ValueError: if one of them lies outside [0, 1].
  """
  for name, value in (("tau", tau), ("last_step_floor", last_step_floor)):
    if not 0 <= value <= 1:
      raise ValueError(f"{name} is {value}; expected 0 to 1")
  return ModePolicy(lambda scores, _: scores > tau, True, last_step_floor)


def always(slow: bool) -> ModePolicy:
  """All steps in one mode."""
  return ModePolicy(lambda scores, _: np.full(scores.shape, slow), True)


def at_random(count: int, rng: np.random.Generator) -> ModePolicy:
  """So many slow steps, any of them: what a difficulty has to beat.

  Args:
    count: slow steps in the plan; all, if it has no more.
    rng: source of randomness; it is advanced.

  Raises:
    ValueError: if `count` is negative.
  """
  if count < 0:
    raise ValueError(f"count is {count}; expected 0 or more")

  def choose(scores, _):
    modes = np.zeros(scores.shape, bool)
    modes[rng.permutation(scores.size)[:count]] = True
    return modes

  return ModePolicy(choose, False)


def budgeted(
  rates: Callable[[Scores], Float[np.ndarray, "n 2"]],
  tokens: Callable[[Scores], Int[np.ndarray, "n 2"]],
  budget: int,
) -> ModePolicy:
  """The modes of the highest chance of success that a budget of tokens buys.

  Args:
    rates: difficulties -> success rates of each step, fast and slow, in
      (0, 1].
    tokens: difficulties -> whole tokens of each step, fast and slow.
    budget: tokens of the whole plan. If not even all fast steps fit, all are
      fast.

  Raises:
    ValueError: if the budget is below 1; when asked for modes, if a rate or a
      number of tokens cannot be.
  """
  if budget < 1:
    raise ValueError(f"budget is {budget} tokens; expected at least 1")

  def choose(scores, _):
    return best_modes(rates(scores), tokens(scores), budget)

  return ModePolicy(choose, False)


def best_modes(
  rates: Float[np.ndarray, "n 2"], tokens: Int[np.ndarray, "n 2"], budget: int
) -> Modes:
  """Modes that maximise the product of the rates within a budget, exactly.

  Args:
    rates: of success, fast and slow, in (0, 1].
    tokens: whole, fast and slow.
    budget: tokens in all.

  Returns:
    bool[n]; all fast if nothing fits.

  Raises:
    ValueError: if a rate or a number of tokens cannot be.
  """
  rates, tokens = np.asarray(rates, np.float64), np.asarray(tokens)
  if not ((rates > 0) & (rates <= 1)).all():
    raise ValueError("rates must be in (0, 1]")
  if (tokens < 0).any():
    raise ValueError("tokens must not be negative")
  if tokens[:, 0].sum() > budget:
    return np.zeros(len(rates), bool)
  chosen, _ = choice_knapsack.solve(
    jnp.asarray(np.log(rates), jnp.float32),
    jnp.asarray(tokens, jnp.int32),
    jnp.int32(budget),
    int(budget),
  )
  return np.asarray(chosen) == 1
