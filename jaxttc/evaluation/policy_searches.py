# SPDX-License-Identifier: Apache-2.0
"""The decode stage of budget policies: waves of searches."""

from collections.abc import Iterator, Sequence
import dataclasses

from jaxttc.allocators import policies
from jaxttc.evaluation import policy_rows, solving
from jaxttc.runtime import search as search_lib


class Searches:
  """Runs arms of one decoder at a time; each decoder is compiled once."""

  def __init__(
    self, job: policy_rows.Job, left: Sequence[int], fields: Sequence[str]
  ):
    self._job, self._left, self._fields = job, left, fields
    language = job.engine[0]
    self._built = {}
    for text in job.policy.decoders:
      decoder, settings = job.policy.build(text)
      longest = max(
        map(len, search_lib.encode(language, job.prompts, settings))
      )
      settings = dataclasses.replace(settings, prompt_tokens=longest)
      most = max(arm.cap for arm in job.policy.arms if arm.decoder == text)
      self._built[text] = decoder, solving.fit_slots(settings, decoder, most)

  def run(
    self, attempts: Sequence[policies.Attempt]
  ) -> Iterator[policies.Outcome]:
    """Searches a wave; a further try at a problem has another seed."""
    for number in sorted({attempt.number for attempt in attempts}):
      places = [i for i, a in enumerate(attempts) if a.number == number]
      for result in self._search([attempts[i] for i in places], number):
        yield policies.Outcome(places[result.problem], result.cost, result)

  def _search(
    self, attempts: Sequence[policies.Attempt], number: int
  ) -> Iterator[search_lib.SearchResult]:
    job = self._job
    which = [self._left[attempt.question] for attempt in attempts]
    decoder, settings = self._built[job.policy.arms[attempts[0].arm].decoder]
    return search_lib.solve(
      [job.prompts[i] for i in which],
      [job.problems[i].id for i in which],
      *job.engine,
      decoder,
      budget=[
        job.policy.limits(attempt.arm, self._fields) for attempt in attempts
      ],
      settings=settings,
      seed=job.seed + number,
      batch=job.batch,
      mesh=job.mesh,
    )
