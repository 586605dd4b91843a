# SPDX-License-Identifier: Apache-2.0
"""Readers of question files: one question a row, of JSON lines or Parquet.

`load` recognises a file by the fields of its rows: GSM8K (question, answer
with a final "#### x"), MATH-500 (problem, solution, answer, unique_id), MATH
(problem, level, type, solution; also as folders, see `math_rows`), and the
AIME / AMC variants (problem or question, answer; any case of letters; the
answer a string or a number). Files that end in ".gz" are unpacked on the way.
What cannot be used is refused, as one line that names the file, the line and
the fields that were found; or, if asked, left out and counted (`row_files`).
"""

from collections.abc import Sequence
import dataclasses
import functools
import pathlib
import re
from typing import Any

from jaxttc.tasks import math_rows, row_files
from jaxttc.tasks.problems import Problem

_CALCULATION = re.compile(r"<<([^<>]*)>>")
_GOLD_LINE = re.compile(r"(?m)^\s*####[^\S\n]*(\S.*?)\s*$")
_LABELLED_GOLD = re.compile(r"(?m)^A:[^\S\n]*(\S.*?)\s*$")
_PROBLEM_FIELDS = ("problem", "question")
_ID_FIELDS = ("unique_id", "id")


@dataclasses.dataclass(frozen=True, kw_only=True)
class LabelledSolution:
  """A solution that somebody graded: what a grader is checked against.

  Attributes:
    question_id: "<file stem>-<line>" of the question.
    system: name of the system that wrote the solution.
    text: the whole solution.
    gold: the question's reference answer.
    is_correct: the label.
  """

  question_id: str
  system: str
  text: str
  gold: str
  is_correct: bool


def load_jsonl(
  path: row_files.Path,
  *,
  problem_field: str,
  answer_field: str,
  id_field: str | None = None,
  family: str = "",
  require_answer: bool = True,
  skip: bool = False,
) -> row_files.Loaded[Problem]:
  """Reads problems from named fields; field names match in any case.

  Args:
    path: the file, ".gz" or plain; or of Parquet.
    problem_field: field of the question, a string.
    answer_field: field of the gold answer, a string or a number (27.0 is
      read as "27").
    id_field: field of the id; None numbers problems "<file stem>-<line>".
    family: put into each problem.
    require_answer: refuse rows without a gold answer; else it is None.
    skip: leave out, and count, rows that cannot be used.

  Returns:
    Problems in file order; `meta` holds the fields not used otherwise.

  Raises:
    ValueError: if the file is missing, not UTF-8 or empty, or a line is not
      JSON, lacks question or gold, or repeats an id.
  """
  used = {f.casefold() for f in (problem_field, answer_field, id_field) if f}
  ids = row_files.Ids()

  def read(number: int, row: row_files.Row) -> Problem:
    text = row_files.required_text(row, problem_field, "problem")
    answer = row_files.text(row_files.get(row, answer_field))
    if answer is None and require_answer:
      raise row_files.missing(row, "gold answer", answer_field)
    name: str | None = f"{row_files.stem(path)}-{number}"
    if id_field:
      name = row_files.text(row_files.get(row, id_field))
    if name is None:
      raise row_files.missing(row, "id", str(id_field))
    meta = {k: v for k, v in row.items() if k.casefold() not in used}
    return Problem(
      id=ids.add(name, number),
      text=text,
      answer=answer,
      family=family,
      meta=meta,
    )

  return row_files.load(path, read, skip=skip)


def load_gsm8k(
  path: row_files.Path, *, require_answer: bool = True, skip: bool = False
) -> row_files.Loaded[Problem]:
  """Reads GSM8K: the gold answer follows the last "####" of `answer`.

  Commas inside the gold number are dropped. `meta` holds "solution", without
  the answer line and the calculator marks <<a=b>>, and "calculations", the
  content of the marks in order. `steps` counts the solution's lines.

  Args:
    path: the file, ".gz" or plain.
    require_answer: refuse rows without a gold answer; else it is None.
    skip: leave out, and count, rows that cannot be used.

  Returns:
    Problems in file order, of family "gsm8k", with ids "<file stem>-<line>".

  Raises:
    ValueError: as `load_jsonl`.
  """

  def read(number: int, row: row_files.Row) -> Problem:
    text = row_files.required_text(row, "question", "problem")
    worked = row_files.get(row, "answer")
    worked = worked if isinstance(worked, str) else ""
    golds = list(_GOLD_LINE.finditer(worked))
    if not golds and require_answer:
      raise row_files.missing(row, "gold answer after '####'", "answer")
    body = worked[: golds[-1].start()] if golds else worked
    solution = _CALCULATION.sub("", body).strip()
    return Problem(
      id=f"{row_files.stem(path)}-{number}",
      text=text,
      answer=_without_commas(golds[-1][1]) if golds else None,
      family="gsm8k",
      steps=sum(bool(line.strip()) for line in solution.splitlines()),
      meta={
        "solution": solution,
        "calculations": tuple(_CALCULATION.findall(body)),
      },
    )

  return row_files.load(path, read, skip=skip)


