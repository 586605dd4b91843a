# SPDX-License-Identifier: Apache-2.0
"""An engine over any OpenAI-compatible server: vLLM, SGLang, llama.cpp.

It keeps no cache: every request sends its whole prefix, prompt and path, and
is billed for it, whatever the server's own cache saves. A step is sampled to a
stop string, which stays in the span: the next request goes on behind it.

The budget holds whatever the server does. `max_tokens` is the request's limit,
and what is counted is what the server says. Where it does not say, or the
reply is lost, the most that it can have been is charged, as `Bill.assumed`.
"""

import asyncio
from collections.abc import Callable, Collection, Mapping, Sequence
import concurrent.futures
import dataclasses
import queue
from typing import Any, NamedTuple
import zlib

import numpy as np

from jaxttc.inference import controllers, prefixes
from jaxttc.inference import engine as engine_lib
from jaxttc.inference.endpoint import (
  billing,
  counting,
  replies,
  servers,
  transport,
)
from jaxttc.inference.endpoint import spec as spec_lib

_PLAIN = controllers.Sampler()
_SEGMENT_S = 0.25  # how long `step` waits, so that a driver can see its clock
# What a request costs beside these, nobody counts.
_KNOWN = frozenset(
  {"generated_tokens", "verifier_tokens", "verifier_calls", "tool_calls"}
)

# Class of a whole solution's answer, -1 for none; one of these a problem.
Classify = Callable[[str], int]


class _Prefix(NamedTuple):
  """What is sent for a node: `ids` where they are known, else the text."""

  text: str
  ids: tuple[int, ...]
  solution: str


@dataclasses.dataclass
class _Call:
  """A request under way.

  Attributes:
    request: what was asked for.
    prefix: what it extends.
    progress: whether it may have begun to cost.
    bill: what it cost, once that is known.
    task: runs it.
  """

  request: engine_lib.Request
  prefix: _Prefix
  progress: transport.Progress
  bill: engine_lib.Bill | None = None
  task: asyncio.Task | None = None

  @property
  def order(self) -> billing.Order:
    """What it is billed for."""
    return billing.Order(self.prefix.text, self.prefix.ids, self.request.limit)


