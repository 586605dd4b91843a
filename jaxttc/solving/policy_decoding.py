# SPDX-License-Identifier: Apache-2.0
"""The decode stage of budget policies: each arm's attempts to who answers them.

Searches, thoughts and programs are answered by different code; all bring
`runtime.search.SearchResult`s, so what follows need not know.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Protocol, runtime_checkable

from jaxttc.allocators import policies
from jaxttc.cost import budget as budget_lib
from jaxttc.runtime import search as search_lib
from jaxttc.solving import (
  arm_text,
  policy_programs,
  policy_rows,
  policy_searches,
  policy_thoughts,
)


@runtime_checkable
class Answerer(Protocol):
  """Answers problems by the arms of one model and decoder."""

  def solve(
    self,
    which: Sequence[int],
    budgets: Sequence[budget_lib.Budget],
    seed: int,
    shares: Sequence[Sequence[int]],
  ) -> Iterator[search_lib.SearchResult]:
    """Answers some problems, in any order.

    Args:
      which: places of the problems in the job.
      budgets: of each; never exceeded.
      seed: of all sampling.
      shares: of each budget's generated tokens, by the parts of the problem.

    Yields:
      Results whose `problem` is the place in `which`.
    """
    ...


Answerers = Mapping[tuple[str, str], Answerer]


def answerers(job: policy_rows.Job) -> Answerers:
  """Who answers each arm of a job's policy, by model and decoder.

  Raises:
    ValueError: if an arm cannot be carried out with its model.
  """
  found: dict[tuple[str, str], Answerer] = {}
  ways: dict = {}
  for arm in job.policy.arms:
    if arm.search in found:
      continue
    kind = arm_text.check(arm.decoder)
    if kind == arm_text.THOUGHT:
      found[arm.search] = policy_thoughts.Thinkers(job, arm, ways)
    elif kind == arm_text.PROGRAM:
      found[arm.search] = policy_programs.Programs(job, arm)
    else:
      found[arm.search] = policy_searches.Searches(job, arm)
  return found


class Decoding:
  """Carries waves out, one arm's model and decoder at a time."""

  def __init__(
    self,
    job: policy_rows.Job,
    answered_by: Answerers,
    left: Sequence[int],
    fields: Sequence[str],
  ):
    """A stage that knows who answers.

    Args:
      job: the job.
      answered_by: as `answerers` makes them.
      left: places of the job's problems that are to be answered.
      fields: that the budget limits.
    """
    self._job, self._left, self._fields = job, left, fields
    self._answered_by = answered_by

  def run(
    self, attempts: Sequence[policies.Attempt]
  ) -> Iterator[policies.Outcome]:
    """Answers a wave; a further try at a problem has another seed."""
    for number in sorted({attempt.number for attempt in attempts}):
      places = [i for i, a in enumerate(attempts) if a.number == number]
      for result in self._solve([attempts[i] for i in places], number):
        yield policies.Outcome(places[result.problem], result.cost, result)

  def _solve(
    self, attempts: Sequence[policies.Attempt], number: int
  ) -> Iterator[search_lib.SearchResult]:
    policy = self._job.policy
    return self._answered_by[policy.arms[attempts[0].arm].search].solve(
      [self._left[attempt.question] for attempt in attempts],
      [policy.limits(attempt.arm, self._fields) for attempt in attempts],
      self._job.seed + number,
      [attempt.shares for attempt in attempts],
    )
