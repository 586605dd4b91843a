# SPDX-License-Identifier: Apache-2.0
"""Runs a service on a socket: in this thread until a signal, or beside it.

SIGTERM and SIGINT stop it cleanly: it takes no more connections, refuses what
waits (503), lets what runs end within `limits.drain_s` and refuses the rest. A
second signal ends it at once.
"""

import asyncio
from collections.abc import Callable, Iterator
import contextlib
import math
import os
import socket
import threading
from types import FrameType

import uvicorn

from jaxttc.serving import app as app_lib
from jaxttc.serving import recipe as recipe_lib
from jaxttc.serving import routed_service

_GRACE_S = 5  # beyond the drain, for replies to be written


class _Server(uvicorn.Server):
  """Tells the application that the end is near, and exits with status 0."""

  def __init__(
    self, config: uvicorn.Config, app: app_lib.App, ready: Callable[[], None]
  ):
    super().__init__(config)
    self._app, self._ready = app, ready
    self._loop: asyncio.AbstractEventLoop | None = None

  async def startup(self, sockets: list[socket.socket] | None = None) -> None:
    self._loop = asyncio.get_running_loop()
    await super().startup(sockets=sockets)
    if self.started:
      self._ready()

  def stop(self) -> None:
    """Begins the end; from any thread, or a signal handler."""
    if self.should_exit:
      self.force_exit = True
    self.should_exit = True
    if self._loop is not None:
      seconds = self._app.service.limits.drain_s
      with contextlib.suppress(RuntimeError):  # the loop has ended
        self._loop.call_soon_threadsafe(self._app.drain, seconds)

  def handle_exit(self, sig: int, frame: FrameType | None) -> None:
    # Not recorded as uvicorn would, which raises it again after the end.
    del sig, frame
    self.stop()


def serve(
  recipe: recipe_lib.ServeRecipe,
  *,
  host: str = "127.0.0.1",
  port: int = 8000,
  api_key_env: str = "",
  ready: Callable[[str], None] = print,
) -> None:
  """Serves until a signal; returns once all has ended.

  Args:
    recipe: what to serve.
    host: address to listen at; only this machine by default.
    port: to listen at; 0 for any that is free.
    api_key_env: name of the environment variable that holds the API key; ""
      for none.
    ready: is told the base URL once requests are served.

  Raises:
    ValueError: naming what cannot be: a model, a field, the key, the address;
      or if the server could not start.
  """
  key = api_key(api_key_env)
  listening = _listen(host, port)
  with contextlib.closing(listening):
    app = app_lib.App(routed_service.load(recipe), key)
    url = _url(listening)
    server = _server(app, lambda: ready(url))
    server.run(sockets=[listening])
    if not server.started:
      raise ValueError("the server could not start; the log above says why")


@contextlib.contextmanager
def running(
  service: routed_service.AnyService, *, key: str | None = None
) -> Iterator[str]:
  """Serves beside the caller, on a free port of this machine.

  Args:
    service: not started yet; closed at the end.
    key: the API key; None for none.

  Yields:
    The base URL, once requests are served.

  Raises:
    RuntimeError: if the server does not come up.
  """
  listening = _listen("127.0.0.1", 0)
  ready = threading.Event()
  server = _server(app_lib.App(service, key), ready.set)
  thread = threading.Thread(
    target=server.run, kwargs={"sockets": [listening]}, name="server"
  )
  thread.start()
  try:
    while not ready.wait(0.05):
      if not thread.is_alive():
        raise RuntimeError("the server ended before it began; see the log")
    yield _url(listening)
  finally:
    server.stop()
    thread.join()
    listening.close()


def api_key(variable: str) -> str | None:
  """The API key that an environment variable holds; None if "" names it.

  Raises:
    ValueError: if the variable is not set, or empty.
  """
  if not variable:
    return None
  key = os.environ.get(variable, "").strip()
  if not key:
    raise ValueError(
      f"the environment variable {variable} is not set; expected the API key"
    )
  return key


def _server(app: app_lib.App, ready: Callable[[], None]) -> _Server:
  config = uvicorn.Config(
    app.asgi,
    lifespan="on",
    log_level="warning",
    timeout_graceful_shutdown=math.ceil(app.service.limits.drain_s + _GRACE_S),
  )
  return _Server(config, app, ready)


def _listen(host: str, port: int) -> socket.socket:
  family = socket.AF_INET6 if ":" in host else socket.AF_INET
  try:
    return socket.create_server((host, port), family=family, backlog=1024)
  except (OSError, OverflowError) as error:
    reason = getattr(error, "strerror", None) or error
    raise ValueError(f"cannot listen at {host}:{port}: {reason}") from None


def _url(listening: socket.socket) -> str:
  host, port = listening.getsockname()[:2]
  return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
