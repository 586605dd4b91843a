# SPDX-License-Identifier: Apache-2.0
"""The ASGI application: routes, limits, streams, and who may ask.

    POST /v1/completions  /v1/chat/completions
    GET  /v1/models  /health  /metrics

A request is read, admitted, and handed to the service's threads, whose events
come back through a queue of its own. One whose client has gone is cancelled,
wherever it is.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
import contextlib
import functools
import hmac
import time
from typing import Any, TypeVar

from starlette import (
  applications,
  concurrency,
  exceptions,
  requests,
  responses,
  routing,
  types,
)

from jaxttc.runtime import search as search_lib
from jaxttc.serving import (
  admission,
  errors,
  metrics,
  replies,
  routed_service,
  scheduler,
  searches,
  thought_queue,
)
from jaxttc.serving import handle as handle_lib
from jaxttc.serving import service as service_lib

_CLIENT_GONE = 499  # as nginx logs it; nobody reads the reply
_T = TypeVar("_T")
_Part = thought_queue.Thought | scheduler.Piece | scheduler.Ended


class App:
  """A service behind HTTP; `asgi` is what a server runs.

  Attributes:
    service: what answers.
    asgi: the application; its lifespan starts and closes the service.
  """

  def __init__(
    self, service: routed_service.AnyService, api_key: str | None = None
  ):
    """An application.

    Args:
      service: not started yet.
      api_key: what clients of /v1 must send; None lets everybody in.
    """
    limits = service.limits
    self.service, self._key = service, api_key
    self._admission = admission.Admission(limits.requests, limits.queue)
    self._metrics = metrics.Metrics(service, self._admission)
    self._draining = False
    self.asgi = applications.Starlette(
      routes=[
        routing.Route("/v1/completions", self._completions, methods=["POST"]),
        routing.Route("/v1/chat/completions", self._chat, methods=["POST"]),
        routing.Route("/v1/models", self._models, methods=["GET"]),
        routing.Route("/v1/models/{name:path}", self._model, methods=["GET"]),
        routing.Route("/health", self._health, methods=["GET"]),
        routing.Route("/metrics", self._scrape, methods=["GET"]),
      ],
      exception_handlers={
        errors.ApiError: _error,
        exceptions.HTTPException: _http_error,
        Exception: _unforeseen,
      },
      lifespan=self._lifespan,
    )

  def drain(self, seconds: float) -> None:
    """Refuses what waits and what comes; what runs may end within `seconds`.

    To be called in the application's event loop.
    """
    if self._draining:
      return
    self._draining = True
    self._admission.close(errors.closing())
    loop = asyncio.get_running_loop()
    loop.call_later(seconds, self.service.abort, errors.closing())

  @contextlib.asynccontextmanager
  async def _lifespan(self, app: applications.Starlette) -> AsyncIterator[None]:
    del app
    await concurrency.run_in_threadpool(self.service.start)
    yield
    await concurrency.run_in_threadpool(self.service.close)

  async def _health(self, request: requests.Request) -> responses.Response:
    del request
    if self._draining:
      return responses.JSONResponse({"status": "draining"}, 503)
    return responses.JSONResponse({"status": "ok"})

  async def _scrape(self, request: requests.Request) -> responses.Response:
    del request
    return responses.Response(
      self._metrics.page(), media_type=metrics.CONTENT_TYPE
    )

  async def _models(self, request: requests.Request) -> responses.Response:
    self._check_key(request)
    cards = [_card(*model) for model in self.service.models.items()]
    return responses.JSONResponse({"object": "list", "data": cards})

  async def _model(self, request: requests.Request) -> responses.Response:
    self._check_key(request)
    name, served = request.path_params["name"], self.service.models
    if name not in served:
      raise errors.no_model(name, served)
    return responses.JSONResponse(_card(name, served[name]))

  async def _completions(self, request: requests.Request) -> responses.Response:
    return await self._counted(request, chat=False)

  async def _chat(self, request: requests.Request) -> responses.Response:
    return await self._counted(request, chat=True)

  async def _counted(
    self, request: requests.Request, chat: bool
  ) -> responses.Response:
    """Answers, and counts how that ended; a stream counts itself."""
    path, began = request.url.path, time.monotonic()

    def count(status: int) -> None:
      self._metrics.replied(path, status, time.monotonic() - began)

    try:
      response = await self._answer(request, chat, count)
    except errors.ApiError as error:
      count(error.status)
      raise
    except requests.ClientDisconnect:
      count(_CLIENT_GONE)
      return responses.Response(status_code=_CLIENT_GONE)
    except Exception:
      count(500)
      raise
    if not isinstance(response, _Stream):
      count(200)
    return response

  async def _answer(
    self,
    request: requests.Request,
    chat: bool,
    count: Callable[[int], None],
  ) -> responses.Response:
    self._check_key(request)
    body = await _body(request, self.service.limits.body_bytes)
    work = await concurrency.run_in_threadpool(
      self.service.read, body, chat=chat
    )
    entered = await _unless_gone(request, self._admission.enter())
    exchange: _Exchange | None = None
    streams = False
    try:
      exchange = _Exchange(work, self._metrics)
      if not work.call.stream:
        return await _unless_gone(request, exchange.whole())
      streams = True
    finally:
      if not streams:
        self._finish(exchange, entered)

    def release() -> None:
      self._finish(exchange, entered)
      count(200)

    return _Stream(exchange.stream(), release)

  def _finish(self, exchange: "_Exchange | None", entered: float) -> None:
    if exchange is not None:
      exchange.cancel()
    self._admission.leave(entered)

  def _check_key(self, request: requests.Request) -> None:
    if self._key is None:
      return
    given = request.headers.get("authorization", "")
    scheme, _, key = given.partition(" ")
    # As bytes, which is how both were given: headers are read as latin-1.
    sent = key.strip().encode("latin-1")
    same = hmac.compare_digest(sent, self._key.encode())
    if scheme.lower() != "bearer" or not same:
      raise errors.ApiError(
        401,
        "wrong or missing API key; expected the header Authorization: Bearer "
        "KEY",
        code="invalid_api_key",
      )


class _Exchange:
  """One request's work and what has come of it."""

  def __init__(self, work: service_lib.Work, counts: metrics.Metrics):
    call, service = work.call, work.service
    self._work, self._service, self._counts = work, service, counts
    self._events: asyncio.Queue[tuple[int, Any]] = asyncio.Queue()
    self._form = replies.Form(
      chat=call.chat,
      model=service.name,
      fingerprint=service.fingerprint,
      logprobs=call.logprobs,
      show=service.show,
    )
    count = max(len(work.orders), len(work.thoughts), 1)
    self._choices = [replies.Choice() for _ in range(count)]
    self._result: search_lib.SearchResult | None = None
    self._thoughts: dict[int, thought_queue.Thought] = {}
    deliver = _from_threads(self._events)
    self._handles: list[handle_lib.Handle] = []
    if work.search is not None:
      self._handles += [
        service.searches.submit(work.search, lambda x: deliver(0, x))
      ]
    elif work.thoughts:
      assert service.thoughts is not None
      self._handles += [
        service.thoughts.submit(order, functools.partial(deliver, index))
        for index, order in enumerate(work.thoughts)
      ]
    else:
      self._handles += service.scheduler.submit(work.orders, deliver)

  def cancel(self) -> None:
    """Lets go what has not ended."""
    for handle in self._handles:
      handle.cancel()

  async def whole(self) -> responses.Response:
    """The reply at once."""
    async for _ in self._turns():
      pass
    body = self._form.whole(self._choices, self._usage())
    return responses.JSONResponse(body | self._about())

  async def stream(self) -> AsyncIterator[str]:
    """The reply as events."""
    form, call = self._form, self._work.call
    if form.chat:
      for index in range(len(self._choices)):
        yield form.opening(index)
    try:
      async for index, event in self._turns():
        choice = self._choices[index]
        if isinstance(event, thought_queue.Thought):
          if choice.thinking is not None:
            yield form.thought(index, choice.thinking)
        elif isinstance(event, scheduler.Piece):
          offset = len(choice.text) - len(event.text)
          yield form.piece(index, event.text, event.scores, offset)
        else:
          yield form.ending(index, choice.reason or "stop")
    except errors.ApiError as error:
      yield replies.failure(error)
      return
    usage = self._usage()
    if call.include_usage:
      yield form.usage(usage, self._about())
    yield replies.DONE

  async def _turns(
    self,
  ) -> AsyncIterator[tuple[int, _Part]]:
    """Notes events in the choices, and passes them on, until all have ended.

    Raises:
      ApiError: if one has failed.
    """
    left = len(self._choices)
    while left:
      index, event = await self._events.get()
      for part in self._parts(event):
        choice = self._choices[index]
        if isinstance(part, thought_queue.Thought):
          self._thoughts[index] = part
          choice.thought_tokens = part.thinking_tokens + part.overhead_tokens
          if self._work.call.thinking.show:
            choice.thinking = part.thinking
        elif isinstance(part, scheduler.Piece):
          choice.text += part.text
          choice.scores += part.scores
        else:
          choice.reason, choice.tokens = part.reason, part.tokens
          left -= 1
        yield index, part

  def _parts(
    self, event: scheduler.Event | searches.Outcome | thought_queue.Thought
  ) -> list[_Part]:
    if isinstance(event, errors.ApiError):
      raise event
    if isinstance(event, thought_queue.Thought):
      ended = scheduler.Ended(event.reason, event.tokens)
      return [event, scheduler.Piece(event.answer, ()), ended]
    if not isinstance(event, search_lib.SearchResult):
      return [event]
    self._result, text = event, event.completion
    self._counts.spent(event.cost)
    # Without an answer the budget was too short, as a length limit may be.
    reason = "length" if text is None else "stop"
    tokens = int(event.cost.generated_tokens)
    return [scheduler.Piece(text or "", ()), scheduler.Ended(reason, tokens)]

  def _usage(self) -> dict[str, Any]:
    prompt = self._work.prompt_tokens
    if self._result is None:
      usage = replies.usage(prompt, self._choices)
    else:
      answer = self._service.count_tokens(self._result.completion or "")
      usage = replies.search_usage(prompt, answer, self._result)
    self._counts.used(prompt, usage["completion_tokens"])
    return usage

  def _about(self) -> dict[str, Any]:
    """What a reply tells beside its choices and usage."""
    if self._thoughts:
      known = sorted(self._thoughts.items())
      return {"thinking": [thought.about() for _, thought in known]}
    if self._result is None or self._work.search is None:
      return {}
    return {
      "search": {
        "decoder": self._work.search.text,
        "budget": self._work.search.budget.as_dict(),
        "stop": self._result.stop,
        "rounds": self._result.rounds,
      }
    }


