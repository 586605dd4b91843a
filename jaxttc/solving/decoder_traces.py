# SPDX-License-Identifier: Apache-2.0
"""What a search asked of its models, call by call: recorded, saved, read.

    for result, record in decoder_traces.record(engine, verifier, decoder, ..):
      assert record.cost() == ...  # the counts of result.cost

Engine and verifier are wrapped, so any host-driven search can be recorded, and
none behaves otherwise. A call is the reading of a prompt, the sampling of a
span, or the scoring of one.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
import dataclasses
import json
import os
import pathlib
from typing import Any, NamedTuple

import numpy as np

from jaxttc.cost import budget as budget_lib
from jaxttc.cost import costs
from jaxttc.decoders import base
from jaxttc.inference import engine as engine_lib
from jaxttc.runtime import driver, funding
from jaxttc.runtime import search as search_lib
from jaxttc.runtime import settings as settings_lib

READ, SAMPLE, SCORE = KINDS = ("read", "sample", "score")


class Call(NamedTuple):
  """One call of a model.

  Attributes:
    kind: `READ`, `SAMPLE` or `SCORE`.
    round: of the search, from 0; prompts are read in round 0.
    context: tokens of the prefix that the call extends.
    length: tokens read, sampled or scored.
    prompt_tokens: what the call was charged; see `costs.Cost`.
    cached_tokens: likewise; the part of the prompt tokens that a server had.
    generated_tokens: likewise.
    verifier_tokens: likewise.
    verifier_calls: likewise.
  """

  kind: str
  round: int
  context: int
  length: int
  prompt_tokens: int
  cached_tokens: int
  generated_tokens: int
  verifier_tokens: int
  verifier_calls: int


_COUNTS = Call._fields[4:]


@dataclasses.dataclass(frozen=True)
class Record:
  """One problem's search.

  Attributes:
    problem: its name.
    prompt_tokens: length of its prompt.
    solved: whether its answer is right; None if nobody asked.
    calls: in the order in which they came back.
  """

  problem: str
  prompt_tokens: int
  solved: bool | None
  calls: tuple[Call, ...]

  def cost(self) -> costs.Cost:
    """The counts of all calls; amounts are zero."""
    return costs.Cost(
      **{name: sum(getattr(c, name) for c in self.calls) for name in _COUNTS}
    )


@dataclasses.dataclass
class _Open:
  """A search under way: tokens up to each node and ticket, and its calls."""

  prompt: int
  ends: dict[int, int]
  round: int = -1
  asked: dict[int, engine_lib.Request] = dataclasses.field(default_factory=dict)
  tickets: dict[int, int] = dataclasses.field(default_factory=dict)
  calls: list[Call] = dataclasses.field(default_factory=list)

  def add(self, kind: str, context: int, length: int, cost: costs.Cost) -> None:
    counts = (int(getattr(cost, name)) for name in _COUNTS)
    self.calls.append(Call(kind, max(self.round, 0), context, length, *counts))


class Recorder:
  """Wraps an engine and a verifier; keeps what closed searches did.

  Attributes:
    engine: the engine to search with.
    verifier: the verifier to search with; None if there is none.
  """

  def __init__(
    self, engine: engine_lib.Engine, verifier: engine_lib.Verifier | None
  ):
    """Wraps both; they may be in use by nobody else meanwhile."""
    self._searches: dict[int, _Open] = {}
    self._closed = _Open(0, {})
    prices = funding.Prices(
      prompt=engine.prompt_tariff,
      policy=engine.tariff,
      verifier=None if verifier is None else verifier.tariff,
    )
    self.engine = _Engine(engine, self, prices)
    self.verifier = (
      None if verifier is None else _Verifier(verifier, self, prices)
    )

  def last(self, problem: str) -> Record:
    """The search that was closed last, under a problem's name."""
    done = self._closed
    return Record(problem, done.prompt, None, tuple(done.calls))

  def search(self, group: int) -> _Open:
    """The search under way in a group."""
    return self._searches[group]

  def open(self, group: int, prompt: int, cost: costs.Cost) -> None:
    """Begins a search."""
    self._searches[group] = _Open(prompt, {0: prompt})
    self._searches[group].add(READ, 0, prompt, cost)

  def close(self, group: int) -> None:
    """Ends a search; one that could not pay for its prompt did nothing."""
    self._closed = self._searches.pop(group, _Open(0, {}))


