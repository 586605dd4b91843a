# SPDX-License-Identifier: Apache-2.0
"""One row a problem: what a search found, and how rows are shown."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from rich import console as rich_console
from rich import progress as rich_progress
from rich import table as rich_table

from jaxttc.runtime import search as search_lib
from jaxttc.solving import problem_sets
from jaxttc.tasks import problems as problems_lib


def answer_row(
  problem: problems_lib.Problem, result: search_lib.SearchResult
) -> dict[str, Any]:
  """What a search found, as `solve_to_file` describes it."""
  tree = result.tree
  paths = [len(tree.path(node)) for node in range(len(tree.parent))]
  return {
    "id": problem.id,
    "answer": problem_sets.answer_of(problem, result.completion),
    "correct": problem_sets.is_right(problem, result.completion),
    "completion": result.completion,
    "stop": result.stop,
    "rounds": result.rounds,
    "cost": result.cost.as_dict(),
    "assumed": {k: v for k, v in result.assumed.as_dict().items() if v},
    "tree": {
      "nodes": len(tree.parent),
      "expanded": int((tree.expanded_at >= 0).sum()),
      "finished": len(tree.finished()),
      "depth": max(paths),
      "chosen": tree.path(tree.chosen),
      "reward": float(tree.reward[tree.chosen]) if tree.chosen > 0 else None,
    },
  }


def summary(rows: list[dict[str, Any]]) -> rich_table.Table:
  """A printable table of what the rows of `solve_to_file` come to."""
  table = rich_table.Table("problems", "answered", "correct", title="Answers")
  graded = [row["correct"] for row in rows if row["correct"] is not None]
  answered = sum(row["answer"] is not None for row in rows)
  share = f"{sum(graded)} of {len(graded)}" if graded else "-"
  cells = [str(len(rows)), str(answered), share]
  for field in ("generated_tokens", "verifier_calls", "flops"):
    table.add_column(f"{field} a problem".replace("_", " "), justify="right")
    mean = np.mean([row["cost"][field] for row in rows]) if rows else 0.0
    cells.append(f"{mean:.4g}")
  table.add_row(*cells)
  return table


def bar(
  new: Iterator[dict[str, Any]], done: int, total: int, progress: bool
) -> Iterator[dict[str, Any]]:
  """Passes rows through, moving a bar that starts at what is done."""
  shown = rich_progress.Progress(
    *rich_progress.Progress.get_default_columns(),
    rich_progress.MofNCompleteColumn(),
    console=rich_console.Console(stderr=True),
    disable=not progress,
  )
  with shown:
    task = shown.add_task("solving", total=total, completed=done)
    for row in new:
      yield row
      shown.advance(task)
