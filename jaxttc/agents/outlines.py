# SPDX-License-Identifier: Apache-2.0
"""Outlines: a problem as ordered sub-problems, written by a model.

A model is asked several times for an outline, a JSON object {"step1": ...,
"step2": ...}, and once which of them is best. What cannot be read is asked
again, a few times; then the program ends with one clear error, or, of the
choice, with the first outline. Samples that do not parse are passed over.

Reference:
  Xiao et al. (2025), SCALE: Selective Resource Allocation for Overcoming
  Performance Bottlenecks in Mathematical Test-time Scaling.
"""

from collections.abc import Callable, Generator, Sequence
import dataclasses
import json
import re
from typing import Any

from jaxttc.runtime import programs

_VERSION = re.compile(r"version\s*(\d+)", re.IGNORECASE)
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


def selection_prompt(problem: str, outlines: Sequence[Outline]) -> str:
  """Asks which outline is best; `read_selection` reads the answer."""
  listed = "\n\n".join(
    f"version{number}:\n"
    + "\n".join(f"{i}. {step}" for i, step in enumerate(one.steps, start=1))
    for number, one in enumerate(outlines, start=1)
  )
  return (
    f"{problem}\n\nOutlines of a solution:\n\n{listed}\n\nWhich is the most"
    " logical, complete, clear, relevant and simple? Answer with its name"
    " only, such as version1.\n"
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
    raise ValueError(f"expected a JSON object, got {_excerpt(text)!r}")
  found = _parsed(body[start : end + 1])
  if not isinstance(found, dict) or not found:
    raise ValueError(f"expected a JSON object of steps, got {_excerpt(text)!r}")
  wanted = [f"step{number}" for number in range(1, len(found) + 1)]
  if sorted(found) != sorted(wanted):
    raise ValueError(
      f"outline has keys {', '.join(map(str, found))}; expected"
      f" {', '.join(wanted)}"
    )
  return {name: found[name] for name in wanted}


def read_selection(text: str, count: int) -> int:
  """Which outline, from 0, a text names; the last name counts.

  Raises:
    ValueError: if it names none of `count` outlines.
  """
  named = _VERSION.findall(text)
  if not named or not 1 <= int(named[-1]) <= count:
    raise ValueError(
      f"expected version1 to version{count}, got {_excerpt(text)!r}"
    )
  return int(named[-1]) - 1


def decompose(
  problem: str,
  *,
  versions: int = 8,
  tries: int = 3,
  limit: int = 2048,
  model: str = "policy",
) -> Generator[programs.Ask, programs.Replies, Outline]:
  """A program that outlines a problem: samples outlines, and picks one.

  Args:
    problem: to outline.
    versions: outlines sampled; with one that can be read nothing is picked.
    tries: how often is asked before giving up, for outlines and for the pick.
    limit: most tokens of an outline.
    model: who is asked.

  Raises:
    ValueError: if `versions` or `tries` is below 1.
    OutlineError: if no outline could be read.
  """
  for name, number in (("versions", versions), ("tries", tries)):
    if number < 1:
      raise ValueError(f"{name} is {number}; expected at least 1")
  found: list[Outline] = []
  why = ""
  for _ in range(tries):
    replies = yield programs.Ask(
      outline_prompt(problem), limit, versions, model, "outline"
    )
    for reply in replies:
      try:
        found.append(read_outline(reply.text))
      except ValueError as error:
        why = reply.error or str(error)
    if found:
      break
  if not found:
    raise OutlineError(
      f"no outline after {tries} times {versions} samples: {why}"
    )
  if len(set(found)) == 1:
    return found[0]
  for _ in range(tries):
    (reply,) = yield programs.Ask(
      selection_prompt(problem, found), 64, 1, model, "selection"
    )
    try:
      return found[read_selection(reply.text, len(found))]
    except ValueError:
      continue
  return found[0]


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


def _excerpt(text: str) -> str:
  short = " ".join(text.split())
  return short if len(short) <= 60 else f"{short[:57]}..."
