# SPDX-License-Identifier: Apache-2.0
"""Outlines: a problem as ordered sub-problems, written by a model.

An outline is a JSON object {"step1": ..., "step2": ...}. Reading is strict
about its keys, and forgiving about what stands around it.

Reference:
  Xiao et al. (2025), SCALE: Selective Resource Allocation for Overcoming
  Performance Bottlenecks in Mathematical Test-time Scaling.
"""

from collections.abc import Callable, Generator
import dataclasses
import json
import re
from typing import Any

from jaxttc.runtime import programs

_FENCE = re.compile(r"```[a-zA-Z]*\n(.*?)```", re.DOTALL)
_LONE_BACKSLASH = re.compile(r'\\(?!["\\/bfnrtu])')


@dataclasses.dataclass(frozen=True)
class Outline:
  """Sub-problems in order.

  Attributes:
    steps: at least one, none blank.

  Raises:
    ValueError: if there are no steps or one is blank.
  """

  steps: tuple[str, ...]

  def __post_init__(self) -> None:
    if not self.steps:
      raise ValueError("an outline has at least one step, got none")
    for number, step in enumerate(self.steps, start=1):
      if not step.strip():
        raise ValueError(f"step {number} of the outline is blank")

  def ending_in(self, question: str) -> "Outline":
    """The outline with the question itself as its last step, as published."""
    return Outline((*self.steps[:-1], question))


class OutlineError(programs.GaveUp):
  """No outline could be read, however often a model was asked."""


Planning = Generator[programs.Ask | programs.Measure, programs.Replies, Outline]
Planner = Callable[[str], Planning]
"""Where outlines come from: a problem's text -> a program."""


def outline_prompt(problem: str) -> str:
  """Asks for an outline; `read_outline` reads the answer."""
  return (
    f"{problem}\n\nDo not solve this. List the sub-problems whose answers, in"
    " order, lead to the answer. Say what each is to find, not how, and no"
    ' results. Answer with one JSON object only: {"step1": "...", "step2":'
    ' "..."}\n'
  )


def read_outline(text: str) -> Outline:
  """The outline in a text: a JSON object as `read_steps` reads it, of text.

  Raises:
    ValueError: if there is no such object.
  """
  found = read_steps(text)
  for name, step in found.items():
    if not isinstance(step, str):
      raise ValueError(f"{name} of the outline is {step!r}, not text")
  return Outline(tuple(step.strip() for step in found.values()))


def read_steps(text: str) -> dict[str, Any]:
  """The JSON object of steps in a text, in the order of the steps.

  Fences and prose around the object are passed over, and backslashes that JSON
  does not know (of LaTeX) are doubled. The keys must be step1 to stepN, each
  once; the values may be anything.

  Raises:
    ValueError: if there is no such object.
  """
  fenced = _FENCE.findall(text)
  body = fenced[-1] if fenced else text
  start, end = body.find("{"), body.rfind("}")
  if start < 0 or end < start:
    raise ValueError(f"expected a JSON object, got {excerpt(text)!r}")
  found = _parsed(body[start : end + 1])
  if not isinstance(found, dict) or not found:
    raise ValueError(f"expected a JSON object of steps, got {excerpt(text)!r}")
  wanted = [f"step{number}" for number in range(1, len(found) + 1)]
  if sorted(found) != sorted(wanted):
    raise ValueError(
      f"outline has keys {', '.join(map(str, found))}; expected"
      f" {', '.join(wanted)}"
    )
  return {name: found[name] for name in wanted}


def _parsed(text: str) -> Any:
  try:
    return json.loads(text, object_pairs_hook=_without_twins)
  except json.JSONDecodeError:
    pass
  repaired = _LONE_BACKSLASH.sub(r"\\\\", text)
  try:
    return json.loads(repaired, object_pairs_hook=_without_twins)
  except json.JSONDecodeError as error:
    raise ValueError(f"outline is not valid JSON: {error}") from None


def _without_twins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
  found = dict(pairs)
  if len(found) < len(pairs):
    raise ValueError("outline names a step twice")
  return found


def excerpt(text: str) -> str:
  """A text in at most 60 characters, for an error."""
  short = " ".join(text.split())
  return short if len(short) <= 60 else f"{short[:57]}..."
