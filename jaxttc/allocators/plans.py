# SPDX-License-Identifier: Apache-2.0
"""A question split into steps, each with a credit; and how plans are read.

A planner is asked twice: for a numbered list of sub-questions, and for a level
and credits. Both answers are free text by a language model, so the readers
here forgive what does no harm (fences, prose around JSON, numbers as text) and
refuse the rest. A planner is any function from a question to a `Plan`;
`Planner` is its type.
"""

from collections.abc import Callable, Mapping, Sequence
import dataclasses
import json
import math
import os
import pathlib
import re
from typing import Any

import numpy as np

from jaxttc.allocators import decay_schedules

LEVEL_TOKENS: Mapping[int, int] = {1: 200, 2: 250, 3: 350, 4: 450, 5: 600}
"""Tokens of a whole question by its level, as published."""

_STEP = re.compile(
  r"^[ \t>*#-]*(?:step\s*)?(\d+)[.):][ \t*]*([^\s*].*?)[ \t*]*$",
  re.IGNORECASE | re.MULTILINE,
)
_HINT = re.compile(r"^\W*hint\W*?:\s*(.*?)[ \t*]*$", re.I | re.M)
_ALONE = "Solve the problem directly."
_FEWEST, _MOST = 2, 5


@dataclasses.dataclass(frozen=True, kw_only=True)
class Plan:
  """Sub-questions and what they are worth.

  Attributes:
    steps: sub-questions, in order; at least one.
    credits: of each, not negative, not all zero; planners are asked for 100
      in all.
    level: difficulty, 1 to 5.
    hints: of each step; empty, or as many as steps.
    tokens: that the planner spent, kept apart from those of the answer.

  Raises:
    ValueError: if there are no steps, one is blank, numbers of steps, credits
      and hints differ, or a credit, the level or `tokens` cannot be.
  """

  steps: tuple[str, ...]
  credits: tuple[float, ...]
  level: int = 3
  hints: tuple[str, ...] = ()
  tokens: int = 0

  def __post_init__(self) -> None:
    if not self.steps:
      raise ValueError("a plan has at least one step, got none")
    for number, step in enumerate(self.steps, start=1):
      if not step.strip():
        raise ValueError(f"step {number} of the plan is blank")
    if len(self.credits) != len(self.steps):
      raise ValueError(
        f"{len(self.credits)} credits for {len(self.steps)} steps"
      )
    if self.hints and len(self.hints) != len(self.steps):
      raise ValueError(f"{len(self.hints)} hints for {len(self.steps)} steps")
    decay_schedules.check_credits(self.credits)
    check_level(self.level)
    if self.tokens < 0:
      raise ValueError(f"the plan cost {self.tokens} tokens; expected >= 0")

  def total(self, level_tokens: Mapping[int, int] = LEVEL_TOKENS) -> int:
    """Tokens for the whole question by its level."""
    return level_tokens[self.level]

  def split(
    self,
    total: int,
    schedule: str = "polynomial",
    *,
    rounding: str = "source",
    floor: int = 0,
  ) -> np.ndarray:
    """Tokens of each step, i64[M]; see `decay_schedules.allocate_tokens`."""
    return decay_schedules.allocate_tokens(
      self.credits, total, schedule, rounding=rounding, floor=floor
    )


Planner = Callable[[str], Plan]


def check_level(level: Any) -> int:
  """A level as an int.

  Raises:
    ValueError: if it is no whole number from 1 to 5.
  """
  if isinstance(level, bool) or level not in LEVEL_TOKENS:
    raise ValueError(f"level is {level!r}; expected 1 to 5")
  return int(level)


def decomposition_prompt(question: str) -> str:
  """Asks for sub-questions; `read_steps` reads the answer."""
  return (
    f"{question}\n\nDo not solve this yet. Break it into {_FEWEST} to {_MOST} "
    "sub-questions whose answers, in order, solve it; fewer if it is easy. "
    "Write each as a line 'number. sub-question', followed by a line "
    "'Hint: ' with one short hint.\n"
  )


def credit_prompt(question: str, steps: Sequence[str]) -> str:
  """Asks for a level and credits; `read_credits` reads the answer."""
  listed = "\n".join(f"{i}. {step}" for i, step in enumerate(steps, start=1))
  return (
    f"{question}\n\nSub-questions:\n{listed}\n\nHow hard is the question, from "
    "1 (easy) to 5 (hard)? How much work is each sub-question? Share 100 "
    "credits among them, in whole numbers from 1. Answer with JSON only: "
    '{"level": 3, "credits": [40, 60]}\n'
  )


