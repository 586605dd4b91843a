# SPDX-License-Identifier: Apache-2.0
"""Tests of the readers of chats and of prompts with completions."""

import json

import pytest

from jaxttc.tasks import chat_rows

_ASK = {"role": "user", "content": "2+2?"}
_SAY = {"role": "assistant", "content": "4"}
_RULE = {"role": "system", "content": "Be brief."}


def _file(tmp_path, *rows):
  path = tmp_path / "set.jsonl"
  path.write_text("".join(json.dumps(row) + "\n" for row in rows))
  return path


def test_chats(tmp_path):
  path = _file(tmp_path, {"messages": [_RULE, _ASK, _SAY], "source": "s"})
  (chat,) = chat_rows.load_chats(path)
  assert chat.id == "set-1"
  assert chat.messages == (_RULE, _ASK, _SAY)


def test_chats_of_parquet_lose_the_keys_that_others_have(tmp_path):
  pa = pytest.importorskip("pyarrow", reason="extra `tables` not installed")
  from pyarrow import parquet

  named = _ASK | {"name": "Ann", "tool_calls": None}
  rows = [{"messages": [_ASK, _SAY]}, {"messages": [named, _SAY]}]
  path = tmp_path / "set.parquet"
  parquet.write_table(pa.Table.from_pylist(rows), path)
  chats = chat_rows.load_chats(path)
  assert [chat.messages for chat in chats] == [(_ASK, _SAY)] * 2


def test_content_in_parts_is_joined(tmp_path):
  parts = [{"type": "text", "text": "2+"}, {"type": "text", "text": "2?"}]
  path = _file(tmp_path, {"messages": [_ASK | {"content": parts}, _SAY]})
  assert chat_rows.load_chats(path)[0].messages == (_ASK, _SAY)


@pytest.mark.parametrize(
  ("row", "words"),
  [
    ({"message": [_ASK, _SAY]}, "no list of messages in.*did you mean 'mess"),
    ({"messages": []}, "no list of messages in field 'messages'"),
    ({"messages": "hello"}, "no list of messages in field 'messages'"),
    ({"messages": [_ASK]}, "none is the assistant's"),
    ({"messages": [_ASK, "4"]}, r"messages\[1\] is a str, expected an obj"),
    ({"messages": [{"content": "x"}, _SAY]}, r"\[0\] has role None"),
    ({"messages": [_ASK, _SAY | {"role": "gpt"}]}, r"\[1\] has role 'gpt'"),
    ({"messages": [_ASK, _SAY | {"content": " "}]}, r"\[1\] has no text"),
    ({"messages": [_ASK, _RULE, _SAY]}, r"\[1\] is the system's.*first"),
    (
      {"messages": [_ASK, _SAY | {"tool_calls": [{"id": 1}]}]},
      r"\[1\] holds tool_calls",
    ),
    (
      {"messages": [_ASK | {"content": [{"type": "image"}]}, _SAY]},
      r"\[0\] holds a part that is no text",
    ),
  ],
)
def test_bad_chats(tmp_path, row, words):
  good = {"messages": [_ASK, _SAY]}
  path = _file(tmp_path, good, row)
  with pytest.raises(ValueError, match=f"line 2: .*{words}") as caught:
    chat_rows.load_chats(path)
  assert "\n" not in str(caught.value)
  assert chat_rows.load_chats(path, skip=True).skipped == 1


@pytest.mark.parametrize(
  ("row", "prompt", "completion"),
  [
    ({"prompt": " 2+2=", "completion": "4\n"}, " 2+2=", "4\n"),
    ({"prompt": [_ASK], "completion": [_SAY]}, (_ASK,), (_SAY,)),
    ({"prompt": "2+2?", "completion": [_SAY]}, (_ASK,), (_SAY,)),
    ({"prompt": [_RULE, _ASK], "completion": "4"}, (_RULE, _ASK), (_SAY,)),
    ({"prompt": [_ASK], "completion": _SAY}, (_ASK,), (_SAY,)),
    ({"prompt": [_ASK], "completion": [_ASK, _SAY]}, (_ASK,), (_SAY,)),
    ({"completion": [_RULE, _ASK, _SAY]}, (_RULE, _ASK), (_SAY,)),
  ],
)
def test_completions_come_in_one_form(tmp_path, row, prompt, completion):
  (found,) = chat_rows.load_completions(_file(tmp_path, row))
  assert (found.prompt, found.completion) == (prompt, completion)


@pytest.mark.parametrize(
  ("row", "words"),
  [
    ({"prompt": "p"}, "no list of messages in field 'completion'"),
    ({"prompt": "p", "completion": "  "}, "no text in field 'completion'"),
    ({"prompt": "", "completion": "c"}, "no text in field 'prompt'"),
    ({"completion": "c"}, "no text or messages in field 'prompt'"),
    ({"prompt": [_ASK, _SAY], "completion": "4"}, "prompt ends with the assi"),
    ({"prompt": [_ASK], "completion": [_ASK]}, "completion does not go on"),
    ({"prompt": 3, "completion": "c"}, "no list of messages in field 'prompt'"),
  ],
)
def test_bad_completions(tmp_path, row, words):
  with pytest.raises(ValueError, match=f"line 1: {words}"):
    chat_rows.load_completions(_file(tmp_path, row))
