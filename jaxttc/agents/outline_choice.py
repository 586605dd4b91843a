# SPDX-License-Identifier: Apache-2.0
"""Outlines sampled from a model, and one of them chosen.

A chooser is a function of a problem and different outlines of it that returns
a program; what the program returns is the place of the best one. A model may
be asked about all at once, as published, or about two at a time; or a verifier
may score each. Samples that do not parse are passed over; if none parses, a
few times, the program ends with one clear error.

Reference:
  Xiao et al. (2025), SCALE (`listwise`). The others are ours.
"""

from collections.abc import Callable, Generator, Sequence
import math
import re

from jaxttc.agents import outlines
from jaxttc.runtime import programs

Choosing = Generator[programs.Ask | programs.Measure, programs.Replies, int]
Chooser = Callable[[str, Sequence[outlines.Outline]], Choosing]

_VERSION = re.compile(r"version\s*(\d+)", re.IGNORECASE)
_LIMIT = 64  # tokens of a verdict


def selection_prompt(problem: str, found: Sequence[outlines.Outline]) -> str:
  """Asks which outline is best; `read_selection` reads the answer."""
  listed = "\n\n".join(
    f"version{number}:\n{_listed(one)}"
    for number, one in enumerate(found, start=1)
  )
  return (
    f"{problem}\n\nOutlines of a solution:\n\n{listed}\n\nWhich is the most"
    " logical, complete, clear, relevant and simple? Answer with its name"
    " only, such as version1.\n"
  )


def scoring_text(problem: str, outline: outlines.Outline) -> str:
  """What a verifier reads of an outline: the problem, and its steps."""
  return f"{problem}\n{_listed(outline)}\n"


def read_selection(text: str, count: int) -> int:
  """Which outline, from 0, a text names; the last name counts.

  Raises:
    ValueError: if it names none of `count` outlines.
  """
  named = _VERSION.findall(text)
  if not named or not 1 <= int(named[-1]) <= count:
    raise ValueError(
      f"expected version1 to version{count}, got {outlines.excerpt(text)!r}"
    )
  return int(named[-1]) - 1


def listwise(tries: int = 3, model: str = "policy") -> Chooser:
  """One question about all outlines; the first if no answer can be read.

  Args:
    tries: asks before the first is taken.
    model: who is asked.

  Raises:
    ValueError: if `tries` is below 1.
  """
  _at_least_one("tries", tries)

  def choose(problem: str, found: Sequence[outlines.Outline]) -> Choosing:
    for _ in range(tries):
      picked = yield from _picked(problem, found, model)
      if picked is not None:
        return picked
    return 0

  return choose


def pairwise(model: str = "policy") -> Chooser:
  """Two at a time: the winner meets the next one.

  Each pair is asked about in both orders, since models favour a place; a
  challenger has to win both, so that whoever always names one place, or
  nobody, leaves the first. It takes 2 (k - 1) questions about k outlines.

  Args:
    model: who is asked.
  """

  def choose(problem: str, found: Sequence[outlines.Outline]) -> Choosing:
    best = 0
    for challenger in range(1, len(found)):
      pair = [found[best], found[challenger]]
      ahead = yield from _picked(problem, pair, model)
      if ahead != 1:
        continue
      swapped = yield from _picked(problem, pair[::-1], model)
      if swapped == 0:
        best = challenger
    return best

  return choose


def scored(gauge: str = "verifier") -> Chooser:
  """The outline that a verifier gives the greatest score; of equals the first.

  Each is read and paid for once, without a token sampled. One that could not
  be read is passed over.

  Args:
    gauge: which; such as a `verifiers.reward_gauge.RewardGauge`.
  """

  def choose(problem: str, found: Sequence[outlines.Outline]) -> Choosing:
    scores, why = [], ""
    for one in found:
      (reply,) = yield programs.Measure(
        scoring_text(problem, one), gauge, "selection"
      )
      why = reply.error or why
      scores.append(-math.inf if reply.value is None else reply.value)
    if max(scores) == -math.inf:
      raise outlines.OutlineError(f"no outline could be scored: {why}")
    return scores.index(max(scores))

  return choose


def decompose(
  problem: str,
  *,
  versions: int = 8,
  tries: int = 3,
  limit: int = 2048,
  model: str = "policy",
  choose: Chooser | None = None,
) -> Generator[
  programs.Ask | programs.Measure, programs.Replies, outlines.Outline
]:
  """A program that outlines a problem: samples outlines, and picks one.

  Args:
    problem: to outline.
    versions: outlines sampled; among equal ones nothing is picked.
    tries: how often is asked for outlines before giving up.
    limit: most tokens of an outline.
    model: who is asked.
    choose: picks among different outlines; None for `listwise` by the model.

  Raises:
    ValueError: if `versions` or `tries` is below 1.
    OutlineError: if no outline could be read, or scored.
  """
  _at_least_one("versions", versions)
  _at_least_one("tries", tries)
  found: list[outlines.Outline] = []
  why = ""
  for _ in range(tries):
    replies = yield programs.Ask(
      outlines.outline_prompt(problem), limit, versions, model, "outline"
    )
    for reply in replies:
      try:
        found.append(outlines.read_outline(reply.text))
      except ValueError as error:
        why = reply.error or str(error)
    if found:
      break
  if not found:
    raise outlines.OutlineError(
      f"no outline after {tries} times {versions} samples: {why}"
    )
  if len(set(found)) == 1:
    return found[0]
  chooser = listwise(tries, model) if choose is None else choose
  picked = yield from chooser(problem, found)
  return found[picked]


def _picked(
  problem: str, found: Sequence[outlines.Outline], model: str
) -> Generator[programs.Ask, programs.Replies, int | None]:
  """Which outline a model names; None if it names none."""
  (reply,) = yield programs.Ask(
    selection_prompt(problem, found), _LIMIT, 1, model, "selection"
  )
  try:
    return read_selection(reply.text, len(found))
  except ValueError:
    return None


def _listed(outline: outlines.Outline) -> str:
  return "\n".join(
    f"{number}. {step}" for number, step in enumerate(outline.steps, start=1)
  )


def _at_least_one(name: str, number: int) -> None:
  if number < 1:
    raise ValueError(f"{name} is {number}; expected at least 1")
