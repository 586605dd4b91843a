# SPDX-License-Identifier: Apache-2.0
"""Several engines behind the protocol of one: a router picks for each search.

When a search first asks for something, its prompt is routed and read by the
engine that was picked, which then serves it to its end. So one search has one
model, several searches share each engine's batches, and whatever takes an
engine (the driver, agents' programs) takes this one.

Prices. What a search will cost is known when its engine is, and that is after
the driver has asked for the tariff. So the tariff here is a bound: of every
field the dearest engine's, with the prompt counted to each request. Every
completion brings a bill of what it cost by its own engine's tariff, and the
first of a search bills its prompt. Budgets hold as ever, but a search whose
budget is nearly spent may be cut a little earlier than on the engine alone.
"""

from collections.abc import Iterable, Mapping, Sequence
import dataclasses
import os

import numpy as np

from jaxttc.allocators.routing import decision_log, dispatch
from jaxttc.cost import costs
from jaxttc.cost import tariff as tariff_lib
from jaxttc.inference import engine as engine_lib
from jaxttc.inference import prompt_batch
from jaxttc.runtime import funding


@dataclasses.dataclass
class _Search:
  """What is known of one search.

  Attributes:
    text: of its prompt.
    engine: that serves it; None until it asks for something.
    decision: why that one.
    length: tokens of the prompt, as its engine counts them.
    ends: tokens up to the end of each node.
    asked: requests under way, by ticket.
    loose: tokens up to the end of the spans that may still be filed.
    waiting: requests that no engine has been given yet.
    owed: what was spent on the prompt and is not on a bill yet.
    spent: all bills.
  """

  text: str
  engine: engine_lib.Engine | None = None
  decision: decision_log.Decision | None = None
  length: int = 0
  ends: dict[int, int] = dataclasses.field(default_factory=dict)
  asked: dict[int, engine_lib.Request] = dataclasses.field(default_factory=dict)
  loose: dict[int, int] = dataclasses.field(default_factory=dict)
  waiting: list[engine_lib.Request] = dataclasses.field(default_factory=list)
  owed: costs.Cost = costs.Cost()
  spent: costs.Cost = costs.Cost()


