# SPDX-License-Identifier: Apache-2.0
"""Answers that come without a search, as searches of a single path.

What looks at searches (rows, reports, cascades) then looks at thoughts and
programs, too.
"""

from collections.abc import Mapping, Sequence
import dataclasses

import numpy as np

from jaxttc.cost import costs
from jaxttc.decoders import tree as tree_lib
from jaxttc.runtime import search as search_lib


@dataclasses.dataclass(frozen=True, kw_only=True)
class Told(search_lib.SearchResult):
  """What came of one problem.

  Attributes:
    stages: generated tokens by stage (`policy_rows.STAGES`); they sum to those
      of the cost.
  """

  stages: Mapping[str, int]


def told(
  problem: int,
  spans: Sequence[str],
  completion: str | None,
  *,
  finished: bool,
  cost: costs.Cost,
  stages: Mapping[str, int],
  stop: str = "done",
) -> Told:
  """One answer.

  Args:
    problem: its place.
    spans: texts on the way to the answer, itself included.
    completion: the answer's own text; None if there is none.
    finished: whether it came to its end.
    cost: of it all.
    stages: see `Told`.
    stop: why it ended.
  """
  count = len(spans) + 1
  status = np.full(count, tree_lib.Status.OPEN, np.int8)
  answer = np.full(count, -1, np.int32)
  chosen = count - 1 if completion is not None and spans else -1
  if chosen > 0:
    status[chosen] = tree_lib.Status.FINISHED if finished else status[chosen]
    answer[chosen] = 0
  tree = search_lib.TreeRecord(
    parent=np.arange(-1, count - 1, dtype=np.int32),
    reward=np.zeros(count, np.float32),
    status=status,
    answer=answer,
    expanded_at=np.arange(count, dtype=np.int32),
    weight=np.ones(count, np.float32),
    text=["", *spans],
    chosen=chosen,
  )
  return Told(
    problem, completion, cost, stop, len(spans), tree, stages=dict(stages)
  )


def untold(problem: int, stop: str, cost: costs.Cost | None = None) -> Told:
  """No answer, and why; what it cost went into the search for one."""
  spent = costs.Cost() if cost is None else cost
  stages = {"search": int(spent.generated_tokens)}
  return told(
    problem, (), None, finished=False, cost=spent, stages=stages, stop=stop
  )
