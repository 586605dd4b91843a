# SPDX-License-Identifier: Apache-2.0
"""Tests of the reader of verl's columns."""

import json

import pytest

from jaxttc.tasks import verl_rows

_ROW = {
  "data_source": "openai/gsm8k",
  "prompt": [{"role": "user", "content": "How many?"}],
  "ability": "math",
  "reward_model": {"style": "rule", "ground_truth": "72"},
  "extra_info": {"split": "train", "index": 0, "question": "How many?"},
}


def _file(tmp_path, *rows):
  path = tmp_path / "train.jsonl"
  path.write_text("".join(json.dumps(row) + "\n" for row in rows))
  return path


def test_parquet_and_lines_give_the_same_rows(tmp_path):
  pa = pytest.importorskip("pyarrow", reason="extra `tables` not installed")
  from pyarrow import parquet

  path = tmp_path / "train.parquet"
  parquet.write_table(pa.Table.from_pylist([_ROW]), path)
  (row,) = verl_rows.load(path)
  assert [row] == verl_rows.load(_file(tmp_path, _ROW))
  assert row.prompt == ({"role": "user", "content": "How many?"},)
  assert (row.ground_truth, row.index, row.split) == ("72", "0", "train")
  assert (row.ability, row.style) == ("math", "rule")
  assert row.extra == {"question": "How many?"}


def test_a_row_is_a_problem(tmp_path):
  problem = verl_rows.load(_file(tmp_path, _ROW))[0].problem()
  assert (problem.id, problem.family) == ("openai/gsm8k-train-0", "gsm8k")
  assert (problem.text, problem.answer) == ("How many?", "72")
  assert problem.meta["messages"][0]["content"] == "How many?"


def test_a_number_is_an_answer_and_a_prompt_may_be_text(tmp_path):
  row = _ROW | {"prompt": "Why?", "reward_model": {"ground_truth": 7.0}}
  (found,) = verl_rows.load(_file(tmp_path, row))
  assert found.ground_truth == "7"
  assert found.prompt == ({"role": "user", "content": "Why?"},)


@pytest.mark.parametrize(
  ("change", "words"),
  [
    ({"data_source": None}, "no name in field 'data_source'"),
    ({"prompt": []}, "no list of messages in field 'prompt'"),
    ({"prompt": [{"role": "system", "content": "x"}]}, "no message is the us"),
    ({"reward_model": None}, "no object in field 'reward_model'"),
    ({"reward_model": {"style": "rule"}}, "ground_truth is None, expected"),
    ({"extra_info": {"split": "train"}}, "extra_info.index is None.*: split"),
    ({}, "id 'openai/gsm8k train 0' is that of line 1"),
  ],
)
def test_bad_rows(tmp_path, change, words):
  path = _file(tmp_path, _ROW, _ROW | change)
  with pytest.raises(ValueError, match=f"train.jsonl, line 2: .*{words}"):
    verl_rows.load(path)
  assert verl_rows.load(path, skip=True).skipped == 1
