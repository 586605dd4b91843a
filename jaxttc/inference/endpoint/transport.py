# SPDX-License-Identifier: Apache-2.0
"""JSON over HTTP to a served model: bounded, timed, retried, and kept quiet.

One event loop in a background thread sends everything. What goes wrong falls
in three kinds, because they cost differently:

* The server did not take the request: it could not be reached, or answered
  408, 429 or 503. Nothing was spent. It is sent again after a wait: a random
  share of a time that doubles, and no less than `Retry-After` asks for.
* The reply was lost: the connection broke, timed out, or ended in the middle,
  the server answered another 5xx, or what came is no JSON object. Whether it
  was worked on nobody knows, so it may have cost its full price. That is for
  the caller to pay, or not, before asking again.
* The server refused: 400, 401, 403, 404 and the rest. Asking again is useless.

The API key is in no message: whatever a server says is cleaned of it before it
is shown.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
import concurrent.futures
import dataclasses
import datetime
import email.utils
import json
import math
import random as random_lib
import threading
import time
from typing import Any

from jaxttc.inference.endpoint import connection as connection_lib

_NOT_TAKEN = (408, 429, 503)
_SHOWN = 200  # most characters of a server's message that an error repeats


class EndpointError(Exception):
  """A request without a usable reply; its text is one line, without the key.

  Attributes:
    again: whether it may be sent again.
    spent: whether the server may have worked on it.
  """

  def __init__(self, line: str, *, again: bool, spent: bool):
    super().__init__(line)
    self.again, self.spent = again, spent


@dataclasses.dataclass
class Progress:
  """How far a request has come.

  Attributes:
    sent: whether an attempt that may have been taken is under way.
  """

  sent: bool = False


class Transport:
  """Sends JSON to one server; see the module docstring.

  Attributes:
    connection: how.
  """

  def __init__(
    self,
    connection: connection_lib.Connection,
    *,
    sleep: Callable[[float], Awaitable[Any]] = asyncio.sleep,
    random: Callable[[], float] = random_lib.random,
    now: Callable[[], float] = time.time,
  ):
    """Starts the background thread; nothing is sent yet.

    Args:
      connection: how to speak to the server.
      sleep: waits for seconds.
      random: in [0, 1), spreads the waits.
      now: seconds since 1970, to read dates of `Retry-After` by.

    Raises:
      ValueError: if the connection cannot be, its key is not set, or httpx is
        not installed.
    """
    connection.validate()
    try:
      import httpx
    except ImportError:
      raise ValueError(
        "served models need httpx: pip install 'jaxttc[serve]'"
      ) from None
    self._httpx = httpx
    self.connection = connection
    self._key = connection.key()
    self._sleep, self._random, self._now = sleep, random, now
    self._gate = asyncio.Semaphore(connection.concurrency)
    self._loop = asyncio.new_event_loop()
    self._thread = threading.Thread(
      target=self._loop.run_forever, name="jaxttc-endpoint", daemon=True
    )
    self._thread.start()
    self._client = self.call(self._opened())

  def call(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
    """Runs a coroutine in the background thread, and waits for its result."""
    return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result()

  def start(
    self, coroutine: Coroutine[Any, Any, Any]
  ) -> concurrent.futures.Future:
    """Runs a coroutine in the background thread, without waiting."""
    return asyncio.run_coroutine_threadsafe(coroutine, self._loop)

  def close(self) -> None:
    """Drops what is in flight and ends the thread; twice does no harm."""
    if self._loop.is_closed():
      return
    self.call(self._shut())
    self._loop.call_soon_threadsafe(self._loop.stop)
    self._thread.join()
    self._loop.close()

  def clean(self, text: str) -> str:
    """A server's text as part of an error line: short, without the key."""
    if self._key:
      text = text.replace(self._key, "***")
    line = " ".join(
      "".join(c if c.isprintable() else " " for c in text).split()
    )
    return line if len(line) <= _SHOWN else line[: _SHOWN - 2] + ".."

  async def get(self, path: str) -> dict[str, Any]:
    """The JSON object at a path; lost replies are fetched again.

    Raises:
      EndpointError: if there is none.
    """
    attempt = 0
    while True:
      try:
        return await self._request("GET", path, None, attempt, Progress())
      except EndpointError as error:
        if not (error.again and error.spent):
          raise
        attempt += 1

  async def post(
    self,
    path: str,
    payload: dict[str, Any],
    *,
    attempt: int = 0,
    progress: Progress | None = None,
  ) -> dict[str, Any]:
    """The JSON object that answers a request.

    Args:
      path: what to put behind the URL; one that begins with "//" goes behind
        the URL without its "/v1".
      payload: the request.
      attempt: how often its reply was lost before: it waits accordingly.
      progress: is told when the request may begin to cost.

    Raises:
      EndpointError: if there is none.
    """
    progress = Progress() if progress is None else progress
    return await self._request("POST", path, payload, attempt, progress)

  async def _request(self, method, path, payload, attempt, progress):
    wait = self._wait(attempt - 1, None) if attempt else 0.0
    for tries in range(self.connection.retries + 1):
      if wait:
        await self._sleep(wait)
      try:
        async with self._gate:
          return await self._attempt(method, path, payload, progress)
      except _NotTaken as error:
        progress.sent = False
        wait = self._wait(tries, error.retry_after)
        if tries == self.connection.retries or wait is None:
          raise EndpointError(
            self._gave_up(error, wait, tries + 1), again=False, spent=False
          ) from None
      except EndpointError as error:
        if error.again and attempt >= self.connection.retries:
          line = f"{error}, after {attempt + 1} attempts"
          raise EndpointError(line, again=False, spent=error.spent) from None
        raise

  def _gave_up(self, error, wait, attempts) -> str:
    if wait is None:
      return (
        f"{error}, and asks to wait {error.retry_after:.0f} s; longest_wait_s "
        f"is {self.connection.longest_wait_s:g}"
      )
    return f"{error}, after {attempts} attempts"

  def _wait(self, tries: int, retry_after: float | None) -> float | None:
    """Seconds before the next attempt; None if that is too long to wait."""
    most = self.connection.longest_wait_s
    spread = min(most, self.connection.first_wait_s * 2.0 ** min(tries, 60))
    if retry_after is not None and retry_after > most:
      return None
    return max(self._random() * spread, retry_after or 0.0)

  async def _attempt(self, method, path, payload, progress):
    httpx, where = self._httpx, self.clean(self._address(path))
    try:
      async with asyncio.timeout(self.connection.total_s):
        progress.sent = True
        async with self._client.stream(
          method, self._address(path), json=payload
        ) as response:
          body = await self._body(response)
    except (
      httpx.ConnectError,
      httpx.ConnectTimeout,
      httpx.PoolTimeout,
    ) as error:
      raise _NotTaken(
        f"{where}: cannot be reached ({type(error).__name__})"
      ) from None
    except (TimeoutError, httpx.TimeoutException):
      raise _lost(f"{where}: no reply in time") from None
    except httpx.HTTPError as error:
      raise _lost(
        f"{where}: the connection broke ({type(error).__name__})"
      ) from None
    return self._checked(where, response, body)

  async def _body(self, response) -> bytes | None:
    """The reply's bytes; None if there are too many."""
    parts, size = [], 0
    async for part in response.aiter_bytes():
      size += len(part)
      if size > self.connection.reply_bytes:
        return None
      parts.append(part)
    return b"".join(parts)

  def _checked(self, where, response, body) -> dict[str, Any]:
    status = response.status_code
    if body is None:
      raise _lost(
        f"{where}: the reply has more than {self.connection.reply_bytes} bytes"
      )
    if status == 200:
      try:
        content = json.loads(body)
      except (ValueError, RecursionError):
        content = None
      if not isinstance(content, dict):
        kind = response.headers.get("content-type", "no content type")
        raise _lost(
          f"{where}: the reply is no JSON object "
          f"({self.clean(kind)}, {len(body)} bytes)"
        )
      return content
    line = f"{where}: {status} {self.clean(_message(body))}".rstrip()
    if status in _NOT_TAKEN:
      raise _NotTaken(line, self._retry_after(response.headers))
    if status >= 500:
      raise _lost(line)
    raise EndpointError(line, again=False, spent=False)

  def _retry_after(self, headers) -> float | None:
    """Seconds that the server asks to wait: a number, or a date."""
    text = headers.get("retry-after", "").strip()
    try:
      seconds = float(text)
    except ValueError:
      try:
        date = email.utils.parsedate_to_datetime(text)
      except (TypeError, ValueError):
        return None
      if date.tzinfo is None:
        date = date.replace(tzinfo=datetime.UTC)
      seconds = date.timestamp() - self._now()
    return max(seconds, 0.0) if math.isfinite(seconds) else None

  def _address(self, path: str) -> str:
    url = self.connection.url.rstrip("/")
    if path.startswith("//"):
      return url.removesuffix("/v1") + path[1:]
    return url + path

  async def _opened(self):
    connection = self.connection
    return self._httpx.AsyncClient(
      headers={"Authorization": f"Bearer {self._key}"} if self._key else {},
      timeout=self._httpx.Timeout(
        connection.read_s, connect=connection.connect_s
      ),
      limits=self._httpx.Limits(
        max_connections=connection.concurrency,
        max_keepalive_connections=connection.concurrency,
        keepalive_expiry=2.0,  # servers that hang up first lose a request
      ),
      trust_env=False,  # no other credentials, e.g. of a .netrc file
    )

  async def _shut(self) -> None:
    mine = asyncio.current_task()
    tasks = [task for task in asyncio.all_tasks() if task is not mine]
    for task in tasks:
      task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await self._client.aclose()


class _NotTaken(Exception):
  """The server did not take a request: it cost nothing."""

  def __init__(self, line: str, retry_after: float | None = None):
    super().__init__(line)
    self.retry_after = retry_after


def _lost(line: str) -> EndpointError:
  return EndpointError(line, again=True, spent=True)


def _message(body: bytes) -> str:
  """What a server says went wrong, in the dialects there are; else nothing."""
  try:
    content = json.loads(body)
  except (ValueError, RecursionError):
    return ""
  for key in ("error", "message", "detail"):
    if isinstance(content, dict) and key in content:
      content = content[key]
  return content if isinstance(content, str) else ""
