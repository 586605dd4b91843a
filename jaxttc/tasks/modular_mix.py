# SPDX-License-Identifier: Apache-2.0
"""Training text of modular problems with few primes, in several styles."""

import dataclasses
import random

from jaxttc.tasks import arithmetic, prompt_sets
from jaxttc.tasks import problems as problems_lib

_DRAWS_AN_EXAMPLE = 1000  # of the problems' stream; hardly ever used up


# Not frozen, since flags override the fields of a recipe's mix.
@dataclasses.dataclass(kw_only=True)
class ModularMix:
  """Problems of a `ModularTask`, each solved in a style that is drawn.

  A model of it that is not asked for a style mixes them: its solutions of one
  problem differ in length and in how often they are right.

  Attributes:
    task: the problems.
    terse: weight of terse solutions, relative as all weights are.
    verbose: of verbose ones.
    direct: of bare answers.
    asked: probability that the prompt asks for the style; else it is free.
  """

  task: prompt_sets.ModularTask
  terse: float = 0.45
  verbose: float = 0.35
  direct: float = 0.2
  asked: float = 0.6

  def validate(self) -> None:
    """Raises ValueError, naming the field, for what cannot be drawn from."""
    self.task.validate()
    weights = (self.terse, self.verbose, self.direct)
    if min(weights) < 0 or sum(weights) <= 0:
      raise ValueError(
        f"mix: weights terse={self.terse}, verbose={self.verbose}, direct="
        f"{self.direct}: expected none negative and a positive sum"
      )
    if not 0 <= self.asked <= 1:
      raise ValueError(f"mix.asked={self.asked}: expected 0..1")

  def example(self, index: int, *, seed: int = 0) -> tuple[str, str]:
    """One (prompt, gold completion) pair of the training split.

    Args:
      index: which example of the endless stream, from 0.
      seed: which stream.
    """
    rng = random.Random(f"modular-mix-{seed}-{index}")
    (style,) = rng.choices(
      problems_lib.SOLUTION_STYLES, (self.terse, self.verbose, self.direct)
    )
    asked = style if rng.random() < self.asked else "free"
    stream = self.task.stream("train", seed, index * _DRAWS_AN_EXAMPLE)
    problem = next(stream)
    return problems_lib.prompt(problem, asked), arithmetic.solution(
      problem, style
    )
