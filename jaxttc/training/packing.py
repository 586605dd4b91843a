# SPDX-License-Identifier: Apache-2.0
"""Packs tokenised examples of uneven length into rows of one length."""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np


class Packed(NamedTuple):
  """Rows of examples laid end to end.

  Attributes:
    tokens: i32[B, T], token ids; 0 where padded.
    segments: i32[B, T], 1, 2, .. for a row's examples; 0 where padded.
    positions: i32[B, T], position within the example.
    targets: i32[B, T], the next token of the same example; 0 where none.
    weights: f32[B, T], weight of each target's loss; 0 where none.
    labels: f32[B, T], what a reward head should say at each token; -1 where
      there is nothing to say.
  """

  tokens: np.ndarray
  segments: np.ndarray
  positions: np.ndarray
  targets: np.ndarray
  weights: np.ndarray
  labels: np.ndarray


class Example(NamedTuple):
  """One sequence before packing.

  Attributes:
    tokens: token ids, prompt and completion.
    weights: loss weight of each token as a target; same length.
    labels: reward label at each token, -1 for none; same length, or None.
  """

  tokens: list[int]
  weights: list[float]
  labels: list[float] | None = None


def pack(examples: Iterable[Example], rows: int, length: int) -> Packed:
  """Packs examples first-fit until the first one that fits in no row.

  Args:
    examples: as many as it takes; longer ones than `length` are skipped.
    rows: number of rows B.
    length: tokens a row T.

  Returns:
    The rows. A function of its arguments alone.

  Raises:
    ValueError: if an example is empty, or its weights or labels are not one
      a token.
  """
  shape = (rows, length)
  out = Packed(
    tokens=np.zeros(shape, np.int32),
    segments=np.zeros(shape, np.int32),
    positions=np.zeros(shape, np.int32),
    targets=np.zeros(shape, np.int32),
    weights=np.zeros(shape, np.float32),
    labels=np.full(shape, -1, np.float32),
  )
  used = np.zeros(rows, np.int64)
  count = np.zeros(rows, np.int64)
  for example in examples:
    n = len(example.tokens)
    _check(example)
    if n > length:
      continue
    fits = np.flatnonzero(used + n <= length)
    if not fits.size:
      break
    row = fits[0]
    start = used[row]
    count[row] += 1
    span = slice(start, start + n)
    out.tokens[row, span] = example.tokens
    out.segments[row, span] = count[row]
    out.positions[row, span] = np.arange(n)
    out.targets[row, start : start + n - 1] = example.tokens[1:]
    out.weights[row, start : start + n - 1] = example.weights[1:]
    if example.labels is not None:
      out.labels[row, span] = example.labels
    used[row] += n
  return out


def _check(example: Example) -> None:
  n = len(example.tokens)
  labels = n if example.labels is None else len(example.labels)
  if not n or (len(example.weights), labels) != (n, n):
    raise ValueError(
      f"an example has {n} tokens, {len(example.weights)} weights and "
      f"{labels} labels; expected at least one, and as many of each"
    )
