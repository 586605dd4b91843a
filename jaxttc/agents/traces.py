# SPDX-License-Identifier: Apache-2.0
"""Runs of `two_speed` as rows: to keep, to go on from, and to train on."""

from collections.abc import Iterable
import json
import os
import pathlib
from typing import Any

from jaxttc.agents import two_speed
from jaxttc.runtime import programs

_FIELDS = two_speed.Run._fields


def to_row(run: two_speed.Run, **more: Any) -> dict[str, Any]:
  """A run as a JSON-ready dict, with further fields put first."""
  return more | {name: list(getattr(run, name)) for name in _FIELDS}


def record(
  done: programs.Done, *, gold: str | None = None, **more: Any
) -> dict[str, Any]:
  """A served program as a JSON-ready dict: its run, its answer, its tokens.

  Args:
    done: of a program that returns a run, or gave up.
    gold: the right answer; None if nobody knows it.
    more: further fields, put first.

  Returns:
    `more`, and the fields of `two_speed.Run`, which are empty if the program
    gave up; further
      final_answer: None if there is none.
      is_correct: whether it is the right one; None if that is not known.
      tokens_by_stage: sampled, those of planning and rating among them.
      tokens_per_step: all tokens over the number of steps; None without steps.
      error: why the program gave up; "" if it did not.
  """
  run = done.value or two_speed.Run((), (), (), (), (), ())
  answer = run.answer if run.steps and run.answer else None
  tokens = sum(done.tokens.values())
  return to_row(run, **more) | {
    "final_answer": answer,
    "is_correct": None if gold is None else answer == gold,
    "tokens_by_stage": dict(done.tokens),
    "tokens_per_step": tokens / len(run.steps) if run.steps else None,
    "error": done.error,
  }


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
