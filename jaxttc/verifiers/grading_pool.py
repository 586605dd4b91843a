# SPDX-License-Identifier: Apache-2.0
"""math-verify with a hard deadline, in a process of its own.

math-verify's own timeout is a signal alarm: it fails off the main thread and
cannot interrupt C code. Here a request runs in a worker process that ends when
its deadline passes and is replaced at once. Starting up is not charged to the
request. Needs a POSIX system.
"""

from __future__ import annotations

import atexit
import contextlib
import importlib.util
import json
import os
import pathlib
import select
import signal
import subprocess
import sys
import threading
import time
from typing import Any

_START_LIMIT_S = 120.0
_GRACE_S = 5.0  # the worker ends a late request itself; this is for a lost one
_WORKER = pathlib.Path(__file__).with_name("grading_worker.py")


class Undecided(Exception):
  """A request without a verdict: `timed_out` tells a deadline from the rest."""

  def __init__(self, *, timed_out: bool):
    super().__init__("timed out" if timed_out else "could not be read")
    self.timed_out = timed_out


class Worker:
  """One math-verify process, started on first use; safe to share by threads."""

  def __init__(self) -> None:
    self._process: subprocess.Popen[bytes] | None = None
    self._lock = threading.Lock()

  def verify(self, pred: str, gold: str, timeout_s: float) -> bool:
    """Runs `math_verify.verify` on two LaTeX texts.

    Args:
      pred: the answer to be judged.
      gold: the reference.
      timeout_s: seconds this request may take, not counting start-up.

    Returns:
      The verdict.

    Raises:
      Undecided: on a passed deadline, an unreadable text, or a dead worker.
      ImportError: if math-verify is not installed.
    """
    return self._ask({"op": "verify", "pred": pred, "gold": gold}, timeout_s)

  def canonical(self, text: str, timeout_s: float) -> str:
    """Canonical text of an expression; arguments and errors as `verify`."""
    return self._ask({"op": "canonical", "text": text}, timeout_s)

  def start(self) -> None:
    """Starts the process if it is not running, so that no request waits.

    Raises:
      ImportError: if math-verify is not installed.
      RuntimeError: if the process does not come up.
    """
    with self._lock:
      self._started()

  def close(self) -> None:
    """Ends the process; the next request starts a new one."""
    process, self._process = self._process, None
    if process is None:
      return
    with contextlib.suppress(ProcessLookupError):
      os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    for stream in (process.stdin, process.stdout):
      if stream is not None:
        stream.close()

  def _ask(self, request: dict[str, Any], timeout_s: float) -> Any:
    if timeout_s <= 0:
      raise Undecided(timed_out=True)
    line = json.dumps(request | {"timeout_s": timeout_s}) + "\n"
    with self._lock:
      process = self._started()
      try:
        _write(process, line.encode())
        reply = _reply(process, timeout_s + _GRACE_S)
      except BaseException as error:
        # Also on interrupts: a late reply must not answer the next request.
        self.close()
        if not isinstance(error, OSError):
          raise
        timed_out = isinstance(error, TimeoutError)
        raise Undecided(timed_out=timed_out) from error
    if reply["value"] is None:
      raise Undecided(timed_out=reply["timed_out"])
    return reply["value"]

  def _started(self) -> subprocess.Popen[bytes]:
    if self._process is not None and self._process.poll() is None:
      return self._process
    self.close()
    if importlib.util.find_spec("math_verify") is None:
      raise ImportError(
        "symbolic answers need math-verify; install it with: "
        "pip install 'jaxttc[math]'"
      )
    # -P keeps this folder off the worker's import path; a session of its own
    # keeps keyboard interrupts away and lets `close` end its children too.
    self._process = subprocess.Popen(
      [sys.executable, "-P", str(_WORKER)],
      stdin=subprocess.PIPE,
      stdout=subprocess.PIPE,
      stderr=subprocess.DEVNULL,
      start_new_session=True,
    )
    try:
      _reply(self._process, _START_LIMIT_S)
    except BaseException as error:
      self.close()
      if not isinstance(error, OSError):
        raise
      raise RuntimeError("the math-verify worker did not start") from error
    return self._process


def _write(process: subprocess.Popen[bytes], line: bytes) -> None:
  assert process.stdin is not None
  process.stdin.write(line)
  process.stdin.flush()


def _reply(process: subprocess.Popen[bytes], timeout_s: float) -> Any:
  """Reads one reply; TimeoutError on the deadline, OSError on a dead worker."""
  assert process.stdout is not None
  descriptor, line = process.stdout.fileno(), b""
  deadline = time.monotonic() + timeout_s
  while not line.endswith(b"\n"):
    left = max(deadline - time.monotonic(), 0.0)
    if not select.select([descriptor], [], [], left)[0]:
      raise TimeoutError
    chunk = os.read(descriptor, 1 << 16)
    if not chunk:
      raise BrokenPipeError("the worker died")
    line += chunk
  return json.loads(line)


_WORKERS: list[Worker] = []
_GROWING = threading.Lock()


def workers(count: int) -> list[Worker]:
  """The first `count` workers of this process, kept warm between calls.

  Args:
    count: how many, at least 1; none is started before it has a request.
  """
  with _GROWING:
    while len(_WORKERS) < count:
      _WORKERS.append(Worker())
      atexit.register(_WORKERS[-1].close)
    return _WORKERS[:count]


def shared() -> Worker:
  """The worker every single-answer call of this process goes through."""
  return workers(1)[0]
