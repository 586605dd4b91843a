# SPDX-License-Identifier: Apache-2.0
"""Sums of digits modulo 10, thought out in short lines or in long ones.

A question reads "3+4+7 mod 10?". Thinking has a line a digit, in one of two
ways that lead to the same place:

    So 7                  concise, 3 tokens: the running sum
    Step 4 3 7 check 7    verbose, 5 tokens: digit, sum before, sum after;
                          and 2 more for each of up to 3 checks

(each ends with a newline, which counts). A writer that chooses the way of each
line afresh leaves a solver traces whose length says nothing about whether they
are right: what a thinking budget needs in order to be met without loss.

Whole texts hold the special tokens, so they are encoded with `specials=True`:

    3+4+7 mod 10?
    <think>So 3
    Step 4 3 7
    So 4
    </think>#### 4

An empty span, "<think></think>", asks for the answer at once. All words are in
the vocabulary of `tokenizer.WordTokenizer`.
"""

from collections.abc import Sequence
import dataclasses
import random

from jaxttc.tasks import problems as problems_lib

NAME = "digit_sums"
MODULUS = 10
THINK, END_THINK = "<think>", "</think>"
MODES = ("think", "at_once")
CONCISE_SHARE = 0.2
"""Share of concise lines in what a solver learns to write."""
MOST_CHECKS = 3
CONCISE_TOKENS = 3
VERBOSE_TOKENS = tuple(5 + 2 * checks for checks in range(MOST_CHECKS + 1))

MOST_TARGET = 99
"""Most tokens that a prompt can name."""

_META = ("digits",)


def generate(rng: random.Random, steps: int) -> problems_lib.Problem:
  """Draws a problem.

  Args:
    rng: Source of randomness; advanced.
    steps: Number of digits, at least 2.

  Returns:
    A problem with an empty id. `meta` holds `digits`, a tuple of 0..9.

  Raises:
    ValueError: If there are fewer than 2 steps.
  """
  if steps < 2:
    raise ValueError(f"digit_sums.generate: steps is {steps}, expected >= 2.")
  return problem([rng.randrange(MODULUS) for _ in range(steps)])


def problem(digits: Sequence[int]) -> problems_lib.Problem:
  """The problem of summing some digits; its id is empty.

  Raises:
    ValueError: If there are none, or one is not in 0..9.
  """
  if not digits or any(digit not in range(MODULUS) for digit in digits):
    raise ValueError(
      f"digit_sums.problem: digits {list(digits)}, expected some of 0..9."
    )
  return problems_lib.Problem(
    id="",
    text=f"{'+'.join(map(str, digits))} mod {MODULUS}?",
    answer=str(sum(digits) % MODULUS),
    family=NAME,
    steps=len(digits),
    meta={"digits": tuple(digits)},
  )


def asked(problem: problems_lib.Problem, target: int) -> problems_lib.Problem:
  """The problem with a line that names a length: "Use 20 + 4 tokens."

  Every number below 100 is one token, of which a model that never met it knows
  nothing; tens and ones are few, and make numbers that it never met as well.

  Args:
    problem: Of this family.
    target: Tokens of the whole response, N, 1 to `MOST_TARGET`.

  Returns:
    The problem; `meta` holds `target`, too.

  Raises:
    ValueError: If the target is out of range.
  """
  if not 1 <= target <= MOST_TARGET:
    raise ValueError(
      f"digit_sums.asked: target {target}, expected 1..{MOST_TARGET}."
    )
  tens, ones = target - target % 10, target % 10
  return dataclasses.replace(
    problem,
    text=f"{problem.text}\nUse {tens} + {ones} tokens.",
    meta={**problem.meta, "target": target},
  )


def check_targets(name: str, targets: tuple[int, int]) -> None:
  """Raises ValueError, under a field's name, unless 1 <= fewest <= most."""
  least, most = targets
  if not 1 <= least <= most <= MOST_TARGET:
    raise ValueError(
      f"{name} is {targets}; expected 1 <= fewest <= most <= {MOST_TARGET}"
    )


def running_sums(digits: Sequence[int]) -> list[int]:
  """The sum modulo 10 after each digit."""
  sums, total = [], 0
  for digit in digits:
    total = (total + digit) % MODULUS
    sums.append(total)
  return sums


def concise_line(after: int) -> str:
  """A line of 3 tokens, its newline included; returned without it."""
  return f"So {after}"


def verbose_line(digit: int, before: int, after: int, checks: int = 0) -> str:
  """A line of 5 tokens and 2 a check, its newline included."""
  return f"Step {digit} {before} {after}" + f" check {after}" * checks


def is_concise(line: str) -> bool:
  """Whether a line was begun in the concise way."""
  return line.startswith("So")


