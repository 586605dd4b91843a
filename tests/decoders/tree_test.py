# SPDX-License-Identifier: Apache-2.0
import collections

from hypothesis import given, settings
from hypothesis import strategies as st
import jax.numpy as jnp
import numpy as np
import pytest

from jaxttc.decoders import tree as tree_lib


def grow(tree, node, valid, finished):
  shape = np.shape(valid)
  ids = np.arange(np.prod(shape)).reshape(shape)
  return tree_lib.append(
    tree,
    jnp.asarray(node),
    jnp.asarray(valid),
    jnp.asarray(finished),
    jnp.asarray(1 + ids),
    jnp.full(shape, 0.5),
    jnp.full(shape, -1.0),
    jnp.asarray(ids),
  )


def test_append_numbers_valid_children_row_by_row():
  tree, ids = grow(
    tree_lib.init(8),
    [0, 0],
    [[True, False, True], [False, False, True]],
    [[False, False, True], [False, False, False]],
  )
  assert ids.tolist() == [[1, -1, 2], [-1, -1, 3]]
  assert tree.parent.tolist() == [-1, 0, 0, 0, -1, -1, -1, -1]
  assert tree.length.tolist() == [0, 1, 3, 6, 0, 0, 0, 0]
  assert tree.answer.tolist() == [-1, -1, 2, -1, -1, -1, -1, -1]
  assert tree.status.tolist() == [2, 1, 3, 1, 0, 0, 0, 0]
  tree, _ = grow(tree, [3, 1], [[True], [False]], [[True], [False]])
  assert tree.depth[4] == 2
  assert tree.logprob[4] == -2.0
  assert tree.expanded_at.tolist() == [0, -1, -1, 1, -1, -1, -1, -1]
  assert (int(tree.used), int(tree.rounds)) == (5, 2)
  assert tree.open.tolist() == [False, True] + [False] * 6


def test_put_and_set_status_skip_what_is_not_named():
  ids = jnp.asarray([2, -1, 0])
  written = tree_lib.put(jnp.zeros(4), ids, jnp.asarray([5.0, 6.0, 7.0]))
  assert written.tolist() == [7.0, 0.0, 5.0, 0.0]
  tree = tree_lib.set_status(
    tree_lib.init(3),
    jnp.asarray([0, 1]),
    jnp.asarray([False, True]),
    tree_lib.Status.CLOSED,
  )
  assert tree.status.tolist() == [1, 2, 0]


@settings(max_examples=30)
@given(
  st.lists(
    st.tuples(st.integers(-1, 3), st.integers(0, 4)), min_size=6, max_size=6
  )
)
def test_vote_is_the_heaviest_class(ballots):
  answer, weight = np.asarray(ballots).T
  winner, node = tree_lib.vote(
    jnp.asarray(answer), jnp.asarray(weight, jnp.float32)
  )
  totals = collections.Counter()
  for a, w in ballots:
    if a >= 0 and w > 0:
      totals[a] += w
  if not totals:
    assert (int(winner), int(node)) == (-1, -1)
    return
  assert int(winner) == max(totals, key=totals.__getitem__)
  backers = np.flatnonzero(answer == int(winner))
  assert int(node) == max(backers, key=weight.__getitem__)


@settings(max_examples=20)
@given(
  st.lists(st.integers(0, 99), min_size=9, max_size=9),
  st.lists(st.booleans(), min_size=10, max_size=10),
)
def test_paths_are_marked_from_the_root(choices, marked):
  parent = [-1] + [c % (i + 1) for i, c in enumerate(choices)]
  expected = set()
  for node in np.flatnonzero(marked):
    while node >= 0:
      expected.add(int(node))
      node = parent[node]
  marks = tree_lib.on_path_to(jnp.asarray(parent), jnp.asarray(marked))
  assert set(np.flatnonzero(marks).tolist()) == expected
  pair = tree_lib.on_path_to(
    jnp.asarray([parent, parent]), jnp.asarray([marked, [False] * 10])
  )
  np.testing.assert_array_equal(pair[0], marks)
  assert not pair[1].any()


def test_a_tree_without_room_for_a_child_is_refused():
  with pytest.raises(ValueError, match="at least 2, got 1"):
    tree_lib.init(1)
