# SPDX-License-Identifier: Apache-2.0
"""The settings of the study of split budgets: its problems, what is bought."""

import dataclasses
import random

from jaxttc.tasks import digit_chains

TOLD = 1.2  # share of the mean need at which rules of caps are compared


@dataclasses.dataclass(kw_only=True)
class StudyRecipe:
  """The problems, and what is bought.

  Attributes:
    model: a two-mode model's file, or the name of one that ships.
    problems: for each seed.
    additions: of a problem's sums, each once.
    seeds: of problems and samples.
    pool: samples drawn of each sum.
    vanilla: samples a sum, without a budget.
    budget: samples a problem.
    pilot: samples a sum that the allocation model is fitted at.
    pilot_sums: of each kind, for pilot and probe; other ones.
    temperature: of the samples.
    capped: problems of each seed that are worked out under caps; as many sums
      as there are kinds, each of a kind drawn for it.
    shares: of the mean need of a problem, as budgets of caps; `TOLD` is one.
    slots: programs that one batch serves.
    resamples: of the bootstrap.
  """

  model: str = "two_speed_lm"
  problems: int = 150
  additions: tuple[int, ...] = (1, 2, 3, 4)
  seeds: tuple[int, ...] = (0, 1, 2)
  pool: int = 48
  vanilla: int = 24
  budget: int = 32
  pilot: tuple[int, ...] = (1, 2, 4, 8, 16, 32)
  pilot_sums: int = 60
  temperature: float = 1.4
  capped: int = 80
  shares: tuple[float, ...] = (0.8, 1.0, 1.2, 1.6)
  slots: int = 128
  resamples: int = 1000

  def check(self) -> None:
    """Raises ValueError if the recipe cannot be run."""
    for name in ("problems", "capped", "pilot_sums", "slots", "resamples"):
      if getattr(self, name) < 1:
        raise ValueError(f"{name} is {getattr(self, name)}; expected >= 1")
    if TOLD not in self.shares or min(self.shares) <= 0:
      raise ValueError(f"shares {self.shares}: expected above 0, with {TOLD}")
    steps = len(self.additions)
    if self.budget < steps:
      raise ValueError(f"budget is {self.budget}; expected >= {steps} samples")
    most = max(self.vanilla, self.budget - steps + 1, *self.pilot)
    if self.pool < most:
      raise ValueError(f"pool is {self.pool}; expected >= {most} samples")
    if not self.seeds:
      raise ValueError("seeds: expected at least one")
    for count in self.additions:
      digit_chains.draw(random.Random(0), 1, (count,))
