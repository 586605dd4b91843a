# SPDX-License-Identifier: Apache-2.0
"""The settings of the study of voting against verifying."""

import dataclasses
import pathlib

from jaxttc.tasks import problems as problems_lib
from jaxttc.tasks import verifications


@dataclasses.dataclass(kw_only=True)
class StudyRecipe:
  """What is sampled, and how it is compared.

  Attributes:
    policy: who solves: a file, or a model that ships.
    verifier: who verifies.
    more_verifiers: others, of the same recipe and other seeds, that the claims
      are measured with anew.
    reader: a process-reward model that reads solutions, for comparison.
    problems: held-out problems P.
    steps: their difficulties, in turn.
    seed: of problems, samples and resamples.
    style: the style that solutions are asked for.
    temperature: of solutions.
    solutions: n, sampled a problem, for votes.
    verified: of them, the first so many are verified.
    verifications: Vmax, of each.
    verifier_temperature: of verifications.
    max_tokens: of a solution; longer ones have no answer.
    max_verification_tokens: longer ones say nothing.
    checks: styles of verification, the first one the study's; the others are
      compared by what they can tell.
    chunk: problems sampled at once.
    grid: S of the surface; those above `verified` are left out.
    small_budget: up to which voting is said to lead.
    fit_budgets: budgets that the law of the best split is fitted on.
    test_budgets: larger ones that it is tested on.
    resamples: of problems.
  """

  policy: str = "arithmetic_lm"
  verifier: str = "arithmetic_verifier"
  more_verifiers: tuple[str, ...] = ()
  reader: str = "arithmetic_prm"
  problems: int = 96
  steps: tuple[int, ...] = (6, 8, 10)
  seed: int = 23
  style: str = "terse"
  temperature: float = 1.0
  solutions: int = 64
  verified: int = 48
  verifications: int = 6
  verifier_temperature: float = 0.7
  max_tokens: int = 96
  max_verification_tokens: int = 160
  checks: tuple[str, ...] = ("verbose",)
  chunk: int = 24
  grid: tuple[int, ...] = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64)
  small_budget: float = 8.0
  fit_budgets: tuple[float, ...] = (8.0, 12.0, 16.0, 24.0, 32.0)
  test_budgets: tuple[float, ...] = (48.0, 64.0, 96.0, 128.0)
  resamples: int = 500

  def check(self) -> None:
    """Raises ValueError, naming the field, for values that cannot be."""
    for name in (
      "problems",
      "solutions",
      "verified",
      "verifications",
      "chunk",
      "resamples",
    ):
      if getattr(self, name) < 1:
        raise ValueError(
          f"{name} must be at least 1, got {getattr(self, name)}"
        )
    if self.verified > self.solutions:
      raise ValueError(
        f"verified={self.verified} exceeds solutions={self.solutions}"
      )
    if self.problems < 4:
      raise ValueError("problems must be at least 4: splits are chosen on half")
    if not self.checks or not self.steps:
      raise ValueError("checks and steps must not be empty")
    for style in self.checks:
      problems_lib.require_name(
        style, verifications.STYLES[:2], "verification style"
      )
    stems = [pathlib.Path(name).stem for name in self.more_verifiers]
    if len(set(stems)) < len(stems):
      raise ValueError(
        f"more_verifiers={self.more_verifiers}: two files have one name, by "
        "which their pools are kept"
      )
    if max(self.fit_budgets) >= min(self.test_budgets):
      raise ValueError(
        f"test_budgets={self.test_budgets} must all exceed "
        f"fit_budgets={self.fit_budgets}"
      )
