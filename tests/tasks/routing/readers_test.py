# SPDX-License-Identifier: Apache-2.0
import json

import numpy as np
import pytest

from jaxttc.tasks.routing import readers

_NINE = "../shared/data/llm_routing/nine_models_train.json"
_SOLUTIONS = "../shared/data/gsm8k/model_solutions_first_half.jsonl"


def _write(path, rows, lines=False):
  text = "\n".join(map(json.dumps, rows)) if lines else json.dumps(rows)
  path.write_text(text, encoding="utf-8")
  return path


@pytest.mark.parametrize(
  "name, size",
  [("qwen2.5-7b-instruct", 7), ("llama3-chatqa-1.5-70b", 70), ("6b_ft", 6)],
)
def test_names_tell_parameters(name, size):
  assert readers.parameters(name) == size


@pytest.mark.parametrize("name", ["gpt-4", "mixtral-8x7b-or-7b-3b"])
def test_names_without_one_size_are_refused(name):
  with pytest.raises(ValueError, match="one size"):
    readers.parameters(name)


def test_scores_are_read_whatever_the_order_of_models(tmp_path):
  rows = [
    {"question": "a?", "scores": {"x-7b": 1.0, "y-70b": 0.5}, "cluster_id": 2},
    {"question": "b?", "scores": {"y-70b": 1.0, "x-7b": 0.0}},
  ]
  table = readers.load_scores(_write(tmp_path / "s.json", rows))
  assert table.models == ("x-7b", "y-70b") and table.labels == ("2", "")
  np.testing.assert_array_equal(table.scores, [[1, 0.5], [0, 1]])
  np.testing.assert_array_equal(table.costs, [[7, 70]] * 2)
  priced = readers.load_scores(
    tmp_path / "s.json", prices={"x-7b": 0.1, "y-70b": 2}
  )
  np.testing.assert_array_equal(priced.costs[0], [0.1, 2])


@pytest.mark.parametrize(
  "rows, message",
  [
    ({}, "JSON list"),
    ([{"question": "a"}], "row 0: expected scores"),
    (
      [{"question": " ", "scores": {"x-7b": 1, "y-7b": 1}}],
      "row 0: no text in field 'question'",
    ),
    (
      [{"question": "a", "scores": {"x-7b": 2, "y-7b": 1}}],
      r"row 0, model 'x-7b': expected a score in \[0, 1\], got 2",
    ),
    (
      [
        {"question": "a", "scores": {"x-7b": 1, "y-7b": 1}},
        {"question": "b", "scores": {"z-7b": 1}},
      ],
      "row 1: model 'z-7b' is not in row 0",
    ),
  ],
)
def test_bad_scores_are_named(tmp_path, rows, message):
  with pytest.raises(ValueError, match=message):
    readers.load_scores(_write(tmp_path / "bad.json", rows))


def test_missing_and_broken_files_are_named(tmp_path):
  with pytest.raises(ValueError, match="none.json: cannot be read"):
    readers.load_scores(tmp_path / "none.json")
  (tmp_path / "cut.json").write_text("[{")
  with pytest.raises(ValueError, match="cut.json: not valid JSON"):
    readers.load_scores(tmp_path / "cut.json")


def _long(query, model, score, **more):
  return {"query": query, "model_name": model, "performance": score, **more}


def test_long_lines_become_a_table_with_gaps(tmp_path):
  rows = [
    _long("a", "m", 1, cost=2.0, task_name="t"),
    _long("a", "n", 0, cost=4.0),
    _long("b", "n", 1, cost=6.0),
  ]
  table = readers.load_long(_write(tmp_path / "l.jsonl", rows, lines=True))
  np.testing.assert_array_equal(table.scores, [[1, 0], [np.nan, 1]])
  np.testing.assert_array_equal(table.costs, [[2, 4], [2, 6]])
  assert table.labels == ("t", "")


@pytest.mark.parametrize(
  "row, message",
  [
    (_long("a", "m", 1, cost=-1), "line 2, cost"),
    (_long("a", "m", 1), "line 2, cost: expected a cost"),
    (_long("a", "m", "x", cost=1), "line 2, performance"),
    (_long("a", "n", 1, cost=1), "line 2: model 'n' has this query twice"),
    ({"model_name": "m"}, "no text in field 'query'"),
  ],
)
def test_bad_lines_are_named(tmp_path, row, message):
  rows = [_long("a", "n", 1, cost=1), row]
  with pytest.raises(ValueError, match=message):
    readers.load_long(_write(tmp_path / "l.jsonl", rows, lines=True))


def test_nine_real_models():
  try:
    table = readers.load_scores(_NINE)
  except ValueError:
    pytest.skip(f"{_NINE} is not there")
  assert table.scores.shape == (5608, 9)
  best = table.models[int(table.scores.mean(0).argmax())]
  assert best == "llama-3.1-nemotron-51b-instruct"
  # The file's clusters tell the scores: they must never be a feature.
  unsolved = np.array(table.labels) == "0"
  assert (
    table.scores[unsolved].mean() < 0.12 < 0.5 < table.scores[~unsolved].mean()
  )


def test_real_solutions_cost_what_they_drew():
  try:
    table = readers.load_solutions(_SOLUTIONS)
  except ValueError:
    pytest.skip(f"{_SOLUTIONS} is not there")
  assert len(table) == len(table.answers) == 659
  by_name = dict(zip(table.models, table.costs[0], strict=True))
  assert by_name["6b_finetuning"] == 6
  assert by_name["175b_verification"] == 17500
  assert table.scores.mean(0).argmax() == table.index("175b_verification")


def test_a_question_without_a_system_is_named(tmp_path):
  def row(*systems):
    graded = {"solution": "1\nA: 1", "is_correct": True}
    return {"question": "q", "ground_truth": "A: 1"} | dict.fromkeys(
      systems, graded
    )

  path = _write(
    tmp_path / "s.jsonl", [row("6b_a", "175b_b"), row("6b_a")], lines=True
  )
  with pytest.raises(ValueError, match="s-2 has no solution of '175b_b'"):
    readers.load_solutions(path)
