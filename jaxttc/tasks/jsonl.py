# SPDX-License-Identifier: Apache-2.0
"""Readers of question files: JSON lines, one question a line, UTF-8.

`load` recognises a file by the fields of its rows: GSM8K (question, answer
with a final "#### x"), MATH-500 (problem, solution, answer, unique_id), and
the AIME / AMC variants (problem or question, answer; any case of letters; the
answer a string or a number). Files that end in ".gz" are unpacked on the way.
What cannot be used is refused, as one line that names the file, the line and
the fields that were found; nothing is skipped silently.
"""

from collections.abc import Iterator, Mapping, Sequence
import dataclasses
import difflib
import gzip
import json
import os
import pathlib
import re
from typing import Any

from jaxttc.tasks.problems import Problem

_Path = str | os.PathLike[str]
_Row = Mapping[str, Any]

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


def rows(path: _Path) -> Iterator[tuple[int, _Row]]:
  """Yields (line number from 1, row); blank lines are passed over.

  Raises:
    ValueError: naming the file and the line, if the file is missing, holds no
      rows, or a line is no JSON object in UTF-8.
  """
  path = pathlib.Path(path)
  if not path.is_file():
    raise ValueError(f"{path}: no such file")
  opener = gzip.open if path.suffix == ".gz" else open
  found = False
  with opener(path, "rb") as file:
    try:
      for number, line in enumerate(file, start=1):
        if line.strip(b"\xef\xbb\xbf \t\r\n"):  # a byte order mark is no text
          found = True
          yield number, _row(line, f"{path}, line {number}")
    except (OSError, EOFError) as error:
      raise ValueError(f"{path}: cannot be read: {error}") from error
  if not found:
    raise ValueError(f"{path}: no rows")


def _row(line: bytes, where: str) -> _Row:
  try:
    row = json.loads(line.decode("utf-8-sig"))
  except UnicodeDecodeError as error:
    raise ValueError(f"{where}: not UTF-8 (byte {error.start})") from error
  except ValueError as error:
    raise ValueError(f"{where}: not valid JSON: {error}") from error
  if not isinstance(row, dict):
    raise ValueError(
      f"{where}: expected a JSON object, got {type(row).__name__}"
    )
  return row


def _get(row: _Row, field: str) -> Any:
  """The value of a field, any case of letters; None if it is absent."""
  if field in row:
    return row[field]
  folded = field.casefold()
  return next((v for k, v in row.items() if k.casefold() == folded), None)


def _missing(where: str, row: _Row, what: str, field: str) -> ValueError:
  names = [str(name) for name in row]
  near = difflib.get_close_matches(field, names, n=1)
  hint = f" (did you mean {near[0]!r}?)" if near and near[0] != field else ""
  return ValueError(
    f"{where}: no {what} in field {field!r}{hint}; fields found: "
    f"{', '.join(names) or 'none'}"
  )


def _text(value: Any) -> str | None:
  """A JSON value as answer text; None if it holds none."""
  if isinstance(value, bool) or value is None:
    return None
  if isinstance(value, float) and value.is_integer():
    return str(int(value))
  if isinstance(value, str | int | float):
    return str(value).strip() or None
  return None


def _required_text(row: _Row, field: str, what: str, where: str) -> str:
  value = _get(row, field)
  if not isinstance(value, str) or not value.strip():
    raise _missing(where, row, what, field)
  return value.strip()


class _Ids:
  """Refuses an id that an earlier line of the file has."""

  def __init__(self) -> None:
    self._lines: dict[str, int] = {}

  def add(self, name: str, number: int, where: str) -> str:
    if name in self._lines:
      raise ValueError(
        f"{where}: id {name!r} is that of line {self._lines[name]}"
      )
    self._lines[name] = number
    return name


def _stem(path: _Path) -> str:
  return pathlib.Path(path).name.split(".")[0]


def load_jsonl(
  path: _Path,
  *,
  problem_field: str,
  answer_field: str,
  id_field: str | None = None,
  family: str = "",
  require_answer: bool = True,
) -> list[Problem]:
  """Reads problems from named fields; field names match in any case.

  Args:
    path: the file, ".gz" or plain.
    problem_field: field of the question, a string.
    answer_field: field of the gold answer, a string or a number (27.0 is
      read as "27").
    id_field: field of the id; None numbers problems "<file stem>-<line>".
    family: put into each problem.
    require_answer: refuse rows without a gold answer; else it is None.

  Returns:
    Problems in file order; `meta` holds the fields not used otherwise.

  Raises:
    ValueError: if the file is missing, not UTF-8 or empty, or a line is not
      JSON, lacks question or gold, or repeats an id.
  """
  used = {f.casefold() for f in (problem_field, answer_field, id_field) if f}
  ids, problems = _Ids(), []
  for number, row in rows(path):
    where = f"{path}, line {number}"
    text = _required_text(row, problem_field, "problem", where)
    answer = _text(_get(row, answer_field))
    if answer is None and require_answer:
      raise _missing(where, row, "gold answer", answer_field)
    name = _text(_get(row, id_field)) if id_field else f"{_stem(path)}-{number}"
    if name is None:
      raise _missing(where, row, "id", str(id_field))
    meta = {k: v for k, v in row.items() if k.casefold() not in used}
    problems.append(
      Problem(
        id=ids.add(name, number, where),
        text=text,
        answer=answer,
        family=family,
        meta=meta,
      )
    )
  return problems


