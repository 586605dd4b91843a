# SPDX-License-Identifier: Apache-2.0
"""Tests of the reader of rows, whatever file they lie in."""

import gzip
import json

import pytest

from jaxttc.tasks import jsonl, row_files


def _parquet(path, rows):
  pa = pytest.importorskip("pyarrow", reason="extra `tables` not installed")
  from pyarrow import parquet

  parquet.write_table(pa.Table.from_pylist(rows), path)
  return path


def _read(number, row):
  return number, row_files.required_text(row, "a", "letter")


def test_lines_and_parquet_give_the_same_rows(tmp_path):
  rows = [{"a": "x", "b": [{"c": 1}]}, {"a": "y", "b": []}]
  lines = tmp_path / "set.jsonl"
  lines.write_text("\n\n".join(map(json.dumps, rows)))
  packed = tmp_path / "set.jsonl.gz"
  packed.write_bytes(gzip.compress(lines.read_bytes()))
  table = _parquet(tmp_path / "set.parquet", rows)
  assert list(row_files.rows(lines)) == [(1, rows[0]), (3, rows[1])]
  assert list(row_files.rows(packed)) == list(row_files.rows(lines))
  assert list(row_files.rows(table)) == [(1, rows[0]), (2, rows[1])]


def test_the_first_bad_row_is_named_or_all_are_counted(tmp_path):
  path = tmp_path / "set.jsonl"
  path.write_text('{"a": "x"}\n{"b": "y"}\nnot json\n{"a": "z"}\n')
  with pytest.raises(ValueError) as caught:
    row_files.load(path, _read)
  line = f"{path}, line 2: no letter in field 'a'; fields found: b"
  assert str(caught.value) == line
  found = row_files.load(path, _read, skip=True)
  assert found == [(1, "x"), (4, "z")]
  assert (found.skipped, found.first_skipped) == (2, line)


def test_rows_of_parquet_are_named_as_rows(tmp_path):
  path = _parquet(tmp_path / "set.parquet", [{"a": "x"}, {"a": None}])
  with pytest.raises(ValueError, match="set.parquet, row 2: no letter in"):
    row_files.load(path, _read)
  assert row_files.load(path, _read, skip=True).skipped == 1


def test_nothing_to_use_is_refused_even_when_skipping(tmp_path):
  path = tmp_path / "set.jsonl"
  path.write_text("{}\n{}\n")
  with pytest.raises(ValueError, match="no row of 2 can be used.*line 1: no"):
    row_files.load(path, _read, skip=True)


def test_damage_is_never_skipped(tmp_path):
  cut = tmp_path / "cut.jsonl.gz"
  cut.write_bytes(gzip.compress(b'{"a": "x"}\n' * 99)[:-9])
  broken = tmp_path / "broken.parquet"
  broken.write_bytes(b"PAR1 and nothing else")
  pytest.importorskip("pyarrow", reason="extra `tables` not installed")
  for path in (cut, broken):
    with pytest.raises(ValueError, match=f"{path.name}: cannot be read"):
      row_files.load(path, _read, skip=True)
  with pytest.raises(ValueError, match="none.parquet: no such file"):
    row_files.load(tmp_path / "none.parquet", _read, skip=True)


def test_deep_nesting_is_a_bad_line(tmp_path):
  path = tmp_path / "set.jsonl"
  path.write_text("[" * 100_000 + "\n")
  with pytest.raises(ValueError, match="line 1: not valid JSON"):
    list(row_files.rows(path))


def test_readers_of_problems_skip_and_count(tmp_path):
  good = {"question": "How many?", "answer": "Two.\n#### 2"}
  path = tmp_path / "set.jsonl"
  rows = [good, {"question": "q", "answer": "two"}, good]
  path.write_text("".join(json.dumps(row) + "\n" for row in rows))
  with pytest.raises(ValueError, match="line 2: no gold answer"):
    jsonl.load(path)
  found = jsonl.load(path, skip=True)
  assert [problem.id for problem in found] == ["set-1", "set-3"]
  assert found.skipped == 1


def test_folders_come_by_name_and_number(tmp_path):
  for name in ("b/2.json", "b/10.json", "a/1.json", "9.json", "a/deep/1.json"):
    path = tmp_path / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text('{"a": "x"}')
  (tmp_path / "b" / "3.txt").write_text("passed over")
  found = row_files.load_folder(tmp_path, _read)
  names = [name for name, _ in found]
  assert names[-3:] == ["a/1.json", "b/2.json", "b/10.json"]
  assert set(names) == {"9.json", "a/1.json", "b/2.json", "b/10.json"}
  (tmp_path / "a" / "1.json").write_bytes(b'{"a": "\xe9"}')
  with pytest.raises(ValueError, match=r"a/1.json: not UTF-8 \(byte 7\)"):
    row_files.load_folder(tmp_path, _read)
  left = row_files.load_folder(tmp_path, _read, skip=True)
  assert (len(left), left.skipped) == (3, 1)
  with pytest.raises(ValueError, match="none: no such folder"):
    row_files.load_folder(tmp_path / "none", _read)
