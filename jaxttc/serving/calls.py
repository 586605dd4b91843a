# SPDX-License-Identifier: Apache-2.0
"""Reads requests: JSON in, checked fields out; each mistake is one line.

A field that is not known, or known and not supported, is refused: an option
that is silently ignored is worse than one that is missing. `null` stands for
a field that is left out.
"""

from collections.abc import Sequence
import dataclasses
import difflib
import json
import math
from typing import Any

from jaxttc.inference import thinking_config
from jaxttc.serving import errors

MAX_STOPS = 16
MAX_LOGPROBS = 20

# Said about the caller or the bill, not about the reply.
_IGNORED = frozenset(
  {
    "metadata",
    "parallel_tool_calls",
    "prompt_cache_key",
    "safety_identifier",
    "service_tier",
    "store",
    "user",
  }
)
# Fields of OpenAI's that are taken at these values only.
_NEUTRAL: dict[str, tuple[Any, ...]] = {
  "best_of": (1,),
  "echo": (False,),
  "frequency_penalty": (0,),
  "function_call": ("none", "auto"),
  "functions": ([],),
  "logit_bias": ({},),
  "modalities": (["text"],),
  "presence_penalty": (0,),
  "response_format": ({"type": "text"},),
  "suffix": ("",),
  "tool_choice": ("none", "auto"),
  "tools": ([],),
}
_SAMPLING = ("temperature", "top_p", "top_k", "min_p")
_SEARCH = ("decoder", "budget", *thinking_config.FIELDS)
_SHARED = ("model", "n", "stop", "seed", "stream", "stream_options", "logprobs")
_ROLES = ("system", "developer", "user", "assistant")


@dataclasses.dataclass(frozen=True, kw_only=True)
class SearchFields:
  """What a request says about its search.

  Attributes:
    decoder: e.g. "astar(children=4)"; None for the server's.
    budget: limits by field of `cost.Budget`; None for the server's.
    effort: one of `thinking_config.EFFORTS` but "none"; None if not given.
    max_thinking_tokens: most tokens to sample in all; None if not given.
  """

  decoder: str | None = None
  budget: dict[str, Any] | None = None
  effort: str | None = None
  max_thinking_tokens: int | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Call:
  """A request whose fields have been checked one by one.

  Attributes:
    model: the model that it names.
    prompts: texts to continue; empty for a chat.
    messages: of a chat, each with `role` and `content`; else None.
    n: completions a prompt.
    max_tokens: most tokens of a completion; None if not given.
    sampling: the fields of `controllers.Sampler` that were given.
    stop: texts that end a completion.
    seed: of all sampling; None if not given.
    stream: whether to answer piece by piece.
    include_usage: whether a stream ends with its usage.
    logprobs: alternatives to report a token; None for no log-probabilities.
    search: how to search for the answer, if the model does not think by itself;
      None to sample it.
    thinking: how long to think.
  """

  model: str
  prompts: tuple[str, ...]
  messages: tuple[dict[str, str], ...] | None
  n: int
  max_tokens: int | None
  sampling: dict[str, Any]
  stop: tuple[str, ...]
  seed: int | None
  stream: bool
  include_usage: bool
  logprobs: int | None
  search: SearchFields | None
  thinking: thinking_config.ThinkingConfig

  @property
  def chat(self) -> bool:
    """Whether the request was a chat."""
    return self.messages is not None


def parse(body: bytes, *, chat: bool) -> Call:
  """Reads the body of a request.

  Args:
    body: JSON.
    chat: whether it is one of /v1/chat/completions.

  Raises:
    ApiError: 400, naming the field and what was expected.
  """
  fields = _Fields(_object(body))
  thinking = _thinking(fields)
  call = Call(
    model=fields.text("model", required=True) or "",
    prompts=() if chat else _prompts(fields.take("prompt")),
    messages=_messages(fields.take("messages")) if chat else None,
    n=fields.whole("n", low=1) or 1,
    max_tokens=_max_tokens(fields, chat),
    sampling=_sampling(fields),
    stop=_stop(fields.take("stop")),
    seed=fields.whole("seed"),
    stream=fields.flag("stream"),
    include_usage=_include_usage(fields.take("stream_options")),
    logprobs=_logprobs(fields, chat),
    search=_search(fields, thinking),
    thinking=thinking,
  )
  fields.finish(chat)
  return call


