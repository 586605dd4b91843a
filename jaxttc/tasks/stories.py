# SPDX-License-Identifier: Apache-2.0
"""Templated word problems in the spirit of grade-school mathematics.

A story starts from a quantity and changes it by one operation a sentence: it
grows or shrinks by 2..40, doubles, triples or is halved. Values stay in 0..99.
A terse line is the bare fact ("47+38=85"); a verbose one names what happens and
splits the fact into tens and ones ("Ben buys 38: 47+30=77, 77+8=85").
"""

from collections.abc import Sequence
import random
from typing import NamedTuple

from jaxttc.tasks import problems as problems_lib

NAME = "stories"

_META = ("start", "ops")

NAMES = (
  *("Ann", "Ben", "Cy", "Dee", "Eve", "Finn", "Gus", "Hana", "Ivan", "Jo"),
  *("Kim", "Leo", "Mia", "Noor", "Omar", "Pia", "Quinn", "Ravi", "Sue", "Tom"),
)
THINGS = (
  *("apples", "books", "cards", "coins", "cups", "eggs", "flowers", "hats"),
  *("keys", "marbles", "nuts", "pens", "plums", "shells", "stamps", "toys"),
)


class _Template(NamedTuple):
  """A kind of story; braces name what is filled in.

  `who` is whom the question is about, `other` somebody else, `before` the
  person of the sentence before, `n` the operand and `v` the value so far.
  Each kind of operation lists (sentence, phrase of the verbose line).
  """

  opening: str
  question: str
  add: tuple[tuple[str, str], ...]
  sub: tuple[tuple[str, str], ...]
  double: tuple[tuple[str, str], ...]
  triple: tuple[tuple[str, str], ...]
  half: tuple[tuple[str, str], ...]
  places: tuple[str, ...] = ("",)
  chain: bool = False  # Each sentence is about a new person.


_TWICE, _THRICE, _HALF = "twice {v}", "three times {v}", "half of {v}"

_POSSESSION = _Template(
  opening="{who} has {n} {things}.",
  question="How many {things} does {who} have now?",
  add=(
    ("{who} buys {n} more.", "{who} buys {n}"),
    ("{who} finds {n} more.", "{who} finds {n}"),
    ("{other} gives {who} {n}.", "{who} gets {n} more"),
  ),
  sub=(
    ("{who} loses {n}.", "{who} loses {n}"),
    ("{who} sells {n}.", "{who} sells {n}"),
    ("{who} gives {other} {n}.", "{who} gives {n}"),
  ),
  double=(
    ("{who} buys as many again.", _TWICE),
    ("{who} doubles the {things}.", _TWICE),
  ),
  triple=(("{who} triples the {things}.", _THRICE),),
  half=(("{who} gives half to {other}.", _HALF), ("{who} loses half.", _HALF)),
)

_RELATION = _Template(
  opening="{who} has {n} {things}.",
  question="How many {things} does {who} have?",
  add=(
    ("{who} has {n} more {things} than {before}.", "{who} has {n} more"),
    ("{who} has {n} more than {before}.", "{who} has {n} more"),
  ),
  sub=(
    ("{who} has {n} fewer {things} than {before}.", "{who} has {n} fewer"),
    ("{who} has {n} fewer than {before}.", "{who} has {n} fewer"),
  ),
  double=(("{who} has twice as many as {before}.", _TWICE),),
  triple=(("{who} has three times as many as {before}.", _THRICE),),
  half=(("{who} has half as many as {before}.", _HALF),),
  chain=True,
)

_MONEY = _Template(
  opening="{who} has {n} dollars.",
  question="How many dollars does {who} have left?",
  add=(
    ("{who} earns {n} dollars.", "{who} earns {n}"),
    ("{other} pays {who} {n}.", "{who} gets {n} more"),
  ),
  sub=(
    ("{who} spends {n} on {things}.", "{who} spends {n}"),
    ("{who} pays {other} {n} dollars.", "{who} pays {n}"),
  ),
  double=(("{who} doubles the money.", _TWICE),),
  triple=(("{who} triples the money.", _THRICE),),
  half=(("{who} spends half.", _HALF), ("{who} gives half to {other}.", _HALF)),
)

_RIDE = _Template(
  opening="A {place} has {n} people.",
  question="How many people are on the {place}?",
  add=(
    ("{n} get on.", "{n} get on"),
    ("At the next stop {n} more get on.", "{n} get on"),
  ),
  sub=(
    ("{n} get off.", "{n} get off"),
    ("At the next stop {n} get off.", "{n} get off"),
  ),
  double=(("The number doubles.", _TWICE),),
  triple=(("The number triples.", _THRICE),),
  half=(("Half get off.", _HALF), ("Half of the people get off.", _HALF)),
  places=("bus", "train", "boat"),
)

_STOCK = _Template(
  opening="The {place} has {n} {things}.",
  question="How many {things} does the {place} have now?",
  add=(
    ("It gets {n} more.", "It gets {n} more"),
    ("It buys {n} {things}.", "It buys {n}"),
    ("{other} gives it {n}.", "It gets {n} more"),
  ),
  sub=(
    ("It sells {n}.", "It sells {n}"),
    ("{other} takes {n} {things}.", "{other} takes {n}"),
    ("It loses {n}.", "It loses {n}"),
  ),
  double=(("It buys as many again.", _TWICE),),
  triple=(("It triples the {things}.", _THRICE),),
  half=(("It sells half.", _HALF), ("{other} takes half.", _HALF)),
  places=("shop", "farm", "school"),
)

