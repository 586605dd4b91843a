# SPDX-License-Identifier: Apache-2.0
"""Readers of demonstrations and pairs: every form, every complaint."""

import json
import pathlib

import pytest

from jaxttc.tasks import tuning_files

_ROOT = pathlib.Path(__file__).resolve().parents[2]
_GSM8K = _ROOT / ".." / "shared" / "data" / "gsm8k" / "train.jsonl"
_USER = {"role": "user", "content": "Hi"}
_SAID = {"role": "assistant", "content": "Hello"}


def _file(tmp_path, *rows):
  path = tmp_path / "rows.jsonl"
  path.write_text("".join(json.dumps(row) + "\n" for row in rows))
  return path


def test_all_forms_of_demonstrations(tmp_path):
  path = _file(
    tmp_path,
    {"messages": [_USER, _SAID]},
    {"prompt": "2+2\n", "completion": "4"},
    {"prompt": [_USER], "completion": [_SAID]},
    {"question": "2*3?", "answer": "2*3 = <<2*3=6>>6.\n#### 6"},
  )
  loaded = tuning_files.load_demonstrations(path)
  assert [row[:2] for row in loaded.rows] == [
    ((_USER,), "Hello"),
    ("2+2\n", "4"),
    ((_USER,), "Hello"),
    ("2*3?", "2*3 = 6.\n#### 6"),
  ]
  assert loaded.rows[3].where == f"{path}, line 4"
  assert loaded.skipped == ()


def test_all_forms_of_pairs(tmp_path):
  other = {"role": "assistant", "content": "Go away"}
  path = _file(
    tmp_path,
    {"prompt": "Hi", "chosen": "Hello", "rejected": "Go away"},
    {"prompt": [_USER], "chosen": [_SAID], "rejected": [other]},
    {"chosen": [_USER, _SAID], "rejected": [_USER, other]},
    {"prompt": [_USER], "chosen": [_USER, _SAID], "rejected": "Go away"},
  )
  for row in tuning_files.load_pairs(path).rows:
    assert row.prompt in ("Hi", (_USER,))
    assert row[1:3] == ("Hello", "Go away")


@pytest.mark.parametrize(
  "row, message",
  [
    ({"text": "x"}, "no demonstration; expected messages.*found: text"),
    ({"prompt": "x", "completion": " "}, "'completion' must be a text"),
    ({"completion": "x"}, "no 'prompt'"),
    ({"messages": []}, "must be a list of messages"),
    ({"messages": [{"role": "user"}]}, "message 0 of 'messages'"),
    ({"messages": [_SAID, _USER]}, "the last message .* is the user's"),
    ({"messages": [_SAID, _SAID]}, "no user's message"),
    ({"question": "x", "answer": "6"}, "no '####'"),
  ],
)
def test_bad_demonstrations_are_named_or_counted(tmp_path, row, message):
  good = {"prompt": "x", "completion": "y"}
  path = _file(tmp_path, good, row)
  with pytest.raises(ValueError, match=f"rows.jsonl, line 2: .*{message}"):
    tuning_files.load_demonstrations(path)
  loaded = tuning_files.load_demonstrations(path, skip_bad=True)
  assert len(loaded.rows) == 1 and len(loaded.skipped) == 1
  assert "line 2" in loaded.skipped[0]


@pytest.mark.parametrize(
  "row, message",
  [
    ({"prompt": "x", "chosen": "a"}, "no 'rejected'"),
    ({"prompt": "x", "chosen": "a", "rejected": "a"}, "are the same text"),
    ({"prompt": "x", "chosen": "a", "rejected": 3}, "'rejected' must be"),
    ({"chosen": "a", "rejected": "b"}, "there is no 'prompt'"),
    (
      {
        "chosen": [_USER, _SAID],
        "rejected": [{**_USER, "content": "Yo"}, _SAID],
      },
      "the prompts of chosen and rejected differ",
    ),
    (
      {"prompt": "x", "chosen": [_USER, _SAID], "rejected": "b"},
      "'chosen' does not begin with the prompt",
    ),
  ],
)
def test_bad_pairs_are_named(tmp_path, row, message):
  with pytest.raises(ValueError, match=f"line 1: .*{message}"):
    tuning_files.load_pairs(_file(tmp_path, row))


def test_a_file_of_bad_rows_is_refused_even_where_they_are_skipped(tmp_path):
  with pytest.raises(ValueError, match="no valid row; the first of 2"):
    tuning_files.load_pairs(_file(tmp_path, {"a": 1}, {"b": 2}), skip_bad=True)


def test_prompts_with_and_without_a_template():
  assert tuning_files.prompt_text("Hi", None) == "Hi\n"
  both = ({"role": "system", "content": "Be kind."}, _USER)
  assert tuning_files.prompt_text(both, None) == "Be kind.\nHi\n"
  chat = lambda messages: f"<{messages[-1]['content']}>"  # noqa: E731
  assert tuning_files.prompt_text("Hi", chat) == "<Hi>"
  assert tuning_files.prompt_text(both, chat) == "<Hi>"


def test_the_files_that_ship():
  folder = _ROOT / "configs" / "data"
  pairs = tuning_files.load_pairs(folder / "pairs.jsonl").rows
  rows = tuning_files.load_demonstrations(folder / "demonstrations.jsonl").rows
  assert len(pairs) > 50 and len(rows) > 80


@pytest.mark.skipif(not _GSM8K.exists(), reason="needs the shared data folder")
def test_gsm8k_whole():
  rows = tuning_files.load_demonstrations(_GSM8K).rows
  assert len(rows) == 7473
  assert all("<<" not in row.completion for row in rows)