class _Fields:
  """The fields of a body; each is taken once, and none may be left."""

  def __init__(self, body: dict[str, Any]):
    self._left = {k: v for k, v in body.items() if v is not None}

  def take(self, name: str) -> Any:
    return self._left.pop(name, None)

  def text(self, name: str, required: bool = False) -> str | None:
    value = self.take(name)
    if value is None and not required:
      return None
    if not isinstance(value, str) or not value:
      raise _expected(name, "a string that is not empty", value)
    return value

  def flag(self, name: str) -> bool:
    value = self.take(name)
    if not isinstance(value, bool | None):
      raise _expected(name, "true or false", value)
    return bool(value)

  def whole(
    self, name: str, low: int | None = None, high: int | None = None
  ) -> int | None:
    value = self.take(name)
    if value is None:
      return None
    if not isinstance(value, int) or isinstance(value, bool):
      raise _expected(name, "an integer", value)
    if (low is not None and value < low) or (high is not None and value > high):
      bounds = f"{low} or more" if high is None else f"{low}..{high}"
      raise _expected(name, f"an integer, {bounds}", value)
    return value

  def number(self, name: str) -> float | None:
    value = self.take(name)
    if value is None:
      return None
    if not isinstance(value, int | float) or isinstance(value, bool):
      raise _expected(name, "a number", value)
    try:
      finite = math.isfinite(value)
    except OverflowError:
      finite = False
    if not finite:
      raise _expected(name, "a finite number", value)
    return float(value)

  def finish(self, chat: bool) -> None:
    """Refuses what nobody has taken."""
    for name, value in self._left.items():
      if name in _IGNORED or value in _NEUTRAL.get(name, ()):
        continue
      if name in _NEUTRAL:
        raise errors.bad(
          name, f"{name} is not supported by this server; leave it out"
        )
      raise errors.bad(name, f"unknown field {name!r}{_nearest(name, chat)}")


def _object(body: bytes) -> dict[str, Any]:
  try:
    found = json.loads(body)
  except (ValueError, RecursionError) as error:
    reason = str(error).splitlines()[0][:120]
    raise errors.bad(None, f"the body is not JSON: {reason}") from None
  if not isinstance(found, dict):
    raise errors.bad(
      None, f"the body is a JSON {type(found).__name__}; expected an object"
    )
  return found


def _prompts(value: Any) -> tuple[str, ...]:
  prompts = value if isinstance(value, list) else [value]
  if not prompts or not all(isinstance(p, str) for p in prompts):
    raise _expected("prompt", "a string or an array of strings", value)
  for prompt in prompts:
    if not prompt.strip():
      raise errors.bad("prompt", "prompt is empty; expected some text")
  return tuple(prompts)


def _messages(value: Any) -> tuple[dict[str, str], ...]:
  if not isinstance(value, list) or not value:
    raise _expected("messages", "an array of at least one message", value)
  return tuple(
    _message(f"messages[{i}]", message) for i, message in enumerate(value)
  )


def _message(where: str, message: Any) -> dict[str, str]:
  if not isinstance(message, dict):
    raise _expected(where, "an object with role and content", message)
  role = message.get("role")
  if role not in _ROLES:
    raise _expected(f"{where}.role", f"one of {', '.join(_ROLES)}", role)
  return {
    "role": role,
    "content": _content(f"{where}.content", message.get("content")),
  }


def _content(where: str, value: Any) -> str:
  """A message's text, given whole or as an array of text parts."""
  if isinstance(value, str):
    return value
  if not isinstance(value, list):
    raise _expected(where, "a string or an array of text parts", value)
  for part in value:
    text = part.get("text") if isinstance(part, dict) else None
    if not isinstance(text, str) or part.get("type") != "text":
      raise _expected(where, 'parts {"type": "text", "text": ...}', part)
  return "".join(part["text"] for part in value)


