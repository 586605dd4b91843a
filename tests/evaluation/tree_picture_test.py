# SPDX-License-Identifier: Apache-2.0
import hypothesis
from hypothesis import strategies as st
import numpy as np
import pytest

from jaxttc.evaluation import tree_picture


def layout(parents, status=None, order=None, labels=None, highlight=-1):
  size = len(parents)
  return tree_picture.layout(
    parents,
    np.zeros(size),
    [1] * size if status is None else status,
    [-1] * size if order is None else order,
    labels,
    highlight,
  )


@st.composite
def random_parents(draw):
  size = draw(st.integers(1, 30))
  return [-1] + [draw(st.integers(0, i)) for i in range(size - 1)]


@hypothesis.given(random_parents())
@hypothesis.settings(deadline=None, max_examples=60)
def test_no_two_boxes_meet_and_parents_stand_amid_their_children(parents):
  nodes = layout(parents)
  for column in {node.column for node in nodes}:
    rows = sorted(node.row for node in nodes if node.column == column)
    assert (np.diff(rows) >= 1).all()
  for node in nodes:
    rows = [child.row for child in nodes if child.parent == node.id]
    if rows:
      assert min(rows) <= node.row <= max(rows)
  leaves = [n.row for n in nodes if n.id not in set(parents)]
  assert sorted(leaves) == list(range(len(leaves)))


@hypothesis.given(random_parents())
@hypothesis.settings(deadline=None, max_examples=30)
def test_edges_of_a_layout_never_cross(parents):
  nodes = layout(parents)
  edges = [(nodes[n.parent], n) for n in nodes[1:]]
  for above, below in edges:
    for other_above, other_below in edges:
      if above.column == other_above.column and above.row < other_above.row:
        assert below.row < other_below.row


def test_depth_path_and_turns():
  nodes = layout(
    [-1, 0, 0, 1, 3],
    status=[2, 2, 1, 2, 3],
    order=[0, 5, -1, 7, -1],
    highlight=3,
  )
  assert [node.column for node in nodes] == [0, 1, 1, 2, 3]
  assert [node.chosen for node in nodes] == [True, True, False, True, False]
  assert [node.extended for node in nodes] == [1, 2, 0, 3, 0]
  assert [node.finished for node in nodes] == [False] * 4 + [True]


def test_empty_slots_are_not_drawn():
  nodes = layout([-1, 0, -1, -1], status=[2, 1, 0, 0], labels=["p", "a"])
  assert [node.label for node in nodes] == ["p", "a"]


def test_height_grows_with_the_leaves():
  short, tall = layout([-1, 0]), layout([-1, 0, 0, 0])
  grown = tree_picture.height(tall) - tree_picture.height(short)
  assert np.isclose(grown, 2 * 20.5 / 72)


@pytest.mark.parametrize(
  "text, width, want",
  [("a  b\nc", 9, "a b c"), ("abcdef", 6, "abcdef"), ("abcdef", 4, "abc…")],
)
def test_shorten(text, width, want):
  assert tree_picture.shorten(text, width) == want


@pytest.mark.parametrize(
  "arguments, message",
  [
    ({"parents": [-1, 1]}, "node 1 has parent 1"),
    ({"parents": [0]}, "node 0 must be the root"),
    ({"parents": [-1, 0], "status": [1]}, "differ in shape"),
    ({"parents": [-1, 0], "status": [0, 1]}, "empty slot"),
    ({"parents": [-1, 0], "labels": ["a"]}, "1 labels for 2 nodes"),
    ({"parents": [-1, 0], "highlight": 2}, "highlight 2"),
  ],
)
def test_layout_refuses(arguments, message):
  with pytest.raises(ValueError, match=message):
    layout(**arguments)
