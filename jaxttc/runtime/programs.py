# SPDX-License-Identifier: Apache-2.0
"""Runs many programs that ask models for text, at once, each on its budget.

A program is a generator: it yields an `Ask`, is sent the `Replies`, and goes
on; what it returns is its result. It never touches a model, so one program
runs on any engine, and those that wait for one model share its batches.

    def twice(question):
      draft = yield Ask(question, limit=100)
      final = yield Ask(question + draft[0].text + "Check.\\n", limit=100)
      return final[0].text

    for done in serve([twice(q) for q in questions], {"policy": engine}, ...):
      print(done.index, done.value, done.cost)

What an ask may cost at most is known before it is sent. Samples that the
program's budget cannot pay for in full are not drawn; if it cannot pay for
one, that one is shortened; if not even its first token, the reply says so.
"""

import collections
from collections.abc import Generator, Iterator, Mapping, Sequence
import dataclasses
import time
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxttc.cost import budget as budget_lib
from jaxttc.cost import costs
from jaxttc.inference import engine as engine_lib
from jaxttc.runtime import funding
from jaxttc.runtime import search as search_lib


class Ask(NamedTuple):
  """Text that a program wants.

  Attributes:
    prompt: to go on from.
    limit: most tokens of a sample.
    samples: how many.
    model: which engine.
    stage: under what name its tokens are counted.
  """

  prompt: str
  limit: int
  samples: int = 1
  model: str = "policy"
  stage: str = "answer"


class Reply(NamedTuple):
  """One sample.

  Attributes:
    text: sampled; "" if it was not paid for or was lost.
    tokens: sampled.
    finished: whether it ended by itself.
    error: why there is no text, in one line; "" if there is.
  """

  text: str
  tokens: int
  finished: bool
  error: str = ""


Replies = list[Reply]
Program = Generator[Ask, Replies, Any]


class Done(NamedTuple):
  """A program that has returned.

  Attributes:
    index: which one.
    value: what it returned.
    cost: of all it asked for; seconds since it was taken up.
    tokens: sampled, by stage.
    prompt_tokens: read, by stage; those of a prompt asked for several samples
      count once.
  """

  index: int
  value: Any
  cost: costs.Cost
  tokens: dict[str, int]
  prompt_tokens: dict[str, int]


@dataclasses.dataclass
class _Run:
  """A program under way."""

  index: int
  name: str
  program: Program
  budget: budget_lib.Budget
  started: float
  spent: costs.Cost = costs.Cost()
  asked: int = 0
  tokens: collections.Counter[str] = dataclasses.field(
    default_factory=collections.Counter
  )
  prompt_tokens: collections.Counter[str] = dataclasses.field(
    default_factory=collections.Counter
  )

  def left(self, now: float) -> budget_lib.Meter:
    """The meter, by a clock."""
    spent = dataclasses.replace(self.spent, seconds=now - self.started)
    return budget_lib.Meter(budget=self.budget, spent=spent)


@dataclasses.dataclass
class _Job:
  """An ask that an engine works on, in a group of its own."""

  run: _Run
  ask: Ask
  length: int
  limits: list[int]
  got: dict[int, Reply] = dataclasses.field(default_factory=dict)


def serve(
  programs: Sequence[Program],
  engines: Mapping[str, engine_lib.Engine],
  names: Sequence[str],
  *,
  budget: budget_lib.Budget | Sequence[budget_lib.Budget] | None = None,
  seed: int = 0,
) -> Iterator[Done]:
  """Runs programs to their ends; see the module docstring.

  Args:
    programs: that have not begun.
    engines: by the name that an `Ask.model` says.
    names: a unique id a program; with the seed and the number of the ask it
      determines all that is sampled.
    budget: of each program; one for all, or one each; unlimited if None.
    seed: of all sampling.

  Yields:
    Programs in the order in which they return.

  Raises:
    ValueError: if numbers of programs, names and budgets differ, names are not
      unique, a budget limits what an engine cannot meter, or an ask names no
      engine, has no prompt, no samples or no tokens, or does not fit the
      model. What a program raises is passed on.
  """
  given = budget_lib.Budget() if budget is None else budget
  budgets = (
    [given] * len(programs)
    if isinstance(given, budget_lib.Budget)
    else list(given)
  )
  if not len(programs) == len(names) == len(budgets):
    raise ValueError(
      f"{len(programs)} programs, {len(names)} names and {len(budgets)}"
      " budgets; expected as many of each"
    )
  if len(set(names)) < len(names):
    raise ValueError("two programs have one name; names decide random keys")
  for limits in budgets:
    _check_metered(limits, engines)
  waiting = collections.deque(
    _Run(i, name, program, limits, 0.0)
    for i, (name, program, limits) in enumerate(
      zip(names, programs, budgets, strict=True)
    )
  )
  desks = {name: _Desk(name, engine, seed) for name, engine in engines.items()}
  room = sum(engine.groups for engine in engines.values())
  under_way = 0
  try:
    while waiting or under_way:
      while waiting and under_way < room:
        run = waiting.popleft()
        run.started = time.monotonic()
        under_way += 1
        done = _advance(run, None, desks)
        if done is not None:
          under_way -= 1
          yield done
      for desk in desks.values():
        for run, replies in desk.turn():
          done = _advance(run, replies, desks)
          if done is not None:
            under_way -= 1
            yield done
  finally:  # however it ends, the engines can be used for another
    for desk in desks.values():
      desk.close()


