# SPDX-License-Identifier: Apache-2.0
"""How a model writes its thinking: the tags, and the tokens around them.

Models of this library and published ones (Qwen3, DeepSeek-R1 and their like)
write "<think>", a thought, "</think>", and then the answer. The closing tag
must be one token: budgets are kept by writing it.
"""

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from jaxttc.tasks import pretrained_tokenizer
from jaxttc.tasks import tokenizer as tokenizer_lib

OPEN, CLOSE = "<think>", "</think>"
# What a published model is made to begin its answer with, for a trial.
_BOXED = "\n\n**Final Answer**\n\\boxed{"


@runtime_checkable
class Tokenizer(Protocol):
  """What this module needs of a tokenizer."""

  def encode(self, text: str, *, specials: bool = False) -> list[int]:
    """Token ids of a text."""
    ...

  def encode_prompt(self, text: str) -> list[int]:
    """Token ids of a text from its beginning."""
    ...

  def id_of(self, piece: str) -> int:
    """The id of a token by its name."""
    ...


def end_id(tokenizer: Tokenizer) -> int:
  """The closing token.

  Raises:
    ValueError: if the vocabulary has none.
  """
  try:
    return tokenizer.id_of(CLOSE)
  except ValueError:
    raise ValueError(
      f"the model's vocabulary has no token {CLOSE!r}; expected a model that "
      "thinks before it answers"
    ) from None


def prompt(
  tokenizer: Tokenizer, text: str, *, thinks: bool = True
) -> list[int]:
  """Token ids of a prompt after which the model thinks, or answers at once.

  A chat template may have opened the span already; then it is not opened again.

  Args:
    tokenizer: of the model.
    text: the question, as the model wants it put.
    thinks: whether the span is left open; else it is empty.

  Raises:
    ValueError: if the vocabulary has no tags.
  """
  end = end_id(tokenizer)
  ids = tokenizer.encode_prompt(text)
  start = tokenizer.id_of(OPEN)
  opened = start in ids and end not in ids[_last(ids, start) :]
  # Published models were trained with a line end after each tag.
  plain = _is_own(tokenizer)
  if not opened:
    ids = [*ids, start, *([] if plain else tokenizer.encode("\n"))]
  if not thinks:
    blank = [] if plain else tokenizer.encode("\n")
    after = [] if plain else tokenizer.encode("\n\n")
    ids = [*ids, *blank, end, *after]
  return ids


def trial(tokenizer: Tokenizer) -> list[int]:
  """What is written for the model, in the span, to make it answer right now."""
  if _is_own(tokenizer):
    return [end_id(tokenizer), tokenizer.id_of("####")]
  return [
    *tokenizer.encode("\n"),
    end_id(tokenizer),
    *tokenizer.encode(_BOXED),
  ]


def parts(
  tokenizer: tokenizer_lib.WordTokenizer
  | pretrained_tokenizer.PretrainedTokenizer,
  tokens: Sequence[int],
) -> tuple[str, str | None]:
  """The thought and the answer of what was written after an open span.

  Returns:
    The text before the closing token and the text after it; no answer if the
    span never closed.
  """
  tokens = list(tokens)
  end = end_id(tokenizer)
  if end not in tokens:
    return tokenizer.decode(tokens), None
  at = tokens.index(end)
  return tokenizer.decode(tokens[:at]), tokenizer.decode(tokens[at + 1 :])


def _is_own(tokenizer) -> bool:
  return isinstance(tokenizer, tokenizer_lib.WordTokenizer)


def _last(ids: Sequence[int], token: int) -> int:
  return len(ids) - 1 - list(reversed(ids)).index(token)
