# SPDX-License-Identifier: Apache-2.0
"""How many pixels of one mask find partners in another, one to one.

A largest matching of the pixels that are within a radius: nearest pairs first,
then augmenting paths, which are grown from all free pixels at once as trees
that share no pixel, so that a whole phase is a few array operations. It ends
when no free pixel can be reached, which is when no matching is larger (Berge
1957). SciPy's `maximum_bipartite_matching` did not end on noisy edge maps.

References:
  Hopcroft and Karp (1973), An n^(5/2) algorithm for maximum matchings in
    bipartite graphs. Azad, Buluc and Pothen (2017), Computing maximum
    cardinality matchings in parallel on bipartite graphs via tree-grafting.
"""

from typing import NamedTuple

from jaxtyping import Bool
import numpy as np


class _Graph(NamedTuple):
  """Pixels of the smaller mask, and whom each is near.

  Attributes:
    near: i64[E], pixels of the other mask, grouped by pixel of the first.
    start: i64[L + 1], where each group starts.
  """

  near: np.ndarray
  start: np.ndarray


class _Matching(NamedTuple):
  """Partners of the pixels of both masks, -1 without; changed in place."""

  left: np.ndarray
  right: np.ndarray


def pairs(
  a: Bool[np.ndarray, "H W"], b: Bool[np.ndarray, "H W"], radius: int | float
) -> int:
  """Size of a largest set of pairs (pixel of a, pixel of b) within a radius.

  Args:
    a: a mask.
    b: another.
    radius: largest distance of partners, in pixels, >= 0.

  Returns:
    The number of pairs; no pixel is in two of them.
  """
  # The smaller mask has fewer free pixels to grow trees from.
  small, large = (a, b) if a.sum() <= b.sum() else (b, a)
  if not small.any():
    return 0
  matching = _Matching(
    np.full(int(small.sum()), -1), np.full(int(large.sum()), -1)
  )
  graph = _near_pixels(small, large, radius, matching)
  while _augment(graph, matching):
    pass
  return int((matching.left >= 0).sum())


def _near_pixels(
  small: np.ndarray,
  large: np.ndarray,
  radius: int | float,
  matching: _Matching,
) -> _Graph:
  """Who is near whom; free pixels are paired on the way, nearest first."""
  reach = int(radius)
  index = np.full(large.shape, -1)
  index[large] = np.arange(len(matching.right))
  index = np.pad(index, reach, constant_values=-1)
  y, x = np.nonzero(small)
  lefts, rights = [], []
  for dy, dx in _offsets(radius):
    other = index[y + dy + reach, x + dx + reach]
    left = np.flatnonzero(other >= 0)
    right = other[left]
    lefts.append(left)
    rights.append(right)
    # Of one offset, no two pairs share a pixel.
    free = (matching.left[left] < 0) & (matching.right[right] < 0)
    matching.left[left[free]] = right[free]
    matching.right[right[free]] = left[free]
  left, right = np.concatenate(lefts), np.concatenate(rights)
  start = np.zeros(len(y) + 1, np.int64)
  np.cumsum(np.bincount(left, minlength=len(y)), out=start[1:])
  return _Graph(right[np.argsort(left, kind="stable")], start)


def _offsets(radius: int | float) -> list[tuple[int, int]]:
  """Steps of whole pixels within a radius, shortest first."""
  reach = int(radius)
  steps = range(-reach, reach + 1)
  offsets = [(dy, dx) for dy in steps for dx in steps]
  near = [o for o in offsets if o[0] ** 2 + o[1] ** 2 <= radius * radius]
  return sorted(near, key=lambda o: o[0] ** 2 + o[1] ** 2)


def _augment(graph: _Graph, matching: _Matching) -> bool:
  """Adds a pair for each tree that reaches a free pixel; whether one did."""
  parent = np.full(len(matching.right), -1)
  root = np.full(len(matching.left), -1)
  leaf = np.full(len(matching.left), -1)
  front = np.flatnonzero(matching.left < 0)
  root[front] = front
  while front.size:
    left, right = _edges_of(graph, front)
    new = parent[right] < 0
    right, first = np.unique(right[new], return_index=True)
    left = left[new][first]
    parent[right] = left
    partner = matching.right[right]
    end = partner < 0
    leaf[root[left[end]]] = right[end]
    front = partner[~end]
    root[front] = root[left[~end]]
    front = front[leaf[root[front]] < 0]  # a tree with a leaf stops growing
  right = leaf[leaf >= 0]
  grown = bool(right.size)
  # From the leaves to the roots, all at once: trees share no pixel.
  while right.size:
    left = parent[right]
    before = matching.left[left]
    matching.left[left], matching.right[right] = right, left
    right = before[before >= 0]
  return grown


def _edges_of(
  graph: _Graph, pixels: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
  """All pairs of the given pixels and those near them."""
  count = graph.start[pixels + 1] - graph.start[pixels]
  left = np.repeat(pixels, count)
  before = np.repeat(np.cumsum(count) - count, count)
  at = graph.start[left] + np.arange(len(left)) - before
  return left, graph.near[at]
