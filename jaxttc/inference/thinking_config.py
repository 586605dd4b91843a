# SPDX-License-Identifier: Apache-2.0
"""How long a request may think, in whatever dialect it says so.

Every serving stack has the knob, under another name. `from_request` reads these

  reasoning_effort: none .. xhigh, max                      OpenAI chat
  reasoning: {effort | max_tokens, enabled, exclude}        OpenRouter, OpenAI
  thinking: {type: enabled | disabled, budget_tokens}       Anthropic
  thinking_config: {thinking_budget, include_thoughts}      Gemini
  enable_thinking, thinking_budget                          Qwen, SGLang
  chat_template_kwargs: {enable_thinking, thinking_budget}  Qwen's templates
  thinking_token_budget                                     vLLM
  thinking_budget_tokens, reasoning_budget                  llama.cpp
  nvext: {max_thinking_tokens}                              NVIDIA NIM
  max_thinking_tokens, max_tokens_thinking, token_budget    others
  think: true | false | an effort | a number                Ollama

into one `ThinkingConfig`. A number of tokens is a cap that is kept, never a
hint; -1 is no limit, 0 no thinking. What is said twice must agree, and what is
known but not supported is refused: a budget that is accepted and not read is
worse than none.
"""

from collections.abc import Callable, Mapping
import dataclasses
import difflib
import math
from typing import Any

EFFORTS = ("none", "minimal", "low", "medium", "high", "xhigh", "max")
MODES = ("auto", "on", "off")

EFFORT_SHARE: Mapping[str, float] = {
  "minimal": 0.1,
  "low": 0.2,
  "medium": 0.5,
  "high": 0.8,
  "xhigh": 0.95,
  "max": 0.95,
}
"""Share of a response's tokens that an effort may think with."""

UNSUPPORTED = ("min_thinking_tokens", "reasoning_budget_message")
"""Fields that are known, and that nothing here obeys."""

_TOKENS = (
  *("max_thinking_tokens", "max_tokens_thinking", "thinking_token_budget"),
  *("thinking_budget", "thinking_budget_tokens", "reasoning_budget"),
  "token_budget",
)
FIELDS = (
  *_TOKENS,
  *("reasoning_effort", "reasoning", "thinking", "thinking_config"),
  *("enable_thinking", "chat_template_kwargs", "nvext", "think"),
  *UNSUPPORTED,
)
"""All fields of a request that are about thinking."""


class RequestError(ValueError):
  """A field that cannot be, in one line.

  Attributes:
    field: its name, as the request has it.
  """

  def __init__(self, field: str, message: str):
    super().__init__(message)
    self.field = field


@dataclasses.dataclass(frozen=True, kw_only=True)
class ThinkingConfig:
  """What a request says about its thinking.

  Attributes:
    mode: "on" or "off" if it says so, else "auto".
    effort: one of `EFFORTS` but "none"; None if not given.
    max_thinking_tokens: most tokens of the span; None if not given, or without
      limit.
    show: whether the thought is wanted in the reply.
    field: of the request, that said how long; "" if none did.
  """

  mode: str = "auto"
  effort: str | None = None
  max_thinking_tokens: int | None = None
  show: bool = True
  field: str = ""

  @classmethod
  def from_request(cls, fields: Mapping[str, Any]) -> "ThinkingConfig":
    """Reads the fields of a request that are about thinking.

    Args:
      fields: some of `FIELDS`, by name; None stands for one that is left out.

    Raises:
      RequestError: naming the field, if one is unknown, cannot be obeyed, is of
        the wrong type or range, or two say different things.
    """
    said = _Said()
    for name, value in fields.items():
      if value is not None:
        _read(said, name, value)
    return said.config()

  def tokens(
    self, allowance: int, shares: Mapping[str, float] = EFFORT_SHARE
  ) -> int | None:
    """The cap of a span in a response of `allowance` tokens.

    Args:
      allowance: most tokens of thinking and answer together, at least 2.
      shares: of the allowance, by effort.

    Returns:
      At least 1, and less than the allowance; None if the request sets none.

    Raises:
      RequestError: if the cap that was asked for leaves no token to answer.
    """
    if self.effort is not None:
      return max(1, math.floor(shares[self.effort] * allowance))
    most = self.max_thinking_tokens
    if most is not None and most >= allowance:
      raise RequestError(
        self.field,
        f"{self.field} is {most}; expected less than the {allowance} tokens of "
        "thinking and answer together",
      )
    return most


