# SPDX-License-Identifier: Apache-2.0
"""Find a hidden number by trying: attempts, each worked out, in one text.

The question says what becomes of the number, and a solution tries numbers until
one does it, a line each: the number, the product, the sum, and how far that is
beyond what is to be reached.

    Modulo 23: times 7, add 5, reach 15.
    2 14 19 4
    6 19 1 9
    8 10 15 0
    #### 8

To check a number takes three sums; to read it off the question takes a division
by the modulus, which nobody is shown. So a small model has to try, and what is
to be learnt is which to try first, not to try one twice, and when to stop.

Hidden numbers fall off geometrically from 0. The traces to imitate know nothing
of that: they try in any order, some numbers twice, and some give up.
"""

import dataclasses
import random

from jaxttc.tasks import arithmetic, prompt_sets
from jaxttc.tasks import problems as problems_lib

NAME = "hidden_numbers"
MOST_MODULUS = 100
_DRAWS = 100  # a question, before a task is called too small
_META = ("modulus", "factor", "term", "target")


def problem(
  modulus: int, factor: int, term: int, number: int
) -> problems_lib.Problem:
  """The question whose answer is a number.

  Args:
    modulus: a prime below `MOST_MODULUS`, so that one number solves it.
    factor: 1 to modulus - 1.
    term: 0 to modulus - 1.
    number: the answer, 0 to modulus - 1.

  Raises:
    ValueError: if one is out of its range, or the modulus no prime.
  """
  prime = 1 < modulus < MOST_MODULUS and all(
    modulus % n for n in range(2, modulus)
  )
  if not prime:
    raise ValueError(
      f"hidden_numbers: modulus {modulus}, expected a prime below"
      f" {MOST_MODULUS}"
    )
  for name, value, least in (
    ("factor", factor, 1),
    ("term", term, 0),
    ("number", number, 0),
  ):
    if not least <= value < modulus:
      raise ValueError(
        f"hidden_numbers: {name} {value}, expected {least}..{modulus - 1}"
      )
  target = (number * factor + term) % modulus
  text = f"Modulo {modulus}: times {factor}, add {term}, reach {target}."
  return problems_lib.Problem(
    id=f"{modulus}-{factor}-{term}-{number}",
    text=text,
    answer=str(number),
    family=NAME,
    steps=1,
    meta=dict(zip(_META, (modulus, factor, term, target), strict=True)),
  )


def attempt(asked: problems_lib.Problem, number: int) -> str:
  """The right line of a try, without its newline."""
  modulus, factor, term, target = problems_lib.require_meta(asked, *_META)
  product = number * factor % modulus
  total = (product + term) % modulus
  return f"{number} {product} {total} {(total - target) % modulus}"


def attempts(completion: str) -> list[int]:
  """The numbers that a completion tries, in order; other lines are left out."""
  found = []
  for line in problems_lib.split_lines(completion):
    head, *rest = line.split(" ")
    if head.isdecimal() and len(rest) == 3:
      found.append(int(head))
  return found


# Not frozen, since flags override the fields of a recipe.
@dataclasses.dataclass(kw_only=True)
class HiddenTask:
  """Questions whose hidden numbers are small more often than not.

  Attributes:
    modulus: a prime.
    numbers: that may be hidden: those below this.
    ratio: of a number's chance to that of the one before, in (0, 1].
  """

  modulus: int = 23
  numbers: int = 13
  ratio: float = 0.7

  def validate(self) -> None:
    """Raises ValueError, naming the field, for what cannot be drawn."""
    _check_numbers("task", self.modulus, self.numbers)
    if not 0 < self.ratio <= 1:
      raise ValueError(f"task.ratio={self.ratio}: expected more than 0, to 1")

  def problems(
    self, count: int, split: str, seed: int
  ) -> list[problems_lib.Problem]:
    """`count` questions whose texts all differ.

    Raises:
      ValueError: if the split has not so many.
    """
    rng = random.Random(f"hidden-{split}-{seed}")
    found: dict[str, problems_lib.Problem] = {}
    for _ in range(_DRAWS * count):
      (number,) = rng.choices(range(self.numbers), self.prior)
      drawn = _ask(rng, self.modulus, number, split)
      found.setdefault(drawn.text, drawn)
      if len(found) == count:
        return list(found.values())
    raise ValueError(
      f"hidden_numbers: modulus {self.modulus} and {self.numbers} numbers make "
      f"hardly {count} questions of the split {split!r}"
    )

  @property
  def prior(self) -> tuple[float, ...]:
    """The chance of each number."""
    weights = [self.ratio**n for n in range(self.numbers)]
    return tuple(weight / sum(weights) for weight in weights)

  def prompt_set(
    self,
    split: str,
    count: int,
    seed: int,
    policy: object,
    *,
    width: int,
    check_steps: bool,
  ) -> "HiddenPrompts":
    """As `prompt_sets.PromptSource` has it; steps are not checked."""
    if check_steps:
      raise ValueError(
        "check_steps=True: a solution that tries wrong numbers is no worse"
      )
    problems_lib.require_name(split, arithmetic.SPLITS, "split")
    drawn = self.problems(count, split, seed)
    tokenizer = policy.tokenizer
    ids = [tokenizer.encode_prompt(problems_lib.prompt(one)) for one in drawn]
    tokens, length = prompt_sets.lay(drawn, ids, width)
    return HiddenPrompts(tuple(drawn), tokenizer, tokens, length)


