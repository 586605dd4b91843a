# SPDX-License-Identifier: Apache-2.0
"""Problems as prompts of one width, with the grader of what is written to them.

What reinforcement learning with verifiable rewards needs of a task: prompts as
arrays, by number, and a reward of 0 or 1 for sampled tokens. Grading is host
code; it costs tens of microseconds a row.
"""

from collections.abc import Iterator, Sequence
import dataclasses
import itertools
import random
from typing import Any, Protocol

from jaxtyping import Float, Int
import numpy as np

from jaxttc.tasks import arithmetic, pretrained_tokenizer
from jaxttc.tasks import problems as problems_lib
from jaxttc.tasks import tokenizer as tokenizer_lib

Tokenizer = (
  tokenizer_lib.WordTokenizer | pretrained_tokenizer.PretrainedTokenizer
)


@dataclasses.dataclass(frozen=True, eq=False)
class PromptSet:
  """P problems.

  Attributes:
    problems: the problems.
    tokenizer: of prompts and solutions.
    tokens: i32[P, T], prompts, padded at the end with 0.
    length: i32[P], tokens of each.
    check_steps: whether a solution is right only if all of its lines are, so
      that a lucky guess earns nothing.
    target: i32[P], tokens that each prompt asks for; None if they ask for no
      number.
  """

  problems: tuple[problems_lib.Problem, ...]
  tokenizer: Tokenizer
  tokens: Int[np.ndarray, "p t"]
  length: Int[np.ndarray, " p"]
  check_steps: bool = False
  target: Int[np.ndarray, " p"] | None = None

  def grade(
    self, which: Int[np.ndarray, " b"], tokens: Int[np.ndarray, "b s"]
  ) -> Float[np.ndarray, " b"]:
    """1 for the rows whose text solves its problem, else 0.

    Args:
      which: the problem of each row; P or more for rows of padding, which get
        0.
      tokens: what was written, -1 beyond the end.
    """
    rewards = np.zeros(len(which), np.float32)
    for row, (problem, text) in enumerate(self.texts(which, tokens)):
      if problem is not None:
        rewards[row] = float(self._solves(problem, text))
    return rewards

  def answered(
    self, which: Int[np.ndarray, " b"], tokens: Int[np.ndarray, "b s"]
  ) -> Float[np.ndarray, " b"]:
    """1 for the rows from whose text an answer can be read, right or wrong.

    Args:
      which: as `grade` takes it.
      tokens: likewise.
    """
    return np.array(
      [
        problem is not None and self.answer(text) is not None
        for problem, text in self.texts(which, tokens)
      ],
      np.float32,
    )

  def answer(self, text: str) -> str | None:
    """The final answer of a text; None if it has none."""
    return problems_lib.find_answer(text)

  def texts(
    self, which: Int[np.ndarray, " b"], tokens: Int[np.ndarray, "b s"]
  ) -> list[tuple[problems_lib.Problem | None, str]]:
    """The problem of each row, None for padding, and what was written."""
    return [
      (self.problems[problem], self.tokenizer.decode(written[written >= 0]))
      if problem < len(self.problems)
      else (None, "")
      for problem, written in zip(which, tokens, strict=True)
    ]

  def _solves(self, problem: problems_lib.Problem, text: str) -> bool:
    right = arithmetic.is_correct(problem, text)
    if right and self.check_steps:
      return all(arithmetic.check_steps(problem, text))
    return right


def prompt_set(
  problems: Sequence[problems_lib.Problem],
  tokenizer: Tokenizer,
  *,
  style: str = "free",
  width: int | None = None,
  check_steps: bool = False,
) -> PromptSet:
  """Problems as prompts.

  Args:
    problems: at least one; each with an answer.
    tokenizer: the policy's.
    style: how solutions are asked for.
    width: T; that of the longest prompt if None.
    check_steps: see `PromptSet`.

  Raises:
    ValueError: if there is no problem, one has no answer, or one's prompt is
      longer than `width`; the problem is named.
  """
  if not problems:
    raise ValueError("a prompt set needs at least one problem")
  ids = []
  for problem in problems:
    problems_lib.gold(problem)
    ids.append(tokenizer.encode_prompt(problems_lib.prompt(problem, style)))
  tokens, length = lay(problems, ids, width)
  return PromptSet(tuple(problems), tokenizer, tokens, length, check_steps)