def read_steps(text: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
  """Steps and hints of a numbered list; one step if there is no list.

  Returns:
    The steps, and as many hints, "" where there is none.
  """
  found = list(_STEP.finditer(text))
  if not found:
    return (_ALONE,), ("",)
  ends = [match.start() for match in found[1:]] + [len(text)]
  hints = []
  for match, end in zip(found, ends, strict=True):
    hint = _HINT.search(text, match.end(), end)
    hints.append(hint[1].strip() if hint else "")
  return tuple(match[2].strip() for match in found), tuple(hints)


def read_credits(text: str, steps: int) -> tuple[int, tuple[float, ...]]:
  """Level and credits from the last JSON object of a text.

  Credits may be a list, or an object of one number a step in order; numbers
  may be text.

  Args:
    text: by a planner.
    steps: how many credits there must be.

  Raises:
    ValueError: if there is no such object, or level or credits cannot be.
  """
  row = _last_object(text)
  if row is None or not {"level", "credits"} <= row.keys():
    raise ValueError(
      "the planner wrote no JSON object with level and credits: "
      f"{_excerpt(text)!r}"
    )
  credits = row["credits"]
  credits = list(credits.values()) if isinstance(credits, dict) else credits
  if not isinstance(credits, list) or len(credits) != steps:
    raise ValueError(
      f"the planner gave credits {_excerpt(str(credits))} for {steps} steps"
    )
  numbers = tuple(_number(credit) for credit in credits)
  decay_schedules.check_credits(numbers)
  return check_level(_number(row["level"])), numbers


def planner(
  generate: Callable[[str], tuple[str, int]],
) -> Planner:
  """A planner that asks a language model twice.

  Args:
    generate: prompt -> (answer, tokens spent). It is called with thinking
      off, where the model has such a switch.

  Returns:
    Question -> plan. A second answer that cannot be read gives equal credits
    and level 3: a bad plan costs less than none.
  """

  def plan(question: str) -> Plan:
    listed, spent = generate(decomposition_prompt(question))
    steps, hints = read_steps(listed)
    rated, more = generate(credit_prompt(question, steps))
    try:
      level, credits = read_credits(rated, len(steps))
    except ValueError:
      level, credits = 3, (100.0 / len(steps),) * len(steps)
    return Plan(
      steps=steps,
      credits=credits,
      level=level,
      hints=hints,
      tokens=spent + more,
    )

  return plan


def load(path: str | os.PathLike[str]) -> dict[str, Plan]:
  """Reads plans from the published layout, or from JSON lines.

  The published files are {"stats": [{id, query, steps, credits, level}]};
  lines hold such rows. Other fields are passed over.

  Returns:
    Plans by id, in file order.

  Raises:
    ValueError: if the file cannot be read, or a row lacks a field, repeats an
      id, or is no plan; the row is named.
  """
  path = pathlib.Path(path)
  plans: dict[str, Plan] = {}
  for where, row in _rows(path):
    missing = [k for k in ("id", "steps", "credits", "level") if k not in row]
    if missing:
      raise ValueError(f"{where}: no field {missing[0]!r}")
    name = str(row["id"])
    if name in plans:
      raise ValueError(f"{where}: id {name!r} comes twice")
    try:
      plans[name] = Plan(
        steps=tuple(map(str, row["steps"])),
        credits=tuple(map(_number, row["credits"])),
        level=check_level(_number(row["level"])),
      )
    except (TypeError, ValueError) as error:
      raise ValueError(f"{where}: {error}") from error
  return plans


def _rows(path):
  try:
    text = path.read_text(encoding="utf-8-sig")
  except (OSError, UnicodeDecodeError) as error:
    raise ValueError(f"{path}: cannot be read: {error}") from error
  try:
    whole = json.loads(text)
  except ValueError:
    whole = None
  if isinstance(whole, dict) and "stats" in whole:
    if not isinstance(whole["stats"], list):
      raise ValueError(f"{path}: expected a list in field 'stats'")
    rows = enumerate(whole["stats"], start=1)
    found = [(f"{path}, entry {number}", row) for number, row in rows]
  else:
    found = []
    for number, line in enumerate(text.splitlines(), start=1):
      if line.strip():
        where = f"{path}, line {number}"
        try:
          found.append((where, json.loads(line)))
        except ValueError as error:
          raise ValueError(f"{where}: not valid JSON: {error}") from error
  if not found:
    raise ValueError(f"{path}: no plans")
  for where, row in found:
    if not isinstance(row, dict):
      raise ValueError(f"{where}: expected an object")
  return found


def _last_object(text: str) -> dict[str, Any] | None:
  decoder, found, at = json.JSONDecoder(), None, text.find("{")
  while at >= 0:
    try:
      value, end = decoder.raw_decode(text, at)
    except ValueError:
      end = at + 1
    else:
      found = value if isinstance(value, dict) else found
    at = text.find("{", end)
  return found


def _number(value: Any) -> float:
  """A number that may be written as text, "40" or "40%"."""
  text = value.strip().rstrip("%") if isinstance(value, str) else value
  try:
    number = float(text)
  except (TypeError, ValueError):
    number = math.nan
  if isinstance(value, bool) or not math.isfinite(number):
    raise ValueError(f"expected a number, got {value!r}")
  return number


def _excerpt(text: str) -> str:
  short = " ".join(text.split())
  return short if len(short) <= 60 else f"{short[:57]}..."
