# SPDX-License-Identifier: Apache-2.0
"""Every loader, and a bad row anywhere: named, or left out and counted."""

import json

import hypothesis
from hypothesis import strategies as st
import pytest

from jaxttc.tasks import (
  chat_rows,
  jsonl,
  math_rows,
  preference_rows,
  row_files,
  thinking_rows,
  verl_rows,
)
from jaxttc.training import tuning_rows

_USER = {"role": "user", "content": "Two and two?"}
_SAID = {"role": "assistant", "content": "Four"}
_OTHER = {"role": "assistant", "content": "Five"}
_THOUGHT = {"role": "assistant", "content": "<think>2+2</think>Four"}
_ROWS = {
  "gsm8k": lambda i: {"question": f"{i}+1?", "answer": f"So\n#### {i + 1}"},
  "math500": lambda i: {
    "problem": "2x=6?",
    "answer": "3",
    "unique_id": f"test/{i}.json",
  },
  "aime": lambda i: {"Question": "2x=6?", "Answer": 3, "ID": 7919 + i},
  "math": lambda i: {
    "problem": f"2x={2 * i}?",
    "level": "Level 1",
    "type": "Algebra",
    "solution": f"x=\\boxed{{{i}}}",
  },
  "chat": lambda i: {"messages": [_USER, _SAID], "number": i},
  "thought": lambda i: {"messages": [_USER, _THOUGHT], "number": i},
  "completion": lambda i: {"prompt": f"{i}+1=", "completion": f"{i + 1}"},
  "pair": lambda i: {"prompt": f"{i}", "chosen": "Yes", "rejected": "No"},
  "chat pair": lambda i: {
    "chosen": [_USER, _SAID],
    "rejected": [_USER, _OTHER],
    "number": i,
  },
  "verl": lambda i: {
    "data_source": "openai/gsm8k",
    "prompt": [_USER],
    "reward_model": {"style": "rule", "ground_truth": "4"},
    "extra_info": {"split": "train", "index": 7919 + i},
  },
}
_LOADERS = (
  ("gsm8k", jsonl.load),
  ("gsm8k", jsonl.load_gsm8k),
  ("gsm8k", tuning_rows.demonstrations),
  ("math500", jsonl.load),
  ("aime", jsonl.load),
  ("math", jsonl.load),
  ("math", math_rows.load),
  ("math", tuning_rows.demonstrations),
  ("chat", chat_rows.load_chats),
  ("chat", tuning_rows.demonstrations),
  ("thought", thinking_rows.load),
  ("completion", chat_rows.load_completions),
  ("completion", tuning_rows.demonstrations),
  ("pair", preference_rows.load),
  ("pair", tuning_rows.pairs),
  ("chat pair", preference_rows.load),
  ("chat pair", tuning_rows.pairs),
  ("verl", verl_rows.load),
)
_GOOD = 3
_JSON = st.recursive(
  st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
  lambda inner: (
    st.lists(inner, max_size=3)
    | st.dictionaries(
      st.sampled_from(["role", "content", "index", "ground_truth", "x"]),
      inner,
      max_size=3,
    )
  ),
  max_leaves=6,
)


def _write(folder, lines):
  path = folder / "rows.jsonl"
  path.write_bytes(b"\n".join(lines) + b"\n")
  return path


def _line(row):
  return json.dumps(row).encode()


def _check(load, path, place, *, bad):
  """Loads with and without skipping; True if the row at `place` is refused."""
  refusal = None
  try:
    assert len(load(path)) == _GOOD + 1
  except ValueError as error:
    refusal = str(error)
    assert refusal.startswith(f"{path}, line {place + 1}: ")
    assert "\n" not in refusal
  assert refusal is not None or not bad
  found = load(path, skip=True)
  refused = refusal is not None
  assert (len(found), found.skipped) == (_GOOD + 1 - refused, int(refused))
  if refused:  # the layout of the others may have another word for the first
    assert found.first_skipped is not None
    assert found.first_skipped.startswith(f"{path}, line {place + 1}: ")


