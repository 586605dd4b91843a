# SPDX-License-Identifier: Apache-2.0
import json

import pytest

from jaxttc.solving import answer_file


def _file(tmp_path, *rows):
  path = tmp_path / "answers.jsonl"
  lines = [json.dumps(row) for row in ({"recipe": 1}, *rows)]
  path.write_text("\n".join(lines) + "\n")
  return path


def _kept(path):
  return answer_file.kept(
    path,
    {"recipe": 1},
    ["a", "b", "c"],
    in_order=False,
    provisional=lambda row: row.get("open", False),
  )[0]


def test_a_later_row_replaces_a_provisional_one(tmp_path):
  path = _file(
    tmp_path,
    {"id": "a", "open": True, "n": 1},
    {"id": "b", "open": True, "n": 2},
    {"id": "c", "n": 3},
    {"id": "a", "open": True, "n": 4},
    {"id": "b", "n": 5},
  )
  assert [(row["id"], row["n"]) for row in _kept(path)] == [
    ("c", 3),
    ("b", 5),
    ("a", 4),
  ]


def test_a_final_row_comes_once(tmp_path):
  path = _file(tmp_path, {"id": "a", "n": 1}, {"id": "a", "open": True})
  with pytest.raises(ValueError, match="line 3: id 'a', expected that of a"):
    _kept(path)
  path = _file(tmp_path, {"id": "z", "open": True})
  with pytest.raises(ValueError, match="line 2: id 'z'"):
    _kept(path)
