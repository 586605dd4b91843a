# SPDX-License-Identifier: Apache-2.0
r"""Reader of the MATH data set (Hendrycks et al. 2021, arXiv:2103.03874).

As it is unpacked, a split is a folder of subjects, "MATH/train/algebra/7.json",
with a problem a file; others hand it on as JSON lines or Parquet. Either way a
row has `problem`, `level` ("Level 1" to "Level 5"), `type` (the subject) and a
worked `solution`, whose last \boxed{...} is the answer. Rows that name the
subject `subject`, have the level as a number or the answer in a field of its
own, as MATH-500 does, are read alike.
"""

from collections.abc import Mapping
import pathlib
import re
from typing import Any

from jaxttc.tasks import boxed_answers, row_files
from jaxttc.tasks.problems import Problem

FAMILY = "math"
_LEVEL = re.compile(r"(?:Level )?([1-5?])")
_SPLITS = ("train", "test")


def load(
  path: row_files.Path, *, require_answer: bool = True, skip: bool = False
) -> row_files.Loaded[Problem]:
  """Reads a folder of subjects, one subject, or a file of rows.

  Args:
    path: a folder, whose ".json" files and those of the folders in it hold a
      problem each; or a file of JSON lines, ".gz" or plain, or of Parquet.
    require_answer: refuse rows whose solution boxes no answer; else it is None.
    skip: leave out, and count, rows that cannot be used.

  Returns:
    Problems of family "math", subject by subject and number by number, or in
    file order; `meta` holds solution, subject and level, 1 to 5, or None where
    the data set has "Level ?". Ids are "train/algebra/7.json", or "<file
    stem>-<line>".

  Raises:
    ValueError: naming the file, and the line if it has many, if a row lacks
      problem, level, type, solution or an answer, or a file is no JSON object;
      if the folder holds no problem, or both splits.
  """
  folder = pathlib.Path(path)
  if not folder.is_dir():
    stem = row_files.stem(path)
    return row_files.load(
      path,
      lambda number, row: _problem(f"{stem}-{number}", row, require_answer),
      skip=skip,
    )
  if all((folder / split).is_dir() for split in _SPLITS):
    raise ValueError(f"{path}: holds train and test, expected one of them")
  name = folder.resolve().name
  return row_files.load_folder(
    path,
    lambda place, row: _problem(f"{name}/{place}", row, require_answer),
    skip=skip,
  )


def is_layout(row: row_files.Row) -> bool:
  """Whether a row has the fields of the data set, whatever they hold."""
  has = {str(name).casefold() for name in row}
  return {"problem", "solution"} <= has and bool({"type", "subject"} & has)


def _problem(name: str, row: row_files.Row, require_answer: bool) -> Problem:
  text = row_files.required_text(row, "problem", "problem")
  subject = "type" if row_files.get(row, "subject") is None else "subject"
  meta = {
    "solution": row_files.required_text(row, "solution", "solution"),
    "subject": row_files.required_text(row, subject, "subject"),
    "level": _level(row),
  }
  answer = _answer(row, meta)
  if answer is None and require_answer:
    raise ValueError(
      r"solution: no answer in a \boxed{...}, expected it in the last of them"
    )
  return Problem(id=name, text=text, answer=answer, family=FAMILY, meta=meta)


def _answer(row: row_files.Row, meta: Mapping[str, Any]) -> str | None:
  given = row_files.text(row_files.get(row, "answer"))
  return given or boxed_answers.last_boxed(meta["solution"]) or None


def _level(row: row_files.Row) -> int | None:
  value = row_files.get(row, "level")
  if value is None:
    raise row_files.missing(row, "level", "level")
  found = _LEVEL.fullmatch(row_files.text(value) or "")
  if found is None:
    raise ValueError(
      f"level is {value!r}, expected 'Level 1' to 'Level 5', or 'Level ?'"
    )
  return None if found[1] == "?" else int(found[1])
