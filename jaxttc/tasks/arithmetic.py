# SPDX-License-Identifier: Apache-2.0
"""The generated arithmetic tasks: families, splits and training text.

A problem is a pure function of (index, family, steps, split, seed). The text
of a question decides, by a stable hash, which split it belongs to, and a draw
is repeated until it falls into the split that was asked for. So no question,
under any seed, is in both splits.
"""

from collections.abc import Callable, Sequence
import dataclasses
import random
import types
from typing import NamedTuple
import zlib

from jaxttc.tasks import countdown, modular, stories
from jaxttc.tasks import problems as problems_lib

MIN_STEPS, MAX_STEPS = 2, 12
SPLITS = ("train", "test")


class Family(NamedTuple):
  """What a task family can do.

  Attributes:
    generate: `(rng, steps)` -> a problem with an empty id.
    solution: `(problem, style)` -> the gold solution as text.
    check: `(problem, lines)` -> prefix correctness of each line.
    is_correct: `(problem, completion)` -> whether the final answer is right.
  """

  generate: Callable[[random.Random, int], problems_lib.Problem]
  solution: Callable[[problems_lib.Problem, str], str]
  check: Callable[[problems_lib.Problem, Sequence[str]], list[bool]]
  is_correct: Callable[[problems_lib.Problem, str], bool]


FAMILIES = types.MappingProxyType(
  {
    module.NAME: Family(
      module.generate, module.solution, module.check, module.is_correct
    )
    for module in (modular, stories, countdown)
  }
)
"""The task families by name."""


def get_family(name: str) -> Family:
  """Looks a family up.

  Raises:
    ValueError: If there is no such family.
  """
  problems_lib.require_name(name, tuple(FAMILIES), "family")
  return FAMILIES[name]


def split_of(text: str) -> str:
  """The split that a question belongs to: "test" for about a tenth of them."""
  return "test" if zlib.crc32(text.encode()) % 10 == 0 else "train"


def _draw(
  rng: random.Random, name: str, steps: int, split: str
) -> problems_lib.Problem:
  """Draws from one family until the question belongs to the split."""
  generate = get_family(name).generate
  while True:
    drawn = generate(rng, steps)
    if split_of(drawn.text) == split:
      return drawn


def problem(
  index: int,
  *,
  family: str | None = None,
  steps: int | None = None,
  split: str,
  seed: int = 0,
) -> problems_lib.Problem:
  """Generates one problem; the same arguments always give the same one.

  Args:
    index: Which problem of the endless stream, from 0.
    family: A name in `FAMILIES`; None draws one uniformly.
    steps: Difficulty, 2..12; None draws one uniformly.
    split: "train" or "test".
    seed: Which stream.

  Returns:
    The problem, with an id such as "test-0-17"; a given family or number of
    steps is part of it, as in "test-0-modular-7-17".

  Raises:
    ValueError: If an argument is out of range or names nothing known.
  """
  problems_lib.require_name(split, SPLITS, "split")
  if index < 0:
    raise ValueError(f"arithmetic.problem: index is {index}, expected >= 0.")
  if steps is not None and not MIN_STEPS <= steps <= MAX_STEPS:
    raise ValueError(
      f"arithmetic.problem: steps is {steps}, expected"
      f" {MIN_STEPS}..{MAX_STEPS}."
    )
  parts = (split, seed, family, steps, index)
  name = "-".join(str(part) for part in parts if part is not None)
  rng = random.Random(f"problem-{name}")
  drawn = _draw(
    rng,
    rng.choice(tuple(FAMILIES)) if family is None else family,
    rng.randint(MIN_STEPS, MAX_STEPS) if steps is None else steps,
    split,
  )
  return dataclasses.replace(drawn, id=name)


def problems(
  count: int,
  *,
  start: int = 0,
  family: str | None = None,
  steps: int | None = None,
  split: str,
  seed: int = 0,
) -> list[problems_lib.Problem]:
  """`problem` for the indices start, ..., start + count - 1.

  Raises:
    ValueError: As `problem`; also if `count` is negative.
  """
  if count < 0:
    raise ValueError(f"arithmetic.problems: count is {count}, expected >= 0.")
  return [
    problem(index, family=family, steps=steps, split=split, seed=seed)
    for index in range(start, start + count)
  ]