class HiddenPrompts(prompt_sets.PromptSet):
  """Questions with the number as the only judge of what is written."""

  def _solves(self, problem: problems_lib.Problem, text: str) -> bool:
    return self.answer(text) == problems_lib.gold(problem)


# Not frozen, since flags override the fields of a recipe's mix.
@dataclasses.dataclass(kw_only=True)
class TrialMix:
  """Traces that try without a plan: what a model imitates before it is trained.

  All numbers are as likely to be the answer, and to be tried next.

  Attributes:
    modulus: of the questions.
    numbers: that may be hidden, and are tried: those below this.
    most: attempts of a trace; then it guesses.
    repeats: chance that a try is one of the numbers tried before.
    stops: chance, before each try, that the trace gives up and guesses one of
      the numbers that it has not tried.
  """

  modulus: int = 23
  numbers: int = 13
  most: int = 12
  repeats: float = 0.3
  stops: float = 0.05

  def validate(self) -> None:
    """Raises ValueError, naming the field, for what cannot be drawn."""
    _check_numbers("mix", self.modulus, self.numbers)
    if self.most < 1:
      raise ValueError(f"mix.most must be at least 1, got {self.most}")
    for name in ("repeats", "stops"):
      if not 0 <= getattr(self, name) < 1:
        raise ValueError(
          f"mix.{name}={getattr(self, name)}: expected 0 to less than 1"
        )

  def example(self, index: int, *, seed: int = 0) -> tuple[str, str]:
    """One (prompt, completion) pair of the training split.

    Args:
      index: which example of the endless stream, from 0.
      seed: which stream.
    """
    rng = random.Random(f"trials-{seed}-{index}")
    drawn = _ask(rng, self.modulus, rng.randrange(self.numbers), "train")
    return problems_lib.prompt(drawn), self.trace(rng, drawn)

  def trace(self, rng: random.Random, asked: problems_lib.Problem) -> str:
    """A trace of attempts with its answer, found or guessed."""
    number, lines, tried = int(problems_lib.gold(asked)), [], []
    while number not in tried and len(lines) < self.most:
      left = [n for n in range(self.numbers) if n not in tried]
      if rng.random() < self.stops:
        break
      again = tried and rng.random() < self.repeats
      tried.append(rng.choice(tried if again else left))
      lines.append(attempt(asked, tried[-1]))
    if number not in tried:
      left = [n for n in range(self.numbers) if n not in tried]
      number = rng.choice(left)
    return problems_lib.write_solution(lines, str(number))


def _check_numbers(where: str, modulus: int, numbers: int) -> None:
  problem(modulus, 1, 0, 0)
  if not 2 <= numbers <= modulus:
    raise ValueError(f"{where}.numbers={numbers}: expected 2..{modulus}")


def _ask(
  rng: random.Random, modulus: int, number: int, split: str
) -> problems_lib.Problem:
  """A question of a split with this answer."""
  while True:
    factor, term = rng.randrange(1, modulus), rng.randrange(modulus)
    drawn = problem(modulus, factor, term, number)
    if arithmetic.split_of(drawn.text) == split:
      return drawn