class _Engine:
  """An engine that tells a recorder."""

  def __init__(self, engine, recorder, prices):
    self._engine, self._recorder, self._prices = engine, recorder, prices
    self.groups, self.max_length = engine.groups, engine.max_length
    self.prompt_tariff, self.tariff = engine.prompt_tariff, engine.tariff
    self.metered = engine.metered

  def encode(self, text: str) -> tuple[int, ...]:
    return self._engine.encode(text)

  def open(self, prompts: Mapping[int, engine_lib.Prompt]) -> None:
    self._engine.open(prompts)
    for group, prompt in prompts.items():
      length = len(prompt.tokens)
      self._recorder.open(group, length, self._prices.root(length))

  def submit(self, requests: Sequence[engine_lib.Request]) -> None:
    self._engine.submit(requests)
    for group in {r.group for r in requests if not r.attempt}:
      search = self._recorder.search(group)
      search.round, search.asked, search.tickets = search.round + 1, {}, {}
    for request in requests:
      self._recorder.search(request.group).asked[request.ticket] = request

  def step(self) -> list[engine_lib.Completion]:
    return self._seen(self._engine.step())

  def cancel(self, group: int) -> list[engine_lib.Completion]:
    return self._seen(self._engine.cancel(group))

  def file(self, group: int, nodes: Mapping[int, int]) -> None:
    self._engine.file(group, nodes)
    search = self._recorder.search(group)
    for ticket, node in nodes.items():
      search.ends[node] = search.tickets[ticket]

  def release(self, group: int, keep: np.ndarray) -> None:
    self._engine.release(group, keep)

  def close(self, group: int) -> None:
    self._engine.close(group)
    self._recorder.close(group)

  def _seen(self, completions):
    for got in completions:
      search = self._recorder.search(got.group)
      context = search.ends[search.asked[got.ticket].node]
      end = context + got.length if got.end is None else got.end
      search.tickets[got.ticket] = end
      if got.bill is not None:
        search.add(SAMPLE, context, got.length, got.bill.spent)
      elif got.length:
        cost = self._prices.sampled(got.length, context)
        search.add(SAMPLE, context, got.length, cost)
    return completions


class _Verifier:
  """A verifier that tells a recorder."""

  def __init__(self, verifier, recorder, prices):
    self._verifier, self._recorder = verifier, recorder
    self._prices = prices
    self.groups, self.tariff = verifier.groups, verifier.tariff
    self.metered = verifier.metered

  def open(self, prompts: Mapping[int, engine_lib.Prompt]) -> None:
    self._verifier.open(prompts)

  def score(
    self, spans: Sequence[engine_lib.Span]
  ) -> Sequence[float | engine_lib.Verdict]:
    said = self._verifier.score(spans)
    for span, verdict in zip(spans, said, strict=True):
      search = self._recorder.search(span.group)
      context = search.ends[span.parent]
      length = search.tickets[span.ticket] - context
      bill = failure = None
      if isinstance(verdict, engine_lib.Verdict):
        bill, failure = verdict.bill, verdict.failure
      if bill is not None:
        search.add(SCORE, context, length, bill.spent)
      elif failure is None:
        cost = self._prices.verifier.price(length, context)
        search.add(SCORE, context, length, cost)
    return said

  def file(self, group: int, nodes: Mapping[int, int]) -> None:
    self._verifier.file(group, nodes)

  def release(self, group: int, keep: np.ndarray) -> None:
    self._verifier.release(group, keep)

  def close(self, group: int) -> None:
    self._verifier.close(group)


def record(
  engine: engine_lib.Engine,
  verifier: engine_lib.Verifier | None,
  decoder: base.Decoder,
  prompts: Sequence[str],
  names: Sequence[str],
  *,
  budget: budget_lib.Budget | Sequence[budget_lib.Budget],
  settings: settings_lib.SearchSettings,
  seed: int = 0,
) -> Iterator[tuple[search_lib.SearchResult, Record]]:
  """Searches as `driver.drive` does, and yields a record beside each result.

  A record's counts are those of the result's cost, except where a search was
  ended by a model that failed for good: its last round may be in the record
  and not in the cost.

  Args:
    engine: samples spans.
    verifier: scores them; only used if the decoder needs rewards.
    decoder: the strategy.
    prompts: what the policy continues.
    names: a unique id a problem.
    budget: of each problem; one for all, or one a problem.
    settings: sizes.
    seed: of all sampling.

  Raises:
    ValueError: as `driver.drive` does.
  """
  recorder = Recorder(engine, verifier if decoder.needs_reward else None)
  for result in driver.drive(
    recorder.engine,
    recorder.verifier,
    decoder,
    prompts,
    names,
    budget=budget,
    settings=settings,
    seed=seed,
  ):
    yield result, recorder.last(names[result.problem])


