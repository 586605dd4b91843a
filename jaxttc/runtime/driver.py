# SPDX-License-Identifier: Apache-2.0
"""The host-driven form: many searches at once over any engine and verifier.

    engine, verifier = driver.local_engines(policy, prm, decoder, settings)
    for result in driver.drive(engine, verifier, decoder, prompts, names,
                               budget=budget, settings=settings):
      print(result.problem, result.completion, result.cost.seconds)

Each problem sits in a slot and turns its rounds at its own pace:

    plan    its decoder asks and its meter cuts, as in `compiled`
    submit  the children that are paid for go to the engine
    step    the engine runs one segment for all problems
    score   the verifier reads what has come back whole, of all problems at once
    tell    the decoder is told, the caches are filed and pruned

A request whose reply was lost is charged the most that it can have cost, and
asked again for as long as the budget can pay for that too. One that fails for
good ends its own problem, with what that has got; no other problem is
disturbed.

A slot whose search is over takes the next problem. A problem's search is a
function of its prompt, its key and its budget alone, so a run that was killed
need only be given the problems that it had not yet yielded.

The clock is the exception. `seconds` are what a problem has taken since its
slot took it up, measured between segments: one that runs out is stopped there,
so it overruns by at most one segment and the scoring of what that completed.
All other fields are never overrun.
"""

from collections.abc import Callable, Iterator, Sequence
import dataclasses
import time

import jax
import jax.numpy as jnp
import numpy as np

from jaxttc.cost import budget as budget_lib
from jaxttc.cost import costs, rounding
from jaxttc.decoders import base
from jaxttc.inference import bundle as bundle_lib
from jaxttc.inference import controllers, generation, local_engine
from jaxttc.inference import engine as engine_lib
from jaxttc.runtime import funding, whole_solutions
from jaxttc.runtime import jobs as jobs_lib
from jaxttc.runtime import search as search_lib
from jaxttc.runtime import settings as settings_lib
from jaxttc.runtime import slots as slots_lib
from jaxttc.verifiers import (
  answer_classes,
  generative_verifier,
  local_verifier,
  written_checks,
)

LocalScorer = (
  local_verifier.LocalVerifier | generative_verifier.GenerativeVerifier
)
_UNLIMITED = 2**30  # cached tokens, where nothing but memory limits them


def local_engines(
  policy: bundle_lib.Bundle,
  verifier: bundle_lib.Bundle | None,
  decoder: base.Decoder,
  settings: settings_lib.SearchSettings,
  *,
  slots: int = 8,
  rows: int | None = None,
  steps: int = 16,
  controller: controllers.Controller | None = None,
  row_samplers: bool = False,
  shown: Callable[[str], str] | None = None,
) -> tuple[local_engine.LocalEngine, LocalScorer | None]:
  """An engine and a verifier in this process, of a search's sizes.

  Args:
    policy: the language model.
    verifier: the reward model or generative verifier, where the decoder needs
      one.
    decoder: the strategy.
    settings: sampling and sizes.
    slots: problems searched at once.
    rows: spans of one problem sampled at once; by default all of a round, up
      to 32.
    steps: most tokens a row samples in a segment.
    controller: bends the logits after the sampler's own controllers.
    row_samplers: whether problems may bring samplers of their own.
    shown: from a prompt to what a published verifier is shown of it, as
      `LocalVerifier` and `written_checks.verifier` take it.

  Raises:
    ValueError: if the models do not fit each other or the decoder, or the
      settings cannot be.
  """
  settings.validate()
  bundle_lib.check_pair(policy, verifier)
  if why := whole_solutions.why_not(decoder, verifier):
    raise ValueError(why)
  shape = decoder.shape
  arena = settings.arena_slots(shape)
  steps_only = base.Until.STEP in decoder.until  # at first, at least
  engine = local_engine.LocalEngine(
    policy,
    sampler=settings.sampler,
    controller=controller,
    row_samplers=row_samplers,
    classify=lambda: answer_classes.AnswerClasses().of_solution,
    hardware=settings.hardware,
    groups=slots,
    rows=min(shape.asks * shape.children, 32) if rows is None else rows,
    steps=steps,
    nodes=shape.nodes,
    columns=settings.step_tokens if steps_only else settings.max_tokens,
    slots=min(arena, 256),
  )
  if not decoder.needs_reward:
    return engine, None
  if verifier is None:
    raise ValueError("the decoder needs rewards; give a verifier")
  if verifier.writes_verdicts:
    return engine, written_checks.verifier(
      verifier,
      policy,
      settings.checks,
      hardware=settings.hardware,
      groups=slots,
      shown=shown,
    )
  return engine, local_verifier.LocalVerifier(
    verifier,
    aggregate=settings.aggregate,
    shown=shown,
    hardware=settings.hardware,
    groups=slots,
    nodes=shape.nodes,
    slots=min(arena, 256),
  )


