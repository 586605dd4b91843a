# SPDX-License-Identifier: Apache-2.0
"""Packs tokenised examples of uneven length into rows of one length."""

from collections.abc import Iterable, Sequence
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
  out = _empty(rows, length)
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
    count[row] += 1
    _lay(out, example, row, used[row], count[row])
    used[row] += n
  return out


def plan_rows(lengths: Sequence[int], length: int) -> list[list[int]]:
  """Which examples share a row, so that all of them find a place.

  Best-fit with the longest first: each example goes into the fullest row that
  still has room. It takes at most 11/9 of the rows that the best plan takes,
  and one more (Johnson 1973).

  Args:
    lengths: tokens of each example.
    length: tokens a row.

  Returns:
    Indices into `lengths`, a list a row.

  Raises:
    ValueError: if an example is longer than a row.
  """
  plan: list[list[int]] = []
  rows_with: dict[int, list[int]] = {}  # by tokens left
  rooms = 0  # bit r is set where some row has r tokens left
  for i in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
    n = lengths[i]
    if n > length:
      raise ValueError(
        f"example {i} has {n} tokens, more than a row's {length}"
      )
    enough = rooms >> n
    if enough:
      room = n + (enough & -enough).bit_length() - 1
      row = rows_with[room].pop()
      if not rows_with[room]:
        rooms &= ~(1 << room)
    else:
      room, row = length, len(plan)
      plan.append([])
    plan[row].append(i)
    rows_with.setdefault(room - n, []).append(row)
    rooms |= 1 << (room - n)
  return plan


def pack_rows(
  groups: Sequence[Sequence[Example]], rows: int, length: int
) -> Packed:
  """Lays each group of examples into a row of its own.

  Args:
    groups: at most `rows`; rows beyond them stay empty.
    rows: number of rows B.
    length: tokens a row T.

  Raises:
    ValueError: if there are more groups than rows, one is longer than a row,
      or an example is not valid.
  """
  if len(groups) > rows:
    raise ValueError(f"{len(groups)} groups for {rows} rows")
  out = _empty(rows, length)
  for row, group in enumerate(groups):
    start = 0
    for i, example in enumerate(group, start=1):
      _check(example)
      if start + len(example.tokens) > length:
        raise ValueError(f"row {row} has more than {length} tokens")
      _lay(out, example, row, start, i)
      start += len(example.tokens)
  return out


def _empty(rows: int, length: int) -> Packed:
  shape = (rows, length)
  return Packed(
    tokens=np.zeros(shape, np.int32),
    segments=np.zeros(shape, np.int32),
    positions=np.zeros(shape, np.int32),
    targets=np.zeros(shape, np.int32),
    weights=np.zeros(shape, np.float32),
    labels=np.full(shape, -1, np.float32),
  )


def _lay(out: Packed, example: Example, row, start, segment) -> None:
  """Writes an example into a row, as its segment of that number."""
  n = len(example.tokens)
  span = slice(start, start + n)
  out.tokens[row, span] = example.tokens
  out.segments[row, span] = segment
  out.positions[row, span] = np.arange(n)
  out.targets[row, start : start + n - 1] = example.tokens[1:]
  out.weights[row, start : start + n - 1] = example.weights[1:]
  if example.labels is not None:
    out.labels[row, span] = example.labels


def _check(example: Example) -> None:
  n = len(example.tokens)
  labels = n if example.labels is None else len(example.labels)
  if not n or (len(example.weights), labels) != (n, n):
    raise ValueError(
      f"an example has {n} tokens, {len(example.weights)} weights and "
      f"{labels} labels; expected at least one, and as many of each"
    )
