# SPDX-License-Identifier: Apache-2.0
"""Reader of recorded responses and what each of them earned.

What any pass@k run can write, a line a problem:

    {"problem": "2 + 2 ?", "responses": ["4", "5"], "rewards": [1, 0]}

Other fields are passed over.
"""

from collections.abc import Sequence
import dataclasses
import math
from typing import Any, NamedTuple

from jaxtyping import Bool, Float
import numpy as np

from jaxttc.tasks import row_files


@dataclasses.dataclass(frozen=True, kw_only=True)
class RewardedResponses:
  """Responses to one problem.

  Attributes:
    problem: its text.
    responses: what was written, at least one.
    rewards: what each earned; finite, not negative.
  """

  problem: str
  responses: tuple[str, ...]
  rewards: tuple[float, ...]


class RewardTable(NamedTuple):
  """Rewards as arrays; problems may have unlike numbers of responses.

  Attributes:
    rewards: f64[X, S], a row a problem; 0 where there is no response.
    mask: bool[X, S], where there is one.
  """

  rewards: Float[np.ndarray, "x s"]
  mask: Bool[np.ndarray, "x s"]


def load(
  path: row_files.Path, *, least: int = 1, skip: bool = False
) -> row_files.Loaded[RewardedResponses]:
  """Reads rows of `problem`, `responses` and `rewards`.

  Args:
    path: a file of JSON lines, ".gz" or plain, or of Parquet.
    least: responses that every problem must have.
    skip: leave out, and count, rows that cannot be used.

  Raises:
    ValueError: naming file and line, if a row lacks one of them, has not one
      reward for each response, fewer responses than `least`, a reward that is
      no finite number from 0 on, or a problem that an earlier row has.
  """
  lines: dict[str, int] = {}

  def read(number: int, row: row_files.Row) -> RewardedResponses:
    problem = row_files.required_text(row, "problem", "text")
    responses = _list(row, "responses")
    rewards = _list(row, "rewards")
    for place, response in enumerate(responses):
      if not isinstance(response, str):
        raise ValueError(f"responses[{place}] is no text, but {response!r}")
    if len(rewards) != len(responses):
      raise ValueError(
        f"{len(rewards)} rewards of {len(responses)} responses, expected one "
        "of each"
      )
    if len(responses) < least:
      raise ValueError(f"{len(responses)} responses, expected at least {least}")
    found = RewardedResponses(
      problem=problem,
      responses=tuple(responses),
      rewards=tuple(_reward(place, x) for place, x in enumerate(rewards)),
    )
    if problem in lines:
      raise ValueError(f"the problem is that of row {lines[problem]}")
    lines[problem] = number
    return found

  return row_files.load(path, read, skip=skip)


def table(rows: Sequence[RewardedResponses]) -> RewardTable:
  """Rewards of problems as arrays.

  Args:
    rows: at least one.
  """
  most = max(len(row.rewards) for row in rows)
  rewards = np.zeros((len(rows), most))
  mask = np.zeros((len(rows), most), bool)
  for place, row in enumerate(rows):
    rewards[place, : len(row.rewards)] = row.rewards
    mask[place, : len(row.rewards)] = True
  return RewardTable(rewards, mask)


def _list(row: row_files.Row, field: str) -> Sequence[Any]:
  value = row_files.get(row, field)
  if not isinstance(value, list) or not value:
    raise row_files.missing(row, "list with any entry", field)
  return value


def _reward(place: int, value: Any) -> float:
  number = isinstance(value, int | float)
  if not number or not math.isfinite(value) or value < 0:
    raise ValueError(
      f"rewards[{place}] is {value!r}, expected a finite number from 0 on"
    )
  return float(value)
