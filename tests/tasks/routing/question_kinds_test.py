# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest

from jaxttc.tasks import routing
from jaxttc.tasks.routing import question_kinds


@pytest.mark.parametrize(
  "text, kind",
  [
    ("Q: There are 3 houses in a row, numbered", "puzzles"),
    ("Write a python function to reverse a list.", "code"),
    ("\ndef eat(number):\n  '''You are a rabbit'''\n", "code"),
    ("bed, sun, sip, ski, part, shoe, mask, use, hose", "word lists"),
    ("who sang the first song in the film", "queries"),
    ("Tom has 3 caps.\nPut it in \\boxed{...}.", "sums in words"),
    ("Tom has 3 caps and buys 4. How many has he?", "sums in words"),
    ("Anne went to school. " * 40, "passages"),
    ("What is the least $x$ with $x^2 > 2$?", "formulas"),
    ("A book costs $5. Who wrote it?", "plain questions"),
    ("Which of these is made of matter?", "plain questions"),
  ],
)
def test_kinds_are_told_by_their_form(text, kind):
  assert question_kinds.kind(text) == kind
  assert kind in question_kinds.KINDS


def test_leaving_a_kind_out_leaves_its_near_duplicates_out():
  labels = ("a", "b", "a", "c", "b", "c")
  groups = np.array([0, 0, 1, 2, 3, 2])
  found = [
    (label, train.tolist(), test.tolist())
    for label, train, test in routing.left_out(labels, groups)
  ]
  assert found == [
    ("a", [3, 4, 5], [0, 2]),
    ("b", [2, 3, 5], [1, 4]),
    ("c", [0, 1, 2, 4], [3, 5]),
  ]
  with pytest.raises(ValueError, match="at least two labels, got a"):
    next(routing.left_out(("a", "a"), np.arange(2)))
  with pytest.raises(ValueError, match="3 labels for 2 questions"):
    next(routing.left_out(("a", "b", "c"), np.arange(2)))
  with pytest.raises(ValueError, match="near-duplicate in 'a'"):
    next(routing.left_out(("a", "b"), np.zeros(2, int)))