class RoutedEngine:
  """A router over engines, as one `Engine`; see the module docstring.

  Attributes:
    groups: searches served at once: those of the engine that serves fewest.
    max_length: of the engine that takes least.
    prompt_tariff: None: prompts are counted to requests.
    tariff: a bound over all engines.
    metered: the fields that all engines know.
    asked: the engine that each prompt was given to last, by its text.
  """

  def __init__(
    self,
    engines: Mapping[str, engine_lib.Engine],
    dispatcher: dispatch.Dispatcher,
    *,
    longest: int | None = None,
    log: str | os.PathLike[str] | None = None,
  ):
    """An engine without open searches.

    Args:
      engines: by the names that the router knows them by.
      dispatcher: picks.
      longest: most tokens of a prompt, by any of the engines; None for
        `max_length`, at which long prompts make the bound loose.
      log: a file that gets a row (`decision_log.Decision`) when a search ends;
        None keeps no log.

    Raises:
      ValueError: if the engines are not those that the router was fitted for,
        or `longest` is below 1.
    """
    if longest is not None and longest < 1:
      raise ValueError(f"longest must be at least 1, got {longest}")
    missing = [name for name in dispatcher.models if name not in engines]
    unknown = [name for name in engines if name not in dispatcher.models]
    if missing or unknown:
      raise ValueError(
        f"the router was fitted for {', '.join(dispatcher.models)}; "
        + (f"no engine is given for {', '.join(missing)}" if missing else "")
        + ("; " if missing and unknown else "")
        + (f"it knows nothing of {', '.join(unknown)}" if unknown else "")
      )
    self._engines = dict(engines)
    self._dispatcher, self._log = dispatcher, log
    self._prices = {
      name: funding.Prices(prompt=one.prompt_tariff, policy=one.tariff)
      for name, one in engines.items()
    }
    each = list(engines.values())
    self.groups = min(one.groups for one in each)
    self.max_length = min(one.max_length for one in each)
    self.prompt_tariff = None
    self._longest = min(longest or self.max_length, self.max_length)
    self.tariff = _bound(each, dispatcher.reading, self._longest)
    self.metered = frozenset.intersection(*(one.metered for one in each))
    self.asked: dict[str, str] = {}
    self._searches: dict[int, _Search] = {}

  def encode(self, text: str) -> tuple[int, ...]:
    """Token ids by the engine that needs most of them."""
    found = [one.encode(text) for one in self._engines.values()]
    return max(found, key=len)

  def open(self, prompts: Mapping[int, engine_lib.Prompt]) -> None:
    """Starts searches. Nothing is read before they ask for something.

    Raises:
      ValueError: for a group out of range or already open, or a prompt that is
        empty or longer than was promised.
    """
    for group, prompt in prompts.items():
      prompt_batch.check_open(group, self.groups, self._searches, prompt)
      if len(prompt.tokens) > self._longest:
        raise ValueError(
          f"group {group}: its prompt has {len(prompt.tokens)} tokens; this "
          f"engine is priced for up to {self._longest}"
        )
    for group, prompt in prompts.items():
      self._searches[group] = _Search(prompt.text)

  def submit(self, requests: Sequence[engine_lib.Request]) -> None:
    """Takes requests; see `Engine.submit`.

    Raises:
      ValueError: as the engine that the search was given to; or for a group
        that is not open.
    """
    for request in requests:
      search = self._search(request.group)
      if search.engine is not None:
        search.engine.submit([request])
      else:
        _check_first(request, search)
        search.waiting.append(request)
      search.asked[request.ticket] = request

  def step(self) -> list[engine_lib.Completion]:
    """Routes the searches that have begun to ask, and steps busy engines."""
    self._begin()
    found = []
    for engine in self._engines.values():
      if any(s.asked for s in self._searches.values() if s.engine is engine):
        found += [self._billed(one) for one in engine.step()]
    return found

  def cancel(self, group: int) -> list[engine_lib.Completion]:
    """Stops all that the group waits for; see `Engine.cancel`.

    Raises:
      ValueError: if the group is not open.
    """
    search = self._search(group)
    if search.engine is not None:
      return [self._billed(one) for one in search.engine.cancel(group)]
    gone = [_nothing(request) for request in search.waiting]
    search.waiting.clear()
    search.asked.clear()
    return gone

  def file(self, group: int, nodes: Mapping[int, int]) -> None:
    """Makes spans nodes, by ticket; the group's other spans are forgotten.

    Raises:
      ValueError: if the group is not open, or as its engine.
    """
    search = self._search(group)
    if search.engine is not None:
      search.engine.file(group, nodes)
    elif nodes:
      raise ValueError(f"group {group} has no spans; it has asked for none")
    search.ends |= {nodes[t]: search.loose[t] for t in nodes}
    search.loose.clear()

  def release(self, group: int, keep: np.ndarray) -> None:
    """Forgets the nodes n with not `keep[n]`; never node 0.

    Raises:
      ValueError: if the group is not open.
    """
    search = self._search(group)
    if search.engine is not None:
      search.engine.release(group, keep)
    search.ends = {n: e for n, e in search.ends.items() if n == 0 or keep[n]}

  def close(self, group: int) -> None:
    """Ends a search, and logs its decision; twice does no harm."""
    search = self._searches.pop(group, None)
    if search is None or search.engine is None:
      return
    search.engine.close(group)
    if self._log is not None:
      assert search.decision is not None
      fields = (search.spent + search.owed).as_dict()
      spent = {name: value for name, value in fields.items() if value}
      decision_log.append(
        self._log, [dataclasses.replace(search.decision, spent=spent)]
      )

  def _search(self, group: int) -> _Search:
    if group not in self._searches:
      raise ValueError(f"group {group} is not open")
    return self._searches[group]

  def _begin(self) -> None:
    """Gives searches that wait to engines, those of an engine in one batch."""
    fresh = {g: s for g, s in self._searches.items() if s.waiting}
    if not fresh:
      return
    decided = self._dispatcher.decide([s.text for s in fresh.values()])
    opening: dict[str, dict[int, engine_lib.Prompt]] = {}
    for (group, search), decision in zip(fresh.items(), decided, strict=True):
      name = decision.choice
      search.engine, search.decision = self._engines[name], decision
      # Models may cut a text into tokens of their own.
      tokens = search.engine.encode(search.text)
      search.length, search.ends = len(tokens), {0: len(tokens)}
      search.owed = self._prices[name].root(len(tokens))
      if self._dispatcher.reading is not None:
        search.owed += self._dispatcher.reading.price(len(tokens), 0)
      prompt = engine_lib.Prompt(text=search.text, tokens=tokens)
      opening.setdefault(name, {})[group] = prompt
      self.asked[search.text] = name
    for name, prompts in opening.items():
      self._engines[name].open(prompts)
    for search in fresh.values():
      search.engine.submit(search.waiting)
      search.waiting = []

  def _billed(self, done: engine_lib.Completion) -> engine_lib.Completion:
    """A completion with what it cost, and where it ends."""
    search = self._searches[done.group]
    assert search.decision is not None
    request = search.asked.pop(done.ticket)
    context = search.ends[request.node]
    end = context + done.length if done.end is None else done.end
    if done.stopped:
      search.loose[done.ticket] = end
    bill = done.bill
    if bill is None:
      spent = costs.Cost()
      if done.length:
        prices = self._prices[search.decision.choice]
        spent = prices.sampled(done.length, context)
      bill = engine_lib.Bill(spent=spent)
    bill = dataclasses.replace(bill, spent=bill.spent + search.owed)
    search.owed = costs.Cost()
    search.spent += bill.spent
    return dataclasses.replace(done, end=end, bill=bill)


