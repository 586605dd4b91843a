# SPDX-License-Identifier: Apache-2.0
"""Splitting a trace loses nothing, and follows the markers."""

from hypothesis import given
from hypothesis import strategies as st
import pytest

from jaxttc.tasks import episodes

_BLOCKS = st.lists(
  st.sampled_from(
    [
      "Wait, no.",
      "Alternatively, try 3.",
      "So x = 2.",
      "\n",
      "But hold on!",
      "a",
    ]
  ),
  min_size=1,
  max_size=30,
)


@given(_BLOCKS, st.integers(1, 4), st.integers(1, 9), st.integers(1, 4))
def test_join_gives_the_trace_back(blocks, gap, most, group):
  trace = "x\n\n" + "\n\n".join(blocks)
  parts = episodes.split(trace, min_gap=gap, most=most)
  assert episodes.join(parts) == trace
  assert 1 <= len(parts) <= most
  merged = episodes.merge(parts, group)
  assert episodes.join(merged) == trace
  assert len(merged) == -(-len(parts) // group)


def test_markers_open_episodes_after_a_gap():
  trace = "a\n\nb\n\nWait c\n\nd\n\nWait e\n\nf\n\ng\n\nBut wait h"
  assert episodes.split(trace, min_gap=2) == [
    "a\n\nb\n\n",
    "Wait c\n\nd\n\n",
    "Wait e\n\nf\n\ng\n\n",
    "But wait h",
  ]
  # A marker too near to the last boundary is passed over.
  assert episodes.split(trace, min_gap=3)[0] == "a\n\nb\n\nWait c\n\nd\n\n"
  assert len(episodes.split(trace, min_gap=1, most=2)) == 2
  assert episodes.split("so Wait is inside", min_gap=1) == ["so Wait is inside"]


@pytest.mark.parametrize(
  ("more", "said"),
  [
    ({"trace": " \n"}, "blank"),
    ({"markers": ()}, "markers"),
    ({"markers": ("Wait", " ")}, "markers"),
    ({"min_gap": 0}, "min_gap is 0"),
    ({"most": 0}, "most is 0"),
  ],
)
def test_refused(more, said):
  with pytest.raises(ValueError, match=said):
    episodes.split(**({"trace": "text"} | more))
  with pytest.raises(ValueError, match="group is 0"):
    episodes.merge(["a"], 0)
