# SPDX-License-Identifier: Apache-2.0
"""Chains of digit sums, whose steps can be answered at once or worked out.

A chain is n steps, each a sum of digits. "that" is the answer of the step
before, which is filled in when the step is asked:

    4+3+2                 47+3+5
    Answer only.          Solve tersely.
    #### 9                47+3=50
                          50+5=55
                          #### 55

The line before an answer asks for a mode. Told to answer only, a model answers
at once (System 1); told to solve, it writes running sums first (System 2). A
step of more digits is harder to answer at once, and longer to work out. What a
chain carries from step to step is answers only, so a wrong one spoils all that
follow; an independent chain has no "that". No sum of a chain exceeds 99, so
that each number is one token.
"""

from collections.abc import Sequence
import dataclasses
import random
from typing import NamedTuple

from jaxttc.tasks import problems as problems_lib

NAME = "digit_chains"
MODES = ("fast", "slow")
INSTRUCTIONS = {"fast": "Answer only.\n", "slow": "Solve tersely.\n"}
MOST_STEPS, MOST_DIGITS = 8, 8
_LARGEST = 99
_TRIES = 1000  # draws before a kind of chain is called impossible


class Step(NamedTuple):
  """One sum.

  Attributes:
    digits: to add, at least one; to `that` if `chained`.
    chained: whether it begins with the answer before.
  """

  digits: tuple[int, ...]
  chained: bool

  @property
  def text(self) -> str:
    """As it is asked."""
    head = ("that",) if self.chained else ()
    return "+".join((*head, *map(str, self.digits)))

  @property
  def additions(self) -> int:
    """How many sums it takes: its difficulty."""
    return len(self.digits) - (not self.chained)


class Chain(NamedTuple):
  """Steps in order; the last one's answer is the chain's."""

  steps: tuple[Step, ...]

  @property
  def text(self) -> str:
    """The whole question, a line a step."""
    return "".join(f"{step.text}\n" for step in self.steps)

  @property
  def outline(self) -> tuple[str, ...]:
    """The texts of the steps."""
    return tuple(step.text for step in self.steps)

  @property
  def answers(self) -> tuple[int, ...]:
    """Of each step, when all before it are right."""
    found, that = [], 0
    for step in self.steps:
      that = answer(step, that)
      found.append(that)
    return tuple(found)


def draw(
  rng: random.Random,
  steps: int,
  additions: Sequence[int] = (1, 2, 3, 4, 5),
  *,
  chained: bool = True,
) -> Chain:
  """Draws a chain.

  Args:
    rng: source of randomness; it is advanced.
    steps: in the chain, 1 to `MOST_STEPS`.
    additions: of a step, drawn uniformly; repeat one to favour it.
    chained: whether each step but the first begins with the answer before.

  Raises:
    ValueError: if `steps` or a number of additions is out of range, or the
      chain would be too long for sums below 100.
  """
  if not 1 <= steps <= MOST_STEPS:
    raise ValueError(f"digit_chains: {steps} steps, expected 1 to {MOST_STEPS}")
  if not additions or not all(1 <= n < MOST_DIGITS for n in additions):
    raise ValueError(
      f"digit_chains: additions {tuple(additions)}, expected numbers from 1 to"
      f" {MOST_DIGITS - 1}"
    )
  for _ in range(_TRIES):
    drawn = []
    for number in range(steps):
      follows = chained and number > 0
      count = rng.choice(additions) + (not follows)
      digits = tuple(rng.randrange(10) for _ in range(count))
      drawn.append(Step(digits, follows))
    chain = Chain(tuple(drawn))
    if max(chain.answers) <= _LARGEST:
      return chain
  raise ValueError(
    f"digit_chains: hardly a chain of {steps} steps of {tuple(additions)}"
    f" additions stays below {_LARGEST + 1}; expected fewer or shorter steps"
  )


def generate(rng: random.Random, steps: int) -> problems_lib.Problem:
  """Draws a chain as a problem, with an empty id; its text has a line a step.

  Raises:
    ValueError: as `draw`.
  """
  chain = draw(rng, steps)
  return problems_lib.Problem(
    id="",
    text=chain.text.rstrip("\n"),
    answer=str(chain.answers[-1]),
    family=NAME,
    steps=steps,
  )


def answer(step: Step, that: int) -> int:
  """The sum of a step after the answer `that`."""
  return sum(step.digits) + that * step.chained


def solution(step: Step, that: int, mode: str) -> str:
  """The right completion of a step in a mode.

  Raises:
    ValueError: if the mode is not one of `MODES`.
  """
  problems_lib.require_name(mode, MODES, "mode")
  value, *rest = (*((that,) if step.chained else ()), *step.digits)
  lines = []
  for digit in rest:
    lines.append(f"{value}+{digit}={value + digit}")
    value += digit
  return problems_lib.write_solution(
    lines if mode == "slow" else (), str(value)
  )


def query(chain: str, solved: Sequence[tuple[str, str]], step: str) -> str:
  """How a step is asked after others; an instruction follows.

  Args:
    chain: its text; not shown, since the step says all.
    solved: (text, answer) of the steps before; the last answer is filled in
      for "that", unless it is "".
    step: its text.
  """
  del chain
  that = solved[-1][1] if solved else ""
  return (step.replace("that", that) if that else step) + "\n"


def content(completion: str) -> str | None:
  """What of a completion is carried on: its answer; None if it has none."""
  return problems_lib.find_answer(completion)


# Not frozen, since flags override the fields of a recipe's mix.
@dataclasses.dataclass(kw_only=True)
class ChainMix:
  """What training text is made of.

  Attributes:
    additions: of a step that is worked out; repeat one to favour it.
    fast_additions: of a step that is answered at once.
    fast: share of steps answered at once.
    chained: share of steps that begin with the answer before.
  """

  additions: tuple[int, ...] = (1, 2, 3, 4, 5)
  fast_additions: tuple[int, ...] = (1, 2, 3, 4, 5)
  fast: float = 0.4
  chained: float = 0.8

  def validate(self) -> None:
    """Refuses what cannot be drawn from.

    Raises:
      ValueError: naming the field.
    """
    for name in ("fast", "chained"):
      if not 0 <= getattr(self, name) <= 1:
        raise ValueError(
          f"ChainMix: {name} is {getattr(self, name)}, expected 0..1"
        )
    for additions in (self.additions, self.fast_additions):
      draw(random.Random(0), 1, additions)

  def example(self, index: int, *, seed: int = 0) -> tuple[str, str]:
    """One (prompt, completion) pair: a step after any answer.

    Args:
      index: which example of the endless stream, from 0.
      seed: which stream.
    """
    rng = random.Random(f"chains-{seed}-{index}")
    mode = "fast" if rng.random() < self.fast else "slow"
    additions = self.fast_additions if mode == "fast" else self.additions
    (step,) = draw(rng, 1, additions).steps
    that = 0
    if rng.random() < self.chained:
      step = Step(step.digits[1:], True)
      that = rng.randint(0, _LARGEST - sum(step.digits))
    asked = query("", [("", str(that))], step.text)
    return asked + INSTRUCTIONS[mode], solution(step, that, mode)
