# SPDX-License-Identifier: Apache-2.0
import itertools

import hypothesis
from hypothesis import strategies as st
import numpy as np
import pytest

from jaxttc.allocators import thinking_budgets

_SIZES = np.array([1, 3, 4])


@hypothesis.settings(max_examples=25)
@hypothesis.given(
  st.lists(
    st.lists(st.integers(0, 8), min_size=3, max_size=3), min_size=3, max_size=3
  ),
  st.integers(3, 12),
)
def test_no_other_split_is_expected_to_answer_more(rows, total):
  curves = np.array(rows) / 8
  found = thinking_budgets.assign_budgets(curves, _SIZES, total)
  assert found.sum() <= total
  worth = sum(
    curves[i, np.flatnonzero(_SIZES == budget)[0]]
    for i, budget in enumerate(found)
  )
  best = max(
    curves[np.arange(3), list(choice)].sum()
    for choice in itertools.product(range(3), repeat=3)
    if _SIZES[list(choice)].sum() <= total
  )
  assert worth == pytest.approx(best)


def test_large_totals_are_split_in_units_and_never_exceeded():
  sizes = np.array([100, 2000, 9000])
  curves = np.tile([0.1, 0.5, 0.9], (4, 1))
  found = thinking_budgets.assign_budgets(curves, sizes, 20_000)
  # 0.9 + 3 * 0.5 with 15,000; a second 9,000 would leave two with 0.1.
  assert sorted(found.tolist()) == [2000, 2000, 2000, 9000]
  # A unit is 5 tokens here: what is left over buys nothing.
  tight = thinking_budgets.assign_budgets(curves, sizes + 1, 15_004)
  assert tight.sum() <= 15_004


def test_what_cannot_be():
  curves = np.full((2, 3), 0.5)
  with pytest.raises(ValueError, match="total=1 does not pay for 2 budgets"):
    thinking_budgets.assign_budgets(curves, _SIZES, 1)
  with pytest.raises(ValueError, match="must rise"):
    thinking_budgets.assign_budgets(curves, _SIZES[::-1], 9)
  with pytest.raises(ValueError, match="a column a budget"):
    thinking_budgets.assign_budgets(curves, _SIZES[:2], 9)
  with pytest.raises(ValueError, match=r"chances in \[0, 1\]"):
    thinking_budgets.assign_budgets(curves + 1, _SIZES, 9)
