# SPDX-License-Identifier: Apache-2.0
"""The text of a span while it is being written: what may be shown already.

Text is released once nothing that follows can take it back: the beginning of
a stop string is held until it is clear what it becomes, and so are bytes that
are not a whole character yet. Where a stop string ends a span depends on its
tokens alone, not on how many of them come at a time.
"""

from collections.abc import Callable, Sequence

_PARTIAL = "\ufffd"  # what a decoder shows for bytes that are no character


class SpanText:
  """Turns growing token sequences into pieces of text.

  Attributes:
    count: tokens that belong to the span; those after the one that completed
      a stop string do not.
    stopped: whether a stop string was found; it is not part of the text.
  """

  def __init__(
    self, decode: Callable[[Sequence[int]], str], stop: Sequence[str] = ()
  ):
    """A span without tokens.

    Args:
      decode: token ids -> text.
      stop: texts that end the span, none of them empty.
    """
    self.count, self.stopped = 0, False
    self._decode, self._stop = decode, tuple(stop)
    self._released = 0

  def advance(self, tokens: Sequence[int], ended: bool) -> str:
    """Reads the span's tokens so far, and releases what may be shown.

    Args:
      tokens: all tokens of the span so far; those read before come first.
      ended: whether there will be no more.

    Returns:
      The text released now: "" if there is none.
    """
    if self.stopped:
      return ""
    text = self._decode(tokens)
    if any(stop in text for stop in self._stop):
      text = self._cut(tokens)
      end = len(text)
    else:
      self.count = len(tokens)
      end = len(text) if ended else len(text) - self._held(text)
    piece = text[self._released : end]
    self._released = max(self._released, end)
    return piece

  def _cut(self, tokens: Sequence[int]) -> str:
    """The text before the stop string that was completed first."""
    self.stopped = True
    for count in range(self.count + 1, len(tokens) + 1):
      text = self._decode(tokens[:count])
      found = [text.find(stop) for stop in self._stop if stop in text]
      if found:
        self.count = count
        return text[: min(found)]
    raise AssertionError("a stop string that the whole text holds was lost")

  def _held(self, text: str) -> int:
    """Characters at the end that more tokens could still change."""
    whole = text.rstrip(_PARTIAL)
    overlaps = [_overlap(whole, stop) for stop in self._stop]
    return len(text) - len(whole) + max(overlaps, default=0)


def _overlap(text: str, stop: str) -> int:
  """Length of the longest end of `text` that begins, and is not, `stop`."""
  for size in range(min(len(stop) - 1, len(text)), 0, -1):
    if text.endswith(stop[:size]):
      return size
  return 0
