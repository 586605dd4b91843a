# SPDX-License-Identifier: Apache-2.0
"""Where programs wait: a desk an engine or a gauge, with what it owes whom."""

import collections
import dataclasses
import math
import time
from typing import Any, Protocol, runtime_checkable

import jax
import numpy as np

from jaxttc.cost import budget as budget_lib
from jaxttc.cost import costs
from jaxttc.inference import engine as engine_lib
from jaxttc.runtime import asks, funding
from jaxttc.runtime import search as search_lib

_UNPAID = "not paid for"


@dataclasses.dataclass
class Run:
  """A program under way.

  Attributes:
    index: which one.
    name: of it; decides random keys.
    program: the generator.
    budget: its limits.
    started: when it was taken up, by `time.monotonic`.
    spent: so far, but for seconds.
    asked: asks of engines so far.
    tokens: sampled, by stage.
    prompt_tokens: read, by stage.
  """

  index: int
  name: str
  program: Any
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

  def read(self, tokens: int, stage: str, cost: costs.Cost) -> None:
    """Charges a prompt."""
    self.spent = self.spent + cost
    self.prompt_tokens[stage] += tokens


Turn = list[tuple[Run, asks.Replies]]


@runtime_checkable
class Desk(Protocol):
  """One engine or gauge, and who waits for it."""

  def take(self, run: Run, ask: Any) -> asks.Replies | None:
    """Queues an ask; replies at once to one that cannot be served.

    Raises:
      ValueError: if the ask makes no sense.
    """
    ...

  def turn(self) -> Turn:
    """Works a little; returns the asks that are done."""
    ...

  def close(self) -> None:
    """Ends whatever is still worked on."""
    ...


@dataclasses.dataclass
class _Job:
  """An ask that an engine works on, in a group of its own.

  Attributes:
    run: whose.
    ask: what.
    length: tokens of its prompt.
    requests: by ticket, as they were last sent.
    got: replies, by ticket.
    lost: by ticket, why; to be asked for again, if that can be paid for.
  """

  run: Run
  ask: asks.Ask
  length: int
  requests: dict[int, engine_lib.Request]
  got: dict[int, asks.Reply] = dataclasses.field(default_factory=dict)
  lost: dict[int, str] = dataclasses.field(default_factory=dict)

  @property
  def done(self) -> bool:
    """Whether every sample has come, or will not."""
    return len(self.got) == len(self.requests)


