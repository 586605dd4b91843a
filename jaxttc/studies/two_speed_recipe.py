# SPDX-License-Identifier: Apache-2.0
"""The settings of the study of SCALE: its models, its chains, their limits."""

import dataclasses
import random

from jaxttc.tasks import digit_chains

TAUS = (0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8)
FIXED = 0.4  # the threshold that was chosen beforehand


@dataclasses.dataclass(kw_only=True)
class StudyRecipe:
  """The chains, and how they are carried out.

  Attributes:
    model: a two-mode model's file, or the name of one that ships.
    fast_model: another that answers at once in its place, likewise; "" for the
      same model's fast mode.
    chains: tested for each seed.
    steps: of a chain.
    additions: of a step, drawn uniformly.
    taus: thresholds; `FIXED` is one of them.
    shares: of the compute of all slow steps, for the knapsack.
    seeds: of chains and samples.
    temperature: of sampling.
    fast_limit: most tokens of an answer at once.
    slow_limit: most tokens of a step that is worked out.
    calibration: steps that the probe is fitted on, and modes are priced by.
    votes: samples of the voting baseline.
    disagreeing: samples of the disagreement scorer.
    slots: programs that one batch serves.
    resamples: of the bootstrap.
  """

  model: str = "two_speed_lm"
  fast_model: str = ""
  chains: int = 120
  steps: int = 5
  additions: tuple[int, ...] = (1, 2, 3, 4, 5)
  taus: tuple[float, ...] = TAUS
  shares: tuple[float, ...] = (0.4, 0.6, 0.8, 1.0)
  seeds: tuple[int, ...] = (3, 4, 5)
  temperature: float = 0.6
  fast_limit: int = 6
  slow_limit: int = 48
  calibration: int = 2000
  votes: int = 8
  disagreeing: int = 4
  slots: int = 64
  resamples: int = 1000

  @property
  def two_models(self) -> bool:
    """Whether the systems are two models; compute is then told in FLOPs."""
    return bool(self.fast_model)

  def check(self) -> None:
    """Raises ValueError if the recipe cannot be run."""
    for name in (
      "chains",
      "fast_limit",
      "slow_limit",
      "calibration",
      "votes",
      "slots",
      "resamples",
    ):
      if getattr(self, name) < 1:
        raise ValueError(f"{name} is {getattr(self, name)}; expected >= 1")
    if FIXED not in self.taus or not all(0 <= tau <= 1 for tau in self.taus):
      raise ValueError(f"taus {self.taus}: expected 0..1, {FIXED} among them")
    if not all(0 < share <= 1 for share in self.shares):
      raise ValueError(f"shares {self.shares}: expected above 0, to 1")
    if not self.seeds or len(set(self.seeds)) < len(self.seeds):
      raise ValueError(f"seeds {self.seeds}: expected different ones")
    if not self.temperature > 0:
      raise ValueError(f"temperature is {self.temperature}; expected > 0")
    digit_chains.draw(random.Random(0), self.steps, self.additions)
