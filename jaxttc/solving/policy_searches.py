# SPDX-License-Identifier: Apache-2.0
"""The decode stage of arms that search; each decoder is compiled once."""

from collections.abc import Iterator, Sequence
import dataclasses
import functools

from jaxttc.cost import budget as budget_lib
from jaxttc.inference import bundle as bundle_lib
from jaxttc.runtime import compiled, whole_solutions
from jaxttc.runtime import search as search_lib
from jaxttc.solving import budget_policies, loading, policy_rows, served_models


class Searches:
  """Searches of one model by one decoder, wherever the model is."""

  def __init__(self, job: policy_rows.Job, arm: budget_policies.Arm):
    """Refuses what would only fail when something has been spent.

    Args:
      job: whose problems.
      arm: any that asks this model by this decoder.

    Raises:
      ValueError: if the models do not fit each other, or a prompt; or the
        decoder needs rewards, and there is no reward model.
    """
    self._job, self._prompts = job, job.prompts
    decoder, settings = job.policy.build(arm.decoder)
    engine = job.engines[arm.model]
    if isinstance(engine, served_models.Served):
      missing = engine.verifier is None
    else:
      bundle_lib.check_pair(*engine)
      missing = engine[1] is None
    if decoder.needs_reward and missing:
      raise ValueError(
        f"decoder {arm.decoder!r} needs rewards: give a reward model"
      )
    if not isinstance(engine, served_models.Served):
      if why := whole_solutions.why_not(decoder, engine[1]):
        raise ValueError(f"decoder {arm.decoder!r}: {why}")
    if isinstance(engine, served_models.Served):
      self._search = functools.partial(engine.solve, decoder, settings=settings)
      return
    longest = max(
      map(len, search_lib.encode(engine[0], self._prompts, settings))
    )
    language, reward = engine
    used = reward if decoder.needs_reward else None
    if compiled.why_host_driven(language, used, decoder):
      problems, prompts = list(job.problems), self._prompts
      hosted = served_models.hosted(
        language,
        used,
        decoder,
        settings,
        slots=job.batch,
        shown=loading.shown_prompts(used, problems, prompts),
      )
      self._search = functools.partial(hosted.solve, decoder, settings=settings)
      return
    settings = dataclasses.replace(settings, prompt_tokens=longest)
    most = max(a.cap for a in job.policy.arms if a.search == arm.search)
    settings = loading.fit_slots(settings, decoder, most)
    self._search = lambda **asked: search_lib.solve(
      policy=language,
      verifier=reward,
      decoder=decoder,
      settings=settings,
      batch=job.batch,
      mesh=job.mesh,
      **asked,
    )

  def solve(
    self,
    which: Sequence[int],
    budgets: Sequence[budget_lib.Budget],
    seed: int,
    shares: Sequence[Sequence[int]],
  ) -> Iterator[search_lib.SearchResult]:
    """Searches some problems; see `policy_decoding.Answerer`."""
    del shares  # a search works its steps out as it goes
    return self._search(
      prompts=[self._prompts[place] for place in which],
      names=[self._job.problems[place].id for place in which],
      budget=list(budgets),
      seed=seed,
    )
