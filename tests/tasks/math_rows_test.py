# SPDX-License-Identifier: Apache-2.0
"""The MATH data set as it is unpacked, and as JSON lines."""

import json
import pathlib

import pytest

from jaxttc.solving import problem_sets
from jaxttc.tasks import jsonl, math_rows

_DATA = pathlib.Path(__file__).parents[2] / ".." / "shared" / "data"
_ROWS = {
  "algebra/10.json": {
    "problem": "What is $2x$ if $x = 3$?",
    "level": "Level 1",
    "type": "Algebra",
    "solution": "We double: $2x = \\boxed{6}$.",
  },
  "algebra/9.json": {
    "problem": "Solve $2y = 1$.",
    "level": "Level 2",
    "type": "Algebra",
    "solution": "Not $\\boxed{2}$ but\n\\[y = \\boxed{\\frac{1}{2}}.\\]",
  },
  "geometry/3.json": {
    "problem": "A square has side $\\sqrt{2}$. Find its area.",
    "level": "Level ?",
    "type": "Geometry",
    "solution": "[asy]\ndraw((0,0)--(1,1));\n[/asy]\nIt is $\\boxed 2$.",
  },
}


def _folder(tmp_path, rows=_ROWS):
  """A split as the archive unpacks it: indented JSON, a file a problem."""
  folder = tmp_path / "MATH" / "train"
  for name, row in rows.items():
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    text = row if isinstance(row, str) else json.dumps(row, indent=4)
    path.write_text(text, encoding="utf-8")
  return folder


def _lines(tmp_path, *rows):
  path = tmp_path / "train.jsonl"
  path.write_text("".join(json.dumps(row) + "\n" for row in rows))
  return path


def test_a_split_in_order_of_subject_and_number(tmp_path):
  folder = _folder(tmp_path)
  (folder / "algebra" / "._9.json").write_text("left by another system")
  (folder / "README").write_text("not a problem")
  found = math_rows.load(folder)
  assert [(p.id, p.answer, p.meta["level"]) for p in found] == [
    ("train/algebra/9.json", "\\frac{1}{2}", 2),
    ("train/algebra/10.json", "6", 1),
    ("train/geometry/3.json", "2", None),
  ]
  assert found[2].meta["solution"] == _ROWS["geometry/3.json"]["solution"]
  assert {p.family for p in found} == {"math"}
  assert [p.meta["subject"] for p in found] == ["Algebra"] * 2 + ["Geometry"]
  (one,) = math_rows.load(folder / "geometry")
  assert one.id == "geometry/3.json"


def test_lines_are_read_alike(tmp_path):
  path = _lines(tmp_path, *_ROWS.values())
  found = math_rows.load(path)
  assert [p.id for p in found] == ["train-1", "train-2", "train-3"]
  said = lambda problems: {p.text: (p.answer, p.meta) for p in problems}  # noqa: E731
  assert said(found) == said(math_rows.load(_folder(tmp_path)))


def test_every_reader_of_problems_takes_both_forms(tmp_path):
  path, folder = _lines(tmp_path, *_ROWS.values()), _folder(tmp_path)
  assert jsonl.load(path) == math_rows.load(path)
  assert jsonl.load(folder) == math_rows.load(folder)
  source = problem_sets.ProblemSource(path=str(folder), start=1, count=1)
  (problem,) = source.load()
  assert problem.id == "train/algebra/10.json"
  assert problem_sets.is_right(problem, "So it is $\\boxed{6}$.")
  assert not problem_sets.is_right(problem, "So it is $\\boxed{7}$.")


def test_fields_of_math500_are_known(tmp_path):
  row = {
    "problem": "p",
    "solution": "no box",
    "answer": 3.0,
    "subject": "Algebra",
    "level": 5,
  }
  (problem,) = math_rows.load(_lines(tmp_path, row))
  assert (problem.answer, problem.meta["level"]) == ("3", 5)


_GOOD = _ROWS["algebra/9.json"]


@pytest.mark.parametrize(
  ("row", "words"),
  [
    ("{", "not valid JSON"),
    ("[1]", "expected a JSON object, got list"),
    ({k: v for k, v in _GOOD.items() if k != "level"}, "no level in field"),
    (_GOOD | {"level": "Level 6"}, "level is 'Level 6', expected 'Level 1' to"),
    (_GOOD | {"level": True}, "level is True, expected"),
    (_GOOD | {"type": " "}, "no subject in field 'type'"),
    (_GOOD | {"solution": None}, "no solution in field 'solution'"),
    (_GOOD | {"solution": "It is 3."}, "solution: no answer in a"),
    (_GOOD | {"solution": "\\boxed{3"}, "solution: no answer in a"),
    ({"probelm": "p"}, "no problem in field 'problem' .did you mean 'probelm'"),
  ],
)
def test_a_bad_problem_is_named_or_left_out(tmp_path, row, words):
  folder = _folder(tmp_path, _ROWS | {"geometry/11.json": row})
  bad = folder / "geometry" / "11.json"
  with pytest.raises(ValueError, match=words) as caught:
    math_rows.load(folder)
  assert str(caught.value).startswith(f"{bad}: ")
  assert "\n" not in str(caught.value)
  found = math_rows.load(folder, skip=True)
  assert (len(found), found.skipped) == (3, 1)
  assert str(bad) in found.first_skipped
  if isinstance(row, dict):
    path = _lines(tmp_path, _GOOD, row, _GOOD)
    with pytest.raises(ValueError, match=f"train.jsonl, line 2: {words}"):
      math_rows.load(path)
    assert math_rows.load(path, skip=True).skipped == 1


def test_an_answer_may_be_dispensed_with(tmp_path):
  path = _lines(tmp_path, _GOOD | {"solution": "It is 3."})
  (problem,) = math_rows.load(path, require_answer=False)
  assert problem.answer is None


def test_folders_that_are_no_split(tmp_path):
  folder = _folder(tmp_path)
  with pytest.raises(ValueError, match="MATH: no .json file in it or in its"):
    math_rows.load(folder.parent)
  (folder.parent / "test").mkdir()
  with pytest.raises(ValueError, match="MATH: holds train and test, expected"):
    math_rows.load(folder.parent)
  with pytest.raises(ValueError, match="none: no such file"):
    math_rows.load(tmp_path / "none")


@pytest.mark.skipif(not _DATA.is_dir(), reason="needs the shared data folder")
def test_published_rows_box_the_answer_that_they_state(tmp_path):
  rows = [
    json.loads(line)
    for line in (_DATA / "math500" / "test.jsonl").read_text().splitlines()
  ]
  split = {
    row["unique_id"].removeprefix("test/"): {
      "problem": row["problem"],
      "level": f"Level {row['level']}",
      "type": row["subject"],
      "solution": row["solution"],
    }
    for row in rows
  }
  found = math_rows.load(_folder(tmp_path, split))
  stated = {row["problem"].strip(): row["answer"] for row in rows}
  assert len(found) == 500
  same = [p.answer == stated[p.text].strip() for p in found]
  assert sum(same) / 500 > 0.95  # the rest differ in spacing and units