def _without_commas(number: str) -> str:
  return re.sub(r"(?<=\d),(?=\d{3}(?!\d))", "", number)


def load_math500(
  path: row_files.Path, *, require_answer: bool = True, skip: bool = False
) -> row_files.Loaded[Problem]:
  """Reads MATH-500: problem, answer (LaTeX), unique_id.

  Args:
    path: the file, ".gz" or plain.
    require_answer: refuse rows without a gold answer; else it is None.
    skip: leave out, and count, rows that cannot be used.

  Returns:
    Problems in file order, of family "math500"; `meta` holds solution,
    subject and level (1 to 5) as the file has them.

  Raises:
    ValueError: as `load_jsonl`.
  """
  return load_jsonl(
    path,
    problem_field="problem",
    answer_field="answer",
    id_field="unique_id",
    family="math500",
    require_answer=require_answer,
    skip=skip,
  )


def load(
  path: row_files.Path, *, require_answer: bool = True, skip: bool = False
) -> row_files.Loaded[Problem]:
  """Reads a file whose layout is told by the fields of its first row.

  Args:
    path: the file, ".gz" or plain; or a folder of MATH's.
    require_answer: refuse rows without a gold answer; else it is None.
    skip: leave out, and count, rows that cannot be used; the first that is of
      a known layout tells it.

  Returns:
    Problems in file order.

  Raises:
    ValueError: as `load_jsonl`, or if the layout is not known.
  """
  if pathlib.Path(path).is_dir():
    return math_rows.load(path, require_answer=require_answer, skip=skip)
  read = row_files.layout(
    path,
    lambda row: _reader(row, require_answer),
    "unknown layout, expected problem or question, and answer",
    skip=skip,
  )
  if read is not load_gsm8k and _has_worked(path):
    read = load_gsm8k  # and the first row is not as the others are
  return read(path, require_answer=require_answer, skip=skip)


def _has_worked(path: row_files.Path) -> bool:
  """Whether some row has GSM8K's fields, with a gold line."""
  try:
    return row_files.layout(
      path, lambda r: _is_worked(r) or None, "", skip=True
    )
  except ValueError:
    return False


def _is_worked(row: row_files.Row) -> bool:
  answer = row_files.get(row, "answer")
  asked = row_files.get(row, "question")
  return asked is not None and isinstance(answer, str) and "####" in answer


def _reader(row: row_files.Row, require_answer: bool) -> Any:
  """What reads rows like this one; None if nothing does."""
  fields = {str(name).casefold() for name in row}
  if _is_worked(row):
    return load_gsm8k
  if {"problem", "answer", "unique_id"} <= fields:
    return load_math500
  if "answer" not in fields and math_rows.is_layout(row):
    return math_rows.load
  problem_field = _first(_PROBLEM_FIELDS, fields)
  if problem_field is None or (require_answer and "answer" not in fields):
    return None
  return functools.partial(
    load_jsonl,
    problem_field=problem_field,
    answer_field="answer",
    id_field=_first(_ID_FIELDS, fields),
  )


def _first(names: Sequence[str], fields: set[str]) -> str | None:
  return next((name for name in names if name in fields), None)


def load_labelled_solutions(path: row_files.Path) -> list[LabelledSolution]:
  """Reads graded solutions, as published with GSM8K.

  Rows hold question, ground_truth (its last line "A: x") and, under the name
  of each system, {"solution": text, "is_correct": bool}.

  Args:
    path: the file, ".gz" or plain.

  Returns:
    One entry for each question and system, in file order.

  Raises:
    ValueError: if the file or a line cannot be read, or a row lacks question,
      reference answer or any graded solution.
  """

  def read(number: int, row: row_files.Row) -> list[LabelledSolution]:
    row_files.required_text(row, "question", "question")
    truth = row_files.required_text(row, "ground_truth", "reference")
    golds = _LABELLED_GOLD.findall(truth)
    if not golds:
      raise row_files.missing(row, "reference answer 'A: x'", "ground_truth")
    graded = {k: v for k, v in row.items() if _is_graded(v)}
    if not graded:
      raise row_files.missing(row, "graded solution", "<system>")
    return [
      LabelledSolution(
        question_id=f"{row_files.stem(path)}-{number}",
        system=system,
        text=entry["solution"],
        gold=_without_commas(golds[-1]),
        is_correct=entry["is_correct"],
      )
      for system, entry in graded.items()
    ]

  return [one for many in row_files.load(path, read) for one in many]


def _is_graded(value: Any) -> bool:
  return (
    isinstance(value, dict)
    and isinstance(value.get("solution"), str)
    and isinstance(value.get("is_correct"), bool)
  )