def thinking_lines(
  problem: problems_lib.Problem,
  rng: random.Random,
  concise_share: float = CONCISE_SHARE,
) -> list[str]:
  """Right lines, one a digit, each in a way drawn afresh.

  Args:
    problem: Of this family.
    rng: Source of randomness; advanced.
    concise_share: Probability that a line is concise; a verbose one has 0 to
      `MOST_CHECKS` checks, uniformly.

  Returns:
    The lines, without newlines.

  Raises:
    ValueError: If the share is no probability, or the problem is of another
      family.
  """
  if not 0 <= concise_share <= 1:
    raise ValueError(
      f"digit_sums: concise_share is {concise_share}, expected 0..1."
    )
  (digits,) = problems_lib.require_meta(problem, *_META)
  lines, before = [], 0
  for digit, after in zip(digits, running_sums(digits), strict=True):
    if rng.random() < concise_share:
      lines.append(concise_line(after))
    else:
      checks = rng.randint(0, MOST_CHECKS)
      lines.append(verbose_line(digit, before, after, checks))
    before = after
  return lines


def kept_lines(problem: problems_lib.Problem) -> list[str]:
  """Right lines that come near the length which a problem of `asked` names.

  Each line takes about an equal share of the tokens that are left.

  Raises:
    ValueError: If the problem names no target, or is of another family.
  """
  digits, target = problems_lib.require_meta(problem, *_META, "target")
  lines, before = [], 0
  for done, after in enumerate(running_sums(digits)):
    share = (target - response_tokens(lines)) / (len(digits) - done)
    if share < (CONCISE_TOKENS + VERBOSE_TOKENS[0]) / 2:
      lines.append(concise_line(after))
    else:
      checks = round((share - VERBOSE_TOKENS[0]) / 2)
      checks = min(max(checks, 0), MOST_CHECKS)
      lines.append(verbose_line(digits[done], before, after, checks))
    before = after
  return lines


def response_tokens(lines: Sequence[str]) -> int:
  """Tokens of `completion`: words and newlines, the span's end, the answer."""
  return sum(len(line.split()) + 1 for line in lines) + 4


def prompt(
  problem: problems_lib.Problem, style: str = "free", mode: str = "think"
) -> str:
  """The text put before a solver; encode it with `specials=True`.

  Args:
    problem: The problem to ask.
    style: One of `problems.STYLES`; "terse" asks for concise lines, "verbose"
      for verbose ones.
    mode: "think" opens a thinking span, "at_once" leaves it empty.

  Raises:
    ValueError: If the style or the mode is unknown.
  """
  problems_lib.require_name(mode, MODES, "mode")
  span = THINK if mode == "think" else THINK + END_THINK
  return problems_lib.prompt(problem, style) + span


def completion(problem: problems_lib.Problem, lines: Sequence[str]) -> str:
  """What follows `prompt` in mode "think": lines, the span's end, the answer.

  Raises:
    ValueError: If the problem is unlabelled.
  """
  thought = "".join(f"{line}\n" for line in lines)
  return f"{thought}{END_THINK}{answer_line(problem)}"


def answer_line(problem: problems_lib.Problem) -> str:
  """The gold answer line: what follows `prompt` in mode "at_once".

  Raises:
    ValueError: If the problem is unlabelled.
  """
  return problems_lib.write_solution([], problems_lib.gold(problem))


def concise_copy(problem: problems_lib.Problem) -> str:
  """The completion whose lines are all concise.

  Length predictors learn from such copies beside what a solver writes by
  itself, or short traces would hardly occur.
  """
  (digits,) = problems_lib.require_meta(problem, *_META)
  return completion(problem, [concise_line(s) for s in running_sums(digits)])


def solution(problem: problems_lib.Problem, style: str) -> str:
  """The gold solution as the other families write it, without a span.

  Args:
    problem: Of this family.
    style: "terse" has concise lines, "verbose" verbose ones without checks,
      "direct" none.

  Raises:
    ValueError: If the style is not one of the three.
  """
  problems_lib.require_name(style, problems_lib.SOLUTION_STYLES, "style")
  (digits,) = problems_lib.require_meta(problem, *_META)
  lines, before = [], 0
  for digit, after in zip(digits, running_sums(digits), strict=True):
    if style == "terse":
      lines.append(concise_line(after))
    elif style == "verbose":
      lines.append(verbose_line(digit, before, after))
    before = after
  return problems_lib.write_solution(lines, problems_lib.gold(problem))


def check(problem: problems_lib.Problem, lines: Sequence[str]) -> list[bool]:
  """Prefix correctness of each line; see `problems.check_lines`.

  A line is right in either way, with any number of checks that may be written;
  ways may be mixed line by line.
  """
  (digits,) = problems_lib.require_meta(problem, *_META)
  gold = problems_lib.gold(problem)

  def follow(before: int, k: int) -> dict[str, int]:
    after = (before + digits[k]) % MODULUS
    verbose = [
      verbose_line(digits[k], before, after, checks)
      for checks in range(MOST_CHECKS + 1)
    ]
    return dict.fromkeys([concise_line(after), *verbose], after)

  return problems_lib.check_lines(
    lines,
    steps=len(digits),
    start=0,
    follow=follow,
    accept=lambda answer: answer == gold,
  )


def is_correct(problem: problems_lib.Problem, completion: str) -> bool:
  """Whether the last answer line after the thinking span gives the answer.

  The span may have been cut in the middle of a line.
  """
  answer = problems_lib.find_answer(completion.rpartition(END_THINK)[2])
  return answer == problems_lib.gold(problem)
