# SPDX-License-Identifier: Apache-2.0
import csv
import json

import numpy as np
import pytest

from jaxttc.tasks.routing import wide_files


def _write(path, header, *rows):
  with open(path, "w", encoding="utf-8", newline="") as file:
    csv.writer(file).writerows([header, *rows])
  return path


_WIDE = (
  "sample_id",
  "prompt",
  "eval_name",
  "m",
  "n",
  "m|model_response",
  "n|model_response",
  "m|total_cost",
  "n|total_cost",
  "oracle_model_to_route_to",
)


def _wide(path, score="0.25", cost="0.01"):
  return _write(
    path,
    _WIDE,
    ["1", "p", "mmlu", "1.0", score, "yes", "no", "0.001", cost, "m"],
    ["2", "q", "arc", "False", "True", "a", "b", "0.002", "0.02", "n"],
  )


def test_routerbench(tmp_path):
  table = wide_files.load_routerbench(_wide(tmp_path / "wide.csv"))
  assert table.models == ("m", "n") and table.unit == "dollars"
  np.testing.assert_array_equal(table.scores, [[1, 0.25], [0, 1]])
  np.testing.assert_array_equal(table.costs, [[0.001, 0.01], [0.002, 0.02]])
  assert table.labels == ("mmlu", "arc") and table.answers[1] == ("a", "b")


@pytest.mark.parametrize(
  "change, message",
  [
    (dict(score="high"), "row 0, column 'n': expected a score"),
    (dict(cost="-1"), r"row 0, column 'n\|total_cost': expected a cost"),
  ],
)
def test_bad_cells_are_named(tmp_path, change, message):
  with pytest.raises(ValueError, match=message):
    wide_files.load_routerbench(_wide(tmp_path / "wide.csv", **change))


def test_missing_columns_are_named(tmp_path):
  path = _write(tmp_path / "w.csv", ("prompt", "m|total_cost"), ["p", "1"])
  with pytest.raises(ValueError, match="no column 'm'"):
    wide_files.load_routerbench(path)


def test_a_pickle_needs_trust(tmp_path):
  path = tmp_path / "wide.pkl"
  path.write_bytes(b"\x80\x04N.")
  with pytest.raises(ValueError, match="can run any code"):
    wide_files.load_routerbench(path)


@pytest.mark.parametrize("suffix", [".pkl", ".parquet"])
def test_frames_are_read_like_csv(tmp_path, suffix):
  pandas = pytest.importorskip("pandas", reason="extra `tables` not installed")
  if suffix == ".parquet":
    pytest.importorskip("pyarrow", reason="extra `tables` not installed")
  frame = pandas.read_csv(_wide(tmp_path / "wide.csv"))
  frame["m"] = [1.0, 0.0]
  frame["n"] = [0.25, 1.0]
  path = tmp_path / f"wide{suffix}"
  (frame.to_pickle if suffix == ".pkl" else frame.to_parquet)(path)
  table = wide_files.load_routerbench(path, trusted=True)
  plain = wide_files.load_routerbench(tmp_path / "wide.csv")
  np.testing.assert_array_equal(table.scores, plain.scores)
  np.testing.assert_array_equal(table.costs, plain.costs)


def test_routellm_files_are_joined(tmp_path):
  header = ("", "prompt", "a-8x7b-7b", "gpt-4")
  first = _write(tmp_path / "law.csv", header, ["0", "p", "True", "False"])
  second = _write(tmp_path / "art.csv", header, ["0", "q", "False", "True"])
  prices = {"a-8x7b-7b": 0.6, "gpt-4": 30}
  table = wide_files.load_routellm([first, second], prices=prices)
  assert table.labels == ("law", "art")
  np.testing.assert_array_equal(table.scores, [[1, 0], [0, 1]])
  other = _write(tmp_path / "x.csv", ("prompt", "a", "b"), ["p", "1", "0"])
  with pytest.raises(ValueError, match="expected columns prompt and"):
    wide_files.load_routellm([first, other], prices=prices)
  with pytest.raises(ValueError, match="no price of model 'gpt-4'"):
    wide_files.load_routellm([first], prices={"a-8x7b-7b": 1})


_ARENA = (
  "id",
  "model_a",
  "model_b",
  "prompt",
  "winner_model_a",
  "winner_model_b",
  "winner_tie",
)


def test_arena(tmp_path):
  turns = json.dumps(["hello", "again"])
  path = _write(
    tmp_path / "arena.csv",
    _ARENA,
    ["1", "y", "x", turns, "1", "0", "0"],
    ["2", "x", "z", turns, "0", "0", "1"],
  )
  battles = wide_files.load_arena(path)
  assert battles.models == ("x", "y", "z")
  assert battles.prompts[0] == "hello\nagain"
  np.testing.assert_array_equal(battles.first, [1, 0])
  np.testing.assert_array_equal(battles.second, [0, 2])
  np.testing.assert_array_equal(battles.outcome, [1, 0.5])


@pytest.mark.parametrize(
  "row, message",
  [
    (["1", "y", "x", "[]", "1", "0", "0"], "row 0: expected prompt"),
    (["1", "y", "x", "{", "1", "0", "0"], "prompt is not valid JSON"),
    (["1", "y", "x", '["a"]', "1", "1", "0"], "one outcome"),
    (["1", "x", "x", '["a"]', "1", "0", "0"], "meets itself"),
  ],
)
def test_bad_battles_are_named(tmp_path, row, message):
  with pytest.raises(ValueError, match=message):
    wide_files.load_arena(_write(tmp_path / "arena.csv", _ARENA, row))


def test_a_ragged_row_is_refused(tmp_path):
  path = tmp_path / "bad.csv"
  path.write_text("prompt,m,n\na,1\n")
  with pytest.raises(ValueError, match="another number of columns"):
    wide_files.load_routellm([path])
