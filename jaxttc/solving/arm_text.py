# SPDX-License-Identifier: Apache-2.0
"""Arms of budget policies written as calls: what may answer a question.

  best_of_n(n=4)              a search; see `decoder_text`
  guided(budget=14)           a way to think; see `thinking_text`
  two_speed(tau=0.4)          SCALE: easy steps at once, hard ones worked out
  parts(roll_over="next")     a sub-question at a time, each held to its share
                              of the plan (Plan-and-Budget)

Both that take a question apart find its steps in its lines, where "that" is
the answer of the line before, or have a model outline it (`outline="model"`).
"""

from typing import NamedTuple

from jaxttc.agents import two_speed as two_speed_lib
from jaxttc.allocators import local_budgets, step_modes
from jaxttc.solving import call_text, decoder_text, thinking_text
from jaxttc.tasks import problems as problems_lib

SEARCH, THOUGHT, PROGRAM = "search", "thought", "program"
OUTLINES = ("lines", "model")
SCORERS = ("disagreement", "rating")


class TwoSpeed(NamedTuple):
  """What a text says of SCALE.

  Attributes:
    tau: difficulty above which a step is worked out.
    last_step_floor: least difficulty of the last step.
    outline: one of `OUTLINES`.
    scorer: one of `SCORERS`: how difficulties are told.
    samples: of an answer at once, whose disagreement is a difficulty.
    fast: style in which a step is answered at once (`tasks.problems.STYLES`).
    slow: style in which one is worked out.
    fast_tokens: most tokens of an answer at once.
    slow_tokens: most of one that is worked out.
    regime: one of `agents.two_speed.REGIMES`.
  """

  tau: float
  last_step_floor: float
  outline: str
  scorer: str
  samples: int
  fast: str
  slow: str
  fast_tokens: int
  slow_tokens: int
  regime: str


class Parts(NamedTuple):
  """What a text says of Plan-and-Budget.

  Attributes:
    outline: one of `OUTLINES`.
    roll_over: who gets what a step leaves (`local_budgets.ROLL_OVERS`).
    style: how a step is asked for (`tasks.problems.STYLES`).
  """

  outline: str
  roll_over: str
  style: str


def two_speed(
  *,
  tau: float = 0.5,
  last_step_floor: float = 0.0,
  outline: str = "lines",
  scorer: str = "disagreement",
  samples: int = 4,
  fast: str = "direct",
  slow: str = "terse",
  fast_tokens: int = 8,
  slow_tokens: int = 64,
  regime: str = "with_solutions",
) -> TwoSpeed:
  """Checks the arguments of SCALE; see `TwoSpeed`.

  Raises:
    ValueError: naming the one that cannot be.
  """
  step_modes.threshold(tau, last_step_floor)
  problems_lib.require_name(outline, OUTLINES, "outline")
  problems_lib.require_name(scorer, SCORERS, "scorer")
  problems_lib.require_name(regime, two_speed_lib.REGIMES, "regime")
  for style in (fast, slow):
    problems_lib.require_name(style, problems_lib.STYLES, "style")
  if samples < 2 or min(fast_tokens, slow_tokens) < 1:
    raise ValueError(
      "two_speed: expected samples >= 2, fast_tokens and slow_tokens >= 1, got "
      f"{samples}, {fast_tokens} and {slow_tokens}"
    )
  return TwoSpeed(
    tau,
    last_step_floor,
    outline,
    scorer,
    samples,
    fast,
    slow,
    fast_tokens,
    slow_tokens,
    regime,
  )


def parts(
  *, outline: str = "lines", roll_over: str = "next", style: str = "terse"
) -> Parts:
  """Checks the arguments of Plan-and-Budget; see `Parts`.

  Raises:
    ValueError: naming the one that cannot be.
  """
  problems_lib.require_name(outline, ("lines",), "outline of parts")
  local_budgets.check_roll_over(roll_over)
  problems_lib.require_name(style, problems_lib.STYLES, "style")
  return Parts(outline, roll_over, style)


_PROGRAMS = {"two_speed": two_speed, "parts": parts}


def kind(text: str) -> str:
  """`SEARCH`, `THOUGHT` or `PROGRAM`, by the name that a text begins with.

  Raises:
    ValueError: if the text is malformed.
  """
  name, _ = call_text.parse(text, "arm", "best_of_n(n=4)")
  if name in thinking_text.NAMES:
    return THOUGHT
  return PROGRAM if name in _PROGRAMS else SEARCH


def check(text: str) -> str:
  """The kind of an arm that can be.

  Raises:
    ValueError: if the text is malformed, or a name or an argument is unknown or
      cannot be.
  """
  found = kind(text)
  if found == SEARCH:
    decoder_text.cached(text)
  elif found == PROGRAM:
    program(text)
  else:
    name, _, budget = thinking_text.parse(text)
    if budget is None and name not in thinking_text.UNLIMITED:
      raise ValueError(
        f"arm {text!r} needs the argument 'budget', such as {name}(budget=120)"
      )
  return found


def program(text: str) -> TwoSpeed | Parts:
  """What the text of a `PROGRAM` says.

  Raises:
    ValueError: as `check`.
  """
  name, said = call_text.parse(text, "arm", "two_speed(tau=0.4)")
  arguments = call_text.checked(name, said, _PROGRAMS, "arm")
  return _PROGRAMS[name](**arguments)