def _max_tokens(fields: _Fields, chat: bool) -> int | None:
  tokens = fields.whole("max_tokens", low=1)
  newer = fields.whole("max_completion_tokens", low=1) if chat else None
  if tokens is not None and newer is not None and tokens != newer:
    raise errors.bad(
      "max_tokens",
      f"max_tokens={tokens} and max_completion_tokens={newer} differ; give one",
    )
  return newer if tokens is None else tokens


def _sampling(fields: _Fields) -> dict[str, Any]:
  """The sampler's fields that were given; the sampler checks their ranges."""
  found = {
    "temperature": fields.number("temperature"),
    "top_p": fields.number("top_p"),
    "top_k": fields.whole("top_k", low=1),
    "min_p": fields.number("min_p"),
  }
  return {name: value for name, value in found.items() if value is not None}


def _stop(value: Any) -> tuple[str, ...]:
  if value is None:
    return ()
  stops = [value] if isinstance(value, str) else value
  well = isinstance(stops, list) and all(
    isinstance(stop, str) and stop for stop in stops
  )
  if not well or len(stops) > MAX_STOPS:
    raise _expected(
      "stop", f"a string, or up to {MAX_STOPS} of them, none empty", value
    )
  return tuple(stops)


def _include_usage(value: Any) -> bool:
  if value is None:
    return False
  if not isinstance(value, dict):
    raise _expected("stream_options", "an object", value)
  known = {"include_usage", "include_obfuscation"}
  for name in value:
    if name not in known:
      raise errors.bad("stream_options", f"unknown field stream_options.{name}")
  include = value.get("include_usage", False)
  if not isinstance(include, bool):
    raise _expected("stream_options.include_usage", "true or false", include)
  return include


def _logprobs(fields: _Fields, chat: bool) -> int | None:
  if not chat:
    return fields.whole("logprobs", low=0, high=MAX_LOGPROBS)
  wanted = fields.flag("logprobs")
  top = fields.whole("top_logprobs", low=0, high=MAX_LOGPROBS)
  if top is not None and not wanted:
    raise errors.bad(
      "top_logprobs", "top_logprobs is given without logprobs: true"
    )
  return (top or 0) if wanted else None


def _thinking(fields: _Fields) -> thinking_config.ThinkingConfig:
  """What a request says about thinking, in whatever dialect."""
  said = {name: fields.take(name) for name in thinking_config.FIELDS}
  try:
    return thinking_config.ThinkingConfig.from_request(said)
  except thinking_config.RequestError as error:
    raise errors.bad(error.field, str(error)) from None


def _search(
  fields: _Fields, thinking: thinking_config.ThinkingConfig
) -> SearchFields | None:
  decoder = fields.text("decoder")
  budget = fields.take("budget")
  if budget is not None and not isinstance(budget, dict):
    raise _expected("budget", "an object of limits", budget)
  said = thinking.field or "thinking"
  if thinking.effort is not None and budget is not None:
    raise errors.bad(
      said, f"{said} and budget both say what to spend; give one"
    )
  limited = thinking.max_thinking_tokens is not None
  if limited and "generated_tokens" in (budget or {}):
    raise errors.bad(
      said,
      f"{said} and budget.generated_tokens limit the same; give one",
    )
  if thinking.mode == "off":
    if decoder is not None or budget is not None:
      raise errors.bad(
        said, f"{said} asks for no search; leave decoder and budget out"
      )
    return None
  if decoder is budget is None and thinking.mode == "auto":
    return None
  return SearchFields(
    decoder=decoder,
    budget=budget,
    effort=thinking.effort,
    max_thinking_tokens=thinking.max_thinking_tokens,
  )


def _nearest(name: str, chat: bool) -> str:
  own = ("messages", "max_completion_tokens", "top_logprobs")
  known: Sequence[str] = (
    *_SHARED,
    *_SAMPLING,
    *_SEARCH,
    "max_tokens",
    *(own if chat else ("prompt",)),
  )
  near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
  return f"; did you mean {near[0]!r}?" if near else ""


def _expected(name: str, expected: str, value: Any) -> errors.ApiError:
  if value is None:
    return errors.bad(name, f"{name} is missing; expected {expected}")
  shown = repr(value)
  shown = shown if len(shown) <= 60 else f"{shown[:57]}..."
  return errors.bad(name, f"{name} is {shown}; expected {expected}")
