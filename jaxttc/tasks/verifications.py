# SPDX-License-Identifier: Apache-2.0
"""Written verifications of worked solutions: derive each step anew, then judge.

A verification follows a solution and one more line that asks for it. It goes
through the steps of the *problem*, writes what each should have been, says
whether the solution's line agrees, and stops at the first that does not:

    Modulo 13: start at 4, add 7, times 5.      the problem
    Solve tersely.
    4+7=11                                      the solution
    11*5=4
    #### 4
    Check verbosely.                            the request
    4+7=11, mod 13 is 11 right                  the verification
    11*5=55, mod 13 is 3 wrong
    #### no

The verdict line looks like an answer line, so whatever serves solutions serves
verifications too. All words are in the embedded vocabulary.
"""

from collections.abc import Iterator

from jaxttc.tasks import modular
from jaxttc.tasks import problems as problems_lib

STYLES = ("verbose", "terse", "direct")
"""How a verification may be asked for; `direct` is a bare verdict."""

YES, NO = " yes", " no"
"""The verdict's word, as the tokenizer cuts it."""

_REQUESTS = {
  "verbose": "Check verbosely.\n",
  "terse": "Check tersely.\n",
  "direct": "Check only.\n",
}


def prompt(solved: str, completion: str, style: str) -> str:
  """What a verifier continues.

  Args:
    solved: the prompt that the solution answers, newline-ended.
    completion: the solution; a missing last newline is added.
    style: one of `STYLES`.

  Returns:
    Newline-ended text.

  Raises:
    ValueError: if the style is unknown.
  """
  problems_lib.require_name(style, STYLES, "verification style")
  if completion and not completion.endswith("\n"):
    completion += "\n"
  return f"{solved}{completion}{_REQUESTS[style]}"


def write(problem: problems_lib.Problem, completion: str, style: str) -> str:
  """The gold verification of a solution.

  Args:
    problem: of the modular family.
    completion: any text offered as its solution.
    style: one of `STYLES`.

  Returns:
    Newline-ended text whose last line is the verdict.

  Raises:
    ValueError: if the style is unknown or the problem of another family.
  """
  problems_lib.require_name(style, STYLES, "verification style")
  if problem.family != modular.NAME:
    raise ValueError(
      f"verifications.write: problem {problem.id!r} is of family "
      f"{problem.family!r}, expected {modular.NAME!r}"
    )
  lines, right = [], True
  for text, agrees in _checks(problem, completion, style):
    lines.append(f"{text} {'right' if agrees else 'wrong'}")
    right = agrees
    if not agrees:
      break
  verdict = f"{problems_lib.ANSWER_MARKER}{YES if right else NO}"
  shown = lines if style != "direct" else []
  return "".join(f"{line}\n" for line in (*shown, verdict))


def verdict(text: str) -> bool | None:
  """What a verification concludes; None where it concludes nothing.

  A verification that was cut off, or whose last verdict line says neither yes
  nor no, is missing: it is not a "no".
  """
  word = problems_lib.find_answer(text)
  return {YES.strip(): True, NO.strip(): False}.get(word or "")


def _checks(problem, completion, style) -> Iterator[tuple[str, bool]]:
  """What each line should be, and whether the solution's line says so."""
  given = problems_lib.split_lines(completion)
  gold = {
    name: problems_lib.split_lines(modular.solution(problem, name))
    for name in ("terse", "verbose")
  }
  shown = gold["terse" if style == "terse" else "verbose"]
  for row in range(problem.steps):
    accepted = {lines[row] for lines in gold.values()}
    yield shown[row], row < len(given) and given[row] in accepted
  answer = gold["terse"][-1]
  ends = given[problem.steps :] == [answer]
  yield f"So {problems_lib.gold(problem)}", ends
