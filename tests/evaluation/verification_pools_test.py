# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest

from jaxttc.evaluation import verification_pools as pools

_NAN = float("nan")


def test_verifications_are_aggregated_over_the_first_that_say_something():
  scores = np.array([[_NAN, 0.0, 1.0, 1.0], [_NAN] * 4])
  mean = pools.aggregate_verifications(scores, 2)
  np.testing.assert_allclose(mean, [0.5, 0.0])
  np.testing.assert_allclose(
    pools.aggregate_verifications(scores, 3, "median"), [1.0, 0.0]
  )
  np.testing.assert_allclose(
    pools.aggregate_verifications(scores, 3, "beta_posterior"), [3 / 5, 0.0]
  )
  # A verdict of 0.0 is one: it is not missing.
  np.testing.assert_allclose(
    pools.aggregate_verifications(np.array([0.0, _NAN]), 1), 0.0
  )
  odds = pools.aggregate_verifications(np.array([0.5, 0.8]), 2, "logit_mean")
  assert odds / (1 - odds) == pytest.approx(2.0)


def test_missing_verdicts_are_refused_on_request():
  scores = np.array([[0.5, _NAN], [_NAN, _NAN]])
  with pytest.raises(ValueError, match=r"solution \[1\] are missing"):
    pools.aggregate_verifications(scores, 1, nan_policy="raise")
  for v in (0, 3):
    with pytest.raises(ValueError, match=r"V must lie in \[1, 2\]"):
      pools.aggregate_verifications(scores, v)
  with pytest.raises(ValueError, match="how='best'"):
    pools.aggregate_verifications(scores, 1, "best")


def test_the_variance_of_verdicts_adds_up():
  rng = np.random.default_rng(3)
  q = rng.beta(2, 2, (30, 40, 1))
  verdicts = (rng.random((30, 40, 16)) < q).astype(float)
  parts = pools.variance_components(verdicts)
  assert parts.within + parts.solutions + parts.problems == pytest.approx(
    parts.total
  )
  # E[q (1 - q)] (V - 1) / V within; Var q and its noise, E[q (1 - q)] / V.
  spread = (q * (1 - q)).mean()
  assert parts.within == pytest.approx(spread * 15 / 16, rel=0.05)
  between = parts.solutions + parts.problems
  assert between == pytest.approx(q.var() + spread / 16, rel=0.05)
  with pytest.raises(ValueError, match="no missing"):
    pools.variance_components(np.full((1, 1, 2), _NAN))


def test_bad_pools_are_refused():
  answers = np.array([[0, -1]])
  good = {
    "ids": ("a",),
    "answers": answers,
    "correct": answers == 0,
    "tokens": np.ones((1, 2), int),
  }
  pools.SolutionPool(**good)
  for bad, words in (
    ({"answers": np.zeros((0, 2))}, "empty"),
    ({"correct": np.ones((1, 3), bool)}, "expected"),
    ({"correct": np.ones((1, 2), bool)}, "without answer is correct"),
    ({"ids": ("a", "b")}, "2 ids for 1 problems"),
    ({"tokens": np.full((1, 2), -1)}, "negative"),
  ):
    with pytest.raises(ValueError, match=words):
      pools.SolutionPool(**(good | bad))
  with pytest.raises(ValueError, match="'a' occurs twice"):
    pools.SolutionPool(
      ids=("a", "a"),
      answers=np.zeros((2, 2), int),
      correct=np.ones((2, 2), bool),
      tokens=np.ones((2, 2), int),
    )


def test_bad_verifications_are_refused():
  answers = np.array([[0, 0, 1]])
  pool = pools.SolutionPool(
    ids=("p0",),
    answers=answers,
    correct=answers == 0,
    tokens=np.full(answers.shape, 5),
  )
  scores = np.full((1, 3, 2), 0.5)
  tokens = np.ones((1, 3, 2), int)
  pools.VerificationPool(ids=("p0",), scores=scores, tokens=tokens).check(pool)
  with pytest.raises(ValueError, match=r"in \[0, 1\]"):
    pools.VerificationPool(ids=("p0",), scores=scores + 1, tokens=tokens)
  with pytest.raises(ValueError, match="empty"):
    pools.VerificationPool(
      ids=("p0",), scores=np.zeros((1, 3, 0)), tokens=tokens
    )
  other = pools.VerificationPool(ids=("x",), scores=scores, tokens=tokens)
  with pytest.raises(ValueError, match="mixed pools"):
    other.check(pool)
  short = pools.VerificationPool(
    ids=("p0",), scores=scores[:, :2], tokens=tokens[:, :2]
  )
  with pytest.raises(ValueError, match="mixed pools"):
    short.check(pool)
