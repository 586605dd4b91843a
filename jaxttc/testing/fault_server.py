# SPDX-License-Identifier: Apache-2.0
"""An OpenAI-compatible server that misbehaves on purpose, and keeps the books.

It listens on a real socket and speaks completions, chat, /tokenize, /pooling
and /score. Its model is a script, as of `inference.scripted_engine`: a word
with the white space behind it is a token, and so is the end of a text. What it
sampled, and what it told whom, it writes down, so that a client's meters can
be held against it.
"""

import collections
from collections.abc import Callable
import dataclasses
import email.utils
import http.server
import json
import re
import socket
import threading
import time
from typing import Any
import zlib

import numpy as np

_PIECES = re.compile(r"\S+\s*|\s+")
_END = "####"  # a step that holds this is a solution's last
_SAMPLING = ("/v1/completions", "/v1/chat/completions")

# Nothing was worked on, a reply was lost, and a reply that is hard to use.
NOT_TAKEN = ("rate_seconds", "rate_date", "unavailable")
LOST = (
  "drop",
  "drop_late",
  "cut",
  "truncate",
  "garble",
  "html",
  "error",
  "oversize",
  "delay",
)
ODD = ("no_usage", "no_choice", "two_choices", "bad_finish")
FAULTS = NOT_TAKEN + LOST + ODD


def solutions(prefix: str, seed: int) -> str:
  """A script: two steps of two to five words, then an answer of 0..2."""
  rng = np.random.default_rng(seed)
  if prefix.count("\n\n") < 3:
    return "so " * rng.integers(1, 5) + f"{rng.integers(10)}\n\n"
  return f"{_END} {rng.integers(3)}"


def length_reward(text: str) -> float:
  """A reward that looks at nothing but the length of a text."""
  return (len(text) * 37 % 101) / 101.0


@dataclasses.dataclass
class Ledger:
  """What one problem's requests came to; the problem is its first line.

  Attributes:
    requests: how many came in.
    generated: tokens sampled, whoever got them.
    told: of those, tokens in whole replies that said how many they are.
    prompts: tokens of prompts that were read.
    told_prompts: of those, tokens of prompts in such replies.
    scored: verifier calls that were worked on.
    told_scores: of those, calls in whole replies.
    faults: how often each fault struck.
  """

  requests: int = 0
  generated: int = 0
  told: int = 0
  prompts: int = 0
  told_prompts: int = 0
  scored: int = 0
  told_scores: int = 0
  faults: collections.Counter = dataclasses.field(
    default_factory=collections.Counter
  )


def never(body: bytes, attempt: int) -> str:
  """The schedule without faults."""
  del body, attempt
  return ""


