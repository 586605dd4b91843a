# SPDX-License-Identifier: Apache-2.0
"""The target game: combine given numbers with + - * to reach a target.

The numbers are used in the order given, each once, and the running value must
stay in 0..99 after every step. The fixed order is a simplification on purpose:
which values can still reach the target is then computed exactly, by one
backward pass over sets of values, however many steps there are. So every
partial solution has an exact label: the target is still reachable, or not.

A set of values is one integer, whose bit v tells whether v is in the set.
"""

from collections.abc import Sequence
import functools
import random

from jaxttc.tasks import problems as problems_lib

NAME = "countdown"
OPERATORS = "+-*"
MOST = 99
"""The largest value allowed after any step; the smallest is 0."""

_META = ("numbers", "target")
_ALL = (1 << (MOST + 1)) - 1


def choices(value: int, number: int) -> dict[str, int]:
  """The allowed operators at `value`, in order + - *, with their results."""
  results = (value + number, value - number, value * number)
  return {
    op: result
    for op, result in zip(OPERATORS, results, strict=True)
    if 0 <= result <= MOST
  }


@functools.lru_cache(maxsize=4096)
def reachable(numbers: tuple[int, ...], target: int) -> tuple[int, ...]:
  """The sets of values from which the target can still be reached.

  Args:
    numbers: The numbers in order of use, each at least 1.
    target: The value to reach, in 0..99.

  Returns:
    One bit set per position: bit v of entry k tells whether a running value
    v, made from the first k + 1 numbers, can be completed to the target.

  Raises:
    ValueError: If a number is not positive or the target is out of range.
  """
  if min(numbers) < 1 or not 0 <= target <= MOST:
    raise ValueError(
      f"countdown.reachable: numbers {numbers} and target {target}, expected"
      f" numbers >= 1 and a target in 0..{MOST}."
    )
  sets = [1 << target]
  for number in reversed(numbers[1:]):
    after = sets[-1]
    before = after >> number | after << number & _ALL
    for value in range(MOST // number + 1):
      before |= (after >> value * number & 1) << value
    sets.append(before)
  return tuple(reversed(sets))


def generate(rng: random.Random, steps: int) -> problems_lib.Problem:
  """Draws a problem by a random walk, so that a solution exists.

  Args:
    rng: Source of randomness; advanced.
    steps: Number of operators, at least 1.

  Returns:
    A problem with an empty id. `answer` holds the operators of the walk;
    `meta` holds `numbers`, a tuple of steps + 1 integers 1..12, and `target`.

  Raises:
    ValueError: If `steps` is not positive.
  """
  if steps < 1:
    raise ValueError(f"countdown.generate: steps is {steps}, expected >= 1.")
  numbers = tuple(rng.randint(1, 12) for _ in range(steps + 1))
  value, ops = numbers[0], []
  for number in numbers[1:]:
    op, value = rng.choice(list(choices(value, number).items()))
    ops.append(op)
  given = " ".join(map(str, numbers))
  return problems_lib.Problem(
    id="",
    text=f"Use {given} in order with + - * to reach {value}.",
    answer=" ".join(ops),
    family=NAME,
    steps=steps,
    meta={"numbers": numbers, "target": value},
  )


def _lines(value: int, number: int) -> list[tuple[str, str, str, int]]:
  """(operator, terse line, verbose line, result) of each allowed choice."""
  allowed = choices(value, number)
  facts = {op: f"{value}{op}{number}={r}" for op, r in allowed.items()}
  menu = " ".join(facts.values())
  return [(op, facts[op], f"{menu}, take {r}", r) for op, r in allowed.items()]


def solution(problem: problems_lib.Problem, style: str) -> str:
  """The generating walk in one style: "terse", "verbose" or "direct".

  Raises:
    ValueError: If the style is not one of the three.
  """
  problems_lib.require_name(style, problems_lib.SOLUTION_STYLES, "style")
  answer = problems_lib.gold(problem)
  numbers, _ = problems_lib.require_meta(problem, *_META)
  lines: list[str] = []
  value, *rest = numbers
  if style != "direct":
    for op, number in zip(answer.split(), rest, strict=True):
      (found,) = (row for row in _lines(value, number) if row[0] == op)
      lines.append(found[1] if style == "terse" else found[2])
      value = found[3]
  return problems_lib.write_solution(lines, answer)


def evaluate(numbers: Sequence[int], operators: str) -> int | None:
  """The value that operators such as "* - +" give; None if they are invalid.

  They are invalid if their count or a symbol is wrong, or if a value on the
  way leaves 0..99.
  """
  ops = operators.split(" ")
  if len(ops) != len(numbers) - 1:
    return None
  value = numbers[0]
  for op, number in zip(ops, numbers[1:], strict=True):
    allowed = choices(value, number)
    if op not in allowed:
      return None
    value = allowed[op]
  return value


def check(problem: problems_lib.Problem, lines: Sequence[str]) -> list[bool]:
  """Prefix correctness of each line; see `problems.check_lines`.

  A step line is right when it is a canonical terse or verbose line for some
  allowed choice and the target is still reachable after it.
  """
  given, target = problems_lib.require_meta(problem, *_META)
  numbers = tuple(given)
  sets = reachable(numbers, target)

  def follow(value: int, k: int) -> dict[str, int]:
    return {
      line: after
      for _, terse, verbose, after in _lines(value, numbers[k + 1])
      if sets[k + 1] >> after & 1
      for line in (terse, verbose)
    }

  return problems_lib.check_lines(
    lines,
    steps=len(numbers) - 1,
    start=numbers[0],
    follow=follow,
    accept=lambda answer: evaluate(numbers, answer) == target,
  )


def is_correct(problem: problems_lib.Problem, completion: str) -> bool:
  """Whether the operators on the last answer line reach the target."""
  numbers, target = problems_lib.require_meta(problem, *_META)
  answer = problems_lib.find_answer(completion)
  if answer is None:
    return False
  return evaluate(numbers, answer) == target
