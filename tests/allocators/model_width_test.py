# SPDX-License-Identifier: Apache-2.0
import hypothesis
from hypothesis import strategies as st
import pytest

from jaxttc.allocators import model_width

Measured = model_width.Measured

# Narrow is better while money is short, wide once there is enough of it.
_ROWS = [
  Measured(0.25, "astar(children=4)", 1e8, 0.30),
  Measured(1.0, "greedy", 1e8, 0.10),
  Measured(0.25, "astar(children=4)", 4e8, 0.50),
  Measured(1.0, "greedy", 4e8, 0.45),
  Measured(1.0, "astar(children=1)", 4e8, 0.60),
  Measured(0.25, "astar(children=4)", 9e8, 0.55),
  Measured(1.0, "astar(children=1)", 9e8, 0.80),
]


@pytest.mark.parametrize(
  ("flops", "width", "decoder"),
  [
    (1e8, 0.25, "astar(children=4)"),
    (3.9e8, 0.25, "astar(children=4)"),
    (4e8, 1.0, "astar(children=1)"),
    (1e12, 1.0, "astar(children=1)"),
  ],
)
def test_narrow_and_many_or_wide_and_few(flops, width, decoder):
  chosen = model_width.choose(_ROWS, flops)
  assert (chosen.width, chosen.decoder) == (width, decoder)


def test_front_leaves_out_what_is_not_worth_its_money():
  assert model_width.front(_ROWS) == (_ROWS[0], _ROWS[4], _ROWS[6])
  dearer = [*_ROWS, Measured(0.5, "greedy", 2e9, 0.80)]
  assert model_width.choose(dearer, 1e10) == _ROWS[6]


def test_the_narrowest_of_equals():
  rows = [Measured(w, "greedy", 1e8, 0.5) for w in (1.0, 0.25, 0.5)]
  assert model_width.choose(rows, 1e8).width == 0.25


@hypothesis.given(
  st.lists(
    st.builds(
      Measured,
      st.sampled_from([0.25, 0.5, 1.0]),
      st.sampled_from(["greedy", "astar"]),
      st.integers(1, 9),
      st.integers(0, 4).map(lambda n: n / 4),
    ),
    min_size=1,
  ),
  st.integers(1, 10),
)
def test_choice_is_what_a_scan_of_all_finds(rows, flops):
  fits = [row for row in rows if row.flops <= flops]
  if not fits:
    with pytest.raises(ValueError, match="the least is"):
      model_width.choose(rows, flops)
    return
  chosen = model_width.choose(rows, flops)
  assert chosen in fits
  assert chosen.accuracy == max(row.accuracy for row in fits)
  best = [row for row in fits if row.accuracy == chosen.accuracy]
  assert (chosen.flops, chosen.width) == min((r.flops, r.width) for r in best)


@pytest.mark.parametrize(
  ("rows", "flops", "message"),
  [
    ([], 1e9, "at least one measurement"),
    (_ROWS, -1.0, "flops must be positive and finite, got -1.0"),
    (_ROWS, float("nan"), "flops must be positive"),
    (_ROWS, 5e7, "below every budget.*the least is 1e\\+08"),
    ([_ROWS[0]._replace(width=0.0)], 1e9, "width must be in"),
    ([_ROWS[0]._replace(accuracy=1.1)], 1e9, "accuracy must be in"),
    ([_ROWS[0]._replace(flops=float("inf"))], 1e9, "flops must be positive"),
  ],
)
def test_what_cannot_be_chosen_from(rows, flops, message):
  with pytest.raises(ValueError, match=message):
    model_width.choose(rows, flops)
