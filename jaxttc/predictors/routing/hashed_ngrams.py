# SPDX-License-Identifier: Apache-2.0
"""Questions as vectors, without a download: hashed n-grams, TF-IDF, LSA.

Runs of words and of characters are hashed into buckets, counted, weighed by
how rare they are among the questions of the fit, and projected onto the
leading right singular vectors of those questions (latent semantic analysis).
A few figures about the surface of the text (length, digits, code, form) stand
beside them: they tell kinds of questions apart that share no words. Everything
is a function of the texts alone, never of scores.

References:
  Weinberger et al. (2009), Feature hashing for large scale multitask learning.
  Deerwester et al. (1990), Indexing by latent semantic analysis.
  Halko et al. (2011), Finding structure with randomness (the projection).
"""

from collections.abc import Sequence
import dataclasses
import re
from typing import Any, NamedTuple
import zlib

from jaxtyping import Float, Int
import numpy as np
import scipy.sparse

_WORD = re.compile(r"\w+|[^\w\s]")
_MIX = np.uint64(0x9E3779B97F4A7C15)  # 2^64 over the golden ratio
_POWER = np.uint64(1099511628211)
_MARKS = ("?", ".", ",", "\n", "$", "\\", "(", "=", "_", '"')


class Counted(NamedTuple):
  """What of texts is counted, before anything is learnt.

  Attributes:
    counts: sparse f64[N, 2 * 2**bits], hits of each bucket, words first.
    surface: f64[N, S], as `surfaces`.
    words: longest run of words.
    characters: longest run of characters.
    bits: there are 2**bits buckets for words, and as many for characters.
  """

  counts: Any
  surface: Float[np.ndarray, "N S"]
  words: int
  characters: int
  bits: int

  def take(self, rows: Int[np.ndarray, " M"]) -> "Counted":
    """Those of some texts, by their places."""
    return self._replace(counts=self.counts[rows], surface=self.surface[rows])


@dataclasses.dataclass(frozen=True)
class HashedNgrams:
  """Turns texts into vectors f32[N, D]; made by `fit`.

  Attributes:
    words: longest run of words.
    characters: longest run of characters; runs start at 2.
    bits: there are 2**bits buckets for words, and as many for characters.
    rarity: f64[buckets], the inverse document frequencies.
    projection: f64[buckets, rank], or None: the buckets themselves.
    centre: f64[S], mean surface of the texts of the fit.
    scale: f64[S], what surfaces are divided by.
  """

  words: int
  characters: int
  bits: int
  rarity: np.ndarray
  projection: np.ndarray | None
  centre: np.ndarray
  scale: np.ndarray

  def __call__(self, texts: Sequence[str]) -> Float[np.ndarray, "N D"]:
    """Vectors of texts.

    Raises:
      ValueError: if there are none.
    """
    return self.vectors(count(texts, self.words, self.characters, self.bits))

  def vectors(self, counted: Counted) -> Float[np.ndarray, "N D"]:
    """Vectors of texts that were counted with the settings of the fit."""
    weighed = _weigh(counted.counts, self.rarity)
    content = (
      weighed.toarray()
      if self.projection is None
      else weighed @ self.projection
    )
    surface = (counted.surface - self.centre) / self.scale
    return np.concatenate([content, surface], 1).astype(np.float32)


def count(
  texts: Sequence[str], words: int = 2, characters: int = 4, bits: int = 14
) -> Counted:
  """Counts runs; several fits on parts of the texts can share the counts.

  Args:
    texts: at least one.
    words: longest run of words, at least 1.
    characters: longest run of characters; below 2 there are none.
    bits: there are 2**bits buckets for words, and as many for characters.

  Raises:
    ValueError: if there are no texts, or a setting is out of range.
  """
  if len(texts) == 0:
    raise ValueError("hashed n-grams: expected at least one text")
  if words < 1 or not 1 <= bits <= 24:
    raise ValueError(
      "hashed n-grams: expected words >= 1 and 1 <= bits <= 24, got "
      f"{words} and {bits}"
    )
  counts = _counts(texts, words, characters, bits)
  return Counted(counts, surfaces(texts), words, characters, bits)


def fit(
  texts: Sequence[str] | Counted,
  *,
  words: int = 2,
  characters: int = 4,
  bits: int = 14,
  rank: int | None = 64,
  surface: float = 0.1,
  seed: int = 0,
) -> HashedNgrams:
  """Learns rarities and the projection from texts, e.g. of the training side.

  Args:
    texts: at least one; or their counts, whose settings then hold.
    words: as `count`.
    characters: as `count`.
    bits: as `count`.
    rank: singular vectors kept, cut to what the texts can tell apart; None: no
      projection, D is the number of buckets.
    surface: standard deviation of each surface figure beside content of
      length one.
    seed: of the projection.

  Raises:
    ValueError: if there are no texts, or a setting is out of range.
  """
  if surface <= 0 or (rank is not None and rank < 1):
    raise ValueError(
      f"hashed n-grams: expected rank >= 1 and surface > 0, got {rank} and "
      f"{surface}"
    )
  if isinstance(texts, Counted):
    counted = texts
  else:
    counted = count(texts, words, characters, bits)
  seen = np.asarray((counted.counts > 0).sum(0)).ravel()
  rarity = np.log((1 + len(counted.surface)) / (1 + seen)) + 1
  projection = None
  if rank is not None:
    weighed = _weigh(counted.counts, rarity)
    projection = _singular_vectors(weighed, rank, seed)
  spread = counted.surface.std(0)
  return HashedNgrams(
    words=counted.words,
    characters=counted.characters,
    bits=counted.bits,
    rarity=rarity,
    projection=projection,
    centre=counted.surface.mean(0),
    scale=np.where(spread > 1e-9, spread, 1.0) / surface,
  )


