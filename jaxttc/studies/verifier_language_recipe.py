# SPDX-License-Identifier: Apache-2.0
"""What the study of learned verifiers on a language model compares."""

from collections.abc import Mapping
import dataclasses

from jaxttc.tasks import modular_mix, problems
from jaxttc.training import recipes

CLONES = ("clone_solved", "clone_charged", "clone_expert")
VERIFIED = ("reweight", "policy_gradient")
METHODS = (*CLONES, *VERIFIED)

_HEAD, _CLAUSE = 16, 3  # tokens of a prompt: what frames it, and each step


@dataclasses.dataclass(kw_only=True)
class LanguageVerifierRecipe:
  """What is compared.

  Attributes:
    base: the model that all runs begin with; its mix is a `ModularMix`.
    families: the style that prompts ask for, by name of the family.
    steps: of a problem, ascending: the horizon in steps.
    tokens_a_step: horizon H in tokens, over steps.
    ratios: traces n over steps, ascending.
    ratio: the one at which horizons are compared; numbers of traces are
      compared at the longest, in the first family.
    seeds: how many, from 0.
    drawn: solutions of the base a problem, S, out of which right ones are
      cloned, and out of which the ball's best policies choose.
    kappa: radius of the chi-square ball, of `clone_expert` and `reweight`.
    batch: rows a step.
    epochs: passes over the cloned traces.
    rates: learning rates of each method; equally many.
    ridges: penalties of the verifier, as many as there are rates.
    members: of the verifier.
    pessimism: deviations between members that are taken off their mean.
    rollouts: tasks a step, group and passes of the policy gradient.
    tested: held-out problems a seed.
    samples: solutions a held-out problem, N of best-of-N and of votes.
    judged: of them, where only their mean is told.
  """

  base: recipes.LanguageModelRecipe
  families: Mapping[str, str]
  steps: tuple[int, ...] = (2, 4, 8)
  tokens_a_step: int = 16
  ratios: tuple[int, ...] = (4, 8, 16)
  ratio: int = 16
  seeds: int = 3
  drawn: int = 8
  kappa: float = 3.0
  batch: int = 32
  epochs: int = 4
  rates: Mapping[str, tuple[float, ...]]
  ridges: tuple[float, ...] = (0.3, 3.0, 30.0)
  members: int = 8
  pessimism: float = 1.0
  rollouts: tuple[int, int, int] = (8, 8, 2)
  tested: int = 128
  samples: int = 8
  judged: int = 4

  def validate(self) -> None:
    """Raises ValueError, naming the field, for what cannot be studied."""
    if not isinstance(self.base.mix, modular_mix.ModularMix):
      raise ValueError("base.mix: expected a ModularMix")
    self.base.mix.validate()
    for name in ("steps", "ratios"):
      found = list(getattr(self, name))
      if len(found) < 2 or found != sorted(set(found)) or found[0] < 1:
        raise ValueError(f"{name} must be positive and ascend, got {found}")
    task = self.base.mix.task
    if not task.min_steps <= self.steps[0] <= self.steps[-1] <= task.max_steps:
      raise ValueError(
        f"steps={self.steps}: the base is trained on {task.min_steps} to "
        f"{task.max_steps}"
      )
    longest = self.steps[-1]
    needed = self.width(longest) + self.horizon(longest)
    if needed > self.base.model.max_length:
      raise ValueError(
        f"base.model.max_length={self.base.model.max_length}: {needed} tokens "
        f"are needed for {self.steps[-1]} steps"
      )
    if self.ratio not in self.ratios:
      raise ValueError(f"ratio={self.ratio} is not one of {self.ratios}")
    if not self.families:
      raise ValueError("families: expected at least one")
    for style in self.families.values():
      problems.require_name(style, problems.STYLES, "style")
    if set(self.rates) != set(METHODS):
      raise ValueError(f"rates of {sorted(self.rates)}, expected of {METHODS}")
    dials = (self.ridges, *self.rates.values())
    if len({len(dial) for dial in dials}) != 1 or not all(
      min(dial, default=0) > 0 for dial in dials
    ):
      raise ValueError("rates and ridges: expected equally many, above 0")
    for name, least in (
      ("tokens_a_step", 1),
      ("seeds", 1),
      ("drawn", 2),
      ("batch", 1),
      ("epochs", 1),
      ("members", 1),
      ("tested", 1),
      ("samples", 3),
      ("judged", 1),
    ):
      if getattr(self, name) < least:
        raise ValueError(
          f"{name} must be at least {least}, got {getattr(self, name)}"
        )
    if not (self.kappa >= 0 and self.pessimism >= 0):
      raise ValueError("kappa and pessimism must not be negative")
    tasks, group, passes = self.rollouts
    if tasks < 1 or group < 2 or passes < 1:
      raise ValueError(
        f"rollouts={self.rollouts}: expected tasks, a group of 2 or more, and "
        "passes"
      )

  def horizon(self, steps: int) -> int:
    """Most tokens of a solution, H."""
    return self.tokens_a_step * steps

  def width(self, steps: int) -> int:
    """Tokens that the longest prompt may have."""
    return _HEAD + _CLAUSE * steps

  def dial(self, name: str) -> tuple[float, ...]:
    """The settings of a method, or of "verifier"."""
    return tuple(self.ridges if name == "verifier" else self.rates[name])

  def points(self) -> list[tuple[str, int, int]]:
    """(family, steps, ratio) of all points, the quick ones first."""
    first = next(iter(self.families))
    over_steps = [(f, s, self.ratio) for s in self.steps for f in self.families]
    return over_steps + [
      (first, self.steps[-1], ratio)
      for ratio in self.ratios
      if ratio != self.ratio
    ]