class EndpointEngine:
  """A served model behind the `Engine` protocol.

  Attributes:
    spec: the model.
    server: its kind of server.
    groups: searches served at once.
    max_length: most tokens of a prompt and its solution together.
    prompt_tariff: None: prompts are paid for with each request.
    tariff: a prompt token a token of the prefix, a generated token a token.
    metered: generated tokens; prompt tokens too, and dollars where there is a
      price, if the tokens of a text are known before it is sent.
  """

  def __init__(
    self,
    spec: spec_lib.EndpointSpec,
    *,
    classify: Callable[[], Classify],
    sampler: controllers.Sampler = _PLAIN,
    groups: int = 8,
    needs: Collection[str] = (),
    line: transport.Transport | None = None,
  ):
    """Connects, and asks the server what it is.

    Args:
      spec: the model.
      classify: makes, for each problem, a function of a whole solution that
        returns the class of its answer.
      sampler: how tokens are drawn.
      groups: searches served at once.
      needs: of `servers.CAPABILITIES`: what the caller cannot do without.
      line: the transport to use, closed with the engine; by default a new one.

    Raises:
      ValueError: in one line, if the spec cannot be, the server cannot be
        reached, refuses the key, does not serve the model, or does not offer
        what is needed.
    """
    spec.validate()
    if groups < 1:
      raise ValueError(f"EndpointEngine groups must be >= 1, got {groups}")
    self.spec, self.groups = spec, groups
    self.prompt_tariff, self.tariff = None, spec.tariff()
    self._line = line or transport.Transport(spec.connection)
    try:
      self.server, entry = servers.probe(self._line, spec.model)
      self._check(sampler, needs)
      self.max_length = self._longest(entry)
      self._counter: counting.Counter = counting.ByteBound()
      if not spec.chat:  # what a chat template adds nobody counts
        self._counter = counting.choose(
          self._line, self.server, spec.model, spec.tokenizer
        )
    except BaseException:
      self._line.close()
      raise
    priced = spec.prompt_dollars is not None
    exact = {"prompt_tokens"} | ({"dollars"} if priced else set())
    self.metered = _KNOWN | exact if self._counter.exact else _KNOWN
    self._options = self._sampling(sampler)
    self._billing = billing.Billing(spec, self._counter.exact)
    self._classify = classify
    self._classes: dict[int, Classify] = {}
    self._prefixes: prefixes.Prefixes[_Prefix] = prefixes.Prefixes()
    self._calls: dict[tuple[int, int], _Call] = {}
    self._done: queue.SimpleQueue[tuple[_Call, Any]] = queue.SimpleQueue()
    # Answers are compared in one thread: it may take seconds.
    self._grader = concurrent.futures.ThreadPoolExecutor(1)

  def encode(self, text: str) -> tuple[int, ...]:
    """Token ids of a prompt; -1 where only a bound on their number is known.

    Raises:
      ValueError: if the server does not say.
    """
    try:
      return self._line.call(self._counter.ids(text))
    except transport.EndpointError as error:
      raise ValueError(str(error)) from None

  def open(self, prompts: Mapping[int, engine_lib.Prompt]) -> None:
    """Starts searches; nothing is sent yet.

    Raises:
      ValueError: if a group is out of range or open already.
    """
    self._prefixes.open(
      {g: _Prefix(p.text, p.tokens, "") for g, p in prompts.items()},
      self.groups,
    )
    self._classes |= {group: self._classify() for group in prompts}

  def submit(self, requests: Sequence[engine_lib.Request]) -> None:
    """Takes requests, and sends as many as may be in flight.

    Raises:
      ValueError: for a group that is not open, a node that it does not have,
        a ticket that is taken, a limit below 1, or a chat to be continued.
        Requests before the bad one have been taken.
    """
    for request in requests:
      prefix = self._prefixes.of(request.group, request.node)
      name = (request.group, request.ticket)
      if name in self._calls or self._prefixes.taken(*name):
        raise ValueError(
          f"ticket {request.ticket} of group {request.group} is taken; file "
          "the round before asking again"
        )
      if request.limit < 1:
        raise ValueError(f"limit must be at least 1, got {request.limit}")
      if self.spec.chat and (request.node or request.until == engine_lib.STEP):
        raise ValueError(
          "a chat cannot be continued step by step; ask for whole solutions, "
          "or set chat to False"
        )
      call = _Call(request, prefix, transport.Progress())
      self._calls[name] = call
      self._line.start(self._serve(call))

  def step(self) -> list[engine_lib.Completion]:
    """Waits a moment for replies; returns those that are there."""
    found: list[engine_lib.Completion] = []
    if not self._calls:
      return found
    try:
      found.append(self._taken(*self._done.get(timeout=_SEGMENT_S)))
      while True:
        found.append(self._taken(*self._done.get_nowait()))
    except queue.Empty:
      return found

  def cancel(self, group: int) -> list[engine_lib.Completion]:
    """Hangs up on all that the group waits for.

    What was sent may have been worked on, and is billed as that. A reply that
    was there already is returned as it is.

    Raises:
      ValueError: if the group is not open.
    """
    self._prefixes.of(group, 0)
    mine = [c for (g, _), c in self._calls.items() if g == group]
    self._line.call(_cancelled(mine))
    others, found = [], []
    while not self._done.empty():
      call, result = self._done.get()
      if call.request.group == group:
        found.append(self._taken(call, result))
      else:
        others.append((call, result))
    for item in others:
      self._done.put(item)
    return found

  def file(self, group: int, nodes: Mapping[int, int]) -> None:
    """Makes spans nodes, by ticket; the group's other spans are forgotten.

    Raises:
      ValueError: if the group is not open, or a ticket is not that of a span
        which can be extended.
    """
    self._prefixes.file(group, nodes)

  def release(self, group: int, keep: np.ndarray) -> None:
    """Forgets the nodes n with not `keep[n]`."""
    self._prefixes.release(group, keep)

  def close(self, group: int) -> None:
    """Ends a search, whatever it still waits for; twice does no harm."""
    if group in self._prefixes.groups:
      self.cancel(group)
      self._prefixes.close(group)
      del self._classes[group]

  def shutdown(self) -> None:
    """Ends all searches and the connection; twice does no harm."""
    self._line.close()
    self._grader.shutdown()

  def _check(self, sampler, needs) -> None:
    """Refuses what the server cannot do."""
    url = self._line.clean(self.spec.connection.url)
    needs = set(needs) | ({"logprobs"} if self.spec.logprobs else set())
    servers.require(self.server, url, sampler, needs)
    silent = "stop_reason" not in self.server.offers
    if silent and len(self.spec.step_ends) > 1:
      raise ValueError(
        f"{url}: the server does not say what stopped a step; give one of "
        f"step_ends={self.spec.step_ends!r}, not {len(self.spec.step_ends)}"
      )

  def _longest(self, entry: Mapping[str, Any]) -> int:
    served = replies.count(entry.get("max_model_len"))
    known = [n for n in (served, self.spec.max_length) if n]
    if not known:
      raise ValueError(
        f"{self._line.clean(self.spec.connection.url)}: the server does not "
        "say how long its context is; set endpoint.max_length"
      )
    return min(known)

  def _sampling(self, sampler) -> dict[str, Any]:
    """What every request asks for."""
    options: dict[str, Any] = {
      "model": self.spec.model,
      "n": 1,
      "stream": False,
      "temperature": sampler.temperature,
      "top_p": sampler.top_p,
      **self.server.plain,
    }
    if sampler.top_k is not None:
      options["top_k"] = sampler.top_k
    if sampler.min_p:
      options["min_p"] = sampler.min_p
    if sampler.repetition_penalty != 1:
      options["repetition_penalty"] = sampler.repetition_penalty
    if self.spec.logprobs:
      options["logprobs"] = True if self.spec.chat else 1
    return options

  def _payload(self, call: _Call) -> dict[str, Any]:
    request = call.request
    own = request.sampler
    options = self._options if own is None else self._sampling(own)
    payload = options | {
      "max_tokens": request.limit,
      "seed": zlib.crc32(np.uint32(request.seed).tobytes()) & 0x7FFFFFFF,
    }
    if request.until == engine_lib.STEP:
      payload["stop"] = list(self.spec.step_ends)
      if self.server.keeps_stop:
        payload["include_stop_str_in_output"] = True
    if self.spec.chat:
      message = {"role": "user", "content": call.prefix.text}
      return payload | {"messages": [message]}
    exact = self._counter.exact
    prompt = list(call.prefix.ids) if exact else call.prefix.text
    return payload | {"prompt": prompt}

  async def _serve(self, call: _Call) -> None:
    """Runs one request; what becomes of it goes to `step`."""
    call.task = asyncio.current_task()
    result: Any
    try:
      result = await self._answered(call)
    except asyncio.CancelledError:
      bill = call.bill
      if bill is None and call.progress.sent:
        bill = self._billing.worst(call.order)
      result = _failed(call, bill, None), None
    except Exception as error:  # a mistake of ours, which `step` raises
      result = error
    self._done.put((call, result))

  async def _answered(self, call: _Call) -> Any:
    """The completion, and its prefix if it can be extended."""
    path = "/chat/completions" if self.spec.chat else "/completions"
    retries = self.spec.connection.retries
    try:
      body = await self._line.post(
        path,
        self._payload(call),
        attempt=call.request.attempt,
        progress=call.progress,
      )
      reply = replies.completion(
        body,
        chat=self.spec.chat,
        logprobs=self.spec.logprobs,
        stop_field=self.server.stop_field,
      )
    except transport.EndpointError as error:
      call.bill = self._billing.worst(call.order) if error.spent else None
      failure = engine_lib.Failure(error=str(error), again=error.again)
      return _failed(call, call.bill, failure), None
    except replies.MalformedReply as error:
      call.bill = self._billing.told(call.order, error.usage)
      failure = engine_lib.Failure(
        error=f"{path}: {self._line.clean(str(error))}",
        again=call.request.attempt < retries,
      )
      return _failed(call, call.bill, failure), None
    call.bill = self._billing.usable(call.order, reply)
    broken = self._billing.broken(call.order, reply.usage)
    if broken:
      failure = engine_lib.Failure(error=f"{path}: {broken}", again=False)
      return _failed(call, call.bill, failure), None
    return await self._completion(call, reply)

  async def _completion(self, call: _Call, reply: replies.Reply) -> Any:
    request = call.request
    text, stopped, finished = await self._ending(call, reply)
    prefix = None
    if stopped and not finished:
      whole = call.prefix.text + text
      try:
        ids = await self._counter.ids(whole) if self._counter.exact else ()
      except transport.EndpointError as error:
        failure = engine_lib.Failure(error=str(error), again=False)
        return _failed(call, call.bill, failure), None
      prefix = _Prefix(whole, ids, call.prefix.solution + text)
    answer = await self._class(call, text) if finished else -1
    return engine_lib.Completion(
      group=request.group,
      ticket=request.ticket,
      text=text,
      tokens=(),
      length=call.bill.spent.generated_tokens,
      stopped=stopped,
      finished=finished,
      logprob=reply.logprob or 0.0,
      answer=answer,
      end=len(prefix.ids) if prefix is not None and prefix.ids else None,
      bill=call.bill,
    ), prefix

  async def _ending(self, call: _Call, reply) -> tuple[str, bool, bool]:
    """The span's text, whether it stopped, and whether it is the last."""
    text = reply.text
    if reply.finish == "length":
      return text, False, False
    if call.request.until == engine_lib.END:
      return text, True, True
    if self.server.stop_field:
      if not isinstance(reply.stop, str):
        return text, True, True
      kept = text.endswith(reply.stop)
      return text if kept else text + reply.stop, True, False
    # The server does not say: who has answered, or says nothing, is done.
    if not text.strip() or await self._class(call, text) >= 0:
      return text, True, True
    return text + self.spec.step_ends[0], True, False

  async def _class(self, call: _Call, text: str) -> int:
    classify = self._classes[call.request.group]
    return await asyncio.get_running_loop().run_in_executor(
      self._grader, classify, call.prefix.solution + text
    )

  def _taken(self, call: _Call, result: Any) -> engine_lib.Completion:
    request = call.request
    del self._calls[request.group, request.ticket]
    if isinstance(result, Exception):
      raise result
    completion, prefix = result
    if prefix is not None:
      self._prefixes.add(request.group, request.ticket, prefix)
    return completion


async def _cancelled(calls: Sequence[_Call]) -> None:
  """Ends requests; when it returns, `step` has been told of all of them."""
  tasks = [call.task for call in calls if call.task is not None]
  for task in tasks:
    task.cancel()
  await asyncio.gather(*tasks, return_exceptions=True)


def _failed(
  call: _Call,
  bill: engine_lib.Bill | None,
  failure: engine_lib.Failure | None,
) -> engine_lib.Completion:
  return engine_lib.Completion(
    group=call.request.group,
    ticket=call.request.ticket,
    text="",
    tokens=(),
    length=0,
    stopped=False,
    finished=False,
    logprob=0.0,
    answer=-1,
    bill=bill or billing.FREE,
    failure=failure,
  )