def surfaces(texts: Sequence[str]) -> Float[np.ndarray, "N S"]:
  """What can be seen of texts without reading them, f64[N, S].

  Length in characters and words, length of words, share of digits, capitals,
  blanks and different words, how many numbers and marks of each kind, how the
  text begins and ends, and whether it holds code.
  """
  return np.array([_surface(text) for text in texts])


def _surface(text: str) -> list[float]:
  words = text.split()
  length, count = max(len(text), 1), max(len(words), 1)
  marks = [np.log1p(text.count(mark)) for mark in _MARKS]
  end = text.rstrip()[-1:]
  return [
    np.log(length),
    np.log(count),
    sum(map(len, words)) / count,
    sum(c.isdigit() for c in text) / length,
    sum(c.isupper() for c in text) / length,
    text.count(" ") / length,
    len(set(words)) / count,
    np.log1p(len(re.findall(r"\d+", text))),
    *marks,
    float(text[:1].islower()),
    float(end == "?"),
    float(end.isalnum()),
    float("def " in text or "```" in text),
  ]


def _counts(texts, words: int, characters: int, bits: int):
  """f64[N, 2 * 2**bits]: how often each bucket is hit, words first."""
  parts = [_word_codes(texts)]
  parts = [_runs(*parts[0], range(1, words + 1), bits)]
  parts.append(_runs(*_letters(texts), range(2, characters + 1), bits))
  return scipy.sparse.hstack(parts, format="csr")


def _word_codes(texts) -> tuple[np.ndarray, np.ndarray, int]:
  """Code and text of each word; digits count as 0."""
  split = [_WORD.findall(re.sub(r"\d", "0", text.casefold())) for text in texts]
  codes = [zlib.crc32(word.encode()) for words in split for word in words]
  owner = np.repeat(np.arange(len(texts)), [len(words) for words in split])
  return np.array(codes, np.uint64), owner, len(texts)


def _letters(texts) -> tuple[np.ndarray, np.ndarray, int]:
  """Code and text of each byte, letters in lower case."""
  data = [text.casefold().encode() for text in texts]
  codes = np.frombuffer(b"".join(data), np.uint8).astype(np.uint64) + 1
  owner = np.repeat(np.arange(len(texts)), [len(d) for d in data])
  return codes, owner, len(texts)


def _runs(codes, owner, count: int, lengths, bits: int):
  """f64[N, 2**bits], hashed runs of codes that lie within one text."""
  rows, columns = [], []
  run = np.zeros(len(codes), np.uint64)
  for length in range(1, max(lengths, default=0) + 1):
    run = run[: len(codes) - length + 1] * _POWER + codes[length - 1 :]
    if length in lengths:
      whole = owner[: len(run)] == owner[length - 1 :]
      salted = (run[whole] + np.uint64(length)) * _MIX
      rows.append(owner[: len(run)][whole])
      columns.append((salted >> np.uint64(64 - bits)).astype(np.int64))
    if length == len(codes):
      break
  if not rows:
    return scipy.sparse.csr_array((count, 2**bits))
  rows, columns = np.concatenate(rows), np.concatenate(columns)
  return scipy.sparse.coo_array(
    (np.ones(len(rows)), (rows, columns)), shape=(count, 2**bits)
  ).tocsr()


def _weigh(counts, rarity):
  """TF-IDF with logarithmic counts, every row of length one."""
  weighed = counts.copy()
  weighed.data = (1 + np.log(weighed.data)) * rarity[weighed.indices]
  length = np.sqrt(np.asarray(weighed.multiply(weighed).sum(1)).ravel())
  return scipy.sparse.diags_array(1 / np.maximum(length, 1e-12)) @ weighed


def _singular_vectors(matrix, rank: int, seed: int) -> np.ndarray:
  """The leading right singular vectors, f64[buckets, rank], signs fixed."""
  rank = min(rank, *matrix.shape)
  width = min(rank + 10, *matrix.shape)
  found = np.random.default_rng(seed).normal(size=(matrix.shape[1], width))
  for _ in range(3):
    found = np.linalg.qr(matrix @ found)[0]
    found = np.linalg.qr(matrix.T @ found)[0]
  right = np.linalg.svd(matrix @ found, full_matrices=False)[2]
  vectors = (found @ right.T)[:, :rank]
  largest = np.abs(vectors).argmax(0)
  return vectors * np.sign(vectors[largest, np.arange(rank)])