def _advance(run: _Run, replies: Replies | None, desks) -> Done | None:
  """Sends replies to a program; puts what it asks on a desk."""
  while True:
    try:
      ask = next(run.program) if replies is None else run.program.send(replies)
    except StopIteration as stop:
      seconds = time.monotonic() - run.started
      return Done(
        run.index,
        stop.value,
        dataclasses.replace(run.spent, seconds=seconds),
        dict(run.tokens),
        dict(run.prompt_tokens),
      )
    if ask.model not in desks:
      raise ValueError(
        f"{run.name} asked model {ask.model!r}; expected one of"
        f" {', '.join(desks)}"
      )
    replies = desks[ask.model].take(run, ask)
    if replies is None:
      return None


class _Desk:
  """One engine, and the asks that wait for it."""

  def __init__(self, name: str, engine: engine_lib.Engine, seed: int):
    self._name, self._engine, self._seed = name, engine, seed
    self._prices = funding.Prices(
      prompt=engine.prompt_tariff, policy=engine.tariff
    )
    self._queue: collections.deque[tuple[_Job, engine_lib.Prompt]] = (
      collections.deque()
    )
    self._jobs: dict[int, _Job] = {}

  def take(self, run: _Run, ask: Ask) -> Replies | None:
    """Queues an ask; replies at once to one that cannot be paid for."""
    if ask.limit < 1 or ask.samples < 1 or not ask.prompt.strip():
      raise ValueError(
        f"{run.name} asked for {ask.samples} samples of {ask.limit} tokens"
        f" after {ask.prompt[:40]!r}; expected at least one of each, and text"
      )
    tokens = self._engine.encode(ask.prompt)
    room = self._engine.max_length - len(tokens)
    if room < 1:
      raise ValueError(
        f"{run.name}: a prompt of {len(tokens)} tokens leaves no room; model"
        f" {self._name!r} takes {self._engine.max_length}"
      )
    run.asked += 1
    limits = self._fund(run, ask, len(tokens), min(ask.limit, room))
    if not limits:
      return [Reply("", 0, False, "not paid for")] * ask.samples
    root = self._prices.root(len(tokens))
    run.spent = run.spent + root
    run.prompt_tokens[ask.stage] += len(tokens)
    job = _Job(run, ask, len(tokens), limits)
    self._queue.append(
      (job, engine_lib.Prompt(text=ask.prompt, tokens=tuple(tokens)))
    )
    return None

  def _fund(self, run: _Run, ask: Ask, length: int, most: int) -> list[int]:
    """Token limits of the samples that can be paid for."""
    meter = run.left(time.monotonic())
    root = self._prices.root(length)
    if not meter.affords(root):
      return []
    meter = budget_lib.Meter(budget=meter.budget, spent=meter.spent + root)
    full = meter.fundable(self._prices.child(most, length), ask.samples)
    if full:
      return [most] * full
    longest = self._prices.longest(meter, length, most)
    return [longest] if longest else []

  def turn(self) -> list[tuple[_Run, Replies]]:
    """Opens what fits, runs one segment; returns the asks that are done."""
    opened: dict[int, engine_lib.Prompt] = {}
    for group in range(self._engine.groups):
      if self._queue and group not in self._jobs:
        self._jobs[group], opened[group] = self._queue.popleft()
    if opened:
      self._engine.open(opened)
      self._engine.submit(
        [
          engine_lib.Request(
            group=group,
            ticket=ticket,
            node=0,
            until=engine_lib.END,
            limit=limit,
            seed=self._key(self._jobs[group], ticket),
          )
          for group in opened
          for ticket, limit in enumerate(self._jobs[group].limits)
        ]
      )
    if not self._jobs:
      return []
    for got in self._engine.step():
      self._receive(got)
    ready = [g for g, j in self._jobs.items() if len(j.got) == len(j.limits)]
    return [self._finish(group) for group in ready]

  def _receive(self, got: engine_lib.Completion) -> None:
    job = self._jobs[got.group]
    bill = got.bill
    run, ask = job.run, job.ask
    run.spent = run.spent + (
      self._prices.sampled(got.length, job.length)
      if bill is None
      else bill.spent
    )
    run.tokens[ask.stage] += got.length
    error = got.failure.error if got.failure is not None else ""
    job.got[got.ticket] = Reply(got.text, got.length, got.finished, error)

  def _finish(self, group: int) -> tuple[_Run, Replies]:
    job = self._jobs.pop(group)
    self._engine.close(group)
    replies = [job.got[ticket] for ticket in range(len(job.limits))]
    unpaid = job.ask.samples - len(replies)
    return job.run, replies + [Reply("", 0, False, "not paid for")] * unpaid

  def _key(self, job: _Job, ticket: int) -> tuple[int, ...]:
    key = search_lib.problem_key(self._seed, job.run.name)
    key = jax.random.fold_in(jax.random.fold_in(key, job.run.asked), ticket)
    return tuple(np.asarray(jax.random.key_data(key)).tolist())

  def close(self) -> None:
    """Ends whatever the engine still works on."""
    for group in self._jobs:
      self._engine.close(group)


def _check_metered(limits, engines) -> None:
  for name, engine in engines.items():
    known = engine.metered | {"seconds"}
    for field in limits.validate().as_dict():
      if field not in known:
        raise ValueError(
          f"budget.{field} cannot be kept: model {name!r} meters"
          f" {', '.join(f for f in costs.FIELDS if f in known)}"
        )
