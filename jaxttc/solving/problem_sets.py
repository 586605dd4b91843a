# SPDX-License-Identifier: Apache-2.0
"""The problems of an experiment: where they come from, and who is right.

Problems are generated, or read from a JSON-lines file. Generated ones are
graded by their family, since some have many right answers; those of a file by
comparing final answers as mathematics.
"""

import dataclasses
import pathlib
import random
from typing import Any

from jaxttc.tasks import (
  arithmetic,
  digit_chains,
  digit_sums,
  jsonl,
  pretrained_tokenizer,
)
from jaxttc.tasks import problems as problems_lib
from jaxttc.verifiers import answers

# Families that have no held-out questions: how one is drawn, and the
# difficulties that the model that ships for it was trained on.
_DRAWN = {
  digit_sums.NAME: (digit_sums.generate, (2, 3, 4)),
  digit_chains.NAME: (digit_chains.generate, (3, 4, 5)),
}
_MARKED = (*arithmetic.FAMILIES, *_DRAWN)  # whose answers stand behind a mark


@dataclasses.dataclass(kw_only=True)
class ProblemSource:
  """Which problems, and how they are asked. Mutable, for flags to override.

  Attributes:
    path: a JSON-lines file (see `tasks.jsonl.load`); "" generates problems.
    family: of generated problems; "" draws from all of `arithmetic`. The
      families "digit_sums", for models that think, and "digit_chains", for
      those of two speeds, have no held-out questions. Several, with commas
      between, are drawn in turn.
    steps: difficulties of generated problems, taken in turn; () draws from
      all.
    split: of generated problems, "train" or "test".
    seed: of generated problems.
    start: number of problems passed over.
    count: number of problems; 0 takes all of a file.
    style: what the prompt asks for, one of `tasks.problems.STYLES`.
    instruction: text put before each problem; "" for none.
    chat: folder of the tokenizer (a model's folder will do) whose chat template
      the prompt is made with; "" for a plain prompt.
  """

  path: str = ""
  family: str = ""
  steps: tuple[int, ...] = ()
  split: str = "test"
  seed: int = 0
  start: int = 0
  count: int = 50
  style: str = "free"
  instruction: str = ""
  chat: str = ""

  def load(self) -> list[problems_lib.Problem]:
    """The problems, in order.

    Raises:
      ValueError: naming what cannot be: an unknown family, split or style (and
        the nearest that is known), a bad line of the file (by its number), or
        a choice that leaves no problem.
    """
    problems_lib.require_name(self.style, problems_lib.STYLES, "style")
    problems_lib.require_name(self.split, arithmetic.SPLITS, "split")
    if self.start < 0 or self.count < 0:
      raise ValueError(
        f"problems: start={self.start} and count={self.count} must be >= 0"
      )
    found = self._read() if self.path else self._generate()
    if not found:
      raise ValueError(
        f"problems: none are left of {self.path or 'the generator'} with "
        f"start={self.start} and count={self.count}"
      )
    return found

  def _read(self) -> list[problems_lib.Problem]:
    rows = jsonl.load(self.path, require_answer=False)[self.start :]
    return rows[: self.count] if self.count else rows

  def _generate(self) -> list[problems_lib.Problem]:
    families = [name.strip() for name in self.family.split(",")]
    return [
      # Every family has every difficulty.
      self._drawn(
        families[index % len(families)], index, index // len(families)
      )
      for index in range(self.start, self.start + self.count)
    ]

  def _drawn(self, family: str, index: int, turn: int) -> problems_lib.Problem:
    steps = self.steps
    if family not in _DRAWN:
      return arithmetic.problem(
        index,
        family=family or None,
        steps=steps[turn % len(steps)] if steps else None,
        split=self.split,
        seed=self.seed,
      )
    generate, known = _DRAWN[family]
    steps = steps or known
    size = steps[turn % len(steps)]
    name = f"{self.split}-{self.seed}-{family}-{size}-{index}"
    drawn = generate(random.Random(f"problem-{name}"), size)
    return dataclasses.replace(drawn, id=name)

  def prompts(self, problems: list[problems_lib.Problem]) -> list[str]:
    """What the policy is given for each problem.

    Raises:
      ValueError: if `chat` is no folder with a tokenizer and a chat template.
    """
    asked = [
      "\n\n".join(filter(None, (self.instruction, text)))
      for text in (problems_lib.prompt(p, self.style) for p in problems)
    ]
    if not self.chat:
      return asked
    return chats(
      pretrained_tokenizer.PretrainedTokenizer.from_directory(
        pathlib.Path(self.chat)
      ),
      asked,
    )


def chats(
  tokenizer: pretrained_tokenizer.PretrainedTokenizer, asked: list[str]
) -> list[str]:
  """Prompts in which a user asks each of some texts.

  Raises:
    ValueError: if there is no chat template, or it refuses.
  """
  return [
    tokenizer.chat([{"role": "user", "content": text.rstrip("\n")}])
    for text in asked
  ]


def answer_of(
  problem: problems_lib.Problem, completion: str | None
) -> str | None:
  """The final answer of a solution as written; None if there is none."""
  if completion is None:
    return None
  if problem.family in _MARKED:
    return problems_lib.find_answer(completion)
  return answers.extract_answer(completion)


def is_right(
  problem: problems_lib.Problem, completion: str | None
) -> bool | None:
  """Whether a solution's final answer is right.

  Args:
    problem: the problem.
    completion: the solution; None, for no solution, is wrong.

  Returns:
    True or False; None if the problem has no reference answer, or the grader
    cannot tell.
  """
  if problem.answer is None:
    return None
  if completion is None:
    return False
  if problem.family in arithmetic.FAMILIES:
    return arithmetic.is_correct(problem, completion)
  if problem.family == digit_sums.NAME:
    return digit_sums.is_correct(problem, completion)
  answer = answer_of(problem, completion)
  return answer is not None and answers.equivalent(answer, problem.answer)


def step_labels(
  problem: problems_lib.Problem, record: Any
) -> list[tuple[int, bool]]:
  """Which prefixes of a search tree are right, by the problem's family.

  Args:
    problem: a generated problem.
    record: the `runtime.search.TreeRecord` of a search for its answer.

  Returns:
    (node, whether every line up to the node's end is right), for all nodes
    but the root.
  """
  found = []
  for node in range(1, len(record.parent)):
    flags = arithmetic.check_steps(problem, record.completion(node))
    found.append((node, bool(flags) and all(flags)))
  return found