def at_random(
  rate: float, kinds: tuple[str, ...] = FAULTS, most: int = 3, salt: int = 0
) -> Callable[[bytes, int], str]:
  """A schedule of faults that pass.

  Which request is hit depends on its content, not on when it comes.

  Args:
    rate: chance that an attempt is hit.
    kinds: of `FAULTS`.
    most: attempts of a request that may be hit; later ones are not.
    salt: makes another schedule.
  """

  def schedule(body: bytes, attempt: int) -> str:
    draw = zlib.crc32(b"%d %d " % (salt, attempt) + body)
    if attempt >= most or draw % 10_000 >= rate * 10_000:
      return ""
    return kinds[draw // 10_000 % len(kinds)]

  return schedule


class FaultServer:
  """The server; a context manager that listens while it is open.

  Attributes:
    url: what clients are given.
    ledgers: by the first line of the prompt.
    tokenized: requests to /tokenize.
    busiest: most requests that were worked on at once.
    arrived: is released once for each request that is worked on.
    headers: of the last request.
    payloads: of all requests for samples or scores, as they came.
  """

  def __init__(
    self,
    script: Callable[[str, int], str] = solutions,
    *,
    reward: Callable[[str], float] = length_reward,
    schedule: Callable[[bytes, int], str] = never,
    owner: str = "vllm",
    tokenize: bool = True,
    key: str = "",
    echo: bool = False,
    model: str = "tiny",
    max_model_len: int | None = 4096,
    retry_after: float = 0.0,
    hold: threading.Event | None = None,
  ):
    """A server that does not listen yet.

    Args:
      script: (text so far, seed) -> the next step's text.
      reward: (text so far) -> reward in [0, 1], for /pooling and /score.
      schedule: (body of a request, how often it came before) -> a fault, or
        "" for none.
      owner: what it calls itself: "vllm", "sglang", "llamacpp" or other.
      tokenize: whether it offers /tokenize.
      key: the API key that it wants; "" for none.
      echo: whether its refusals repeat the key that was given.
      model: the name of its model.
      max_model_len: what it says of its context; None says nothing.
      retry_after: seconds to wait that a rate limit asks for.
      hold: requests are answered only once it is set.
    """
    self.script, self.reward, self.schedule = script, reward, schedule
    self.owner, self.tokenize, self.key, self.echo = owner, tokenize, key, echo
    self.model, self.max_model_len = model, max_model_len
    self.retry_after, self.hold = retry_after, hold
    self.ledgers: dict[str, Ledger] = collections.defaultdict(Ledger)
    self.tokenized = self.busiest = self._busy = 0
    self.arrived = threading.Semaphore(0)
    self.headers: dict[str, str] = {}
    self.payloads: list[dict[str, Any]] = []
    self.lock = threading.Lock()
    self.closing = threading.Event()
    self._seen: collections.Counter = collections.Counter()
    self._ids: dict[str, int] = {}
    self._words: list[str] = [""]  # 0 begins a text

    class Handler(_Handler):
      owner = self

    self._http = _Listener(("127.0.0.1", 0), Handler)
    self.url = f"http://127.0.0.1:{self._http.server_address[1]}/v1"

  def __enter__(self) -> "FaultServer":
    self._thread = threading.Thread(
      target=self._http.serve_forever, args=(0.02,), daemon=True
    )
    self._thread.start()
    return self

  def __exit__(self, *exception: object) -> None:
    self.closing.set()
    self._http.shutdown()
    self._http.server_close()
    self._thread.join()

  def ids(self, text: str) -> list[int]:
    """Token ids of a text, after the one that begins it."""
    with self.lock:
      found = [0]
      for piece in _PIECES.findall(text):
        if piece not in self._ids:
          self._ids[piece] = len(self._words)
          self._words.append(piece)
        found.append(self._ids[piece])
      return found

  def text(self, prompt: str | list[int]) -> str:
    """A prompt as text, whichever way it was sent."""
    if isinstance(prompt, str):
      return prompt
    with self.lock:
      return "".join(self._words[token] for token in prompt)

  def fault(self, body: bytes) -> str:
    """What is to go wrong with a request."""
    with self.lock:
      attempt = self._seen[body]
      self._seen[body] += 1
    return self.schedule(body, attempt)

  def ledger(self, text: str) -> Ledger:
    """The books on a problem."""
    return self.ledgers[text.partition("\n")[0]]

  def work(self, step: int) -> None:
    """Counts who is at work."""
    with self.lock:
      self._busy += step
      self.busiest = max(self.busiest, self._busy)


class _Listener(http.server.ThreadingHTTPServer):
  """Drops clients that hang up without a word on the console."""

  daemon_threads = True
  request_queue_size = 128

  def handle_error(self, request, client_address) -> None:
    pass


class _Handler(http.server.BaseHTTPRequestHandler):
  """One client's connection."""

  protocol_version = "HTTP/1.1"
  owner: FaultServer

  def log_message(self, format, *args) -> None:
    pass

  def do_GET(self) -> None:  # noqa: N802 (the base class's name)
    if not self._admitted():
      return
    if self.path != "/v1/models":
      self._json(404, {"error": {"message": "no such page"}})
      return
    entry = {"id": self.owner.model, "object": "model"}
    entry["owned_by"] = self.owner.owner
    if self.owner.max_model_len is not None:
      entry["max_model_len"] = self.owner.max_model_len
    self._json(200, {"object": "list", "data": [entry]})

  def do_POST(self) -> None:  # noqa: N802
    raw = self.rfile.read(int(self.headers.get("content-length", 0)))
    if not self._admitted():
      return
    body = json.loads(raw)
    if self.path == "/tokenize" and self.owner.tokenize:
      self.owner.tokenized += 1
      text = body.get("prompt", body.get("content"))
      self._json(200, {"tokens": self.owner.ids(text)})
      return
    if self.path not in (*_SAMPLING, "/pooling", "/score"):
      self._json(404, {"detail": "Not Found"})
      return
    self.owner.work(1)
    try:
      self._serve(raw, body)
    finally:
      self.owner.work(-1)

  def _admitted(self) -> bool:
    owner = self.owner
    owner.headers = {k.lower(): v for k, v in self.headers.items()}
    given = owner.headers.get("authorization", "")
    if not owner.key or given == f"Bearer {owner.key}":
      return True
    said = f"wrong key {given}" if owner.echo else "wrong key"
    self._json(401, {"error": {"message": said}})
    return False

  def _serve(self, raw: bytes, body: dict[str, Any]) -> None:
    owner, fault = self.owner, self.owner.fault(raw)
    owner.arrived.release()
    if owner.hold is not None:
      owner.hold.wait(30)
    sampling = self.path in _SAMPLING
    text = _sent(owner, body)
    ledger = owner.ledger(text)
    with owner.lock:
      owner.payloads.append(body)
      ledger.requests += 1
      if fault:
        ledger.faults[fault] += 1
    if fault in NOT_TAKEN:
      self._refuse(fault)
      return
    if fault == "drop":
      self._hang_up()
      return
    if fault == "error":
      self._json(500, {"error": {"message": "out of memory"}})
      return
    answer = self._sample(body, text) if sampling else self._judge(text)
    # A call is told by any whole reply, its tokens only by one with usage.
    told = not fault or fault in ODD and not (sampling and fault == "no_usage")
    self._enter(ledger, answer["usage"], sampling, told)
    if fault == "drop_late":
      self._hang_up()
    elif fault == "delay":
      owner.closing.wait(20)
      self._hang_up()
    else:
      self._reply(fault, answer)

  def _enter(self, ledger, usage, sampling: bool, told: bool) -> None:
    """Writes down what was worked on, before the client can know of it."""
    with self.owner.lock:
      if not sampling:
        ledger.scored += 1
        ledger.told_scores += told
        return
      generated, prompt = usage["completion_tokens"], usage["prompt_tokens"]
      ledger.generated += generated
      ledger.prompts += prompt
      if told:
        ledger.told += generated
        ledger.told_prompts += prompt

  def _sample(self, body, text) -> dict[str, Any]:
    pieces, finish, stop = _sampled(self.owner.script, body, text)
    chat = self.path.endswith("chat/completions")
    said = "".join(pieces)
    if stop and not body.get("include_stop_str_in_output"):
      said = said[: -len(stop)]
    choice: dict[str, Any] = {"index": 0, "finish_reason": finish}
    choice |= {"message": {"content": said}} if chat else {"text": said}
    ended = finish == "stop" and not stop
    length = len(pieces) + ended  # the end of text is a token too
    if self.owner.owner == "vllm":
      choice["stop_reason"] = stop
    elif self.owner.owner == "sglang":
      choice["matched_stop"] = stop or (2 if ended else None)
    if body.get("logprobs"):
      values = [-0.5] * length
      choice["logprobs"] = (
        {"content": [{"logprob": value} for value in values]}
        if chat
        else {"token_logprobs": values}
      )
    prompt = len(self.owner.ids(text))
    usage = {"prompt_tokens": prompt, "completion_tokens": length}
    return {"choices": [choice], "usage": usage}

  def _judge(self, text) -> dict[str, Any]:
    reward = self.owner.reward(text)
    item = {"index": 0, "score": reward}
    if self.path == "/pooling":
      item = {"index": 0, "data": [[1 - reward, reward]]}
    usage = {"prompt_tokens": len(self.owner.ids(text))}
    return {"data": [item], "usage": usage}

  def _reply(self, fault: str, answer: dict[str, Any]) -> None:
    if fault == "html":
      self._send(200, b"<html><body>Bad gateway</body></html>", "text/html")
      return
    items = "choices" if "choices" in answer else "data"
    if fault == "no_usage":
      del answer["usage"]
    elif fault == "no_choice":
      answer[items] = []
    elif fault == "two_choices":
      answer[items] *= 2
    elif fault == "bad_finish":
      for item in answer[items]:
        item["finish_reason"], item["data"] = "abort", "none"
        item["score"] = None
    elif fault == "oversize":
      answer["padding"] = " " * (1 << 20)
    raw = json.dumps(answer).encode()
    if fault == "cut":
      raw = raw[: len(raw) // 2]
    elif fault == "garble":
      raw = bytes(byte ^ 0x80 for byte in raw)
    length = len(raw)
    if fault == "truncate":
      raw = raw[: length // 2]
    self._send(200, raw, "application/json", length=length)
    if fault == "truncate":
      self._hang_up()

  def _refuse(self, fault: str) -> None:
    after = self.owner.retry_after
    headers = {}
    if fault == "rate_seconds":
      headers["Retry-After"] = f"{after:g}"
    elif fault == "rate_date":
      headers["Retry-After"] = email.utils.formatdate(
        time.time() + after, usegmt=True
      )
    status = 503 if fault == "unavailable" else 429
    self._json(status, {"error": {"message": "busy"}}, headers)

  def _json(self, status, content, headers=None) -> None:
    self._send(status, json.dumps(content).encode(), headers=headers)

  def _send(
    self, status, raw, kind="application/json", headers=None, length=None
  ) -> None:
    self.send_response(status)
    self.send_header("Content-Type", kind)
    self.send_header(
      "Content-Length", str(len(raw) if length is None else length)
    )
    for name, value in (headers or {}).items():
      self.send_header(name, value)
    self.end_headers()
    self.wfile.write(raw)

  def _hang_up(self) -> None:
    self.close_connection = True
    self.wfile.flush()
    self.connection.shutdown(socket.SHUT_RDWR)


def _sent(owner: FaultServer, body: dict[str, Any]) -> str:
  """The text that a request is about."""
  if "messages" in body:
    return body["messages"][-1]["content"]
  if "text_1" in body:
    return body["text_1"] + body["text_2"]
  return owner.text(body.get("prompt", body.get("input")))


def _sampled(script, body, text) -> tuple[list[str], str, str | None]:
  """Tokens up to a stop string, the end of the text, or the limit."""
  pieces: list[str] = []
  stops = body.get("stop") or []
  while True:
    seed = zlib.crc32(b"%d %d" % (body["seed"], len(pieces)))
    step = script(text + "".join(pieces), seed)
    for piece in _PIECES.findall(step):
      if len(pieces) == body["max_tokens"]:
        return pieces, "length", None
      pieces.append(piece)
      for stop in stops:
        if stop in piece:
          pieces[-1] = piece[: piece.index(stop) + len(stop)]
          return pieces, "stop", stop
    if _END in step:
      full = len(pieces) == body["max_tokens"]
      return pieces, "length" if full else "stop", None
