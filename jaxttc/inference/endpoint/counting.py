# SPDX-License-Identifier: Apache-2.0
"""How many tokens a text has, before it is sent.

A budget on prompts holds only if their tokens are counted first. Where a
tokenizer is at hand, ours or the server's, the ids themselves are sent: what
was counted is what the server reads. Else there is a bound: no tokenizer that
works on bytes makes more tokens of a text than it has bytes, but for those
that it puts before it.
"""

import pathlib
from typing import Any, Protocol, runtime_checkable

from jaxttc.inference.endpoint import servers, transport

_BEFORE = 2  # a begin-of-text token, and a blank that some put before a text
_SAMPLE = "Is 12.5 × 8 = 100?\n\nYes"


@runtime_checkable
class Counter(Protocol):
  """Counts tokens.

  Attributes:
    exact: whether `ids` are known.
  """

  exact: bool

  async def ids(self, text: str) -> tuple[int, ...]:
    """Token ids of a text, from its beginning; as many -1 where unknown.

    Raises:
      EndpointError: if a server that was asked does not answer.
    """
    ...


def byte_bound(text: str) -> int:
  """The most tokens that a text can have."""
  return len(text.encode(errors="replace")) + _BEFORE


class ByteBound:
  """Counts bytes; never fewer than there are tokens."""

  exact = False

  async def ids(self, text: str) -> tuple[int, ...]:
    """As many -1 as there can be tokens."""
    return (-1,) * byte_bound(text)


class FileTokenizer:
  """A tokenizer.json, read by the tokenizers library."""

  exact = True

  def __init__(self, path: str):
    """Reads the file.

    Raises:
      ValueError: if it cannot be read, or tokenizers is not installed.
    """
    try:
      import tokenizers
    except ImportError:
      raise ValueError(
        "a tokenizer file needs tokenizers: pip install 'jaxttc[hf]'"
      ) from None
    if not pathlib.Path(path).is_file():
      raise ValueError(f"{path}: there is no such tokenizer file")
    try:
      self._tokenizer = tokenizers.Tokenizer.from_file(path)
    except Exception as error:  # the library raises nothing more specific
      first = str(error).partition("\n")[0]
      raise ValueError(f"{path}: no tokenizer file: {first}") from None

  async def ids(self, text: str) -> tuple[int, ...]:
    """Token ids, with those that begin a text."""
    return tuple(self._tokenizer.encode(text).ids)


class ServedTokenizer:
  """The server's own, behind its /tokenize."""

  exact = True

  def __init__(self, line: transport.Transport, server: str, model: str):
    self._line, self._llamacpp, self._model = line, server == "llamacpp", model

  async def ids(self, text: str) -> tuple[int, ...]:
    """Token ids, with those that begin a text.

    Raises:
      EndpointError: if the server does not answer, or not with ids.
    """
    payload: dict[str, Any] = {"content": text, "add_special": True}
    if not self._llamacpp:
      payload = {
        "model": self._model,
        "prompt": text,
        "add_special_tokens": True,
      }
    attempt = 0
    while True:
      try:
        body = await self._line.post("//tokenize", payload, attempt=attempt)
        break
      except transport.EndpointError as error:
        if not error.again:
          raise
        attempt += 1
    found = body.get("tokens")
    if not isinstance(found, list) or not all(
      type(token) is int and token >= 0 for token in found
    ):
      raise transport.EndpointError(
        "/tokenize: the reply has no list of token ids",
        again=False,
        spent=False,
      )
    return tuple(found)


def choose(
  line: transport.Transport, server: servers.Server, model: str, path: str
) -> Counter:
  """The best counter that there is: a file, the server's own, or a bound.

  Args:
    line: to the server.
    server: its kind.
    model: its model.
    path: a tokenizer.json; "" for none.

  Raises:
    ValueError: if the file is bad, or not that of the server's model.
  """
  served = None
  if "tokenize" in server.offers:
    served = ServedTokenizer(line, server.name, model)
    try:
      sample = line.call(served.ids(_SAMPLE))
    except transport.EndpointError:
      served, sample = None, ()
  if not path:
    return served or ByteBound()
  file = FileTokenizer(path)
  if served is not None and line.call(file.ids(_SAMPLE)) != sample:
    raise ValueError(
      f"{path}: not the tokenizer of {model!r}: it splits a sample text in "
      "another way than the server does"
    )
  return file
