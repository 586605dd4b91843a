# SPDX-License-Identifier: Apache-2.0
"""Running sums and products modulo a prime.

A question reads "Modulo 13: start at 4, add 7, times 5, minus 9." A terse line
gives the reduced result at once ("11*5=3"); a verbose one first writes the
unreduced value ("11*5=55, mod 13 is 3"), so that it needs smaller facts. All
numbers that appear are integers 0..99.
"""

from collections.abc import Sequence
import random

from jaxttc.tasks import problems as problems_lib

NAME = "modular"
PRIMES = (11, 13, 17, 19, 23, 29, 31)

_META = ("prime", "start", "ops")
_VERBS = {"+": "add", "-": "minus", "*": "times"}
_APPLY = {
  "+": lambda value, operand: value + operand,
  "-": lambda value, operand: value - operand,
  "*": lambda value, operand: value * operand,
}


def generate(rng: random.Random, steps: int) -> problems_lib.Problem:
  """Draws a problem.

  Args:
    rng: Source of randomness; advanced.
    steps: Number of operations, at least 1.

  Returns:
    A problem with an empty id. `meta` holds `prime`, `start` and `ops`, a
    tuple of (symbol, operand).

  Raises:
    ValueError: If `steps` is not positive.
  """
  if steps < 1:
    raise ValueError(f"modular.generate: steps is {steps}, expected >= 1.")
  prime = rng.choice(PRIMES)
  start = value = rng.randrange(prime)
  ops = []
  for _ in range(steps):
    op = rng.choice("+-*")
    most = min(9, 99 // max(value, 1)) if op == "*" else prime - 1
    operand = rng.randint(2 if op == "*" else 1, most)
    value = _APPLY[op](value, operand) % prime
    ops.append((op, operand))
  clauses = ", ".join(f"{_VERBS[op]} {operand}" for op, operand in ops)
  return problems_lib.Problem(
    id="",
    text=f"Modulo {prime}: start at {start}, {clauses}.",
    answer=str(value),
    family=NAME,
    steps=steps,
    meta={"prime": prime, "start": start, "ops": tuple(ops)},
  )


def _step(value: int, op: str, operand: int, prime: int) -> dict[str, str]:
  """The right line for one step in either style."""
  raw = _APPLY[op](value, operand)
  fact = f"{value}{op}{operand}"
  if raw < 0:
    lifted = value + prime
    verbose = f"{value}+{prime}={lifted}, {lifted}-{operand}={raw + prime}"
  else:
    verbose = f"{fact}={raw}, mod {prime} is {raw % prime}"
  return {"terse": f"{fact}={raw % prime}", "verbose": verbose}


def solution(problem: problems_lib.Problem, style: str) -> str:
  """The gold solution in one style: "terse", "verbose" or "direct".

  Raises:
    ValueError: If the style is not one of the three.
  """
  problems_lib.require_name(style, problems_lib.SOLUTION_STYLES, "style")
  lines = []
  prime, value, ops = problems_lib.require_meta(problem, *_META)
  for op, operand in ops if style != "direct" else ():
    lines.append(_step(value, op, operand, prime)[style])
    value = _APPLY[op](value, operand) % prime
  return problems_lib.write_solution(lines, problems_lib.gold(problem))


def check(problem: problems_lib.Problem, lines: Sequence[str]) -> list[bool]:
  """Prefix correctness of each line; see `problems.check_lines`.

  A step line is right when it is the canonical terse or verbose line of its
  step; the two may be mixed line by line.
  """
  prime, start, ops = problems_lib.require_meta(problem, *_META)
  gold = problems_lib.gold(problem)

  def follow(value: int, k: int) -> dict[str, int]:
    op, operand = ops[k]
    after = _APPLY[op](value, operand) % prime
    return dict.fromkeys(_step(value, op, operand, prime).values(), after)

  return problems_lib.check_lines(
    lines,
    steps=len(ops),
    start=start,
    follow=follow,
    accept=lambda answer: answer == gold,
  )


def is_correct(problem: problems_lib.Problem, completion: str) -> bool:
  """Whether the completion's last answer line gives the gold answer."""
  return problems_lib.find_answer(completion) == problems_lib.gold(problem)
