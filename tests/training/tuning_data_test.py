# SPDX-License-Identifier: Apache-2.0
"""Rows that are refused at whatever stage, named or left out and counted."""

import json

from absl import logging
import pytest

from jaxttc.testing import tiny_models
from jaxttc.training import tuning_data

_LENGTH = 16
_USER = {"role": "user", "content": "1 + 1 ="}
_SAID = {"role": "assistant", "content": " 2"}
_TAIL = " 1" * _LENGTH
# A row that goes through, and rows that reading, making text and making tokens
# refuse in turn.
_DEMONSTRATIONS = (
  {"messages": [_USER, _SAID]},
  (
    ({"messages": []}, "no list of messages"),
    ({"messages": [_SAID]}, "the assistant's comes first"),
    (
      {"messages": [_USER, {"role": "assistant", "content": "\ud800"}]},
      "surrogates not allowed",
    ),
  ),
)
_PAIRS = (
  {"prompt": "1 + 1 =\n", "chosen": " 2", "rejected": " 3"},
  (
    ({"prompt": "1", "chosen": "1", "rejected": "1"}, "are the same"),
    (
      {"prompt": [_USER], "chosen": [_SAID, _USER, _SAID], "rejected": "No"},
      "an answer has 3 messages",
    ),
    (
      {"prompt": "1", "chosen": f"{_TAIL} 2", "rejected": f"{_TAIL} 3"},
      "equal once cut to 16 tokens",
    ),
  ),
)
_CASES = [
  (tuning_data.demonstrations, _DEMONSTRATIONS),
  (tuning_data.pairs, _PAIRS),
]


def _config(tmp_path, rows, **fields):
  path = tmp_path / "rows.jsonl"
  path.write_text("".join(json.dumps(row) + "\n" for row in rows))
  return tuning_data.DataConfig(path=str(path), longest_prompt=8, **fields)


@pytest.fixture(scope="module")
def policy():
  return tiny_models.tiny_bundles()[0]


@pytest.mark.parametrize(("read", "rows"), _CASES)
@pytest.mark.parametrize("stage", range(3))
@pytest.mark.parametrize("place", range(3))
def test_a_bad_row_is_named(policy, tmp_path, read, rows, stage, place):
  good, bad = rows
  row, message = bad[stage]
  given = [good, good, good]
  given[place] = row
  config = _config(tmp_path, given)
  with pytest.raises(ValueError, match=f"line {place + 1}: .*{message}"):
    read(config, policy, _LENGTH)


@pytest.mark.parametrize(("read", "rows"), _CASES)
def test_bad_rows_of_all_stages_are_left_out(
  policy, tmp_path, read, rows, monkeypatch
):
  said = []
  monkeypatch.setattr(logging, "warning", lambda *words: said.append(words))
  good, bad = rows
  given = [row for row, _ in reversed(bad)]
  config = _config(
    tmp_path, [*given, good, *given, good, good], skip_bad=True, held_out=1
  )
  train, held_out = read(config, policy, _LENGTH)
  assert (len(train), len(held_out)) == (2, 1)
  ((_, path, left_out, of, first),) = said
  assert (path, left_out, of) == (config.path, 6, 9)
  assert first.startswith(f"{path}, line 1: ") and bad[-1][1] in first


@pytest.mark.parametrize(("read", "rows"), _CASES)
def test_nothing_left_is_refused(policy, tmp_path, read, rows):
  good, bad = rows
  given = [row for row, _ in bad]
  with pytest.raises(ValueError, match="no row of 3 can be used; .* line 1: "):
    read(_config(tmp_path, given, skip_bad=True), policy, _LENGTH)
  config = _config(tmp_path, [*given, good], skip_bad=True, held_out=1)
  with pytest.raises(ValueError, match="1 rows, .*held_out=1 leaves none"):
    read(config, policy, _LENGTH)