def drive(
  engine: engine_lib.Engine,
  verifier: engine_lib.Verifier | None,
  decoder: base.Decoder,
  prompts: Sequence[str],
  names: Sequence[str],
  *,
  budget: budget_lib.Budget | Sequence[budget_lib.Budget],
  settings: settings_lib.SearchSettings,
  seed: int = 0,
  slots: int | None = None,
  samplers: Sequence[controllers.Sampler] | None = None,
  cancelled: Callable[[int], bool] = lambda problem: False,
  clock: Callable[[], float] = time.monotonic,
) -> Iterator[search_lib.SearchResult]:
  """Searches for the answers to problems; see the module docstring.

  Args:
    engine: samples spans.
    verifier: scores them; only used if the decoder needs rewards.
    decoder: the strategy.
    prompts: what the policy continues.
    names: a unique id a problem; with the seed it determines the keys.
    budget: of each problem; one for all, or one a problem.
    settings: sizes; how tokens are drawn and rewards aggregated is up to the
      engine and the verifier.
    seed: of all sampling.
    slots: problems searched at once; as many as the engine serves if None.
    samplers: how each problem's tokens are drawn, for an engine that draws
      rows in ways of their own; the engine's way if None.
    cancelled: says, between segments, whether a problem's answer is no longer
      wanted. Its result then has the stop "cancelled", and its cost leaves out
      the round that was under way.
    clock: seconds that never run backwards.

  Returns:
    An iterator of results in the order in which the searches end;
    `result.problem` says which. Their costs are exact on counted fields, and
    `seconds` is measured. Closing the iterator closes the searches.

  Raises:
    ValueError: for empty prompts, prompts that leave the model no room, a
      missing verifier, a number of slots that is not served, names that are
      not unique, numbers of prompts, names and budgets that differ, or a
      budget on a field that engine or verifier cannot meter.
  """
  settings.validate()
  if not decoder.needs_reward:
    verifier = None
  elif verifier is None:
    raise ValueError("the decoder needs rewards; give a verifier")
  budgets = (
    [budget] * len(prompts)
    if isinstance(budget, budget_lib.Budget)
    else list(budget)
  )
  if not len(prompts) == len(names) == len(budgets):
    raise ValueError(
      f"{len(prompts)} prompts, {len(names)} names and {len(budgets)} budgets;"
      " expected as many of each"
    )
  if samplers is not None and len(samplers) != len(prompts):
    raise ValueError(
      f"{len(samplers)} samplers for {len(prompts)} prompts; expected as many"
    )
  if len(set(names)) < len(names):
    raise ValueError(
      "two problems have one name; names decide the random keys, and must be "
      "unique"
    )
  served = min(e.groups for e in (engine, verifier) if e is not None)
  slots = served if slots is None else slots
  if not 1 <= slots <= served:
    raise ValueError(f"slots={slots}; engine and verifier serve 1..{served}")
  _check_metered(budgets, engine, verifier)
  encoded = _encoded(engine, prompts, settings)
  driver = _Driver(engine, verifier, decoder, encoded, settings, slots, clock)
  driver.samplers, driver.cancelled = samplers, cancelled
  return driver.run(names, budgets, seed)


def _check_metered(budgets, engine, verifier) -> None:
  metered = engine.metered | {"seconds"}
  if verifier is not None:
    metered &= verifier.metered | {"seconds"}
  for budget in budgets:
    blind = [
      name for name in budget.validate().as_dict() if name not in metered
    ]
    if blind:
      raise ValueError(
        f"budget.{blind[0]} cannot be kept: engine and verifier meter "
        f"{', '.join(f for f in costs.FIELDS if f in metered)} "
        "(joules and dollars need settings.hardware)"
      )