@pytest.mark.parametrize(("kind", "load"), _LOADERS)
@hypothesis.given(data=st.data())
@hypothesis.settings(
  max_examples=25,
  suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture],
)
def test_whatever_a_field_holds(kind, load, data, tmp_path):
  place = data.draw(st.integers(0, _GOOD))
  row = _ROWS[kind](place)
  field = data.draw(st.sampled_from(sorted(row)))
  row[field] = data.draw(_JSON)
  rows = [_ROWS[kind](i) for i in range(_GOOD + 1)]
  rows[place] = row
  path = _write(tmp_path, [_line(one) for one in rows])
  _check(load, path, place, bad=False)


@pytest.mark.parametrize("place", [0, 1, _GOOD])
@pytest.mark.parametrize(
  "line", [b"{", b"[1]", b"null", b"{}", b"\xff\xfe", b'{"text": "x"}']
)
@pytest.mark.parametrize(("kind", "load"), _LOADERS)
def test_lines_that_are_no_rows(kind, load, line, place, tmp_path):
  lines = [_line(_ROWS[kind](i)) for i in range(_GOOD + 1)]
  lines[place] = line
  _check(load, _write(tmp_path, lines), place, bad=True)


@pytest.mark.parametrize("place", [0, 2])
@pytest.mark.parametrize(
  ("kind", "load", "field"),
  [
    ("gsm8k", jsonl.load, "answer"),
    ("gsm8k", tuning_rows.demonstrations, "question"),
    ("chat", tuning_rows.demonstrations, "messages"),
    ("pair", tuning_rows.pairs, "chosen"),
    ("chat pair", tuning_rows.pairs, "rejected"),
    ("verl", verl_rows.load, "prompt"),
    ("verl", verl_rows.load, "reward_model"),
  ],
)
def test_rows_of_tables_that_lack_a_field(kind, load, field, place, tmp_path):
  pa = pytest.importorskip("pyarrow", reason="extra `tables` not installed")
  from pyarrow import parquet

  rows = [_ROWS[kind](i) for i in range(_GOOD + 1)]
  rows[place][field] = None
  path = tmp_path / "rows.parquet"
  parquet.write_table(pa.Table.from_pylist(rows), path)
  with pytest.raises(ValueError, match=f"rows.parquet, row {place + 1}: "):
    load(path)
  found = load(path, skip=True)
  assert (len(found), found.skipped) == (_GOOD, 1)
  assert f"rows.parquet, row {place + 1}: " in found.first_skipped


def test_a_first_answer_without_a_gold_line_does_not_change_the_layout(
  tmp_path,
):
  rows = [_ROWS["gsm8k"](i) for i in range(3)]
  rows[0]["answer"] = "I forgot."
  path = _write(tmp_path, [_line(row) for row in rows])
  with pytest.raises(ValueError, match="line 1: no gold answer after"):
    jsonl.load(path)
  found = jsonl.load(path, skip=True)
  assert [problem.answer for problem in found] == ["2", "3"]


def test_stages_keep_places_and_tell_the_first_of_all(tmp_path):
  lines = [b"{}", b'{"n": 1}', b'{"n": 2}', b'{"n": 3}', b"x"]

  def read(number, row):
    if "n" not in row:
      raise ValueError("no n")
    return row["n"]

  def odd(n):
    if not n % 2:
      raise ValueError(f"{n} is even")
    return 10 * n

  path = _write(tmp_path, lines[1:])
  with pytest.raises(ValueError, match="line 4: not valid JSON"):
    row_files.load(path, read)
  found = row_files.load(path, read, skip=True)
  with pytest.raises(ValueError, match="rows.jsonl, line 2: 2 is even"):
    found.then(odd)
  found = found.then(odd, skip=True)
  assert found == [10, 30] and found.skipped == 2
  assert found.first_skipped == f"{path}, line 2: 2 is even"
  path = _write(tmp_path, lines)
  found = row_files.load(path, read, skip=True).then(odd, skip=True)
  assert found.skipped == 3 and "line 1: no n" in found.first_skipped
  with pytest.raises(ValueError, match="no row of 5 can be used; .*, line 1"):
    found.then(lambda n: odd(2 * n), skip=True)


def test_no_layout_is_named_by_the_first_row(tmp_path):
  path = _write(tmp_path, [b"{", b'{"text": "x"}'])
  for load in (jsonl.load, tuning_rows.demonstrations):
    for skip in (False, True):
      with pytest.raises(
        ValueError, match="rows.jsonl, line 1: not valid JSON"
      ):
        load(path, skip=skip)
