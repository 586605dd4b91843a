# SPDX-License-Identifier: Apache-2.0
"""Replies in OpenAI's shapes: whole, and as chunks of a stream."""

from collections.abc import Callable, Sequence
import dataclasses
import json
import secrets
import time
from typing import Any

from jaxttc.inference import token_scores
from jaxttc.runtime import search as search_lib
from jaxttc.serving import errors

DONE = "data: [DONE]\n\n"


@dataclasses.dataclass
class Choice:
  """A completion as it comes in.

  Attributes:
    text: so far.
    scores: of its tokens so far, if wanted.
    reason: why it ended; None while it goes on.
    tokens: how many it has, once it has ended.
    thinking: the thought before it; None if there is none to show.
    thought_tokens: of those, how many are not of the text.
  """

  text: str = ""
  scores: list[token_scores.TokenScore] = dataclasses.field(
    default_factory=list
  )
  reason: str | None = None
  tokens: int = 0
  thinking: str | None = None
  thought_tokens: int = 0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Form:
  """What all parts of one reply have in common.

  Attributes:
    chat: whether it answers a chat.
    model: the model's name.
    fingerprint: of its weights.
    logprobs: alternatives to report a token; None for no log-probabilities.
    show: token id -> its text, special tokens included.
    id: of the reply.
    created: seconds since 1970.
  """

  chat: bool
  model: str
  fingerprint: str
  logprobs: int | None
  show: Callable[[int], str]
  id: str = dataclasses.field(default_factory=lambda: secrets.token_hex(12))
  created: int = dataclasses.field(default_factory=lambda: int(time.time()))

  def whole(
    self, choices: Sequence[Choice], usage: dict[str, Any]
  ) -> dict[str, Any]:
    """The reply that is not streamed."""
    return self._envelope(
      "chat.completion" if self.chat else "text_completion",
      [self._choice(i, choice) for i, choice in enumerate(choices)],
    ) | {"usage": usage}

  def opening(self, index: int) -> str:
    """The first chunk of a chat's choice, which says who speaks."""
    delta = {"role": "assistant", "content": ""}
    return self._chunk(
      [{"index": index, "delta": delta, "finish_reason": None}]
    )

  def piece(
    self,
    index: int,
    text: str,
    scores: Sequence[token_scores.TokenScore],
    offset: int,
  ) -> str:
    """A chunk of text; `offset` is how many characters came before."""
    body = {"delta": {"content": text}} if self.chat else {"text": text}
    logprobs = self._logprobs(scores, offset) if scores else None
    return self._chunk(
      [{"index": index, **body, "logprobs": logprobs, "finish_reason": None}]
    )

  def thought(self, index: int, text: str) -> str:
    """A chunk of the thought before a text."""
    body = {"reasoning_content": text}
    shown = {"delta": body} if self.chat else {"text": "", **body}
    return self._chunk(
      [{"index": index, **shown, "logprobs": None, "finish_reason": None}]
    )

  def ending(self, index: int, reason: str) -> str:
    """The last chunk of a choice."""
    body = {"delta": {}} if self.chat else {"text": ""}
    return self._chunk(
      [{"index": index, **body, "logprobs": None, "finish_reason": reason}]
    )

  def usage(self, usage: dict[str, Any], more: dict[str, Any]) -> str:
    """The chunk after the last choice, where usage was asked for."""
    return self._chunk([], {"usage": usage} | more)

  def _chunk(
    self, choices: list[dict[str, Any]], more: dict[str, Any] | None = None
  ) -> str:
    kind = "chat.completion.chunk" if self.chat else "text_completion"
    return event(self._envelope(kind, choices) | (more or {}))

  def _envelope(self, kind: str, choices: list[Any]) -> dict[str, Any]:
    return {
      "id": f"{'chatcmpl' if self.chat else 'cmpl'}-{self.id}",
      "object": kind,
      "created": self.created,
      "model": self.model,
      "system_fingerprint": self.fingerprint,
      "choices": choices,
    }

  def _choice(self, index: int, choice: Choice) -> dict[str, Any]:
    thought = {}
    if choice.thinking is not None:
      thought = {"reasoning_content": choice.thinking}
    body: dict[str, Any] = {"text": choice.text} | thought
    if self.chat:
      message = {"role": "assistant", "content": choice.text, "refusal": None}
      body = {"message": message | thought}
    wanted = self.logprobs is not None
    return {
      "index": index,
      **body,
      "logprobs": self._logprobs(choice.scores, 0) if wanted else None,
      "finish_reason": choice.reason,
    }

  def _logprobs(
    self, scores: Sequence[token_scores.TokenScore], offset: int
  ) -> dict[str, Any]:
    if self.chat:
      return {"content": [self._chat_score(s) for s in scores], "refusal": None}
    texts = [self.show(score.token) for score in scores]
    ends = [offset]
    for text in texts:
      ends.append(ends[-1] + len(text))
    tops = [dict(map(self._named, self._top(score))) for score in scores]
    return {
      "tokens": texts,
      "token_logprobs": [score.logprob for score in scores],
      "top_logprobs": tops if self.logprobs else None,
      "text_offset": ends[:-1],
    }

  def _top(
    self, score: token_scores.TokenScore
  ) -> tuple[tuple[int, float], ...]:
    return score.top[: self.logprobs or 0]

  def _named(self, pair: tuple[int, float]) -> tuple[str, float]:
    return self.show(pair[0]), pair[1]

  def _chat_score(self, score: token_scores.TokenScore) -> dict[str, Any]:
    top = [self._entry(*pair) for pair in self._top(score)]
    return self._entry(score.token, score.logprob) | {"top_logprobs": top}

  def _entry(self, token: int, logprob: float) -> dict[str, Any]:
    text = self.show(token)
    return {"token": text, "logprob": logprob, "bytes": list(text.encode())}


def usage(prompt_tokens: int, choices: Sequence[Choice]) -> dict[str, Any]:
  """What plain completions used; a prompt counts once, whatever n is."""
  return _usage(
    prompt_tokens,
    sum(choice.tokens for choice in choices),
    sum(choice.thought_tokens for choice in choices),
  )


def search_usage(
  prompt_tokens: int, answer_tokens: int, result: search_lib.SearchResult
) -> dict[str, Any]:
  """What a search used.

  Args:
    prompt_tokens: of the request.
    answer_tokens: of the text that is answered.
    result: of the search.

  Returns:
    All sampled tokens as the completion's, those that are not in the answer
    as its reasoning's, and the whole cost.
  """
  sampled = int(result.cost.generated_tokens)
  counted = _usage(prompt_tokens, sampled, max(sampled - answer_tokens, 0))
  return counted | {"cost": result.cost.as_dict()}


def _usage(prompt: int, completion: int, reasoning: int) -> dict[str, Any]:
  return {
    "prompt_tokens": prompt,
    "completion_tokens": completion,
    "total_tokens": prompt + completion,
    "prompt_tokens_details": {"cached_tokens": 0},
    "completion_tokens_details": {"reasoning_tokens": reasoning},
  }


def event(body: dict[str, Any]) -> str:
  """A server-sent event."""
  return f"data: {json.dumps(body)}\n\n"


def failure(error: errors.ApiError) -> str:
  """The event that ends a stream which cannot go on."""
  return event(error.body())
