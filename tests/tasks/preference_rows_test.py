# SPDX-License-Identifier: Apache-2.0
"""Tests of the reader of preference pairs."""

import json

import pytest

from jaxttc.tasks import preference_rows

_ASK = {"role": "user", "content": "2+2?"}
_YES = {"role": "assistant", "content": "4"}
_NO = {"role": "assistant", "content": "5"}


def _file(tmp_path, *rows):
  path = tmp_path / "pairs.jsonl"
  path.write_text("".join(json.dumps(row) + "\n" for row in rows))
  return path


@pytest.mark.parametrize(
  "row",
  [
    {"prompt": [_ASK], "chosen": [_YES], "rejected": [_NO]},
    {"prompt": "2+2?", "chosen": [_ASK, _YES], "rejected": [_ASK, _NO]},
    {"chosen": [_ASK, _YES], "rejected": [_ASK, _NO]},
    {"prompt": [_ASK], "chosen": "4", "rejected": "5", "score": 1.0},
  ],
)
def test_pairs_of_messages_come_in_one_form(tmp_path, row):
  (pair,) = preference_rows.load(_file(tmp_path, row))
  assert pair.id == "pairs-1"
  assert pair.prompt == (_ASK,)
  assert (pair.chosen, pair.rejected) == ((_YES,), (_NO,))


def test_pairs_of_strings_stay_as_they_are(tmp_path):
  row = {"prompt": "2+2= ", "chosen": "4", "rejected": " 5"}
  (pair,) = preference_rows.load(_file(tmp_path, row))
  assert (pair.prompt, pair.chosen, pair.rejected) == ("2+2= ", "4", " 5")


def test_an_answer_that_both_give_first_is_no_prompt(tmp_path):
  """The prompt ends before the assistant, whatever both then have said."""
  more = {"role": "user", "content": "Sure?"}
  row = {
    "chosen": [_ASK, _YES, more, _YES],
    "rejected": [_ASK, _YES, more, _NO],
  }
  (pair,) = preference_rows.load(_file(tmp_path, row))
  assert pair.prompt == (_ASK, _YES, more)
  row = {"chosen": [_ASK, _YES], "rejected": [_ASK, _YES, more, _NO]}
  (pair,) = preference_rows.load(_file(tmp_path, row))
  assert pair.prompt == (_ASK,)


@pytest.mark.parametrize(
  ("row", "words"),
  [
    ({"prompt": "p", "chosen": "a"}, "no list of messages in field 'rejected'"),
    (
      {"prompt": "p", "chosen": "a", "rejected": "a"},
      "chosen and rejected are",
    ),
    ({"prompt": "p", "chosen": "a", "rejected": ""}, "no text in field 'rej"),
    ({"chosen": "a", "rejected": "b"}, "no text or messages in field 'prompt'"),
    ({"chosen": [_YES], "rejected": [_NO]}, "no text or messages in field"),
    (
      {"prompt": [_ASK], "chosen": [_YES], "rejected": [_ASK]},
      "rejected does not go on from the prompt",
    ),
  ],
)
def test_bad_pairs(tmp_path, row, words):
  good = {"prompt": "p", "chosen": "a", "rejected": "b"}
  path = _file(tmp_path, good, row)
  with pytest.raises(ValueError, match=f"pairs.jsonl, line 2: {words}"):
    preference_rows.load(path)
  assert preference_rows.load(path, skip=True).skipped == 1
