# SPDX-License-Identifier: Apache-2.0
"""The decode stage of arms that think: each thought within its own budget.

Ways that differ in their budgets alone are compiled once: budgets and limits
are data of the rows.
"""

from collections.abc import Iterator, Sequence
import dataclasses

import jax.numpy as jnp
import numpy as np

from jaxttc.cost import budget as budget_lib
from jaxttc.inference import thinking_span, thoughts
from jaxttc.runtime import search as search_lib
from jaxttc.runtime import settings as settings_lib
from jaxttc.solving import (
  budget_policies,
  policy_rows,
  served_models,
  thinking_solving,
  thinking_text,
  told_answers,
)


class Thinkers:
  """Thinks about problems by the arms of one model and way."""

  def __init__(
    self,
    job: policy_rows.Job,
    arm: budget_policies.Arm,
    ways: dict[tuple, thinking_text.Way],
  ):
    """Loads what the way needs, and refuses what could never run.

    Args:
      job: whose problems.
      arm: any that asks this model in this way.
      ways: those that were built before, by model, name and arguments.

    Raises:
      ValueError: if the model is served, does not think, or cannot hold some
        prompt; or the cap buys no thought.
    """
    engine = job.engines[arm.model]
    if isinstance(engine, served_models.Served):
      raise ValueError(
        f"arm {arm.decoder!r}: a served model's thinking cannot be steered "
        "from here; expected a model of this process"
      )
    settings = _settings(job)
    name, arguments, budget = thinking_text.parse(arm.decoder)
    if "adaptive" in arguments:
      raise ValueError(
        f"arm {arm.decoder!r}: adaptive splits one budget over a set of "
        "questions, as the policy does; leave it out"
      )
    key = arm.model, name, tuple(sorted(arguments.items()))
    limit = settings.max_tokens
    if key not in ways:
      ways[key] = thinking_text.build(
        arm.decoder, engine[0], limit=limit, sampler=settings.sampler
      )
    way = dataclasses.replace(ways[key], budget=budget)
    cap = min(a.cap for a in job.policy.arms if a.search == arm.search)
    held = budget or limit
    if budget is not None:
      thinking_text.check_budget(
        budget, min(limit, cap) + 1, f"arm {arm.decoder!r}: budget"
      )
    self._seeded, self._batch = job, job.batch
    self._job = thinking_solving.Job(
      problems=list(job.problems),
      prompts=thinking_solving.way_prompts(
        way,
        engine[0],
        [held] * len(job.problems),
        job.problems,
        lambda asked: job.put(asked, way.style),
      ),
      policy=engine[0],
      way=way,
      budget=held,
      prices=settings_lib.prices(engine[0], None, settings),
      hardware=settings.hardware,
    )
    thinking_solving.check_room(self._job)
    shortest = self._sampled(2)
    if shortest > cap:
      raise ValueError(
        f"arm {arm.decoder!r}: even two tokens of thought and answer may take "
        f"{shortest}, with trials and further tries, and the cap is {cap}"
      )

  def _sampled(self, limit: int) -> int:
    return int(self._job.way.think.most(1, limit).sampled)

  def solve(
    self,
    which: Sequence[int],
    budgets: Sequence[budget_lib.Budget],
    seed: int,
    shares: Sequence[Sequence[int]],
  ) -> Iterator[search_lib.SearchResult]:
    """Thinks about some problems; see `policy_decoding.Answerer`."""
    del shares  # a question is thought about whole
    limits = [
      self._longest(i, budget) for i, budget in zip(which, budgets, strict=True)
    ]
    asked = [row for row, limit in enumerate(limits) if limit >= 2]
    for row in range(len(which)):
      if limits[row] < 2:
        yield told_answers.untold(row, "not paid for")
    for first in range(0, len(asked), self._batch):
      part = asked[first : first + self._batch]
      # As many rows every time, so that nothing is compiled anew.
      padded = np.resize(part, self._batch)
      places = [which[row] for row in padded]
      held = np.array([limits[row] for row in padded], np.int32)
      names = [self._job.problems[place].id for place in places]
      found = self._job.way.think(
        [self._job.prompts[place] for place in places],
        np.minimum(self._job.budget, held - 1),
        jnp.stack([search_lib.problem_key(seed, name) for name in names]),
        limits=held,
      )
      for at, row in enumerate(part):
        yield self._told(found, at, row)

  def _longest(self, place: int, budget: budget_lib.Budget) -> int:
    """Most tokens of a thought and its answer that a budget pays for."""
    meter, prompt = budget_lib.Meter.start(budget), self._job.prompts[place]

    def affords(limit: int) -> bool:
      work = self._job.way.think.most(len(prompt), limit)
      return meter.affords(thinking_solving.price(self._job, work))

    low, high = 0, self._job.way.think.limit
    while low < high:
      middle = (low + high + 1) // 2
      low, high = (middle, high) if affords(middle) else (low, middle - 1)
    return low

  def _told(
    self, found: thoughts.Thoughts, at: int, row: int
  ) -> told_answers.Told:
    job, length = self._job, int(found.length[at])
    words = job.policy.tokenizer
    tokens, spent = found.tokens[at, :length].tolist(), int(found.spent[at])
    thought, answer = "", words.decode(tokens)
    if job.way.thinks:
      thought, answer = thinking_span.parts(words, tokens)
    work = thoughts.Work(*(amount[at] for amount in found.work))
    finished = bool(found.finished[at])
    return told_answers.told(
      row,
      [text for text in (thought, answer) if text],
      answer,
      finished=finished,
      cost=thinking_solving.price(job, work),
      stages={
        "think": spent,
        "answer": length - spent,
        "search": int(found.overhead[at]),
      },
      stop="done" if finished else "length",
    )


def _settings(job: policy_rows.Job) -> settings_lib.SearchSettings:
  """How tokens are drawn; what belongs to the steps of a search is not read."""
  return dataclasses.replace(
    job.policy.sampling, step_tokens=1, last_tokens=0, slots=0
  ).build()
