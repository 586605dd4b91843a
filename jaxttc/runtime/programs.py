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
A reply that an engine lost is charged for and asked for again, as long as the
engine retries and the budget pays; after that, the reply says so too.

Instead of text a program may want a number that a gauge reads off a model's
state (`Measure`). Reading is charged for like a prompt, and programs that wait
for one gauge share its batches as well.
"""

import collections
from collections.abc import Generator, Iterator, Mapping, Sequence
import dataclasses
import time
from typing import Any, NamedTuple

from jaxttc.cost import budget as budget_lib
from jaxttc.cost import costs
from jaxttc.inference import engine as engine_lib
from jaxttc.runtime import asks, desks

Ask, Measure = asks.Ask, asks.Measure
Reply, Replies, GaveUp = asks.Reply, asks.Replies, asks.GaveUp
Program = Generator[asks.Ask | asks.Measure, asks.Replies, Any]


class Done(NamedTuple):
  """A program that has returned, or given up.

  Attributes:
    index: which one.
    value: what it returned; None if it gave up.
    cost: of all it asked for; seconds since it was taken up.
    tokens: sampled, by stage.
    prompt_tokens: read, by stage; those of a prompt asked for several samples
      count once.
    error: why it gave up, in one line; "" if it did not.
  """

  index: int
  value: Any
  cost: costs.Cost
  tokens: dict[str, int]
  prompt_tokens: dict[str, int]
  error: str = ""


def serve(
  programs: Sequence[Program],
  engines: Mapping[str, engine_lib.Engine],
  names: Sequence[str],
  *,
  gauges: Mapping[str, asks.Gauge] | None = None,
  budget: budget_lib.Budget | Sequence[budget_lib.Budget] | None = None,
  seed: int = 0,
) -> Iterator[Done]:
  """Runs programs to their ends; see the module docstring.

  Args:
    programs: that have not begun.
    engines: by the name that an `Ask.model` says.
    names: a unique id a program; with the seed and the number of the ask it
      determines all that is sampled.
    gauges: by the name that a `Measure.gauge` says.
    budget: of each program; one for all, or one each; unlimited if None.
    seed: of all sampling.

  Yields:
    Programs in the order in which they return or give up.

  Raises:
    ValueError: if numbers of programs, names and budgets differ, names are not
      unique, a budget limits what an engine or a gauge cannot meter, or an ask
      names no engine or gauge, or has no prompt, no samples or no tokens. What
      a program raises but `GaveUp` is passed on.
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
  gauges = {} if gauges is None else gauges
  for limits in budgets:
    _check_metered(limits, {**engines, **gauges})
  waiting = collections.deque(
    desks.Run(i, name, program, limits, 0.0)
    for i, (name, program, limits) in enumerate(
      zip(names, programs, budgets, strict=True)
    )
  )
  open_desks: dict[tuple[type, str], desks.Desk] = {
    (asks.Ask, name): desks.EngineDesk(name, engine, seed)
    for name, engine in engines.items()
  }
  for name, gauge in gauges.items():
    open_desks[asks.Measure, name] = desks.GaugeDesk(name, gauge)
  room = sum(engine.groups for engine in engines.values())
  under_way = 0
  try:
    while waiting or under_way:
      while waiting and under_way < max(room, 1):
        run = waiting.popleft()
        run.started = time.monotonic()
        under_way += 1
        done = _advance(run, None, open_desks)
        if done is not None:
          under_way -= 1
          yield done
      for desk in open_desks.values():
        for run, replies in desk.turn():
          done = _advance(run, replies, open_desks)
          if done is not None:
            under_way -= 1
            yield done
  finally:  # however it ends, the engines can be used for another
    for desk in open_desks.values():
      desk.close()


def _advance(
  run: desks.Run,
  replies: asks.Replies | None,
  open_desks: Mapping[tuple[type, str], desks.Desk],
) -> Done | None:
  """Sends replies to a program; puts what it asks on a desk."""
  while True:
    try:
      ask = next(run.program) if replies is None else run.program.send(replies)
    except StopIteration as stop:
      return _done(run, stop.value)
    except asks.GaveUp as why:
      return _done(run, None, str(why))
    measured = isinstance(ask, asks.Measure)
    name = ask.gauge if measured else ask.model
    desk = open_desks.get((type(ask), name))
    if desk is None:
      known = [n for kind, n in open_desks if kind is type(ask)]
      raise ValueError(
        f"{run.name} asked {'gauge' if measured else 'model'} {name!r};"
        f" expected one of {', '.join(known) or 'none'}"
      )
    replies = desk.take(run, ask)
    if replies is None:
      return None


def _done(run: desks.Run, value: Any, error: str = "") -> Done:
  seconds = time.monotonic() - run.started
  return Done(
    run.index,
    value,
    dataclasses.replace(run.spent, seconds=seconds),
    dict(run.tokens),
    dict(run.prompt_tokens),
    error,
  )


def _check_metered(limits, served) -> None:
  for name, one in served.items():
    known = one.metered | {"seconds"}
    for field in limits.validate().as_dict():
      if field not in known:
        raise ValueError(
          f"budget.{field} cannot be kept: model {name!r} meters"
          f" {', '.join(f for f in costs.FIELDS if f in known)}"
        )