def solution(problem: problems_lib.Problem, style: str) -> str:
  """The gold solution in one style: "terse", "verbose" or "direct".

  Raises:
    ValueError: If the style or the problem's family is unknown.
  """
  return get_family(problem.family).solution(problem, style)


def check_steps(problem: problems_lib.Problem, completion: str) -> list[bool]:
  """For each line of a completion: are it and all lines before it right?

  An unfinished last line is judged as it stands.

  Raises:
    ValueError: If the problem's family is unknown.
  """
  lines = problems_lib.split_lines(completion)
  return get_family(problem.family).check(problem, lines)


def is_correct(problem: problems_lib.Problem, completion: str) -> bool:
  """Whether the completion's final answer is right, however it got there.

  Raises:
    ValueError: If the problem's family is unknown.
  """
  return get_family(problem.family).is_correct(problem, completion)


# Not frozen, since flags override the fields of a recipe's mix.
@dataclasses.dataclass(kw_only=True)
class TrainingMix:
  """What training text is made of; all weights are relative.

  Attributes:
    terse: Weight of terse solutions.
    verbose: Weight of verbose solutions.
    direct: Weight of bare answers.
    asked: Probability that the prompt asks for the style; else it is free.
    families: The families to draw from, uniformly; repeat one to favour it.
    steps: Weights of 2, 3, ..., 12 steps.

  """

  terse: float = 0.45
  verbose: float = 0.35
  direct: float = 0.2
  asked: float = 0.6
  families: tuple[str, ...] = tuple(FAMILIES)
  steps: tuple[float, ...] = (1.0,) * (MAX_STEPS - MIN_STEPS + 1)

  def validate(self) -> None:
    """Refuses what cannot be drawn from.

    Raises:
      ValueError: If a weight is negative, all weights of a kind are 0, `asked`
        is no probability or a family is unknown.
    """
    for what, weights in (("style", self.styles), ("steps", self.steps)):
      if min(weights) < 0 or sum(weights) <= 0:
        raise ValueError(
          f"TrainingMix: {what} weights {weights}, expected none negative and"
          " a positive sum."
        )
    if len(self.steps) != MAX_STEPS - MIN_STEPS + 1:
      raise ValueError(
        f"TrainingMix: {len(self.steps)} steps weights, expected"
        f" {MAX_STEPS - MIN_STEPS + 1}."
      )
    if not 0 <= self.asked <= 1:
      raise ValueError(f"TrainingMix: asked is {self.asked}, expected 0..1.")
    if not self.families:
      raise ValueError("TrainingMix: families is empty, expected at least one.")
    for name in self.families:
      get_family(name)

  @property
  def styles(self) -> tuple[float, float, float]:
    """The weights of terse, verbose and direct solutions."""
    return float(self.terse), float(self.verbose), float(self.direct)

  def example(self, index: int, *, seed: int = 0) -> tuple[str, str]:
    """`training_example` of this mix."""
    return training_example(index, seed=seed, mix=self)


def training_example(
  index: int, *, seed: int = 0, mix: TrainingMix | None = None
) -> tuple[str, str]:
  """One (prompt, completion) pair for supervised training.

  Args:
    index: Which example of the endless stream, from 0.
    seed: Which stream.
    mix: What to draw, valid; the default mix if None.

  Returns:
    The prompt and a gold completion, both newline-ended. The problem is of
    the training split.

  Raises:
    ValueError: If the index is negative.
  """
  if index < 0:
    raise ValueError(
      f"arithmetic.training_example: index is {index}, expected >= 0."
    )
  mix = mix or TrainingMix()
  rng = random.Random(f"training-{seed}-{index}")
  (style,) = rng.choices(problems_lib.SOLUTION_STYLES, mix.styles)
  asked = style if rng.random() < mix.asked else "free"
  (steps,) = rng.choices(range(MIN_STEPS, MAX_STEPS + 1), mix.steps)
  drawn = _draw(rng, rng.choice(mix.families), steps, "train")
  return problems_lib.prompt(drawn, asked), solution(drawn, style)
