# SPDX-License-Identifier: Apache-2.0
"""Tests of the readers of question files."""

import gzip
import json
import pathlib

import hypothesis
from hypothesis import strategies as st
import pytest

from jaxttc.tasks import jsonl

_GSM8K = {
  "question": "How many?",
  "answer": "He has 2*500=<<2*500=1000>>1000.\nThen 1 more.\n#### 1,001",
}
_MATH = {
  "problem": "Find x.",
  "solution": r"So $\boxed{\frac12}$.",
  "answer": r"\frac12",
  "subject": "Algebra",
  "level": 2,
  "unique_id": "test/algebra/1.json",
}
_GRADED = {
  "question": "How many?",
  "ground_truth": "1+1=2\nA: 1,002",
  "small": {"solution": "A: 3", "is_correct": False},
  "large": {"solution": "A: 1002", "is_correct": True},
}
_DATA = pathlib.Path(__file__).parents[2] / ".." / "shared" / "data"


def _file(tmp_path, *rows, name="set.jsonl"):
  path = tmp_path / name
  text = "".join(
    (row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows
  )
  path.write_text(text, encoding="utf-8")
  return path


def test_gsm8k(tmp_path):
  (problem,) = jsonl.load_gsm8k(_file(tmp_path, _GSM8K))
  assert (problem.id, problem.text) == ("set-1", "How many?")
  assert (problem.answer, problem.family, problem.steps) == (
    "1001",
    "gsm8k",
    2,
  )
  assert problem.meta["solution"] == "He has 2*500=1000.\nThen 1 more."
  assert problem.meta["calculations"] == ("2*500=1000",)


def test_math500(tmp_path):
  (problem,) = jsonl.load_math500(_file(tmp_path, _MATH))
  assert (problem.id, problem.answer) == ("test/algebra/1.json", r"\frac12")
  assert problem.family == "math500"
  assert dict(problem.meta) == {
    key: _MATH[key] for key in ("solution", "subject", "level")
  }


@pytest.mark.parametrize(
  ("row", "expected"),
  [
    ({"ID": "a-1", "Problem": "p", "Solution": "s", "Answer": 16}, "16"),
    ({"id": 3, "problem": "p", "answer": "016", "url": "u"}, "016"),
    ({"id": 3, "problem": "p", "question": "p", "answer": 27.0}, "27"),
    ({"question": "p", "answer": 0.5}, "0.5"),
  ],
)
def test_load_competition_variants(tmp_path, row, expected):
  (problem,) = jsonl.load(_file(tmp_path, row))
  assert (problem.text, problem.answer) == ("p", expected)
  name = next((v for k, v in row.items() if k.lower() == "id"), "set-1")
  assert problem.id == str(name)
  assert not {"id", "ID", "Answer", "answer"} & set(problem.meta)


def test_load_recognises_layouts(tmp_path):
  assert jsonl.load(_file(tmp_path, _GSM8K))[0].family == "gsm8k"
  assert jsonl.load(_file(tmp_path, _MATH))[0].family == "math500"


def test_gzip_byte_order_mark_and_blank_lines(tmp_path):
  text = "\ufeff" + json.dumps(_MATH) + "\r\n\n  \n"
  path = tmp_path / "set.jsonl.gz"
  path.write_bytes(gzip.compress(text.encode()))
  assert [p.answer for p in jsonl.load(path)] == [r"\frac12"]


def test_rows_without_gold_only_if_allowed(tmp_path):
  path = _file(tmp_path, {"problem": "p"}, {"problem": "q", "answer": None})
  found = jsonl.load(path, require_answer=False)
  assert [(p.text, p.answer) for p in found] == [("p", None), ("q", None)]
  path = _file(tmp_path, {"question": "p", "answer": "no mark"})
  (problem,) = jsonl.load_gsm8k(path, require_answer=False)
  assert problem.answer is None


@hypothesis.settings(
  deadline=None,
  max_examples=30,
  suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture],
)
@hypothesis.given(
  st.lists(
    st.tuples(
      st.text(min_size=1).filter(str.strip),
      st.text(min_size=1).filter(str.strip),
    ),
    min_size=1,
    max_size=5,
  ),
  st.booleans(),
)
def test_any_text_round_trips(tmp_path, rows, ascii_only):
  lines = [
    json.dumps({"q": q, "a": a}, ensure_ascii=ascii_only) for q, a in rows
  ]
  path = tmp_path / "rows.jsonl"
  path.write_bytes("\n".join(lines).encode())
  found = jsonl.load_jsonl(path, problem_field="q", answer_field="a")
  assert [(p.text, p.answer) for p in found] == [
    (q.strip(), a.strip()) for q, a in rows
  ]


