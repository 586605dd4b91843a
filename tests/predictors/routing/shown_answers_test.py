# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest

from jaxttc.predictors.routing import shown_answers


def column(found, name):
  return found[..., shown_answers.FIELDS.index(name)]


def test_an_answer_shows_what_came_before_it_and_nothing_after():
  solutions = [("x\nA: 4", "A: 4", "A: 5"), ("no idea", "A: -3.5", "A: 7")]
  found = shown_answers.features(solutions, (2, 0, 1))
  np.testing.assert_array_equal(
    column(found, "answered"), [[1, 1, 1], [1, 0, 1]]
  )
  # In the order 5, 4, 4: the second four agrees with one of two.
  np.testing.assert_array_equal(
    column(found, "agreeing"), [[0, 0, 1], [0, 0, 0]]
  )
  np.testing.assert_allclose(column(found, "agreeing_share")[0], [0, 0, 0.5])
  np.testing.assert_array_equal(column(found, "leads"), [[1, 0, 1], [1, 0, 0]])
  np.testing.assert_array_equal(column(found, "negative")[1], [0, 0, 1])
  np.testing.assert_array_equal(column(found, "whole")[1], [1, 0, 0])
  np.testing.assert_array_equal(column(found, "lines")[0], [1, 2, 1])
  first = shown_answers.features([s[:2] for s in solutions], (0, 1))
  again = shown_answers.features(solutions, (0, 1, 2))
  np.testing.assert_array_equal(first, again[:, :2])


@pytest.mark.parametrize("order", [(), (0, 0)])
def test_an_order_that_cannot_be_is_refused(order):
  with pytest.raises(ValueError, match="order of different models"):
    shown_answers.features([("A: 1", "A: 2")], order)
