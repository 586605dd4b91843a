# SPDX-License-Identifier: Apache-2.0
"""Demonstrations and pairs out of a policy's own, checked solutions.

Both answers of a pair are what the policy itself writes. Pairs whose worse
answer is a corrupted copy of the better one push the probability of both down;
two samples seldom share that much.
"""

from collections.abc import Iterator, Mapping, Sequence
import json
import os
import pathlib

from jaxttc.training import process_reward

Row = Mapping[str, str]


def is_right(solution: process_reward.LabelledSolution) -> bool:
  """Whether every step is right, the answer among them."""
  return bool(solution.right) and all(solution.right)


def demonstrations(
  solutions: Sequence[process_reward.LabelledSolution],
) -> Iterator[Row]:
  """A right solution of each prompt that has one, as {prompt, completion}."""
  for prompt, (right, _) in _by_prompt(solutions).items():
    if right:
      yield {"prompt": prompt, "completion": right[0]}


def pairs(
  solutions: Sequence[process_reward.LabelledSolution],
) -> Iterator[Row]:
  """A right and a wrong solution of each prompt that has both.

  Rows are {prompt, chosen, rejected}. Which of several is taken does not
  depend on how probable or long they are.
  """
  for prompt, (right, wrong) in _by_prompt(solutions).items():
    if right and wrong:
      yield {"prompt": prompt, "chosen": right[0], "rejected": wrong[0]}


def write(path: str | os.PathLike[str], rows: Iterator[Row]) -> int:
  """Writes rows as JSON lines; returns how many.

  Raises:
    ValueError: if there is none: an empty file is of no use.
  """
  lines = [json.dumps(row) + "\n" for row in rows]
  if not lines:
    raise ValueError(
      f"{path}: no row to write; the policy has too few right or wrong answers"
    )
  path = pathlib.Path(path)
  path.parent.mkdir(parents=True, exist_ok=True)
  path.write_text("".join(lines), encoding="utf-8")
  return len(lines)


def _by_prompt(solutions) -> dict[str, tuple[list[str], list[str]]]:
  """(right, wrong) completions of each prompt, in order."""
  found: dict[str, tuple[list[str], list[str]]] = {}
  for solution in solutions:
    right, wrong = found.setdefault(solution.prompt, ([], []))
    (right if is_right(solution) else wrong).append(solution.completion)
  return found
