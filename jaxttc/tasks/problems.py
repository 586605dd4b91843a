# SPDX-License-Identifier: Apache-2.0
"""A problem, how it is asked, and how a written solution is walked.

A prompt is the question and, if a style is asked for, one more line. A solution
is a run of newline-ended lines, one per step; its last line is the answer
line, `#### <answer>`. Everything here is plain host Python.
"""

from collections.abc import Callable, Mapping, Sequence
import dataclasses
import difflib
from typing import Any, TypeVar

ANSWER_MARKER = "####"

STYLES = ("terse", "verbose", "direct", "free")
"""How a solution may be asked for; `free` leaves the choice to the solver."""

SOLUTION_STYLES = STYLES[:3]
"""How a solution may be written."""

_REQUESTS = {
  "terse": "Solve tersely.\n",
  "verbose": "Solve verbosely.\n",
  "direct": "Answer only.\n",
  "free": "",
}

_State = TypeVar("_State")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Problem:
  """One question, with its gold answer where there is one.

  Attributes:
    id: Name, unique within the set the problem comes from.
    text: The question, without a trailing newline.
    answer: The gold answer as it follows the marker; None when unlabelled.
    family: The task family that can check it; "" when none can.
    steps: Difficulty as a number of solution steps; 0 when unknown.
    meta: What the family needs to check a solution step by step.

  Raises:
    ValueError: If the text is empty or `steps` is negative.
  """

  id: str
  text: str
  answer: str | None
  family: str = ""
  steps: int = 0
  meta: Mapping[str, Any] = dataclasses.field(default_factory=dict)

  def __post_init__(self) -> None:
    """Rejects what no later stage could use."""
    if not self.text:
      raise ValueError(f"Problem {self.id!r}: text is empty.")
    if self.steps < 0:
      raise ValueError(
        f"Problem {self.id!r}: steps is {self.steps}, expected >= 0."
      )


def require_name(name: str, known: Sequence[str], what: str) -> None:
  """Raises ValueError, with the nearest valid name, unless `name` is known.

  Args:
    name: The name that was given.
    known: The valid names.
    what: What the name is of, for the message ("style", "family", ...).
  """
  if name in known:
    return
  near = difflib.get_close_matches(str(name), known, n=1, cutoff=0.4)
  hint = f" Did you mean {near[0]!r}?" if near else ""
  raise ValueError(
    f"Unknown {what} {name!r}, expected one of {', '.join(known)}.{hint}"
  )


def prompt(problem: Problem, style: str = "free") -> str:
  """The text put before a solver: the question, then the style asked for.

  Args:
    problem: The problem to ask.
    style: One of `STYLES`.

  Returns:
    Newline-ended text. The solver's first line follows directly.

  Raises:
    ValueError: If the style is unknown.
  """
  return f"{problem.text}\n{request(style)}"


def request(style: str) -> str:
  """The line that asks for a style; "" leaves it to the solver.

  Raises:
    ValueError: If the style is unknown.
  """
  require_name(style, STYLES, "style")
  return _REQUESTS[style]


def gold(problem: Problem) -> str:
  """The gold answer; raises ValueError if the problem is unlabelled."""
  if problem.answer is None:
    raise ValueError(f"Problem {problem.id!r} has no gold answer.")
  return problem.answer


def require_meta(problem: Problem, *keys: str) -> tuple[Any, ...]:
  """The values of `meta` under some keys.

  Raises:
    ValueError: If one is missing, as for a problem that the family it names
      did not generate.
  """
  for key in keys:
    if key not in problem.meta:
      raise ValueError(
        f"Problem {problem.id!r} of family {problem.family!r}: meta has no"
        f" {key!r}, expected {', '.join(keys)}."
      )
  return tuple(problem.meta[key] for key in keys)


def write_solution(lines: Sequence[str], answer: str) -> str:
  """Step lines and the answer line, each ended by a newline."""
  return "".join(f"{x}\n" for x in (*lines, f"{ANSWER_MARKER} {answer}"))


def split_lines(completion: str) -> list[str]:
  """The lines of a completion; an unfinished last line counts as a line."""
  lines = completion.split("\n")
  return lines if lines[-1] else lines[:-1]


def find_answer(completion: str) -> str | None:
  """What follows the marker on the last answer line; None if there is none.

  The last one counts, so that a solver made to go on may revise its answer.
  """
  for line in reversed(completion.split("\n")):
    if line.startswith(ANSWER_MARKER):
      return line[len(ANSWER_MARKER) :].strip()
  return None


def check_lines(
  lines: Sequence[str],
  *,
  steps: int,
  start: _State,
  follow: Callable[[_State, int], Mapping[str, _State]],
  accept: Callable[[str], bool],
) -> list[bool]:
  """Tells for each line whether it and all lines before it are right.

  An answer line is right if its answer is, and it comes either first (a
  direct answer) or after the last step. Lines after it are wrong.

  Args:
    lines: The solution's lines, without newlines.
    steps: How many step lines a full solution has.
    start: The state before the first step.
    follow: `follow(state, k)` gives the right lines for step `k` (from 0),
      each with the state it leads to.
    accept: Tells whether an answer is right.

  Returns:
    One flag per line: a run of True, then a run of False.
  """
  flags = [False] * len(lines)
  state, done = start, 0
  for row, line in enumerate(lines):
    if line.startswith(f"{ANSWER_MARKER} "):
      answer = line[len(ANSWER_MARKER) + 1 :]
      flags[row] = done in (0, steps) and accept(answer)
      break
    options = follow(state, done) if done < steps else {}
    if line not in options:
      break
    state, done, flags[row] = options[line], done + 1, True
  return flags
