# SPDX-License-Identifier: Apache-2.0
"""Splits of questions that keep near-duplicates together.

A router that saw a question's twin in training knows the answer, not the
question. Two questions are near-duplicates if the sets of their shingles
(runs of words) overlap by a Jaccard similarity of at least a threshold; groups
are the connected components of that relation. Groups, not questions, are then
dealt to the sides of a split.

Reference: Broder (1997), On the resemblance and containment of documents.
"""

from collections.abc import Iterator, Sequence
import re
import zlib

from jaxtyping import Bool, Int
import numpy as np
import scipy.sparse
import scipy.sparse.csgraph

_WORD = re.compile(r"\w+|[^\w\s]")
_ROWS = 512  # questions compared with all others at a time


def near_duplicate_groups(
  prompts: Sequence[str], *, shingle: int = 3, threshold: float = 0.3
) -> Int[np.ndarray, " N"]:
  """The group of each question; near-duplicates share one.

  Digits are read as 0 and letters in lower case, so that one template filled
  with other numbers is one question.

  Args:
    prompts: the questions. Texts shorter than a shingle are one shingle.
    shingle: words in a shingle.
    threshold: least Jaccard similarity of near-duplicates, in (0, 1].

  Returns:
    i64[N], groups counted from 0 in order of their first question.

  Raises:
    ValueError: if there are no questions or a setting is out of range.
  """
  if not prompts:
    raise ValueError("near_duplicate_groups: expected at least one question")
  if shingle < 1 or not 0 < threshold <= 1:
    raise ValueError(
      "near_duplicate_groups: expected shingle >= 1 and 0 < threshold <= 1, "
      f"got {shingle} and {threshold}"
    )
  sets = _shingle_sets(prompts, shingle)
  sizes = np.asarray(sets.sum(1)).ravel()
  pairs = []
  for start in range(0, len(prompts), _ROWS):
    shared = (sets[start : start + _ROWS] @ sets.T).tocoo()
    left = shared.row + start
    union = sizes[left] + sizes[shared.col] - shared.data
    close = shared.data >= threshold * union
    pairs.append(np.stack([left[close], shared.col[close]]))
  left, right = np.concatenate(pairs, 1)
  graph = scipy.sparse.coo_array(
    (np.ones(len(left), np.int8), (left, right)), shape=(len(prompts),) * 2
  )
  labels = scipy.sparse.csgraph.connected_components(graph, directed=False)[1]
  _, first = np.unique(labels, return_index=True)
  return np.argsort(np.argsort(first))[labels]


def folds(
  groups: Int[np.ndarray, " N"], count: int, seed: int = 0
) -> Iterator[tuple[Int[np.ndarray, " T"], Int[np.ndarray, " H"]]]:
  """Deals groups into folds of about equal size; each fold is held out once.

  Args:
    groups: i64[N], the group of each question.
    count: folds, at least 2.
    seed: which random deal.

  Yields:
    (training questions, held-out questions), both rising; no group is on both
    sides.

  Raises:
    ValueError: if there are fewer groups than folds, or fewer than two folds.
  """
  fold = _deal(np.asarray(groups), count, seed)
  for held_out in range(count):
    yield np.flatnonzero(fold != held_out), np.flatnonzero(fold == held_out)


def left_out(
  labels: Sequence[str], groups: Int[np.ndarray, " N"]
) -> Iterator[tuple[str, Int[np.ndarray, " T"], Int[np.ndarray, " H"]]]:
  """Leaves out the questions of one label after the other.

  Args:
    labels: N names, of the data sets or kinds that questions come from.
    groups: i64[N], the group of near-duplicates of each question.

  Yields:
    (label, training questions, held-out questions), labels in the order of
    their first question. Questions with a near-duplicate among those held out
    are on neither side.

  Raises:
    ValueError: if numbers differ, there are fewer than two labels, or nothing
      is left to train on.
  """
  names, groups = np.array(labels), np.asarray(groups)
  if names.shape != groups.shape:
    raise ValueError(
      f"left_out: {len(names)} labels for {len(groups)} questions"
    )
  each = tuple(dict.fromkeys(labels))
  if len(each) < 2:
    raise ValueError(
      f"left_out: expected at least two labels, got {', '.join(each) or 'none'}"
    )
  for label in each:
    held_out = names == label
    train = ~held_out & ~np.isin(groups, groups[held_out])
    if not train.any():
      raise ValueError(
        f"left_out: every question has a near-duplicate in {label!r}"
      )
    yield label, np.flatnonzero(train), np.flatnonzero(held_out)


def crossings(
  groups: Int[np.ndarray, " N"], held_out: Bool[np.ndarray, " N"]
) -> int:
  """How many groups have questions on both sides of a split: 0 if it is fair.

  Args:
    groups: i64[N], the group of each question.
    held_out: bool[N], which questions are held out.
  """
  groups = np.asarray(groups)
  held_out = np.asarray(held_out, bool)
  return len(np.intersect1d(groups[held_out], groups[~held_out]))


def _deal(groups: np.ndarray, count: int, seed: int) -> np.ndarray:
  """The fold of each question: largest groups first, to the least full fold."""
  names, sizes = np.unique(groups, return_counts=True)
  if not 2 <= count <= len(names):
    raise ValueError(
      f"folds: expected 2 to {len(names)} folds (there are that many groups of "
      f"near-duplicates), got {count}"
    )
  order = np.random.default_rng(seed).permutation(len(names))
  order = order[np.argsort(-sizes[order], kind="stable")]
  filled = np.zeros(count)
  place = {}
  for group in order:
    fold = int(filled.argmin())
    filled[fold] += sizes[group]
    place[names[group]] = fold
  return np.array([place[group] for group in groups])


def _shingle_sets(prompts: Sequence[str], shingle: int):
  """i32[N, S] of zeros and ones: which shingles each question holds."""
  rows, columns, seen = [], [], {}
  for row, prompt in enumerate(prompts):
    words = _WORD.findall(re.sub(r"\d+", "0", prompt.casefold()))
    stop = max(1, len(words) - shingle + 1)
    held = {
      zlib.crc32(" ".join(words[i : i + shingle]).encode()) for i in range(stop)
    }
    rows += [row] * len(held)
    columns += [seen.setdefault(code, len(seen)) for code in held]
  ones = np.ones(len(rows), np.int32)
  shape = (len(prompts), len(seen))
  return scipy.sparse.csr_array((ones, (rows, columns)), shape=shape)
