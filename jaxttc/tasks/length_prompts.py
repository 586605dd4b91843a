# SPDX-License-Identifier: Apache-2.0
"""Sums of digits that ask for a response of so many tokens.

A source of prompts for reinforcement learning: each problem has a target of
its own, drawn with it, which its prompt names (`digit_sums.asked`). Training
and use ask in the same words.
"""

from collections.abc import Sequence
import dataclasses
import random
from typing import Any

import numpy as np

from jaxttc.tasks import arithmetic, digit_sums, prompt_sets
from jaxttc.tasks import problems as problems_lib


@dataclasses.dataclass(frozen=True, eq=False)
class ThoughtPrompts(prompt_sets.PromptSet):
  """Prompts that open a thinking span, behind which the answer stands."""

  def texts(
    self, which: np.ndarray, tokens: np.ndarray
  ) -> list[tuple[problems_lib.Problem | None, str]]:
    """As `PromptSet` has it, with the span's end written out."""
    return [
      (
        self.problems[problem],
        self.tokenizer.decode(written[written >= 0], specials=True),
      )
      if problem < len(self.problems)
      else (None, "")
      for problem, written in zip(which, tokens, strict=True)
    ]

  def answer(self, text: str) -> str | None:
    """The answer behind the span; None if there is none."""
    return problems_lib.find_answer(text.rpartition(digit_sums.END_THINK)[2])

  def _solves(self, problem: problems_lib.Problem, text: str) -> bool:
    return digit_sums.is_correct(problem, text)


# Not frozen, since flags override the fields of a recipe.
@dataclasses.dataclass(kw_only=True)
class TargetedSums:
  """Sums of digits, each with a target; a `prompt_sets.PromptSource`.

  Attributes:
    least_digits: of a question.
    most_digits: of a question.
    targets: fewest and most tokens of a response, N, each as frequent. Those
      that no response can have are asked for all the same.
    unseen: targets that are never drawn, kept for a test of others.
  """

  least_digits: int = 3
  most_digits: int = 4
  targets: tuple[int, int] = (16, 36)
  unseen: tuple[int, ...] = ()

  def validate(self) -> None:
    """Raises ValueError, naming the field, for what cannot be drawn."""
    if not 2 <= self.least_digits <= self.most_digits:
      raise ValueError(
        f"task: least_digits {self.least_digits} and most_digits "
        f"{self.most_digits}; expected 2 <= least_digits <= most_digits"
      )
    digit_sums.check_targets("task.targets", self.targets)
    if not self.drawn:
      raise ValueError(f"task.unseen={self.unseen} leaves no target to draw")

  @property
  def drawn(self) -> list[int]:
    """The targets that are drawn, rising."""
    least, most = self.targets
    return [n for n in range(least, most + 1) if n not in self.unseen]

  def problems(
    self,
    count: int,
    split: str,
    seed: int,
    targets: Sequence[int] | None = None,
  ) -> list[problems_lib.Problem]:
    """The first problems of a stream, whose prompts all differ.

    Args:
      count: how many.
      split: "train" or "test": of questions, whatever their targets.
      seed: of the stream.
      targets: to draw from; `drawn` if None.

    Raises:
      ValueError: if there are too few different prompts.
    """
    problems_lib.require_name(split, arithmetic.SPLITS, "split")
    targets = self.drawn if targets is None else list(targets)
    rng = random.Random(f"targeted-sums-{split}-{seed}")
    found: dict[str, problems_lib.Problem] = {}
    for _ in range(100 * count + 1000):
      steps = rng.randint(self.least_digits, self.most_digits)
      drawn, target = digit_sums.generate(rng, steps), rng.choice(targets)
      if arithmetic.split_of(drawn.text) == split:
        asked = digit_sums.asked(drawn, target)
        found.setdefault(asked.text, asked)
      if len(found) == count:
        return list(found.values())
    raise ValueError(
      f"targeted sums: {len(found)} different prompts of {self.least_digits} "
      f"to {self.most_digits} digits were found, expected {count}"
    )

  def prompt_set(
    self,
    split: str,
    count: int,
    seed: int,
    policy: Any,
    *,
    width: int,
    check_steps: bool,
  ) -> ThoughtPrompts:
    """As `PromptSource` has it.

    Raises:
      ValueError: if a prompt is too long, there are too few, or steps are to be
        checked: right lines come in too many ways to be all that counts.
    """
    if check_steps:
      raise ValueError("check_steps=True: of these problems answers decide")
    return prompts(self.problems(count, split, seed), policy, width)


def prompts(
  problems: Sequence[problems_lib.Problem],
  policy: Any,
  width: int | None = None,
) -> ThoughtPrompts:
  """Problems of `digit_sums.asked` as prompts.

  Args:
    problems: at least one.
    policy: has a tokenizer.
    width: tokens of the longest prompt; that of these if None.

  Raises:
    ValueError: if a problem names no target, or a prompt is too long.
  """
  tokenizer = policy.tokenizer
  aims = [problems_lib.require_meta(p, "target")[0] for p in problems]
  ids = [
    [tokenizer.bos_id, *tokenizer.encode(digit_sums.prompt(p), specials=True)]
    for p in problems
  ]
  tokens, length = prompt_sets.lay(problems, ids, width)
  return ThoughtPrompts(
    tuple(problems),
    tokenizer,
    tokens,
    length,
    target=np.array(aims, np.int32),
  )
