# SPDX-License-Identifier: Apache-2.0
import json

import pytest

from jaxttc.tasks import thinking_rows

_ASKED = {"role": "user", "content": "3+4 mod 10?"}


def _row(content, role="assistant"):
  return {"messages": [_ASKED, {"role": role, "content": content}]}


def _file(tmp_path, *rows):
  path = tmp_path / "thoughts.jsonl"
  path.write_text("".join(json.dumps(row) + "\n" for row in rows))
  return path


def test_thoughts_and_their_copies(tmp_path):
  path = _file(
    tmp_path,
    _row("<think>So 3\nSo 7\n</think>#### 7"),
    _row(
      "\n<think>Hm.\nFinal answer soon?\nWait.\n\n**Final Answer**\n7\n"
      "</think>\nThree and four are seven.\n"
    ),
  )
  plain, long = thinking_rows.load(path)
  assert (plain.id, plain.thought) == ("thoughts-1", "So 3\nSo 7\n")
  assert (plain.asked, plain.solution) == ((_ASKED,), "#### 7")
  assert thinking_rows.concise(plain).thought == "#### 7\n"
  short = thinking_rows.concise(long)
  # The last such block is kept, not the words in the middle of the thought.
  assert short.thought == ("Three and four are seven.\n\n**Final Answer**\n7\n")
  assert (short.asked, short.solution) == (long.asked, long.solution)


def test_a_span_that_never_closes(tmp_path):
  path = _file(tmp_path, _row("<think>So 3\nSo"), _row("<think></think>7"))
  with pytest.raises(ValueError, match=r"line 1: messages\[1\].*never closed"):
    thinking_rows.load(path)
  kept = thinking_rows.load(path, skip=True)
  assert (len(kept), kept.skipped) == (1, 1)
  cut = thinking_rows.load(path, strict=False)[0]
  assert (cut.thought, cut.solution) == ("So 3\nSo", "")
  with pytest.raises(ValueError, match="no solution"):
    thinking_rows.concise(cut)


@pytest.mark.parametrize(
  ("row", "message"),
  [
    (_row("So 3"), "begin with <think>"),
    (_row("Well: <think>So 3</think>"), "begin with <think>"),
    (_row("<think>a</think>b</think>"), "more than one </think>"),
    (_row("<think>a", role="user"), "assistant's answer last"),
    ({"messages": []}, "messages"),
    ({"text": "a"}, "messages"),
  ],
)
def test_rows_that_cannot_be_used(tmp_path, row, message):
  with pytest.raises(ValueError, match=message):
    thinking_rows.load(_file(tmp_path, row))