def lay(
  problems: Sequence[problems_lib.Problem],
  ids: Sequence[Sequence[int]],
  width: int | None = None,
) -> tuple[Int[np.ndarray, "p t"], Int[np.ndarray, " p"]]:
  """Prompts as arrays: their tokens, padded with 0, and their lengths.

  Args:
    problems: at least one.
    ids: tokens of each problem's prompt.
    width: T; that of the longest prompt if None.

  Raises:
    ValueError: naming the problem whose prompt is longer than `width`.
  """
  longest = max(range(len(ids)), key=lambda row: len(ids[row]))
  width = len(ids[longest]) if width is None else width
  if len(ids[longest]) > width:
    raise ValueError(
      f"the prompt of problem {problems[longest].id!r} has "
      f"{len(ids[longest])} tokens; expected at most {width}"
    )
  tokens = np.zeros((len(ids), width), np.int32)
  for row, found in enumerate(ids):
    tokens[row, : len(found)] = found
  return tokens, np.array([len(found) for found in ids], np.int32)


class PromptSource(Protocol):
  """Where a recipe's prompts are from: generated, or a file's."""

  def validate(self) -> None:
    """Raises ValueError, naming the field, for what cannot be."""

  def prompt_set(
    self,
    split: str,
    count: int,
    seed: int,
    policy: Any,
    *,
    width: int,
    check_steps: bool,
  ) -> PromptSet:
    """The prompts of a split, with their grader.

    Args:
      split: "train" or "test".
      count: problems.
      seed: of what is drawn.
      policy: has a tokenizer, and `chats` and `chat` as `inference.Bundle` has.
      width: tokens of the longest prompt.
      check_steps: whether a solution is right only if all of its lines are.

    Raises:
      ValueError: if there are no such prompts, or one is too long.
    """


# Not frozen, since flags override the fields of a recipe.
@dataclasses.dataclass(kw_only=True)
class ModularTask:
  """Problems of `tasks.modular` with few primes, so that a small model can.

  Attributes:
    primes: the moduli that occur; each of `modular.PRIMES`.
    shares: how frequent each is, relative to the most frequent, whose share is
      1; () for equally frequent.
    min_steps: operations of the easiest problems.
    max_steps: of the hardest; each number between is as frequent.
  """

  primes: tuple[int, ...] = (11,)
  shares: tuple[float, ...] = ()
  min_steps: int = 2
  max_steps: int = 6

  def validate(self) -> None:
    """Raises ValueError, naming the field, for what cannot be drawn."""
    known = arithmetic.modular.PRIMES
    if not self.primes or not set(self.primes) <= set(known):
      raise ValueError(f"task.primes={self.primes}: expected some of {known}")
    shares = self.shares or (1.0,)
    if len(self.shares) not in (0, len(self.primes)) or not (
      min(shares) > 0 and max(shares) == 1
    ):
      raise ValueError(
        f"task.shares={self.shares}: expected one for each of "
        f"{len(self.primes)} primes, positive, the largest 1; or none"
      )
    low, high = arithmetic.MIN_STEPS, arithmetic.MAX_STEPS
    if not low <= self.min_steps <= self.max_steps <= high:
      raise ValueError(
        f"task.min_steps={self.min_steps} and task.max_steps="
        f"{self.max_steps}: expected {low} <= min <= max <= {high}"
      )

  def stream(
    self, split: str, seed: int, start: int = 0
  ) -> Iterator[problems_lib.Problem]:
    """Endless problems; a pure function of the arguments.

    Args:
      split: "train" or "test".
      seed: which stream.
      start: how many draws of the stream to skip.
    """
    kinds = self.max_steps - self.min_steps + 1
    shares = self.shares or (1.0,) * len(self.primes)
    wanted = dict(zip(self.primes, shares, strict=True))
    for index in itertools.count(start):
      drawn = arithmetic.problem(
        index,
        family=arithmetic.modular.NAME,
        steps=self.min_steps + index % kinds,
        split=split,
        seed=seed,
      )
      chance = random.Random(f"share-{drawn.id}").random()
      if chance < wanted.get(drawn.meta["prime"], 0.0):
        yield drawn

  def problems(
    self, count: int, split: str, seed: int
  ) -> list[problems_lib.Problem]:
    """The first `count` problems of a stream whose texts all differ."""
    found: dict[str, problems_lib.Problem] = {}
    for drawn in self.stream(split, seed):
      found.setdefault(drawn.text, drawn)
      if len(found) == count:
        return list(found.values())
    raise AssertionError("the stream is endless")

  def prompt_set(
    self,
    split: str,
    count: int,
    seed: int,
    policy: Any,
    *,
    width: int,
    check_steps: bool,
  ) -> PromptSet:
    """As `PromptSource` has it."""
    return prompt_set(
      self.problems(count, split, seed),
      policy.tokenizer,
      width=width,
      check_steps=check_steps,
    )
