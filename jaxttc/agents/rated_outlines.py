# SPDX-License-Identifier: Apache-2.0
"""Outlines with difficulties, written by a model in one reply.

Asking for steps and their difficulties together costs one call in place of
one a step; the model rates what it has just written, without seeing answers
(the regime `text_only`). What cannot be read is asked again, a few times; then
the program gives up with one line that says what was wrong with the last.
"""

from collections.abc import Generator
from typing import NamedTuple

from jaxttc.agents import difficulty, outlines
from jaxttc.runtime import programs

_PARTS = ("find", "difficulty")


class Rated(NamedTuple):
  """An outline, and how hard its steps are.

  Attributes:
    outline: the steps.
    difficulties: of each, from 0 to 1.
  """

  outline: outlines.Outline
  difficulties: tuple[float, ...]

  def scorer(self) -> difficulty.Scorer:
    """Tells the difficulties in order; serves one run of this outline."""
    return difficulty.known(self.difficulties)


def rated_prompt(problem: str) -> str:
  """Asks for steps with difficulties; `read_rated` reads the answer."""
  return (
    f"{problem}\n\nDo not solve this. List the sub-problems whose answers, in"
    " order, lead to the answer. Say what each is to find, not how, and no"
    " results. Say how hard each is, from 0 to 1. Below 0.5: a schoolchild who"
    " knows the facts does it quickly. Above 0.5: even a good student must"
    " think long, or may fail. Answer with one JSON object only:"
    ' {"step1": {"find": "...", "difficulty": 0.2}, "step2": ...}\n'
  )


def read_rated(text: str) -> Rated:
  """Steps and difficulties in a text.

  Read as an outline is (`outlines.read_steps`), but each step is an object of
  "find", text, and "difficulty", a number from 0 to 1; no more, no less.

  Raises:
    ValueError: if it is none; it names the step.
  """
  found = outlines.read_steps(text)
  steps, hard = [], []
  for name, step in found.items():
    if not isinstance(step, dict) or sorted(step) != sorted(_PARTS):
      raise ValueError(
        f"{name} is {str(step)[:40]!r}; expected an object of"
        f" {' and '.join(_PARTS)}"
      )
    goal, value = (step[part] for part in _PARTS)
    if not isinstance(goal, str):
      raise ValueError(f"what {name} is to find is {goal!r}, not text")
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not 0 <= value <= 1:
      raise ValueError(
        f"difficulty of {name} is {value!r}; expected a number from 0 to 1"
      )
    steps.append(goal.strip())
    hard.append(float(value))
  return Rated(outlines.Outline(tuple(steps)), tuple(hard))


def plan(
  problem: str,
  *,
  tries: int = 3,
  limit: int = 2048,
  model: str = "policy",
) -> Generator[programs.Ask, programs.Replies, Rated]:
  """A program that has a model outline a problem, and rate the steps.

  Args:
    problem: to outline.
    tries: asks before giving up.
    limit: most tokens of a reply.
    model: who is asked.

  Raises:
    ValueError: if `tries` is below 1.
    outlines.OutlineError: if no reply could be read.
  """
  if tries < 1:
    raise ValueError(f"tries is {tries}; expected at least 1")
  why = ""
  for _ in range(tries):
    (reply,) = yield programs.Ask(
      rated_prompt(problem), limit, 1, model, "outline"
    )
    try:
      return read_rated(reply.text)
    except ValueError as error:
      why = reply.error or str(error)
  raise outlines.OutlineError(f"no rated outline after {tries} tries: {why}")
