# SPDX-License-Identifier: Apache-2.0
"""Runs of `two_speed` as rows: to keep, to go on from, and to train on."""

from collections.abc import Iterable
import json
import os
import pathlib
from typing import Any

from jaxttc.agents import two_speed

_FIELDS = two_speed.Run._fields


def to_row(run: two_speed.Run, **more: Any) -> dict[str, Any]:
  """A run as a JSON-ready dict, with further fields put first."""
  return more | {name: list(getattr(run, name)) for name in _FIELDS}


def from_row(row: dict[str, Any], where: str = "row") -> two_speed.Run:
  """The run that `to_row` wrote.

  Args:
    row: the dict.
    where: what to call it in an error.

  Raises:
    ValueError: if a field is missing, or numbers of steps differ.
  """
  for name in _FIELDS:
    if not isinstance(row.get(name), list):
      raise ValueError(f"{where}: field {name!r} is no list")
    if len(row[name]) != len(row["steps"]):
      raise ValueError(
        f"{where}: {len(row[name])} {name} for {len(row['steps'])} steps"
      )
  return two_speed.Run(*(tuple(row[name]) for name in _FIELDS))


def reasoning(run: two_speed.Run) -> str:
  """The steps and all that was written for them, stitched together."""
  return "\n".join(
    f"{step}\n{text.strip()}"
    for step, text in zip(run.steps, run.texts, strict=True)
  )


def step_rows(
  problem: str,
  run: two_speed.Run,
  instruction: str,
  query: two_speed.Query = two_speed.plain_query,
) -> list[dict[str, str]]:
  """A training row of each step: how it is asked, and what the run wrote.

  Whichever mode wrote it, a step is asked with the one instruction. A model
  trained on such rows is asked in one mode only, and thinks where they did.

  Args:
    problem: as the run was given it.
    run: whose answers were carried from step to step.
    instruction: put after each query; that of System 1, for the most part.
    query: as the run asked.

  Returns:
    `prompt` and `completion` of each step, in order.
  """
  solved = [
    two_speed.Solved(step, content)
    for step, content in zip(run.steps, run.contents, strict=True)
  ]
  return [
    {
      "prompt": query(problem, solved[:number], step) + instruction,
      "completion": text,
    }
    for number, (step, text) in enumerate(
      zip(run.steps, run.texts, strict=True)
    )
  ]


def export(
  path: str | os.PathLike[str],
  runs: Iterable[tuple[str, str, two_speed.Run]],
) -> int:
  """Writes training rows of the runs whose answers agree with the gold ones.

  Args:
    path: a JSON lines file; each row holds `messages` of a user, who asks the
      question, and an assistant, who reasons as the run did and answers.
    runs: (question, gold answer, run).

  Returns:
    How many rows were written; the other runs are left out.
  """
  path = pathlib.Path(path)
  path.parent.mkdir(parents=True, exist_ok=True)
  written = 0
  with path.open("w", encoding="utf-8") as file:
    for question, gold, run in runs:
      if run.answer != gold:
        continue
      said = f"<think>\n{reasoning(run)}\n</think>\n{run.answer}"
      messages = [
        {"role": "user", "content": question},
        {"role": "assistant", "content": said},
      ]
      file.write(json.dumps({"messages": messages}) + "\n")
      written += 1
  return written