def save(
  path: str | os.PathLike[str],
  about: Mapping[str, Any],
  records: Iterable[Record],
) -> None:
  """Writes records as JSON lines, whole or not at all.

  Args:
    path: the file; its folder is made.
    about: how they were recorded, plain JSON; the first line.
    records: a line each.
  """
  path = pathlib.Path(path)
  path.parent.mkdir(parents=True, exist_ok=True)
  lines = [json.dumps({"about": dict(about), "call": Call._fields})]
  lines += [json.dumps(dataclasses.asdict(one)) for one in records]
  draft = path.with_name(path.name + ".part")
  draft.write_text("\n".join(lines) + "\n", encoding="utf-8")
  draft.replace(path)


def read(
  path: str | os.PathLike[str],
) -> tuple[dict[str, Any], list[Record]]:
  """Reads what `save` wrote.

  Returns:
    How the records were made, and the records.

  Raises:
    ValueError: if the file is missing or is no such file, or a line is not
      valid: the file, line and field are named.
  """
  path = pathlib.Path(path)
  try:
    lines = path.read_text(encoding="utf-8").splitlines()
  except (OSError, UnicodeDecodeError) as error:
    raise ValueError(f"{path}: cannot be read: {error}") from error
  rows = [_parsed(f"{path}, row {i}", line) for i, line in enumerate(lines, 1)]
  if not rows or rows[0].get("call") != list(Call._fields):
    raise ValueError(
      f"{path}, row 1: no header of a decoder trace with the columns "
      f"{', '.join(Call._fields)}"
    )
  if not isinstance(rows[0].get("about"), dict):
    raise ValueError(f"{path}, row 1, field about: missing or no object")
  records = [
    _record(f"{path}, row {i}", row) for i, row in enumerate(rows[1:], 2)
  ]
  if not records:
    raise ValueError(f"{path}: no records")
  return rows[0]["about"], records


def _parsed(where: str, line: str) -> dict[str, Any]:
  try:
    row = json.loads(line)
  except json.JSONDecodeError as error:
    raise ValueError(f"{where}: not JSON: {error}") from None
  if not isinstance(row, dict):
    raise ValueError(f"{where}: expected an object, not {row!r}")
  return row


def _record(where: str, row: Mapping[str, Any]) -> Record:
  expected = [field.name for field in dataclasses.fields(Record)]
  for name in expected:
    if name not in row:
      raise ValueError(f"{where}: no field {name}")
  if not isinstance(row["problem"], str):
    raise ValueError(f"{where}, field problem: {row['problem']!r} is no text")
  if row["solved"] not in (True, False, None):
    raise ValueError(
      f"{where}, field solved: {row['solved']!r} is not true, false or null"
    )
  _whole(f"{where}, field prompt_tokens", row["prompt_tokens"])
  if not isinstance(row["calls"], list):
    raise ValueError(f"{where}, field calls: expected a list")
  calls = tuple(
    _call(f"{where}, call {i}", call) for i, call in enumerate(row["calls"])
  )
  return Record(row["problem"], row["prompt_tokens"], row["solved"], calls)


def _call(where: str, row: Any) -> Call:
  if not isinstance(row, list) or len(row) != len(Call._fields):
    raise ValueError(f"{where}: expected {len(Call._fields)} columns")
  call = Call(*row)
  if call.kind not in KINDS:
    raise ValueError(
      f"{where}, column kind: {call.kind!r} is not one of {', '.join(KINDS)}"
    )
  for name, value in zip(Call._fields[1:], call[1:], strict=True):
    _whole(f"{where}, column {name}", value)
  if call.cached_tokens > call.prompt_tokens:
    raise ValueError(
      f"{where}, column cached_tokens: {call.cached_tokens} of "
      f"{call.prompt_tokens} prompt tokens"
    )
  return call


def _whole(where: str, value: Any) -> None:
  if not isinstance(value, int) or isinstance(value, bool) or value < 0:
    raise ValueError(f"{where}: {value!r} is not a whole number >= 0")
