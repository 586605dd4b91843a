# SPDX-License-Identifier: Apache-2.0
"""Rows of every layout as prompts and answers."""

import json
import pathlib

import pytest

from jaxttc.training import tuning_rows

_ROOT = pathlib.Path(__file__).resolve().parents[2]
_GSM8K = _ROOT / ".." / "shared" / "data" / "gsm8k" / "train.jsonl"
_USER = {"role": "user", "content": "Hi"}
_SAID = {"role": "assistant", "content": "Hello"}
_OTHER = {"role": "assistant", "content": "Go away"}


def _file(tmp_path, *rows):
  path = tmp_path / "rows.jsonl"
  path.write_text("".join(json.dumps(row) + "\n" for row in rows))
  return path


@pytest.mark.parametrize(
  "row, prompt, answer",
  [
    ({"messages": [_USER, _SAID]}, (_USER,), "Hello"),
    (
      {"messages": [_USER, _SAID, _USER, _OTHER, _USER]},
      (_USER, _SAID, _USER),
      "Go away",
    ),
    ({"prompt": "2+2\n", "completion": "4"}, "2+2\n", "4"),
    ({"prompt": [_USER], "completion": [_SAID]}, (_USER,), "Hello"),
    (
      {"question": "2*3?", "answer": "2*3 = <<2*3=6>>6.\n#### 6"},
      "2*3?",
      "2*3 = 6.\n#### 6\n",
    ),
  ],
)
def test_demonstrations(tmp_path, row, prompt, answer):
  path = _file(tmp_path, row)
  (found,) = tuning_rows.demonstrations(path)
  assert found == (prompt, (answer,))


@pytest.mark.parametrize(
  "row, prompt",
  [
    ({"prompt": "Hi", "chosen": "Hello", "rejected": "Go away"}, "Hi"),
    ({"chosen": [_USER, _SAID], "rejected": [_USER, _OTHER]}, (_USER,)),
  ],
)
def test_pairs(tmp_path, row, prompt):
  (found,) = tuning_rows.pairs(_file(tmp_path, row))
  assert found == (prompt, ("Hello", "Go away"))


def test_bad_rows_are_named_or_counted(tmp_path):
  good = {"prompt": "Hi", "chosen": "Hello", "rejected": "Go away"}
  path = _file(tmp_path, good, good | {"rejected": "Hello"})
  with pytest.raises(ValueError, match="rows.jsonl, line 2: .* are the same"):
    tuning_rows.pairs(path)
  found = tuning_rows.pairs(path, skip=True)
  assert len(found) == 1 and found.skipped == 1
  assert "line 2" in found.first_skipped
  with pytest.raises(ValueError, match="line 1: no demonstration; .* text"):
    tuning_rows.demonstrations(_file(tmp_path, {"text": "x"}))
  with pytest.raises(ValueError, match="line 1: messages: the assistant's"):
    tuning_rows.demonstrations(_file(tmp_path, {"messages": [_SAID]}))
  long = {"prompt": [_USER], "chosen": [_SAID, _USER, _SAID], "rejected": "No"}
  with pytest.raises(ValueError, match="line 1: an answer has 3 messages"):
    tuning_rows.pairs(_file(tmp_path, long))


def test_worked_problems_of_math_in_a_folder_and_in_lines(tmp_path):
  row = {
    "problem": "2x=6?",
    "level": "Level 1",
    "type": "Algebra",
    "solution": "x=\\boxed{3}",
  }
  file = tmp_path / "train" / "algebra" / "7.json"
  file.parent.mkdir(parents=True)
  file.write_text(json.dumps(row, indent=2))
  folder = tmp_path / "train"
  (found,) = tuning_rows.demonstrations(folder)
  assert found == ("2x=6?", ("x=\\boxed{3}\n",))
  path = _file(tmp_path, row)
  (found,) = tuning_rows.demonstrations(path)
  assert found == ("2x=6?", ("x=\\boxed{3}\n",))
  (folder / "algebra" / "8.json").write_text("{}")
  with pytest.raises(ValueError, match="8.json: no problem in field"):
    tuning_rows.demonstrations(folder)
  assert tuning_rows.demonstrations(folder, skip=True).skipped == 1


def test_prompts_with_and_without_a_template():
  assert tuning_rows.prompt_text("Hi") == "Hi\n"
  both = ({"role": "system", "content": "Be kind."}, _USER)
  assert tuning_rows.prompt_text(both) == "Be kind.\nHi\n"
  chat = lambda messages: f"<{messages[-1]['content']}>"  # noqa: E731
  assert tuning_rows.prompt_text("Hi", chat) == "<Hi>"
  assert tuning_rows.prompt_text(both, chat) == "<Hi>"


def test_the_files_that_ship():
  folder = _ROOT / "configs" / "data"
  assert len(tuning_rows.pairs(folder / "pairs.jsonl")) > 50
  assert len(tuning_rows.demonstrations(folder / "demonstrations.jsonl")) > 80


@pytest.mark.skipif(not _GSM8K.exists(), reason="needs the shared data folder")
def test_gsm8k_whole():
  rows = tuning_rows.demonstrations(_GSM8K)
  assert len(rows) == 7473
  assert all("<<" not in row.answers[0] for row in rows)