class _Stream(responses.StreamingResponse):
  """Server-sent events; however it ends, its work is let go."""

  media_type = "text/event-stream"

  def __init__(self, events: AsyncIterator[str], release: Callable[[], None]):
    super().__init__(events, headers={"Cache-Control": "no-cache"})
    self._release = release

  async def __call__(
    self, scope: types.Scope, receive: types.Receive, send: types.Send
  ) -> None:
    try:
      await super().__call__(scope, receive, send)
    finally:
      self._release()


def _card(name: str, context: int) -> dict[str, Any]:
  """What is said of a model."""
  return {
    "id": name,
    "object": "model",
    "created": 0,
    "owned_by": "jaxttc",
    "max_model_len": context,  # as vLLM says it
  }


def _from_threads(
  events: asyncio.Queue[tuple[int, Any]],
) -> Callable[[int, Any], None]:
  """A function for other threads to put events with."""
  loop = asyncio.get_running_loop()

  def deliver(index: int, event: Any) -> None:
    with contextlib.suppress(RuntimeError):  # the loop has ended
      loop.call_soon_threadsafe(events.put_nowait, (index, event))

  return deliver


async def _body(request: requests.Request, most: int) -> bytes:
  """The body of a request, refused as soon as it is too large."""
  too_large = errors.ApiError(
    413, f"the body is too large; this server reads up to {most} bytes"
  )
  declared = request.headers.get("content-length", "0")
  if declared.isdigit() and int(declared) > most:
    raise too_large
  parts, size = [], 0
  async for part in request.stream():
    size += len(part)
    if size > most:
      raise too_large
    parts.append(part)
  return b"".join(parts)


