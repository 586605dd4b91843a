# SPDX-License-Identifier: Apache-2.0
"""E^3: published magnitudes, intervals, and paired ratios."""

import numpy as np
import pytest

from jaxttc.evaluation import thrift


def _rng():
  return np.random.default_rng(0)


def test_e3_is_accuracy_squared_over_tokens():
  assert thrift.e3(64.0, 40.0) == pytest.approx(102.4)
  assert thrift.e3(97.5, 120.0) == pytest.approx(79.2, abs=0.05)
  assert thrift.accuracy_per_token(50.0, 200.0) == 0.25


def test_runs_are_measured_with_and_without_the_planner():
  scores = np.array([1.0, 0.0, 1.0, 1.0])
  tokens = np.array([100.0, 200.0, 100.0, 0.0])
  found = thrift.measure(scores, tokens, np.full(4, 50.0), rng=_rng())
  assert found.accuracy.value == 75 and found.tokens.value == 100
  assert found.e3.value == pytest.approx(56.25)
  assert found.e3_all_in.value == pytest.approx(37.5)
  assert found.planner_tokens.value == 50
  for interval in found:
    assert interval.low <= interval.value <= interval.high


def test_pairing_cancels_what_makes_questions_differ():
  rng = _rng()
  hard = rng.random(200)
  scores = (rng.random(200) > hard / 2).astype(float)
  tokens = 100 * (1 + 9 * hard)
  same = thrift.e3_over((scores, tokens), (scores, tokens), rng=_rng())
  assert (same.value, same.low, same.high) == (1, 1, 1)
  half = thrift.e3_over((scores, tokens / 2), (scores, tokens), rng=_rng())
  assert half.value == pytest.approx(2) and half.low == pytest.approx(2)


@pytest.mark.parametrize(
  ("accuracy", "tokens", "message"),
  [
    (101.0, 5.0, "0 to 100"),
    (float("nan"), 5.0, "accuracy is nan"),
    (50.0, 0.0, "more than 0"),
    (50.0, float("inf"), "more than 0"),
  ],
)
def test_numbers_that_cannot_be_are_refused(accuracy, tokens, message):
  with pytest.raises(ValueError, match=message):
    thrift.e3(accuracy, tokens)


@pytest.mark.parametrize(
  ("scores", "tokens", "message"),
  [
    ([0.5, 1.5], [1.0, 1.0], "scores of question 1 are 1.5"),
    ([0.5, 1.0], [1.0, -1.0], "tokens of question 1 are -1"),
    ([0.5, 1.0], [1.0], "tokens have shape"),
    ([0.5, 1.0], [0.0, 0.0], "no tokens"),
  ],
)
def test_runs_that_cannot_be_are_refused(scores, tokens, message):
  with pytest.raises(ValueError, match=message):
    thrift.measure(np.array(scores), np.array(tokens), rng=_rng())


def test_runs_that_cannot_be_compared_are_refused():
  one = (np.ones(2), np.ones(2))
  with pytest.raises(ValueError, match="2 and 3 questions"):
    thrift.e3_over(one, (np.ones(3), np.ones(3)), rng=_rng())
  with pytest.raises(ValueError, match="no right answer"):
    thrift.e3_over(one, (np.zeros(2), np.ones(2)), rng=_rng())
