# SPDX-License-Identifier: Apache-2.0
import hypothesis
from hypothesis import strategies as st
import numpy as np
import pytest
import scipy.spatial

from jaxttc.evaluation import loyalty

_P = np.array([[0.7, 0.2, 0.1], [0.1, 0.8, 0.1], [0.3, 0.3, 0.4]])
_Q = np.array([[0.6, 0.3, 0.1], [0.5, 0.4, 0.1], [0.2, 0.3, 0.5]])


def test_loyalty_to_oneself_and_to_a_stranger():
  assert loyalty.label_loyalty(_P, _P) == 1.0
  assert loyalty.probability_loyalty(_P, _P) == 1.0
  here, there = np.array([[1.0, 0.0, 0.0]]), np.array([[0.0, 0.5, 0.5]])
  assert loyalty.probability_loyalty(here, there) == 0.0
  assert loyalty.label_loyalty(here, there) == 0.0
  assert loyalty.label_loyalty(_P, _Q) == pytest.approx(2 / 3)


def test_the_distance_is_scipys_in_bits():
  distance = scipy.spatial.distance.jensenshannon(_P, _Q, base=2, axis=1)
  found = loyalty.probability_loyalty(_P, _Q)
  assert found == pytest.approx(1 - distance.mean())


@hypothesis.given(st.integers(0, 100))
def test_loyalty_is_symmetric_and_bounded(seed):
  rng = np.random.default_rng(seed)
  p, q = rng.dirichlet(np.full(4, 0.3), (2, 5))
  found = loyalty.probability_loyalty(p, q)
  assert 0 <= found <= 1
  assert found == pytest.approx(loyalty.probability_loyalty(q, p))


@pytest.mark.parametrize(
  ("p", "q", "message"),
  [
    (_P, _Q[:2], "expected teacher"),
    (_P[0], _Q[0], "expected teacher"),
    (_P * np.nan, _Q, "must be finite"),
    (_P, 2 * _Q, "row 0 of student is no distribution"),
    (_P - 0.2, _Q, "row 0 of teacher is no distribution"),
  ],
)
def test_bad_predictions_are_refused(p, q, message):
  with pytest.raises(ValueError, match=message):
    loyalty.probability_loyalty(p, q)