_GAME = _Template(
  opening="{who} has {n} points in a game.",
  question="How many points does {who} have?",
  add=(
    ("{who} scores {n} more.", "{who} scores {n}"),
    ("{who} wins {n} points.", "{who} wins {n}"),
  ),
  sub=(
    ("{who} loses {n} points.", "{who} loses {n}"),
    ("{other} takes {n} points.", "{other} takes {n}"),
  ),
  double=(("{who} doubles the points.", _TWICE),),
  triple=(("{who} triples the points.", _THRICE),),
  half=(("{who} loses half.", _HALF),),
)

TEMPLATES = (_POSSESSION, _RELATION, _MONEY, _RIDE, _STOCK, _GAME)

# Of twenty draws, how many are of each kind (where the value allows it).
_KINDS = (
  *(("add",) * 7),
  *(("sub",) * 7),
  *(("double", "double", "triple", "half", "half", "half")),
)
_FIXED = {"double": ("*", 2), "triple": ("*", 3), "half": ("/", 2)}


def _draw_operation(rng: random.Random, value: int) -> tuple[str, str, int]:
  """(kind, symbol, operand) of an operation that keeps the value in 0..99."""
  while True:
    kind = rng.choice(_KINDS)
    if kind in _FIXED:
      symbol, operand = _FIXED[kind]
      fits = value % 2 == 0 if symbol == "/" else value * operand <= 99
      if value > 1 and fits:
        return kind, symbol, operand
      continue
    most = min(40, 99 - value if kind == "add" else value)
    if most >= 2:  # One of a thing would need a singular.
      return kind, "+" if kind == "add" else "-", rng.randint(2, most)


def apply(value: int, symbol: str, operand: int) -> int:
  """The value after one operation; "/" divides exactly."""
  if symbol == "+":
    return value + operand
  if symbol == "-":
    return value - operand
  return value * operand if symbol == "*" else value // operand


def generate(rng: random.Random, steps: int) -> problems_lib.Problem:
  """Draws a story.

  Args:
    rng: Source of randomness; advanced.
    steps: Number of operations, 1..19 (a chain needs a new name each).

  Returns:
    A problem with an empty id. `meta` holds `start` and `ops`, a tuple of
    (symbol, operand, phrase of the verbose line).

  Raises:
    ValueError: If `steps` is out of range.
  """
  if not 1 <= steps < len(NAMES):
    raise ValueError(
      f"stories.generate: steps is {steps}, expected 1..{len(NAMES) - 1}."
    )
  template = rng.choice(TEMPLATES)
  people = rng.sample(NAMES, steps + 1)
  fill = {
    "who": people[0],
    "things": rng.choice(THINGS),
    "place": rng.choice(template.places),
  }
  start = value = rng.randint(2, 60)
  sentences = [template.opening.format(n=start, **fill)]
  ops = []
  for other in people[1:]:
    kind, symbol, n = _draw_operation(rng, value)
    fill["before"], fill["other"] = fill["who"], other
    if template.chain:
      fill["who"] = other
    sentence, phrase = rng.choice(getattr(template, kind))
    sentences.append(sentence.format(n=n, **fill))
    ops.append((symbol, n, phrase.format(n=n, v=value, **fill)))
    value = apply(value, symbol, n)
  sentences.append(template.question.format(**fill))
  return problems_lib.Problem(
    id="",
    text=" ".join(sentences),
    answer=str(value),
    family=NAME,
    steps=steps,
    meta={"start": start, "ops": tuple(ops)},
  )


def _small_facts(value: int, symbol: str, operand: int, after: int) -> str:
  """One operation, split into tens and ones where there are both."""
  split = operand if symbol in "+-" else value
  ones = split % 10
  tens = split - ones
  if not tens or not ones:
    return f"{value}{symbol}{operand}={after}"
  if symbol in "+-":
    middle = apply(value, symbol, tens)
    return f"{value}{symbol}{tens}={middle}, {middle}{symbol}{ones}={after}"
  high, low = apply(tens, symbol, operand), apply(ones, symbol, operand)
  return (
    f"{tens}{symbol}{operand}={high}, {ones}{symbol}{operand}={low},"
    f" {high}+{low}={after}"
  )


def _step(value: int, op: tuple[str, int, str], after: int) -> dict[str, str]:
  """The right line for one step in either style."""
  symbol, operand, phrase = op
  return {
    "terse": f"{value}{symbol}{operand}={after}",
    "verbose": f"{phrase}: {_small_facts(value, symbol, operand, after)}",
  }


def solution(problem: problems_lib.Problem, style: str) -> str:
  """The gold solution in one style: "terse", "verbose" or "direct".

  Raises:
    ValueError: If the style is not one of the three.
  """
  problems_lib.require_name(style, problems_lib.SOLUTION_STYLES, "style")
  lines = []
  value, ops = problems_lib.require_meta(problem, *_META)
  for op in ops if style != "direct" else ():
    after = apply(value, op[0], op[1])
    lines.append(_step(value, op, after)[style])
    value = after
  return problems_lib.write_solution(lines, problems_lib.gold(problem))


def check(problem: problems_lib.Problem, lines: Sequence[str]) -> list[bool]:
  """Prefix correctness of each line; see `problems.check_lines`.

  A step line is right when it is the canonical terse or verbose line of its
  step; the two may be mixed line by line.
  """
  start, ops = problems_lib.require_meta(problem, *_META)
  gold = problems_lib.gold(problem)

  def follow(value: int, k: int) -> dict[str, int]:
    after = apply(value, ops[k][0], ops[k][1])
    return dict.fromkeys(_step(value, ops[k], after).values(), after)

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
