# SPDX-License-Identifier: Apache-2.0
"""Reader of prompts with checkable answers, in the columns that verl uses."""

import dataclasses
from typing import Any

from jaxttc.tasks import chat_rows, row_files
from jaxttc.tasks.problems import Problem

# Data sources under the names of families that are graded here.
_FAMILIES = {
  "openai/gsm8k": "gsm8k",
  "gsm8k": "gsm8k",
  "HuggingFaceH4/MATH-500": "math500",
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class VerlRow:
  """A prompt to learn on, and what its answer is checked against.

  Attributes:
    data_source: name of the data set that the row is from.
    prompt: messages, each {"role", "content"}.
    ground_truth: the gold answer.
    index: of the row, unique within data source and split.
    split: of the data set; "" if the row does not say.
    ability: what the row trains, "math" for one; "" if it does not say.
    style: how it is to be rewarded, "rule" or "model"; "" likewise.
    extra: what else `extra_info` holds.
  """

  data_source: str
  prompt: chat_rows.Messages
  ground_truth: str
  index: str
  split: str = ""
  ability: str = ""
  style: str = ""
  extra: dict[str, Any] = dataclasses.field(default_factory=dict)

  def problem(self) -> Problem:
    """The row as a problem, of the family of its data source, if known.

    Its text is what the user says; the messages are in `meta["messages"]`.
    """
    said = [m["content"] for m in self.prompt if m["role"] == "user"]
    place = "-".join(filter(None, (self.data_source, self.split, self.index)))
    return Problem(
      id=place,
      text="\n".join(said),
      answer=self.ground_truth,
      family=_FAMILIES.get(self.data_source, ""),
      meta=self.extra | {"messages": self.prompt, "ability": self.ability},
    )


def load(
  path: row_files.Path, *, skip: bool = False
) -> row_files.Loaded[VerlRow]:
  """Reads rows of `data_source`, `prompt`, `reward_model` and `extra_info`.

  Args:
    path: a file of Parquet, or of JSON lines, ".gz" or plain.
    skip: leave out, and count, rows that cannot be used, repeats included.

  Raises:
    ValueError: naming file and line, if a row lacks one of them,
      `reward_model.ground_truth` or `extra_info.index`; no message of the
      prompt is the user's; or an earlier row has the same place.
  """
  ids = row_files.Ids()

  def read(number: int, row: row_files.Row) -> VerlRow:
    found = _row(row)
    ids.add(" ".join((found.data_source, found.split, found.index)), number)
    return found

  return row_files.load(path, read, skip=skip)


def _row(row: row_files.Row) -> VerlRow:
  prompt = row_files.get(row, "prompt")
  if isinstance(prompt, str):
    prompt = [{"role": "user", "content": prompt}]
  prompt = chat_rows.messages(prompt, "prompt", row)
  if all(message["role"] != "user" for message in prompt):
    raise ValueError("prompt: no message is the user's, expected at least 1")
  reward = _inner(row, "reward_model")
  extra = _inner(row, "extra_info")
  return VerlRow(
    data_source=row_files.required_text(row, "data_source", "name"),
    prompt=prompt,
    ground_truth=_value(reward, "reward_model", "ground_truth"),
    index=_value(extra, "extra_info", "index"),
    split=row_files.text(extra.get("split")) or "",
    ability=row_files.text(row_files.get(row, "ability")) or "",
    style=row_files.text(reward.get("style")) or "",
    extra={k: v for k, v in extra.items() if k not in ("index", "split")},
  )


def _inner(row: row_files.Row, field: str) -> dict[str, Any]:
  value = row_files.get(row, field)
  if not isinstance(value, dict):
    raise row_files.missing(row, "object", field)
  return value


def _value(inner: dict[str, Any], outer: str, field: str) -> str:
  value = row_files.text(inner.get(field))
  if value is None:
    raise ValueError(
      f"{outer}.{field} is {inner.get(field)!r}, expected text or a number; "
      f"fields found: {', '.join(map(str, inner)) or 'none'}"
    )
  return value
