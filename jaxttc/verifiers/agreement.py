# SPDX-License-Identifier: Apache-2.0
"""How often the grader says what a label says."""

from collections.abc import Mapping, Sequence
import dataclasses
import os
import pathlib
from typing import Any

import numpy as np

from jaxttc.tasks import jsonl
from jaxttc.tasks import problems as problems_lib
from jaxttc.verifiers import answers


@dataclasses.dataclass(frozen=True, kw_only=True)
class Disagreement:
  """A solution on which grader and label differ.

  Attributes:
    solution: the labelled solution.
    answer: the answer extracted from it, or None.
    verdict: the grader's verdict; None if it is undecided.
  """

  solution: jsonl.LabelledSolution
  answer: str | None
  verdict: bool | None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Agreement:
  """Counts of verdicts against labels.

  Attributes:
    total: solutions graded; an undecided one counts as a disagreement.
    confusion: counts by (label, verdict), such as ("right", "wrong"); a
      verdict is right, wrong or undecided.
    no_answer: solutions without a final answer, which are graded wrong.
    timeouts: verdicts undecided for a passed deadline.
    disagreements: every solution on which the two differ.
  """

  total: int
  confusion: dict[tuple[str, str], int]
  no_answer: int
  timeouts: int
  disagreements: tuple[Disagreement, ...]

  @property
  def agreeing(self) -> int:
    """Number of solutions whose verdict is the label."""
    return self.total - len(self.disagreements)


_LABELS = ("right", "wrong")
_VERDICTS = {True: "right", False: "wrong", None: "undecided"}


def measure(
  solutions: Sequence[jsonl.LabelledSolution],
  *,
  timeout_s: float = 5.0,
  processes: int = 1,
) -> Agreement:
  """Extracts and grades the answer of each solution, and compares with labels.

  Args:
    solutions: solutions with reference answers and labels.
    timeout_s: seconds of symbolic comparison for one answer.
    processes: worker processes for symbolic comparisons.

  Returns:
    The counts, and every disagreement in order.

  Raises:
    ValueError: if there are no solutions, or as `answers.grade_batch`.
  """
  if not solutions:
    raise ValueError("agreement.measure: no solutions to grade")
  found = [answers.extract_answer(s.text) for s in solutions]
  report = answers.grade_batch(
    found,
    [s.gold for s in solutions],
    timeout_s=timeout_s,
    processes=processes,
  )
  confusion = {(a, b): 0 for a in _LABELS for b in _VERDICTS.values()}
  for solution, verdict in zip(solutions, report.verdicts, strict=True):
    confusion[_VERDICTS[solution.is_correct], _VERDICTS[verdict]] += 1
  return Agreement(
    total=len(solutions),
    confusion=confusion,
    no_answer=found.count(None),
    timeouts=report.timeouts,
    disagreements=tuple(
      Disagreement(solution=s, answer=answer, verdict=verdict)
      for s, answer, verdict in zip(
        solutions, found, report.verdicts, strict=True
      )
      if verdict is not s.is_correct
    ),
  )


def worked_gsm8k(path: str | os.PathLike[str]) -> list[jsonl.LabelledSolution]:
  """GSM8K's own worked answers, as solutions labelled right.

  Args:
    path: a GSM8K file.

  Returns:
    One solution a row: the raw `answer` field, against the gold answer that
    the loader reads.

  Raises:
    ValueError: as `jsonl.load_gsm8k`.
  """
  raw = jsonl.load_jsonl(path, problem_field="question", answer_field="answer")
  texts = [str(problem.answer) for problem in raw]
  return _labelled_right(jsonl.load_gsm8k(path), texts)


def worked_math500(
  path: str | os.PathLike[str],
) -> list[jsonl.LabelledSolution]:
  """MATH-500's own solutions, as solutions labelled right.

  Args:
    path: a MATH-500 file.

  Returns:
    One solution a row, against the row's answer field.

  Raises:
    ValueError: as `jsonl.load_math500`.
  """
  problems = jsonl.load_math500(path)
  return _labelled_right(
    problems, [str(problem.meta.get("solution", "")) for problem in problems]
  )


def _labelled_right(
  problems: Sequence[problems_lib.Problem], texts: Sequence[str]
) -> list[jsonl.LabelledSolution]:
  return [
    jsonl.LabelledSolution(
      question_id=problem.id,
      system="reference",
      text=text,
      gold=problems_lib.gold(problem),
      is_correct=True,
    )
    for problem, text in zip(problems, texts, strict=True)
  ]


def describe(found: Disagreement) -> str:
  """One line: which solution, what it answered, gold, label and verdict."""
  s = found.solution
  return (
    f"{s.question_id} {s.system}: answer {found.answer!r}, gold {s.gold!r}, "
    f"label {_VERDICTS[s.is_correct]}, verdict {_VERDICTS[found.verdict]}"
  )


def summary(found: Agreement) -> dict[str, Any]:
  """The counts as plain values, for a results file."""
  return {
    "total": found.total,
    "agreeing": found.agreeing,
    "no_answer": found.no_answer,
    "timeouts": found.timeouts,
    "confusion": {
      f"label {label}, verdict {verdict}": count
      for (label, verdict), count in found.confusion.items()
    },
    "disagreements": [describe(d) for d in found.disagreements],
  }


def plot(
  measured: Mapping[str, Agreement], path: str | os.PathLike[str]
) -> None:
  """Draws one confusion table for each check: labels against verdicts.

  Args:
    measured: agreements by the name of the check.
    path: the picture to write; its folder is made if need be.

  Raises:
    ImportError: if matplotlib is not installed.
  """
  try:
    from matplotlib import figure as figure_lib
  except ImportError as error:
    raise ImportError(
      "pictures need matplotlib; install it with: pip install 'jaxttc[plot]'"
    ) from error
  figure = figure_lib.Figure(
    figsize=(3.0 * len(measured), 2.2), layout="constrained"
  )
  axes = figure.subplots(1, len(measured), squeeze=False)[0]
  for axis, (name, found) in zip(axes, measured.items(), strict=True):
    _draw(axis, name, found)
  pathlib.Path(path).parent.mkdir(parents=True, exist_ok=True)
  figure.savefig(path, dpi=150, facecolor="white")


def _draw(axis: Any, name: str, found: Agreement) -> None:
  """A labels-by-verdicts table; shade is the share of the label's row."""
  verdicts = tuple(_VERDICTS.values())
  counts = np.array(
    [[found.confusion[a, b] for b in verdicts] for a in _LABELS]
  )
  shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
  axis.imshow(shares, cmap="Blues", vmin=0.0, vmax=1.4, aspect="auto")
  for (row, column), count in np.ndenumerate(counts):
    axis.text(column, row, f"{count:,}", ha="center", va="center")
  axis.set_xticks(range(len(verdicts)), verdicts)
  axis.set_yticks(range(len(_LABELS)), _LABELS)
  axis.set_xlabel("verdict")
  axis.set_ylabel("label")
  axis.set_title(
    f"{name}: {found.agreeing:,} of {found.total:,}", fontsize=9, loc="left"
  )
  axis.tick_params(length=0)