def _check_first(request: engine_lib.Request, search: _Search) -> None:
  """Refuses what the engine, once there is one, would refuse."""
  if request.node != 0:
    raise ValueError(
      f"group {request.group} has no node {request.node}; file a span under it "
      "first"
    )
  if request.ticket in search.asked:
    raise ValueError(
      f"ticket {request.ticket} of group {request.group} is taken; file the "
      "round before asking again"
    )
  if request.limit < 1:
    raise ValueError(f"limit must be at least 1, got {request.limit}")


def _nothing(request: engine_lib.Request) -> engine_lib.Completion:
  """What is handed back of a request that no engine saw."""
  return engine_lib.Completion(
    group=request.group,
    ticket=request.ticket,
    text="",
    tokens=(),
    length=0,
    stopped=False,
    finished=False,
    logprob=0.0,
    answer=-1,
    bill=engine_lib.Bill(spent=costs.Cost()),
  )


def _bound(
  engines: Sequence[engine_lib.Engine],
  reading: tariff_lib.Tariff | None,
  longest: int,
) -> tariff_lib.Tariff:
  """A tariff that no engine's own price, prompt included, exceeds."""
  read = costs.Cost(), costs.Cost()
  if reading is not None:
    read = _reading(reading, longest)
  prompts = [
    (costs.Cost(), costs.Cost())
    if one.prompt_tariff is None
    else _reading(one.prompt_tariff, longest)
    for one in engines
  ]
  own = [one.tariff for one in engines]
  return tariff_lib.Tariff(
    token=_dearest(one.token for one in own),
    context=_dearest(one.context for one in own),
    prefix=_dearest(
      one.prefix + prompt for one, (prompt, _) in zip(own, prompts, strict=True)
    )
    + read[0],
    call=_dearest(
      one.call + call for one, (_, call) in zip(own, prompts, strict=True)
    )
    + read[1],
  )


def _reading(
  tariff: tariff_lib.Tariff, longest: int
) -> tuple[costs.Cost, costs.Cost]:
  """A bound on reading a prompt of up to `longest` tokens: a token, a call.

  A prompt of c tokens attends to c (c + 1) / 2 positions.
  """
  attended = tariff.context * ((longest + 1) / 2)
  amounts = {name: getattr(attended, name) for name in costs.AMOUNTS}
  return tariff.token + costs.Cost(**amounts), tariff.call


def _dearest(each: Iterable[costs.Cost]) -> costs.Cost:
  rows = map(costs.quantities, each)
  most = map(max, zip(*rows, strict=True))
  return costs.Cost(**dict(zip(costs.FIELDS, most, strict=True)))
