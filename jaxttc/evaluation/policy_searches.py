# SPDX-License-Identifier: Apache-2.0
"""The decode stage of budget policies: waves of searches."""

from collections.abc import Iterator, Sequence
import dataclasses
import functools

from jaxttc.allocators import policies
from jaxttc.evaluation import loading, policy_rows, served_models
from jaxttc.runtime import compiled
from jaxttc.runtime import search as search_lib


class Searches:
  """Runs arms of one model and decoder at a time; each is compiled once."""

  def __init__(
    self, job: policy_rows.Job, left: Sequence[int], fields: Sequence[str]
  ):
    self._job, self._left, self._fields = job, left, fields
    self._built = {
      arm.search: _searcher(job, *arm.search) for arm in job.policy.arms
    }

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
    search = self._built[job.policy.arms[attempts[0].arm].search]
    return search(
      prompts=[job.prompts[i] for i in which],
      names=[job.problems[i].id for i in which],
      budget=[
        job.policy.limits(attempt.arm, self._fields) for attempt in attempts
      ],
      seed=job.seed + number,
    )


def _searcher(job: policy_rows.Job, model: str, text: str):
  """Searches of one model by one decoder, wherever the model is."""
  decoder, settings = job.policy.build(text)
  engine = job.engines[model]
  if isinstance(engine, served_models.Served):
    return functools.partial(engine.solve, decoder, settings=settings)
  language, reward = engine
  used = reward if decoder.needs_reward else None
  if compiled.why_host_driven(language, used, decoder):
    problems, prompts = list(job.problems), list(job.prompts)
    hosted = served_models.hosted(
      language,
      used,
      decoder,
      settings,
      slots=job.batch,
      shown=loading.shown_prompts(used, problems, prompts),
    )
    return functools.partial(hosted.solve, decoder, settings=settings)
  longest = max(map(len, search_lib.encode(language, job.prompts, settings)))
  settings = dataclasses.replace(settings, prompt_tokens=longest)
  most = max(a.cap for a in job.policy.arms if a.search == (model, text))
  return functools.partial(
    search_lib.solve,
    policy=language,
    verifier=reward,
    decoder=decoder,
    settings=loading.fit_slots(settings, decoder, most),
    batch=job.batch,
    mesh=job.mesh,
  )
