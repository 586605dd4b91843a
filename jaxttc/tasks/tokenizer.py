# SPDX-License-Identifier: Apache-2.0
"""A small lossless tokenizer: words, numbers 0..99, and bytes for the rest.

Text is cut into pieces by one regular expression; a piece in the vocabulary is
one token, a longer number is a token a digit, anything else a token a byte of
its UTF-8 form. Every number 0..99 is one token, with or without a space.

The layout of ids is fixed, since trained models ship with it:

    0..4      <pad> <bos> <eos> <think> </think>
    5..15     reserved
    16..271   the bytes
    272..371  "0".."99"
    372..471  " 0".." 99"
    472..703  words and punctuation; what is left over is reserved
"""

from collections.abc import Iterable, Sequence
import functools
import hashlib
import json
import re
from typing import Self

import numpy as np

SPECIALS = ("<pad>", "<bos>", "<eos>", "<think>", "</think>")
BYTE_OFFSET = 16
NUMBER_OFFSET = 272
SPACED_NUMBER_OFFSET = 372
WORD_OFFSET = 472
VOCAB_SIZE = 704

_PIECES = re.compile(r"####| ?[A-Za-z]+| ?[0-9]+| ?[^\sA-Za-z0-9]|\s")
_SPECIALS = re.compile("(" + "|".join(map(re.escape, SPECIALS)) + ")")


def _forms(initial: str, spaced: str) -> tuple[str, ...]:
  """Words in the forms they occur in: at a line's start, after a space."""
  return (*initial.split(), *(f" {word}" for word in spaced.split()))


_NAMES = (
  "Ann Ben Cy Dee Eve Finn Gus Hana Ivan Jo"
  " Kim Leo Mia Noor Omar Pia Quinn Ravi Sue Tom"
)

# Append only: the position of a word is its id.
WORDS = (
  *("####", "\n", "+", "-", "*", "/", "=", " +", " -", " *", " /", " ="),
  *(".", ",", ":", "?", "!", "(", ")", " (", " ", "'"),
  *_forms(_NAMES, _NAMES),
  # Prompts, modular and countdown.
  *_forms(
    "Solve Answer Modulo Use",
    "tersely verbosely only start at add times minus mod is in order with to"
    " reach take",
  ),
  # Stories.
  *_forms(
    "A The It half twice three",
    "apples books cards coins cups eggs flowers hats keys marbles nuts pens"
    " plums shells stamps toys dollars money people points number game bus"
    " train boat shop farm school has have buys finds gives gets loses sells"
    " earns pays spends takes scores wins doubles triples get on off stop next"
    " more fewer than as many again twice half three of left now does"
    " are it the a The It At Half How",
  ),
  # Words that later training will want.
  *_forms(
    "Wait Yes No Final So Then Therefore First Second Next Check Verify Step"
    " Plan Question Call Search Result Score",
    "yes no correct wrong right check verify step plan tool call search budget"
    " tokens sub question easy hard think answer so then therefore because"
    " first second this that not",
  ),
)


