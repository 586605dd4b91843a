# SPDX-License-Identifier: Apache-2.0
"""Prompts of a file, whose answers are compared as mathematics.

A source of prompts for reinforcement learning, beside generated ones: GSM8K,
MATH and the like, or rows in the columns that verl uses.
"""

import dataclasses
import pathlib
from typing import Any

from absl import logging
from jaxtyping import Float, Int
import numpy as np

from jaxttc.tasks import jsonl, prompt_sets, row_files, verl_rows
from jaxttc.tasks import problems as problems_lib
from jaxttc.training import tuning_rows
from jaxttc.verifiers import answers


@dataclasses.dataclass(frozen=True, eq=False)
class AnsweredPrompts(prompt_sets.PromptSet):
  """Prompts whose solutions are judged by their final answers.

  Attributes:
    timeout_s: seconds of symbolic comparison that a pair of answers may take.
  """

  timeout_s: float = 2.0

  def grade(
    self, which: Int[np.ndarray, " b"], tokens: Int[np.ndarray, "b s"]
  ) -> Float[np.ndarray, " b"]:
    """1 for the rows whose answer is the reference's, 0 for others.

    NaN where the grader could not tell: such a row teaches nothing.

    Args:
      which: the problem of each row; P or more for rows of padding, which get
        0.
      tokens: what was written, -1 beyond the end.
    """
    rows = self.texts(which, tokens)
    report = answers.grade_batch(
      [None if p is None else self.answer(text) for p, text in rows],
      ["" if p is None else problems_lib.gold(p) for p, _ in rows],
      timeout_s=self.timeout_s,
    )
    told = [np.nan if v is None else float(v) for v in report.verdicts]
    return np.array(told, np.float32)

  def answer(self, text: str) -> str | None:
    """The final answer of a text: a box, "#### x" or "the answer is x"."""
    return answers.extract_answer(text)


@dataclasses.dataclass(kw_only=True)
class PromptFile:
  """Problems of files. Mutable, for flags to override.

  Attributes:
    path: problems to train on: GSM8K, MATH, MATH-500 or AIME as `tasks.jsonl`
      reads them, or verl's columns (`tasks.verl_rows`); JSON lines or Parquet.
    held_out: another file, of problems to evaluate on.
    instruction: text put before each problem; "" for none.
    skip_bad: leave out rows that are not valid, and say how many.
    skip_long: leave out problems whose prompt does not fit, and say how many.
    timeout_s: seconds of symbolic comparison that an answer may take.
  """

  path: str
  held_out: str
  instruction: str = ""
  skip_bad: bool = False
  skip_long: bool = False
  timeout_s: float = 2.0

  def validate(self) -> None:
    """Raises ValueError, naming the field, for what cannot be."""
    for name in ("path", "held_out"):
      if not getattr(self, name):
        raise ValueError(f"task.{name}: expected a file of problems")
    if not self.timeout_s > 0:
      raise ValueError(f"task.timeout_s must be positive, got {self.timeout_s}")

  def prompt_set(
    self,
    split: str,
    count: int,
    seed: int,
    policy: Any,
    *,
    width: int,
    check_steps: bool,
  ) -> AnsweredPrompts:
    """The first `count` problems of a file; see `PromptSource`.

    Raises:
      ValueError: naming file and row, if one cannot be used; if the file has
        too few, a prompt is too long, or steps are to be checked.
    """
    del seed  # nothing is drawn
    if check_steps:
      raise ValueError("check_steps=True: the steps of a file have no checker")
    path = self.path if split == "train" else self.held_out
    found = [
      (problem, self._ids(problem, policy)) for problem in self._read(path)
    ]
    if self.skip_long:
      kept = [(p, ids) for p, ids in found if len(ids) <= width]
      if len(kept) < len(found):
        logging.warning(
          "%s: left out %d of %d problems, whose prompts have more than %d "
          "tokens",
          path,
          len(found) - len(kept),
          len(found),
          width,
        )
      found = kept
    if len(found) < count:
      field = "problems" if split == "train" else "held_out"
      raise ValueError(
        f"{path}: {len(found)} problems{' that fit' * self.skip_long}, "
        f"expected at least {field}={count}"
      )
    problems, ids = zip(*found[:count], strict=True)
    tokens, length = prompt_sets.lay(problems, ids, width)
    return AnsweredPrompts(
      problems,
      policy.tokenizer,
      tokens,
      length,
      timeout_s=self.timeout_s,
    )

  def _read(self, path: str) -> list[problems_lib.Problem]:
    loaded = read(path, skip=self.skip_bad)
    if loaded.skipped:
      logging.warning(
        "%s: left out %d rows; the first: %s",
        path,
        loaded.skipped,
        loaded.first_skipped,
      )
    return loaded

  def _ids(self, problem, policy) -> list[int]:
    asked = problem.meta.get("messages")
    if asked is None:
      asked = "\n\n".join(filter(None, (self.instruction, problem.text)))
    elif self.instruction:
      asked = ({"role": "system", "content": self.instruction}, *asked)
    text = tuning_rows.prompt_text(asked, policy.chat if policy.chats else None)
    return policy.tokenizer.encode_prompt(text)


def read(
  path: row_files.Path, *, skip: bool = False
) -> row_files.Loaded[problems_lib.Problem]:
  """Problems with answers; the first row that can be read tells the layout.

  Args:
    path: JSON lines or Parquet, of verl's columns or as `tasks.jsonl.load`
      reads them; or a folder of MATH's.
    skip: leave out, and count, rows that cannot be used.

  Raises:
    ValueError: naming file and row, if the layout is unknown or a row cannot be
      used.
  """
  if pathlib.Path(path).is_dir():
    return jsonl.load(path, skip=skip)
  of_verl = row_files.layout(
    path,
    lambda row: row_files.get(row, "reward_model") is not None,
    "no problem",
    skip=skip,
  )
  if not of_verl:
    return jsonl.load(path, skip=skip)
  return verl_rows.load(path, skip=skip).then(lambda row: row.problem())