def test_labelled_solutions(tmp_path):
  found = jsonl.load_labelled_solutions(_file(tmp_path, _GRADED))
  assert [(s.system, s.gold, s.is_correct) for s in found] == [
    ("small", "1002", False),
    ("large", "1002", True),
  ]
  assert found[0].question_id == "set-1"


@pytest.mark.parametrize(
  ("rows", "words"),
  [
    ([], "no rows"),
    (["{"], "line 1: not valid JSON"),
    ([_MATH, "[1]"], "line 2: expected a JSON object, got list"),
    ([_MATH, _MATH], "line 2: id 'test/algebra/1.json' is that of line 1"),
    ([{"problem": " ", "answer": "1"}], "line 1: no problem in field"),
    ([{"problem": "p", "answer": True}], "no gold answer.*found: problem, a"),
    ([{"problem": "p", "answr": "1"}], "unknown layout.*found: problem, answr"),
    ([_GSM8K, {"question": "q", "answer": "1"}], "line 2: no gold.*'####'"),
    ([{"id": None, "problem": "p", "answer": "1"}], "line 1: no id"),
  ],
)
def test_bad_files_are_one_line_with_a_line_number(tmp_path, rows, words):
  path = _file(tmp_path, *rows)
  with pytest.raises(ValueError, match=words) as caught:
    jsonl.load(path)
  assert "\n" not in str(caught.value) and str(path) in str(caught.value)


def test_field_names_are_suggested(tmp_path):
  path = _file(tmp_path, {"prompt": "p", "answers": "1"})
  with pytest.raises(ValueError, match="did you mean 'answers'"):
    jsonl.load_jsonl(path, problem_field="prompt", answer_field="answer")


def test_missing_file_not_utf8_and_broken_gzip(tmp_path):
  with pytest.raises(ValueError, match="none.jsonl: no such file"):
    jsonl.load_math500(tmp_path / "none.jsonl")
  path = tmp_path / "latin.jsonl"
  path.write_bytes(json.dumps(_MATH).encode() + b'\n{"problem": "\xe9"}\n')
  with pytest.raises(ValueError, match=r"line 2: not UTF-8 \(byte 13\)"):
    jsonl.load(path)
  path = tmp_path / "set.jsonl.gz"
  path.write_bytes(gzip.compress(json.dumps(_MATH).encode())[:-9])
  with pytest.raises(ValueError, match="cannot be read"):
    jsonl.load(path)


@pytest.mark.parametrize(
  ("row", "words"),
  [
    ({"ground_truth": "A: 1"}, "no question"),
    ({"question": "q", "ground_truth": "1"}, "no reference answer"),
    ({"question": "q", "ground_truth": "A: 1", "s": "t"}, "no graded"),
  ],
)
def test_bad_labelled_rows(tmp_path, row, words):
  with pytest.raises(ValueError, match=f"line 1: {words}"):
    jsonl.load_labelled_solutions(_file(tmp_path, row))


@pytest.mark.skipif(not _DATA.is_dir(), reason="needs the shared data folder")
def test_published_files_load():
  train = jsonl.load(_DATA / "gsm8k" / "train.jsonl")
  assert len(train) == 7473 and all(p.answer for p in train)
  assert not any("<<" in p.meta["solution"] for p in train)
  math = jsonl.load(_DATA / "math500" / "test.jsonl")
  assert len(math) == 500 and {p.meta["level"] for p in math} == {1, 2, 3, 4, 5}