@dataclasses.dataclass
class _Said:
  """What has been said so far, and by which field."""

  caps: dict[str, int] = dataclasses.field(default_factory=dict)
  efforts: dict[str, str] = dataclasses.field(default_factory=dict)
  switches: dict[str, bool] = dataclasses.field(default_factory=dict)
  shows: dict[str, bool] = dataclasses.field(default_factory=dict)

  def config(self) -> ThinkingConfig:
    """All of it together, if it agrees."""
    cap, effort = _one(self.caps), _one(self.efforts)
    switch, show = _one(self.switches), _one(self.shows)
    if cap and effort:
      raise RequestError(
        effort[0],
        f"{effort[0]} and {cap[0]} both say how long to think; give one",
      )
    length = cap or effort
    off = length is not None and length[1] in (0, "none")
    if switch and length and off == switch[1]:
      raise RequestError(
        switch[0],
        f"{switch[0]} and {length[0]}={length[1]!r} disagree about whether to "
        "think; give one",
      )
    off = off or (switch is not None and not switch[1])
    mode = "off" if off else "on" if switch or length else "auto"
    return ThinkingConfig(
      mode=mode,
      effort=effort[1] if effort and not off else None,
      max_thinking_tokens=cap[1] if cap and cap[1] > 0 else None,
      show=show[1] if show else True,
      field=length[0] if length else "",
    )


def _read(said: _Said, name: str, value: Any) -> None:
  """Notes what one field says."""
  if name in UNSUPPORTED:
    raise RequestError(name, f"{name} is not supported; leave it out")
  if name in _TOKENS:
    said.caps[name] = _tokens(name, value)
  elif name == "reasoning_effort":
    said.efforts[name] = _effort(name, value)
  elif name == "enable_thinking":
    said.switches[name] = _flag(name, value)
  elif name == "think":
    _read_think(said, name, value)
  elif name in _OBJECTS:
    _read_object(said, name, value)
  else:
    near = difflib.get_close_matches(str(name), FIELDS, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    raise RequestError(name, f"unknown field {name!r}{hint}")


def _read_think(said: _Said, name: str, value: Any) -> None:
  if isinstance(value, bool):
    said.switches[name] = value
  elif isinstance(value, str):
    said.efforts[name] = _effort(name, value)
  else:
    said.caps[name] = _tokens(name, value)


def _read_object(said: _Said, name: str, value: Any) -> None:
  known = _OBJECTS[name]
  if not isinstance(value, Mapping):
    raise _expected(name, f"an object of {', '.join(known)}", value)
  for key, inner in value.items():
    where = f"{name}.{key}"
    if key not in known:
      raise RequestError(
        name, f"unknown field {where}; expected one of {', '.join(known)}"
      )
    if inner is not None:
      kept, read = known[key]
      getattr(said, kept)[where] = read(where, inner)


def _type(name: str, value: Any) -> bool:
  if value not in ("enabled", "disabled"):
    raise _expected(name, "enabled or disabled", value)
  return value == "enabled"


def _effort(name: str, value: Any) -> str:
  if value not in EFFORTS:
    raise _expected(name, f"one of {', '.join(EFFORTS)}", value)
  return value


def _flag(name: str, value: Any) -> bool:
  if not isinstance(value, bool):
    raise _expected(name, "true or false", value)
  return value


def _hidden(name: str, value: Any) -> bool:
  return not _flag(name, value)


def _tokens(name: str, value: Any) -> int:
  whole = isinstance(value, int) and not isinstance(value, bool)
  if not whole or value < -1:
    raise _expected(
      name, "an integer: tokens, 0 for no thinking, -1 for no limit", value
    )
  return value


# Of each object: its fields, where they are kept, and how they are read.
_OBJECTS: dict[str, dict[str, tuple[str, Callable[[str, Any], Any]]]] = {
  "reasoning": {
    "effort": ("efforts", _effort),
    "max_tokens": ("caps", _tokens),
    "enabled": ("switches", _flag),
    "exclude": ("shows", _hidden),
  },
  "thinking": {
    "type": ("switches", _type),
    "budget_tokens": ("caps", _tokens),
  },
  "thinking_config": {
    "thinking_budget": ("caps", _tokens),
    "include_thoughts": ("shows", _flag),
  },
  "chat_template_kwargs": {
    "enable_thinking": ("switches", _flag),
    "thinking_budget": ("caps", _tokens),
  },
  "nvext": {"max_thinking_tokens": ("caps", _tokens)},
}


def _one(said: Mapping[str, Any]) -> tuple[str, Any] | None:
  """The one thing that some fields say, and the first that says it."""
  if not said:
    return None
  (name, value), *rest = said.items()
  for other, different in rest:
    if different != value:
      raise RequestError(
        other, f"{name}={value!r} and {other}={different!r} differ; give one"
      )
  return name, value


def _expected(name: str, expected: str, value: Any) -> RequestError:
  shown = repr(value)
  shown = shown if len(shown) <= 60 else f"{shown[:57]}..."
  return RequestError(name, f"{name} is {shown}; expected {expected}")
