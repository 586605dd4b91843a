# SPDX-License-Identifier: Apache-2.0
"""Tests of packing examples into rows."""

import hypothesis
from hypothesis import strategies as st
import numpy as np
import pytest

from jaxttc.training import packing


def _example(size, first, labels):
  tokens = list(range(first, first + size))
  weights = [0.5 + token for token in tokens]
  return packing.Example(
    tokens, weights, [token / 1000 for token in tokens] if labels else None
  )


@hypothesis.given(
  st.lists(st.tuples(st.integers(1, 9), st.booleans()), max_size=12),
  st.integers(1, 3),
)
@hypothesis.settings(max_examples=60)
def test_rows_hold_examples_whole_and_nothing_else(sizes, rows):
  length = 7
  examples = [
    _example(size, 1 + 10 * i, labels) for i, (size, labels) in enumerate(sizes)
  ]
  packed = packing.pack(examples, rows, length)
  # First fit by hand, until the first that fits nowhere.
  used, expected = [0] * rows, []
  for example in examples:
    size = len(example.tokens)
    if size > length:
      continue
    row = next((r for r in range(rows) if used[r] + size <= length), None)
    if row is None:
      break
    expected.append((row, used[row], example))
    used[row] += size
  covered = np.zeros((rows, length), bool)
  for row, start, example in expected:
    span = slice(start, start + len(example.tokens))
    covered[row, span] = True
    assert packed.tokens[row, span].tolist() == example.tokens
    assert packed.positions[row, span].tolist() == list(
      range(len(example.tokens))
    )
    assert len(set(packed.segments[row, span].tolist())) == 1
    assert packed.targets[row, span].tolist() == [*example.tokens[1:], 0]
    np.testing.assert_allclose(
      packed.weights[row, span], [*example.weights[1:], 0]
    )
    labels = example.labels or [-1] * len(example.tokens)
    np.testing.assert_allclose(packed.labels[row, span], labels)
  for name in ("tokens", "segments", "positions", "targets", "weights"):
    assert not getattr(packed, name)[~covered].any()
  assert (packed.labels[~covered] == -1).all()
  for row in range(rows):
    numbers = packed.segments[row][covered[row]]
    assert sorted(set(numbers.tolist())) == list(
      range(1, 1 + sum(r == row for r, _, _ in expected))
    )


def test_takes_no_more_of_an_endless_stream_than_it_needs():
  taken = []

  def endless():
    while True:
      taken.append(0)
      yield _example(3, 1, False)

  packing.pack(endless(), rows=2, length=6)
  assert len(taken) == 5  # four that fit, and one that does not


@pytest.mark.parametrize(
  "example",
  [
    packing.Example([], []),
    packing.Example([1, 2, 3], [1.0, 1.0]),
    packing.Example([1, 2], [1.0, 1.0], [1.0]),
  ],
)
def test_refuses_examples_whose_parts_do_not_match(example):
  with pytest.raises(ValueError, match="tokens, .* weights and"):
    packing.pack([example], rows=1, length=8)


def test_planned_rows_hold_every_example_once():
  lengths = [5, 1, 7, 3, 3, 2, 8, 4]
  plan = packing.plan_rows(lengths, 8)
  assert sorted(i for row in plan for i in row) == list(range(8))
  assert all(sum(lengths[i] for i in row) <= 8 for row in plan)
  assert len(plan) == 5  # 33 tokens need no fewer
  with pytest.raises(ValueError, match="example 1 has 9 tokens, more than"):
    packing.plan_rows([3, 9], 8)


def test_groups_are_laid_in_rows_of_their_own():
  one = packing.Example([3, 4], [0.0, 1.0])
  two = packing.Example([5], [1.0], [0.5])
  packed = packing.pack_rows([[one, two], [two]], 3, 4)
  assert packed.tokens.tolist() == [[3, 4, 5, 0], [5, 0, 0, 0], [0, 0, 0, 0]]
  assert packed.segments.tolist()[0] == [1, 1, 2, 0]
  assert packed.positions.tolist()[0] == [0, 1, 0, 0]
  assert packed.weights.tolist()[0] == [1.0, 0.0, 0.0, 0.0]
  assert packed.labels[0].tolist() == [-1.0, -1.0, 0.5, -1.0]
  with pytest.raises(ValueError, match="2 groups for 1 rows"):
    packing.pack_rows([[one], [two]], 1, 4)
  with pytest.raises(ValueError, match="row 0 has more than 2 tokens"):
    packing.pack_rows([[one, two]], 1, 2)


@hypothesis.given(st.lists(st.integers(1, 12), max_size=40))
def test_plans_are_within_their_bound(lengths):
  plan = packing.plan_rows(lengths, 12)
  assert sorted(i for row in plan for i in row) == list(range(len(lengths)))
  assert all(sum(lengths[i] for i in row) <= 12 for row in plan)
  # No two rows would fit into one.
  used = sorted(sum(lengths[i] for i in row) for row in plan)
  assert len(used) < 2 or used[0] + used[1] > 12