def _encoded(engine, prompts, settings) -> list[engine_lib.Prompt]:
  room = engine.max_length - settings.step_tokens
  encoded = []
  for i, text in enumerate(prompts):
    if not text.strip():
      raise ValueError(f"problem {i}: the prompt is empty")
    tokens = engine.encode(text)
    if len(tokens) > room:
      raise ValueError(
        f"problem {i}: its prompt has {len(tokens)} tokens; the model takes "
        f"{engine.max_length}, of which a step needs {settings.step_tokens}"
      )
    encoded.append(engine_lib.Prompt(text=text, tokens=tokens))
  return encoded


class _Driver:
  """One run of `drive`."""

  def __init__(
    self, engine, verifier, decoder, prompts, settings, slots, clock
  ):
    self.engine, self.verifier, self.decoder = engine, verifier, decoder
    self.prompts, self.clock, self.size = prompts, clock, slots
    self.prices = funding.Prices(
      prompt=engine.prompt_tariff,
      policy=engine.tariff,
      verifier=None if verifier is None else verifier.tariff,
    )
    limits = slots_lib.Limits(
      step_tokens=settings.step_tokens,
      end_tokens=settings.end_tokens(decoder.until),
      longest_span=settings.longest_span(decoder.until),
      max_tokens=settings.max_tokens,
      max_length=engine.max_length,
    )
    self.go = slots_lib.transitions(decoder, self.prices, limits)
    self.arena = np.int32(_UNLIMITED)
    if settings.slots is not None:
      longest = max((len(prompt.tokens) for prompt in prompts), default=1)
      self.arena = np.int32(generation.bucket(longest) + settings.slots)
    self.width = decoder.shape.asks * decoder.shape.children
    self.samplers: Sequence[controllers.Sampler] | None = None
    self.cancelled: Callable[[int], bool] = lambda problem: False
    self.jobs: dict[int, jobs_lib.Job] = {}

  def run(self, names, budgets, seed) -> Iterator[search_lib.SearchResult]:
    """Turns the wheel until all problems have been yielded."""
    waiting = list(range(len(names)))[::-1]
    self.slots = self.go.empty(self.size)
    try:
      while waiting or self.jobs:
        fresh = self._move_in(waiting, names, budgets, seed)
        yield from self._leave(fresh)
        gone = [g for g, j in self.jobs.items() if self.cancelled(j.index)]
        yield from self._leave(dict.fromkeys(gone, "cancelled"))
        planned = [g for g, job in self.jobs.items() if not job.asked]
        yield from self._leave(self._plan(planned))
        for completion in self.engine.step():
          self._receive(completion)
        self._stop_late()
        self._ask_again()
        jobs = self.jobs.items()
        self._tell(
          [g for g, job in jobs if job.asked and len(job.got) == len(job.asked)]
        )
        halted = {g: job.halt for g, job in jobs if job.halt and not job.asked}
        yield from self._leave(halted)
    finally:  # however the run ends, the engine can be used for another
      for group in list(self.jobs):
        self._close(group)

  def _move_in(self, waiting, names, budgets, seed) -> dict[int, str]:
    """Fills empty slots; returns those that cannot pay, and what they lack."""
    empty = [g for g in range(self.size) if g not in self.jobs]
    new = {g: waiting.pop() for g in empty if waiting}
    if not new:
      return {}
    keys, meters = [self.slots.key[0]] * self.size, [None] * self.size
    length = np.ones((self.size,), np.int32)
    for g, i in new.items():
      self.jobs[g] = jobs_lib.Job(
        i, self.prompts[i], self.prices, self.clock(), budgets[i]
      )
      keys[g] = search_lib.problem_key(seed, names[i])
      meters[g] = budget_lib.Meter.start(budgets[i]).to_arrays()
      length[g] = len(self.prompts[i].tokens)
      self.jobs[g].end, self.jobs[g].text = [int(length[g])], [""]
    blank = meters[next(iter(new))]
    meter = _stacked([m or blank for m in meters])
    self.slots, opened = self.go.open(
      self.slots, self._mask(new), length, jnp.stack(keys), meter
    )
    opened = jax.device_get(opened)
    paid = {g: self.jobs[g].prompt for g in new if opened.paid[g]}
    for g in paid:
      self.jobs[g].paid = True
    self.engine.open(paid)
    if self.verifier is not None:
      self.verifier.open(paid)
    return {g: costs.FIELDS[opened.short[g]] for g in new if g not in paid}

  def _plan(self, groups) -> dict[int, str]:
    """Asks and submits; returns the slots that have stopped, and why."""
    if not groups:
      return {}
    seconds = np.zeros((self.size,), np.float32)
    for g in groups:
      job = self.jobs[g]
      taken = self.clock() - job.started
      seconds[g], job.charged = taken - job.charged, taken
      job.rounds += 1
    self.slots, plan = self.go.plan(
      self.slots, self._mask(groups), self.arena, seconds
    )
    plan = jax.device_get(plan)
    stopped = {}
    for g in groups:
      tickets = plan.limit[g].nonzero()[0].tolist()
      asked = {t: self._request(plan, g, t) for t in tickets}
      self.jobs[g].asked, self.jobs[g].got = asked, {}
      self.jobs[g].read = set()
      self.engine.submit(list(asked.values()))
      if not asked:
        stopped[g] = _stop_reason(plan, g)
    return stopped

  def _request(self, plan, group, ticket) -> engine_lib.Request:
    index = self.jobs[group].index
    return engine_lib.Request(
      group=group,
      ticket=ticket,
      node=int(plan.node[group, ticket]),
      until=int(plan.until[group, ticket]),
      limit=int(plan.limit[group, ticket]),
      seed=tuple(plan.seed[group, ticket].tolist()),
      sampler=None if self.samplers is None else self.samplers[index],
    )

  def _receive(self, got: engine_lib.Completion) -> None:
    """Takes a completion; one that was lost waits to be asked for again."""
    job, ticket = self.jobs[got.group], got.ticket
    job.bill(got.bill)
    if got.failure is None:
      job.got[ticket] = got
      return
    if got.failure.again:
      job.lost[ticket] = got
    else:
      job.got[ticket] = got
      job.halt = job.halt or f"engine: {got.failure.error}"

  def _ask_again(self) -> None:
    """Submits what was lost, as far as the budgets can pay for it."""
    for job in self.jobs.values():
      for ticket, got in list(job.lost.items()):
        request, context = job.asked[ticket], job.context(ticket)
        meter = job.meter(self.clock(), without=job.lost)
        limit = self.prices.longest(meter, context, request.limit)
        others = len(job.got) + len(job.lost) < len(job.asked)
        if limit < request.limit and others:
          continue  # they may cost less than is set aside for them
        del job.lost[ticket]
        if limit:
          job.asked[ticket] = dataclasses.replace(
            request, limit=limit, attempt=request.attempt + 1
          )
          self.engine.submit([job.asked[ticket]])
        else:
          job.got[ticket] = got
          short = meter.exhausted_by(self.prices.child(1, context))
          job.halt = job.halt or short

  def _stop_late(self) -> None:
    """Cancels what problems whose seconds have run out still wait for."""
    for g, job in self.jobs.items():
      limit = job.budget.seconds
      late = limit is not None and self.clock() - job.started >= limit
      if late and len(job.got) < len(job.asked):
        for completion in self.engine.cancel(g):
          job.bill(completion.bill)
          job.got[completion.ticket] = completion
        job.got.update(job.lost)
        job.lost.clear()

  def _tell(self, groups) -> None:
    """Scores, tells and files the rounds that have come back whole."""
    if not groups:
      return
    children = self._children(groups)
    bills = self._bills(groups)
    self.slots, filed = self.go.tell(
      self.slots, self._mask(groups), children, bills
    )
    filed = jax.device_get(filed)
    for g in groups:
      job = self.jobs[g]
      job.count()
      nodes = {}
      for ticket in filter(job.valid, range(self.width)):
        got, node = job.got[ticket], int(filed.ids[g, ticket])
        job.end.append(job.ends(ticket))
        job.text.append(got.text)
        if not got.finished:
          nodes[ticket] = node
      for served in (self.engine, self.verifier):
        if served is not None:
          served.file(g, nodes)
          served.release(g, filed.keep[g])
      job.asked, job.got = {}, {}

  def _children(self, groups) -> slots_lib.Children:
    shape = (self.size, self.width)
    children = slots_lib.Children(
      valid=np.zeros(shape, bool),
      finished=np.zeros(shape, bool),
      length=np.zeros(shape, np.int32),
      reward=np.ones(shape, np.float32),
      logprob=np.zeros(shape, np.float32),
      answer=np.full(shape, -1, np.int32),
      end=np.zeros(shape, np.int32),
      sampled=np.zeros(shape, bool),
      scored=np.zeros(shape, bool),
    )
    if self.verifier is not None:
      self._score(groups, children.reward)
    for g in groups:
      job = self.jobs[g]
      for ticket, got in job.got.items():
        at = (g, ticket)
        children.length[at], children.logprob[at] = got.length, got.logprob
        children.end[at] = job.ends(ticket)
        children.sampled[at] = got.length > 0 and got.bill is None
        if got.stopped:
          children.valid[at], children.finished[at] = True, got.finished
          children.answer[at] = got.answer
          children.scored[at] = got.length > 0 and ticket not in job.read
    return children

  def _score(self, groups, reward: np.ndarray) -> None:
    """Has spans scored, into `reward`; those that cannot be are dropped."""
    spans = [
      self._span(got)
      for g in groups
      for _, got in sorted(self.jobs[g].got.items())
      if got.stopped
    ]
    while spans:
      again = []
      for span, said in zip(spans, self.verifier.score(spans), strict=True):
        if not isinstance(said, engine_lib.Verdict):
          reward[span.group, span.ticket] = said
        elif self._judged(span, said):
          reward[span.group, span.ticket] = said.reward
        elif self.jobs[span.group].got[span.ticket].stopped:
          again.append(dataclasses.replace(span, attempt=span.attempt + 1))
      spans = again

  def _judged(self, span, verdict) -> bool:
    """Takes a verdict; one that failed for good makes its child unusable."""
    job, ticket = self.jobs[span.group], span.ticket
    job.bill(verdict.bill)
    if verdict.bill is not None:
      job.read.add(ticket)
    if verdict.failure is None:
      return True
    got = job.got[ticket]
    price = self.prices.verifier.price(got.length, job.context(ticket))
    job.read.add(ticket)  # or the meter would expect to pay for it twice
    short = job.meter(self.clock()).exhausted_by(price)
    if verdict.failure.again and short is None:
      job.read.discard(ticket)
      return False
    job.got[ticket] = dataclasses.replace(got, stopped=False, finished=False)
    given_up = short if verdict.failure.again else None
    job.halt = job.halt or given_up or f"verifier: {verdict.failure.error}"
    return False

  def _bills(self, groups) -> costs.Cost:
    """What slots were billed and not charged yet: arrays [G]."""
    bills = {
      name: np.zeros(
        (self.size,), np.int32 if name in costs.COUNTS else np.float32
      )
      for name in costs.FIELDS
    }
    for g in groups:
      job = self.jobs[g]
      for name, value in job.unpaid.as_dict().items():
        if value:
          up = int if name in costs.COUNTS else rounding.float32_up
          bills[name][g] = up(value)
      job.unpaid = costs.Cost()
    return costs.Cost(**bills)

  def _span(self, got) -> engine_lib.Span:
    return engine_lib.Span(
      group=got.group,
      ticket=got.ticket,
      parent=self.jobs[got.group].asked[got.ticket].node,
      text=got.text,
      tokens=got.tokens,
      finished=got.finished,
    )

  def _leave(self, stopped) -> Iterator[search_lib.SearchResult]:
    """Frees slots, and yields what came of their problems."""
    for g, reason in stopped.items():
      result = self._result(g, reason)
      self._close(g)
      yield result

  def _result(self, group, reason) -> search_lib.SearchResult:
    job = self.jobs[group]
    tree, answer = jax.device_get(self.go.answer(self.slots, np.int32(group)))
    used = int(tree.used)
    record = search_lib.TreeRecord(
      parent=tree.parent[:used],
      reward=tree.reward[:used],
      status=tree.status[:used],
      answer=tree.answer[:used],
      expanded_at=tree.expanded_at[:used],
      weight=answer.weight[:used],
      text=job.text,
      chosen=int(answer.node),
    )
    chosen = record.chosen
    return search_lib.SearchResult(
      problem=job.index,
      completion=record.completion(chosen) if chosen > 0 else None,
      cost=job.spent(self.clock()),
      stop=reason,
      rounds=job.rounds,
      tree=record,
      assumed=job.assumed,
    )

  def _close(self, group) -> None:
    del self.jobs[group]
    self.engine.close(group)
    if self.verifier is not None:
      self.verifier.close(group)

  def _mask(self, groups) -> np.ndarray:
    mask = np.zeros((self.size,), bool)
    mask[list(groups)] = True
    return mask


def _stop_reason(plan, group) -> str:
  if not plan.asked[group]:
    return "capacity" if plan.full[group] else "done"
  short = plan.short[group]
  return costs.FIELDS[short] if short >= 0 else "capacity"


def _stacked(meters):
  return jax.tree.map(lambda *xs: np.stack(xs), *meters)
