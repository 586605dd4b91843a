# SPDX-License-Identifier: Apache-2.0
"""Which sampled solutions become demonstrations and pairs."""

import pytest

from jaxttc.training import process_reward, sampled_pairs, tuning_rows


def _solution(prompt, text, *right):
  return process_reward.LabelledSolution(prompt, text, list(right))


_SOLUTIONS = [
  _solution("a\n", "wrong step", True, False),
  _solution("a\n", "right", True, True),
  _solution("a\n", "right again", True),
  _solution("b\n", "right", True),
  _solution("c\n", "wrong", False),
  _solution("d\n", "no step"),
  _solution("d\n", "right", True),
]


def test_demonstrations_are_right_and_pairs_have_both(tmp_path):
  rows = list(sampled_pairs.demonstrations(_SOLUTIONS))
  assert rows == [
    {"prompt": f"{p}\n", "completion": "right"} for p in ("a", "b", "d")
  ]
  path = tmp_path / "pairs.jsonl"
  assert sampled_pairs.write(path, sampled_pairs.pairs(_SOLUTIONS)) == 2
  assert [tuple(row) for row in tuning_rows.pairs(path)] == [
    ("a\n", ("right", "wrong step")),
    ("d\n", ("right", "no step")),
  ]


def test_nothing_to_write_is_refused(tmp_path):
  with pytest.raises(ValueError, match="no row to write"):
    sampled_pairs.write(tmp_path / "x.jsonl", iter(()))