def load_gsm8k(path: _Path, *, require_answer: bool = True) -> list[Problem]:
  """Reads GSM8K: the gold answer follows the last "####" of `answer`.

  Commas inside the gold number are dropped. `meta` holds "solution", without
  the answer line and the calculator marks <<a=b>>, and "calculations", the
  content of the marks in order. `steps` counts the solution's lines.

  Args:
    path: the file, ".gz" or plain.
    require_answer: refuse rows without a gold answer; else it is None.

  Returns:
    Problems in file order, of family "gsm8k", with ids "<file stem>-<line>".

  Raises:
    ValueError: as `load_jsonl`.
  """
  problems = []
  for number, row in rows(path):
    where = f"{path}, line {number}"
    text = _required_text(row, "question", "problem", where)
    worked = _get(row, "answer")
    worked = worked if isinstance(worked, str) else ""
    golds = list(_GOLD_LINE.finditer(worked))
    if not golds and require_answer:
      raise _missing(where, row, "gold answer after '####'", "answer")
    body = worked[: golds[-1].start()] if golds else worked
    solution = _CALCULATION.sub("", body).strip()
    problems.append(
      Problem(
        id=f"{_stem(path)}-{number}",
        text=text,
        answer=_without_commas(golds[-1][1]) if golds else None,
        family="gsm8k",
        steps=sum(bool(line.strip()) for line in solution.splitlines()),
        meta={
          "solution": solution,
          "calculations": tuple(_CALCULATION.findall(body)),
        },
      )
    )
  return problems


def _without_commas(number: str) -> str:
  return re.sub(r"(?<=\d),(?=\d{3}(?!\d))", "", number)


def load_math500(path: _Path, *, require_answer: bool = True) -> list[Problem]:
  """Reads MATH-500: problem, answer (LaTeX), unique_id.

  Args:
    path: the file, ".gz" or plain.
    require_answer: refuse rows without a gold answer; else it is None.

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
  )


def load(path: _Path, *, require_answer: bool = True) -> list[Problem]:
  """Reads a file whose layout is told by the fields of its first row.

  Args:
    path: the file, ".gz" or plain.
    require_answer: refuse rows without a gold answer; else it is None.

  Returns:
    Problems in file order.

  Raises:
    ValueError: as `load_jsonl`, or if the layout is not known.
  """
  number, row = next(rows(path))
  fields = {str(name).casefold() for name in row}
  answer = _get(row, "answer")
  if "question" in fields and isinstance(answer, str) and "####" in answer:
    return load_gsm8k(path, require_answer=require_answer)
  if {"problem", "answer", "unique_id"} <= fields:
    return load_math500(path, require_answer=require_answer)
  problem_field = _first(_PROBLEM_FIELDS, fields)
  if problem_field is None or (require_answer and "answer" not in fields):
    raise ValueError(
      f"{path}, line {number}: unknown layout, expected problem or question, "
      f"and answer; fields found: {', '.join(map(str, row)) or 'none'}"
    )
  return load_jsonl(
    path,
    problem_field=problem_field,
    answer_field="answer",
    id_field=_first(_ID_FIELDS, fields),
    require_answer=require_answer,
  )


def _first(names: Sequence[str], fields: set[str]) -> str | None:
  return next((name for name in names if name in fields), None)


def load_labelled_solutions(path: _Path) -> list[LabelledSolution]:
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
  solutions = []
  for number, row in rows(path):
    where = f"{path}, line {number}"
    _required_text(row, "question", "question", where)
    truth = _required_text(row, "ground_truth", "reference", where)
    golds = _LABELLED_GOLD.findall(truth)
    if not golds:
      raise _missing(where, row, "reference answer 'A: x'", "ground_truth")
    graded = {k: v for k, v in row.items() if _is_graded(v)}
    if not graded:
      raise _missing(where, row, "graded solution", "<system>")
    solutions += [
      LabelledSolution(
        question_id=f"{_stem(path)}-{number}",
        system=system,
        text=entry["solution"],
        gold=_without_commas(golds[-1]),
        is_correct=entry["is_correct"],
      )
      for system, entry in graded.items()
    ]
  return solutions


def _is_graded(value: Any) -> bool:
  return (
    isinstance(value, dict)
    and isinstance(value.get("solution"), str)
    and isinstance(value.get("is_correct"), bool)
  )
