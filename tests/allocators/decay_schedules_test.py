# SPDX-License-Identifier: Apache-2.0
"""Decay schedules, and whole tokens that are spent to the last."""

import hypothesis
from hypothesis import strategies as st
import numpy as np
import pytest

from jaxttc.allocators import decay_schedules

_CREDITS = st.lists(st.integers(0, 100), min_size=1, max_size=7).filter(any)


def test_schedules_are_the_published_ones():
  at = np.arange(3)
  found = {k: f(at, 3).tolist() for k, f in decay_schedules.SCHEDULES.items()}
  assert found["constant"] == [1, 1, 1]
  assert found["linear"] == [3, 2, 1]
  assert found["polynomial"] == [9, 4, 1]
  assert found["exponential"] == pytest.approx([1, 0.9, 0.81])
  assert found["cosine"] == pytest.approx([1.1, 0.6, 0.1])
  assert decay_schedules.cosine(np.arange(1), 1).tolist() == [1]


@pytest.mark.parametrize(
  ("schedule", "shares"),
  [
    ("constant", (0.22, 0.31, 0.48)),
    ("linear", (0.38, 0.35, 0.27)),
    ("polynomial", (0.54, 0.33, 0.13)),
    ("exponential", (0.25, 0.31, 0.44)),
    ("cosine", (0.51, 0.39, 0.10)),
  ],
)
def test_decays_undo_a_planner_that_overpays_the_end(schedule, shares):
  weights = decay_schedules.weights([22, 31, 48], schedule)
  assert weights / weights.sum() == pytest.approx(shares, abs=0.015)


@pytest.mark.filterwarnings("ignore:credits total")
@hypothesis.given(
  _CREDITS,
  st.integers(0, 1000),
  st.sampled_from(sorted(decay_schedules.SCHEDULES)),
  st.sampled_from(decay_schedules.ROUNDINGS),
  st.integers(0, 3),
)
@hypothesis.settings(max_examples=60)
def test_tokens_are_spent_to_the_last(credits, spare, schedule, how, floor):
  total = spare + floor * len(credits)
  tokens = decay_schedules.allocate_tokens(
    credits, total, schedule, rounding=how, floor=floor
  )
  assert tokens.sum() == total and tokens.min() >= floor
  weights = decay_schedules.weights(credits, schedule)
  exact = floor + spare * weights / weights.sum()
  assert (np.abs(tokens - exact) < 1 + 1e-9).all()


def test_who_gets_what_rounding_leaves():
  given = dict(credits=[50, 30, 20], total=9, schedule="constant")
  source = decay_schedules.allocate_tokens(**given)
  assert source.tolist() == [5, 3, 1]  # the heaviest first
  fair = decay_schedules.allocate_tokens(**given, rounding="largest_remainder")
  assert fair.tolist() == [4, 3, 2]
  tie = decay_schedules.allocate_tokens([50, 50], 5, "constant")
  assert tie.tolist() == [3, 2]


@pytest.mark.filterwarnings("ignore:credits total")
@hypothesis.given(st.permutations([3, 11, 17, 29, 40]))
@hypothesis.settings(max_examples=15)
def test_without_decay_order_does_not_matter(credits):
  tokens = decay_schedules.allocate_tokens(credits, 357, "constant")
  by_credit = dict(zip(credits, tokens.tolist(), strict=True))
  ordered = decay_schedules.allocate_tokens(sorted(credits), 357, "constant")
  assert [by_credit[c] for c in sorted(credits)] == ordered.tolist()


def test_uniform_leaves_the_rest_unspent():
  assert decay_schedules.uniform_tokens(3, 100).tolist() == [33, 33, 33]


def test_credits_that_do_not_total_a_hundred_are_told():
  with pytest.warns(UserWarning, match="credits total 30"):
    decay_schedules.allocate_tokens([10, 20], 100)


@pytest.mark.parametrize(
  ("credits", "options", "message"),
  [
    ([], {}, "credit a step"),
    ([50, -50], {}, "credit of step 2 is -50"),
    ([50, float("nan")], {}, "credit of step 2 is nan"),
    ([0, 0], {}, "all credits are zero"),
    ([50, 50], {"schedule": "lineer"}, "did you mean 'linear'"),
    ([50, 50], {"rounding": "up"}, "rounding 'up'"),
    ([50, 50], {"floor": 6}, "at least 12"),
  ],
)
def test_what_cannot_be_split_is_refused(credits, options, message):
  with pytest.raises(ValueError, match=message):
    decay_schedules.allocate_tokens(credits, 10, **options)