class WordTokenizer:
  """Turns text into token ids and back without loss.

  Ids of special tokens are made from text only on request, so that a text
  from outside cannot end a generation by spelling one.

  Attributes:
    words: The pieces that have ids from `WORD_OFFSET` on.
    vocab_size: Number of ids, reserved ones included.
    pad_id: Fills up short rows.
    bos_id: Begins a text.
    eos_id: Ends a text.
    think_id: Opens a stretch of thinking.
    end_think_id: Closes it.
    newline_id: Ends a step.
    answer_marker_id: Begins an answer line.
  """

  def __init__(self, words: Sequence[str] = WORDS) -> None:
    """Builds the vocabulary.

    Args:
      words: At most 232 distinct pieces, each as the pre-tokenizer cuts them.

    Raises:
      ValueError: If there are too many words, one occurs twice or is a
        number, or one could never be produced by the pre-tokenizer.
    """
    self.words = tuple(words)
    self.vocab_size = VOCAB_SIZE
    room = VOCAB_SIZE - WORD_OFFSET
    if len(self.words) > room:
      raise ValueError(
        f"WordTokenizer: {len(self.words)} words, expected at most {room}."
      )
    numbers = [f"{n}" for n in range(100)] + [f" {n}" for n in range(100)]
    pieces = (*numbers, *self.words)
    self._ids = {piece: NUMBER_OFFSET + i for i, piece in enumerate(pieces)}
    for i, word in enumerate(self.words):
      if self._ids[word] != WORD_OFFSET + i or word in numbers:
        raise ValueError(f"WordTokenizer: word {word!r} occurs twice.")
      if not _PIECES.fullmatch(word):
        raise ValueError(f"WordTokenizer: word {word!r} is not one piece.")
    self._special_ids = {name: i for i, name in enumerate(SPECIALS)}
    self._bytes = _byte_table(pieces)
    self.pad_id, self.bos_id, self.eos_id = 0, 1, 2
    self.think_id, self.end_think_id = 3, 4
    self.newline_id = self.id_of("\n")
    self.answer_marker_id = self.id_of("####")

  def id_of(self, piece: str) -> int:
    """The id of a piece or special token that is one token.

    Raises:
      ValueError: If the vocabulary does not hold it.
    """
    for table in (self._ids, self._special_ids):
      if piece in table:
        return table[piece]
    raise ValueError(f"WordTokenizer: {piece!r} is not in the vocabulary.")

  def encode(self, text: str, *, specials: bool = False) -> list[int]:
    """Turns text into ids; neither <bos> nor <eos> is added.

    Args:
      text: Any text that has a UTF-8 form.
      specials: Whether "<think>" and the like become their special tokens;
        by default they are spelled out like other text.

    Returns:
      Ids in 0..vocab_size - 1.

    Raises:
      ValueError: If the text holds a lone surrogate (UnicodeEncodeError).
    """
    if specials:
      return [
        i
        for part in _SPECIALS.split(text)
        for i in (
          (self._special_ids[part],)
          if part in self._special_ids
          else self.encode(part)
        )
      ]
    get, ids = self._ids.get, []
    for piece in _PIECES.findall(text):
      i = get(piece)
      if i is None:
        ids.extend(self._spell(piece))
      else:
        ids.append(i)
    return ids

  def encode_prompt(self, text: str) -> list[int]:
    """Token ids of a text from its beginning: those of `encode` after <bos>.

    Raises:
      ValueError: As `encode`.
    """
    return [self.bos_id, *self.encode(text)]

  def _spell(self, piece: str) -> list[int]:
    """A piece outside the vocabulary: digit by digit, or its bytes."""
    if piece[-1] in "0123456789":
      head = 2 if piece[0] == " " else 1
      return [self._ids[x] for x in (piece[:head], *piece[head:])]
    return [BYTE_OFFSET + byte for byte in piece.encode()]

  def decode(
    self, ids: Iterable[int] | np.ndarray, *, specials: bool = False
  ) -> str:
    """Turns ids back into text; `decode(encode(text)) == text`.

    Args:
      ids: Ids in 0..vocab_size - 1; integers of any kind.
      specials: Whether special tokens are written out; else they vanish, as
        reserved ids always do.

    Returns:
      The text. Bytes that are no valid UTF-8 become U+FFFD.

    Raises:
      ValueError: If an id is out of range.
    """
    parts = []
    for i in map(int, ids):
      if not 0 <= i < VOCAB_SIZE:
        raise ValueError(
          f"WordTokenizer.decode: id {i}, expected 0..{VOCAB_SIZE - 1}."
        )
      shown = specials and i < len(SPECIALS)
      parts.append(SPECIALS[i].encode() if shown else self._bytes[i])
    return b"".join(parts).decode("utf-8", "replace")

  @functools.cached_property
  def fingerprint(self) -> str:
    """Identifies the vocabulary: models that differ in it cannot be mixed."""
    return hashlib.sha256(self.to_json().encode()).hexdigest()[:16]

  def to_json(self) -> str:
    """The vocabulary as JSON, for a checkpoint to carry."""
    content = {
      "kind": "WordTokenizer",
      "vocab_size": VOCAB_SIZE,
      "words": self.words,
    }
    return json.dumps(content, sort_keys=True)

  @classmethod
  def from_json(cls, text: str) -> Self:
    """Rebuilds a tokenizer from `to_json`.

    Raises:
      ValueError: If the text is not JSON or describes another tokenizer.
    """
    content = json.loads(text)
    fields = content if isinstance(content, dict) else {}
    kind, size = fields.get("kind"), fields.get("vocab_size")
    if (kind, size) != ("WordTokenizer", VOCAB_SIZE) or "words" not in fields:
      raise ValueError(
        f"WordTokenizer.from_json: kind {kind!r} with vocab_size {size!r},"
        f" expected 'WordTokenizer' with {VOCAB_SIZE} and its words."
      )
    return cls(fields["words"])


def _byte_table(pieces: Sequence[str]) -> tuple[bytes, ...]:
  """What each id stands for; specials and reserved ids are empty."""
  table = [b""] * VOCAB_SIZE
  for byte in range(256):
    table[BYTE_OFFSET + byte] = bytes([byte])
  for i, piece in enumerate(pieces):
    table[NUMBER_OFFSET + i] = piece.encode()
  return tuple(table)
