# SPDX-License-Identifier: Apache-2.0
"""Recorded rewards: what is read, and which line is refused for what."""

import json

import numpy as np
import pytest

from jaxttc.tasks import reward_rows

_GOOD = {"problem": "2 + 2 ?", "responses": ["4", "5"], "rewards": [1, 0.5]}


def _file(tmp_path, *rows):
  path = tmp_path / "rewards.jsonl"
  path.write_text("".join(json.dumps(row) + "\n" for row in rows))
  return path


def test_rows_become_a_table_of_unlike_lengths(tmp_path):
  other = _GOOD | {"problem": "x", "responses": ["a"], "rewards": [True]}
  found = reward_rows.load(_file(tmp_path, _GOOD, other))
  assert found[0].responses == ("4", "5")
  table = reward_rows.table(found)
  np.testing.assert_array_equal(table.rewards, [[1, 0.5], [1, 0]])
  np.testing.assert_array_equal(table.mask, [[True, True], [True, False]])


@pytest.mark.parametrize(
  ("changes", "message"),
  [
    ({"problem": " "}, "no text in field 'problem'"),
    ({"responses": []}, "'responses'"),
    ({"rewards": "1"}, "'rewards'"),
    ({"responses": ["4", 5]}, r"responses\[1\] is no text, but 5"),
    ({"rewards": [1]}, "1 rewards of 2 responses"),
    ({"rewards": [1, None]}, r"rewards\[1\] is None"),
    ({"rewards": [1, "0"]}, r"rewards\[1\] is '0'"),
    ({"rewards": [-1, 0]}, r"rewards\[0\] is -1"),
    ({"rewards": [float("nan"), 0]}, r"rewards\[0\] is nan"),
    ({"responses": ["4"], "rewards": [1]}, "1 responses, expected at least 2"),
    ({"problem": _GOOD["problem"]}, "the problem is that of row 1"),
  ],
)
def test_the_line_of_a_bad_row_is_named_or_skipped(tmp_path, changes, message):
  bad = _GOOD | {"problem": "another"} | changes
  path = _file(tmp_path, _GOOD, bad, _GOOD | {"problem": "third"})
  with pytest.raises(ValueError, match=rf"rewards.jsonl, line 2: .*{message}"):
    reward_rows.load(path, least=2)
  found = reward_rows.load(path, least=2, skip=True)
  assert [row.problem for row in found] == ["2 + 2 ?", "third"]
  assert found.skipped == 1 and "line 2" in found.first_skipped