async def _unless_gone(
  request: requests.Request, wanted: Coroutine[Any, Any, _T]
) -> _T:
  """Waits for something, or for the client to go.

  Raises:
    ClientDisconnect: if it went first; what was waited for is cancelled.
  """
  work = asyncio.ensure_future(wanted)
  gone = asyncio.ensure_future(_disconnected(request))
  both: tuple[Awaitable[Any], ...] = (work, gone)
  try:
    await asyncio.wait((work, gone), return_when=asyncio.FIRST_COMPLETED)
    if work.done():
      return work.result()
    raise requests.ClientDisconnect()
  finally:
    for task in (work, gone):
      task.cancel()
    await asyncio.gather(*both, return_exceptions=True)


async def _disconnected(request: requests.Request) -> None:
  while (await request.receive())["type"] != "http.disconnect":
    pass


async def _error(
  request: requests.Request, error: Exception
) -> responses.Response:
  del request
  assert isinstance(error, errors.ApiError)
  return responses.JSONResponse(
    error.body(), error.status, headers=error.headers()
  )


async def _http_error(
  request: requests.Request, error: Exception
) -> responses.Response:
  """A path or a method that there is not."""
  assert isinstance(error, exceptions.HTTPException)
  path = request.url.path[:60]
  message = {
    404: f"there is nothing at {path!r}; expected e.g. /v1/chat/completions",
    405: f"{request.method} is not for {path!r}",
  }.get(error.status_code, error.detail)
  return await _error(request, errors.ApiError(error.status_code, message))


async def _unforeseen(
  request: requests.Request, error: Exception
) -> responses.Response:
  del error  # the server logs it
  return await _error(request, errors.failed())
