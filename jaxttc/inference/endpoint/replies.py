# SPDX-License-Identifier: Apache-2.0
"""Reads the replies of OpenAI-compatible servers; believes nothing unchecked.

A reply is either whole, and becomes a `Reply`, or a `MalformedReply` says in
one line what was wrong with it. Both carry the server's own count of tokens
where there is one, since a reply that cannot be used was paid for all the same.
"""

import dataclasses
import math
from typing import Any


@dataclasses.dataclass(frozen=True)
class Usage:
  """The server's count of tokens.

  Attributes:
    prompt: tokens of the prompt, those from the server's cache included.
    generated: tokens sampled.
    cached: tokens of the prompt that came from the server's cache.
  """

  prompt: int
  generated: int
  cached: int = 0


@dataclasses.dataclass(frozen=True)
class Reply:
  """One sampled span.

  Attributes:
    text: of the span.
    finish: "stop" or "length".
    stop: the stop string or token that ended it, None for the end of text;
      only what a server says that names it.
    usage: the server's count; None if it gave none.
    logprob: log-probability of the span, in nats; None if there are none.
    tokens: number of tokens that have one; None if there are none.
  """

  text: str
  finish: str
  stop: str | int | None
  usage: Usage | None
  logprob: float | None
  tokens: int | None


class MalformedReply(Exception):
  """A reply that cannot be used; its text is one line.

  Attributes:
    usage: what it cost, if it says so.
  """

  def __init__(self, line: str, usage: Usage | None):
    super().__init__(line)
    self.usage = usage


def completion(
  body: dict[str, Any], *, chat: bool, logprobs: bool, stop_field: str
) -> Reply:
  """Reads a reply to a completion or a chat request with n=1.

  Args:
    body: the JSON object.
    chat: which of the two.
    logprobs: whether log-probabilities were asked for.
    stop_field: the field of a choice that names what stopped it; "" if this
      server has none.

  Raises:
    MalformedReply: naming the field, and what it should have been.
  """
  usage = _usage(body)
  try:
    choices = body.get("choices")
    if not isinstance(choices, list) or len(choices) != 1:
      found = len(choices) if isinstance(choices, list) else "no"
      raise _Malformed(f"{found} choices, expected 1{_said(body)}")
    choice = choices[0]
    _require(isinstance(choice, dict), "choices[0] is no object")
    finish = choice.get("finish_reason")
    _require(
      finish in ("stop", "length"),
      f"finish_reason {str(finish)[:40]!r} is neither 'stop' nor 'length'",
    )
    text = _text(choice, chat)
    stop = choice.get(stop_field) if stop_field else None
    _require(
      stop is None or isinstance(stop, str | int),
      f"{stop_field} is neither a string nor a token",
    )
    values = _logprobs(choice, chat) if logprobs else None
  except _Malformed as error:
    raise MalformedReply(str(error), usage) from None
  return Reply(
    text=text,
    finish=finish,
    stop=stop,
    usage=usage,
    logprob=None if values is None else math.fsum(values),
    tokens=None if values is None else len(values),
  )


def model_entry(body: dict[str, Any], model: str) -> dict[str, Any]:
  """What a server's list of models says of one.

  Raises:
    MalformedReply: if it is no such list, or names the models that it has
      where the one asked for is not among them.
  """
  entries = body.get("data")
  if not isinstance(entries, list):
    raise MalformedReply("the list of models has no 'data'", None)
  named = {
    entry["id"]: entry
    for entry in entries
    if isinstance(entry, dict) and isinstance(entry.get("id"), str)
  }
  if model not in named:
    some = ", ".join(repr(name) for name in sorted(named)[:5]) or "none"
    raise MalformedReply(f"there is no model {model!r}; it serves {some}", None)
  return named[model]


def count(value: Any) -> int | None:
  """A JSON number that counts something; None if it does not."""
  whole = isinstance(value, int) and not isinstance(value, bool)
  return value if whole and 0 <= value < 2**31 else None


class _Malformed(Exception):
  pass


def _require(condition: bool, line: str) -> None:
  if not condition:
    raise _Malformed(line)


def _said(body) -> str:
  """An error that a server sent with a status of success."""
  error = body.get("error")
  message = error.get("message") if isinstance(error, dict) else error
  return f" ({message[:160]})" if isinstance(message, str) else ""


def _text(choice, chat: bool) -> str:
  text = choice.get("text")
  if chat:
    message = choice.get("message")
    _require(isinstance(message, dict), "message is no object")
    text = message.get("content")
    text = "" if text is None else text  # nothing was said
  _require(isinstance(text, str), "the text is no string")
  try:
    text.encode()
  except UnicodeEncodeError:
    raise _Malformed("the text holds half a character") from None
  return text


def _usage(body) -> Usage | None:
  """The server's count, if it is whole; a part of one is none."""
  usage = body.get("usage")
  if not isinstance(usage, dict):
    return None
  prompt = count(usage.get("prompt_tokens"))
  generated = count(usage.get("completion_tokens"))
  if prompt is None or generated is None:
    return None
  details = usage.get("prompt_tokens_details")
  cached = details.get("cached_tokens") if isinstance(details, dict) else None
  return Usage(prompt, generated, min(count(cached) or 0, prompt))


def _logprobs(choice, chat: bool) -> list[float]:
  found = choice.get("logprobs")
  _require(isinstance(found, dict), "there are no logprobs, as were asked for")
  if chat:
    items = found.get("content")
    _require(isinstance(items, list), "logprobs.content is no list")
    values = [i.get("logprob") if isinstance(i, dict) else None for i in items]
  else:
    values = found.get("token_logprobs")
    _require(isinstance(values, list), "logprobs.token_logprobs is no list")
  for value in values:
    valid = isinstance(value, int | float) and not isinstance(value, bool)
    _require(
      valid and math.isfinite(value) and value <= 1e-3,
      "a log-probability is no number of at most 0",
    )
  return [min(float(value), 0.0) for value in values]