class EngineDesk:
  """One engine, and the asks that wait for it."""

  def __init__(self, name: str, engine: engine_lib.Engine, seed: int):
    """A desk with an empty queue.

    Args:
      name: of the engine, for errors.
      engine: no one else uses it meanwhile.
      seed: of all sampling.
    """
    self._name, self._engine, self._seed = name, engine, seed
    self._prices = funding.Prices(
      prompt=engine.prompt_tariff, policy=engine.tariff
    )
    self._queue: collections.deque[
      tuple[Run, asks.Ask, tuple[int, ...], list[int]]
    ] = collections.deque()
    self._jobs: dict[int, _Job] = {}

  def take(self, run: Run, ask: asks.Ask) -> asks.Replies | None:
    """Queues an ask; see `Desk.take`."""
    if ask.limit < 1 or ask.samples < 1 or not ask.prompt.strip():
      raise ValueError(
        f"{run.name} asked for {ask.samples} samples of {ask.limit} tokens"
        f" after {ask.prompt[:40]!r}; expected at least one of each, and text"
      )
    tokens = tuple(self._engine.encode(ask.prompt))
    room = self._engine.max_length - len(tokens)
    if room < 1:
      return asks.refused(
        _no_room(self._name, len(tokens), self._engine.max_length), ask.samples
      )
    run.asked += 1
    limits = self._fund(run, ask, len(tokens), min(ask.limit, room))
    if not limits:
      return asks.refused(_UNPAID, ask.samples)
    run.read(len(tokens), ask.stage, self._prices.root(len(tokens)))
    self._queue.append((run, ask, tokens, limits))
    return None

  def _fund(self, run: Run, ask: asks.Ask, length: int, most: int) -> list[int]:
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

  def turn(self) -> Turn:
    """Opens what fits and runs one segment; see `Desk.turn`."""
    self._open()
    if not self._jobs:
      return []
    for got in self._engine.step():
      self._receive(got)
    self._ask_again()
    return [self._finish(g) for g, job in list(self._jobs.items()) if job.done]

  def _open(self) -> None:
    opened: dict[int, engine_lib.Prompt] = {}
    for group in range(self._engine.groups):
      if self._queue and group not in self._jobs:
        run, ask, tokens, limits = self._queue.popleft()
        requests = {
          ticket: engine_lib.Request(
            group=group,
            ticket=ticket,
            node=0,
            until=engine_lib.END,
            limit=limit,
            seed=self._key(run, ticket),
          )
          for ticket, limit in enumerate(limits)
        }
        self._jobs[group] = _Job(run, ask, len(tokens), requests)
        opened[group] = engine_lib.Prompt(text=ask.prompt, tokens=tokens)
    if opened:
      self._engine.open(opened)
      self._engine.submit(
        [r for group in opened for r in self._jobs[group].requests.values()]
      )

  def _receive(self, got: engine_lib.Completion) -> None:
    """Charges a completion; one that was lost may be asked for again."""
    job = self._jobs[got.group]
    job.run.spent = job.run.spent + (
      self._prices.sampled(got.length, job.length)
      if got.bill is None
      else got.bill.spent
    )
    job.run.tokens[job.ask.stage] += got.length
    error = "" if got.failure is None else got.failure.error
    if got.failure is not None and got.failure.again:
      job.lost[got.ticket] = error
    else:
      job.got[got.ticket] = asks.Reply(
        got.text, got.length, got.finished, error
      )

  def _ask_again(self) -> None:
    """Submits what was lost, as far as the budgets can pay for it.

    What the samples still under way may cost is set aside first. One that can
    only be had shorter waits for them: they may cost less.
    """
    for job in self._jobs.values():
      for ticket, error in list(job.lost.items()):
        under_way = [
          request
          for other, request in job.requests.items()
          if other not in job.got and other not in job.lost
        ]
        meter = job.run.left(time.monotonic())
        for request in under_way:
          most = self._prices.child(request.limit, job.length)
          meter = budget_lib.Meter(
            budget=meter.budget, spent=meter.spent + most
          )
        request = job.requests[ticket]
        limit = self._prices.longest(meter, job.length, request.limit)
        if limit < request.limit and under_way:
          continue
        del job.lost[ticket]
        if not limit:
          line = f"{error}; asking again is {_UNPAID}"
          job.got[ticket] = asks.Reply("", 0, False, line)
          continue
        job.requests[ticket] = dataclasses.replace(
          request, limit=limit, attempt=request.attempt + 1
        )
        self._engine.submit([job.requests[ticket]])

  def _finish(self, group: int) -> tuple[Run, asks.Replies]:
    job = self._jobs.pop(group)
    self._engine.close(group)
    replies = [job.got[ticket] for ticket in job.requests]
    unpaid = job.ask.samples - len(replies)
    return job.run, replies + asks.refused(_UNPAID, unpaid)

  def _key(self, run: Run, ticket: int) -> tuple[int, ...]:
    key = search_lib.problem_key(self._seed, run.name)
    key = jax.random.fold_in(jax.random.fold_in(key, run.asked), ticket)
    return tuple(np.asarray(jax.random.key_data(key)).tolist())

  def close(self) -> None:
    """Ends whatever the engine still works on."""
    for group in self._jobs:
      self._engine.close(group)


class GaugeDesk:
  """One gauge, and the texts that wait for it: all are read at once."""

  def __init__(self, name: str, gauge: asks.Gauge):
    """A desk with an empty queue, for a gauge of a name."""
    self._name, self._gauge = name, gauge
    self._queue: list[tuple[Run, str]] = []

  def take(self, run: Run, ask: asks.Measure) -> asks.Replies | None:
    """Queues a text, and charges for it; see `Desk.take`."""
    if not ask.prompt.strip():
      raise ValueError(f"{run.name} asked to measure an empty text")
    length = len(self._gauge.encode(ask.prompt))
    if length > self._gauge.max_length:
      return asks.refused(_no_room(self._name, length, self._gauge.max_length))
    cost = self._gauge.tariff.price(length, 0)
    if not run.left(time.monotonic()).affords(cost):
      return asks.refused(_UNPAID)
    run.read(length, ask.stage, cost)
    self._queue.append((run, ask.prompt))
    return None

  def turn(self) -> Turn:
    """Reads all that wait, in one batch.

    Raises:
      ValueError: if the gauge gives other than a finite number a text.
    """
    queue, self._queue = self._queue, []
    if not queue:
      return []
    values = list(self._gauge.measure([text for _, text in queue]))
    if len(values) != len(queue) or not all(map(math.isfinite, values)):
      raise ValueError(
        f"gauge {self._name!r} gave {len(values)} numbers for {len(queue)}"
        " texts, or one that is not finite"
      )
    return [
      (run, [asks.Reply("", 0, True, value=float(value))])
      for (run, _), value in zip(queue, values, strict=True)
    ]

  def close(self) -> None:
    """Forgets who waits."""
    self._queue = []


def _no_room(name: str, length: int, most: int) -> str:
  return (
    f"a prompt of {length} tokens leaves no room; model {name!r} takes {most}"
  )
