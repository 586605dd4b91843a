# SPDX-License-Identifier: Apache-2.0
import itertools

import hypothesis
from hypothesis import strategies as st
import numpy as np
import pytest

from jaxttc.evaluation import estimators
from jaxttc.evaluation import verification_estimators as solved
from jaxttc.evaluation import verification_pools as pools

_NAN = float("nan")


def _pool(answers, truth=0, tokens=5):
  """Classes of each problem's solutions; class `truth` is right."""
  answers = np.atleast_2d(np.asarray(answers))
  return pools.SolutionPool(
    ids=tuple(f"p{i}" for i in range(len(answers))),
    answers=answers,
    correct=answers == truth,
    tokens=np.full(answers.shape, tokens),
  )


def _counts(counts):
  return _pool(np.repeat(np.arange(len(counts)), counts))


def _vote_by_enumeration(answers, k, weights=None):
  """Mean over subsets of the share of class 0 among the winners."""
  weights = np.ones(len(answers)) if weights is None else weights
  shares = []
  for subset in itertools.combinations(range(len(answers)), k):
    total = {}
    for i in subset:
      if answers[i] >= 0:
        total[answers[i]] = total.get(answers[i], 0.0) + weights[i]
    best = max(total.values(), default=0.0)
    winners = [a for a, t in total.items() if abs(t - best) < 1e-9]
    shares.append((0 in winners) / len(winners) if winners else 0.0)
  return np.mean(shares)


def _best_by_enumeration(scores, correct, k):
  shares = []
  for subset in itertools.combinations(range(len(scores)), k):
    best = max(scores[i] for i in subset)
    tied = [correct[i] for i in subset if scores[i] == best]
    shares.append(np.mean(tied))
  return np.mean(shares)


def test_votes_of_the_published_examples():
  assert solved.self_consistency(_counts([3, 2, 2, 1]), 4).value == (
    pytest.approx(1 / 2)
  )
  assert solved.self_consistency(_counts([4, 3, 3]), 5).value == (
    pytest.approx(10 / 21)
  )


@hypothesis.given(
  st.lists(st.integers(-1, 3), min_size=2, max_size=8), st.data()
)
@hypothesis.settings(max_examples=40, deadline=None)
def test_exact_votes_are_the_mean_over_all_subsets(answers, data):
  k = data.draw(st.integers(1, len(answers)))
  found = solved.self_consistency(_pool(answers), k)
  assert found.value == pytest.approx(_vote_by_enumeration(answers, k))
  assert found.standard_error == 0


@hypothesis.given(st.data())
@hypothesis.settings(max_examples=40, deadline=None)
def test_best_of_n_is_the_mean_over_all_subsets(data):
  n = data.draw(st.integers(2, 8))
  answers = data.draw(st.lists(st.integers(0, 2), min_size=n, max_size=n))
  few = st.sampled_from([0.0, 0.25, 0.5, 1.0])
  scores = np.array([data.draw(st.lists(few, min_size=n, max_size=n))])
  pool = _pool(answers)
  ks = list(range(1, n + 1))
  found = solved.best_of_n_values(pool, scores, ks)[0]
  for k, value in zip(ks, found, strict=True):
    assert value == pytest.approx(
      _best_by_enumeration(scores[0], pool.correct[0], k)
    )
    one = estimators.best_of_n_at_k(scores[0], pool.correct[0], k)
    assert value == pytest.approx(one)


def test_identities_of_coverage_and_best_of_n():
  rng = np.random.default_rng(0)
  pool = _pool(rng.integers(0, 4, (5, 9)))
  share = pool.correct.mean()
  assert solved.coverage(pool, 1).value == pytest.approx(share)
  assert solved.coverage(pool, 9).value == pool.correct.any(1).mean()
  values = [solved.coverage(pool, k).value for k in range(1, 10)]
  assert (np.diff(values) >= -1e-12).all()
  noise = rng.random((5, 9))
  assert solved.best_of_n(pool, noise, 1).value == pytest.approx(share)
  for k in range(1, 10):
    oracle = solved.best_of_n(pool, pool.correct.astype(float), k)
    assert oracle.value == pytest.approx(solved.coverage(pool, k).value)
    constant = solved.best_of_n(pool, np.full((5, 9), 0.3), k)
    assert constant.value == pytest.approx(share)


@pytest.mark.parametrize("counts", [[3, 2, 2, 1], [1, 5, 1], [4, 4]])
def test_a_vote_of_two_is_worth_no_more_than_one(counts):
  pool = _counts(counts)
  one, two = (solved.self_consistency(pool, k).value for k in (1, 2))
  assert one == pytest.approx(counts[0] / sum(counts))
  assert two == pytest.approx(one)


def test_the_vote_of_all_is_right_by_the_share_of_modes():
  assert solved.self_consistency(_counts([3, 3, 3, 1]), 10).value == (
    pytest.approx(1 / 3)
  )
  assert solved.self_consistency(_counts([2, 3]), 5).value == 0


@pytest.mark.parametrize(("right", "sign"), [(14, 1), (6, -1)])
def test_condorcet(right, sign):
  pool = _counts([right, 20 - right])
  values = [solved.self_consistency(pool, k).value for k in range(1, 20, 2)]
  assert (sign * np.diff(values) >= -1e-12).all()


def test_random_subsets_agree_with_the_exact_vote():
  rng = np.random.default_rng(1)
  pool = _pool(rng.integers(-1, 4, (12, 16)))
  for k in (1, 3, 8, 15):
    exact = solved.self_consistency(pool, k)
    drawn = solved.self_consistency(pool, k, method="mc", draws=400, seed=k)
    off = abs(drawn.value - exact.value)
    assert 0 < drawn.standard_error < 0.02
    assert off <= 4 * drawn.standard_error
    assert exact.low <= exact.value <= exact.high


def test_weighted_votes_agree_with_all_subsets():
  rng = np.random.default_rng(2)
  answers = rng.integers(-1, 3, 8)
  weights = rng.choice([0.0, 0.5, 1.0], 8)
  for k in (2, 4, 8):
    found = solved.weighted_sc(
      _pool(answers), weights[None], k, draws=3000, seed=3
    )
    expected = _vote_by_enumeration(answers, k, weights)
    assert abs(found.value - expected) <= 4 * found.standard_error + 1e-9
  alike = solved.weighted_sc(_pool(answers), np.full((1, 8), 0.7), 5, seed=4)
  plain = solved.self_consistency(_pool(answers), 5, method="mc", seed=4)
  assert alike.value == plain.value


def test_answers_that_cannot_be_read_never_win():
  pool = _pool([[-1, -1, -1, 0]])
  scores = np.array([[0.9, 0.9, 0.9, 0.1]])
  assert solved.weighted_sc(pool, scores, 4, draws=10).value == 1
  assert solved.best_of_n(pool, scores, 4).value == 1
  none = _pool([[-1, -1]])
  assert solved.weighted_sc(none, np.ones((1, 2)), 2, draws=10).value == 0


def test_large_pools_neither_overflow_nor_lose_digits():
  pool = _counts([3000, 3000])
  scores = np.linspace(0, 1, 6000)[None]
  assert solved.best_of_n(pool, scores, 3000).value < 1e-9
  assert solved.coverage(pool, 3000).value == pytest.approx(1.0)


@pytest.mark.parametrize("k", [0, 4])
def test_k_out_of_range_is_refused(k):
  pool, scores = _counts([2, 1]), np.ones((1, 3))
  for call in (
    lambda: solved.coverage(pool, k),
    lambda: solved.self_consistency(pool, k),
    lambda: solved.best_of_n(pool, scores, k),
    lambda: solved.weighted_sc(pool, scores, k),
  ):
    with pytest.raises(ValueError, match=r"k must lie in \[1, 3\]"):
      call()


def test_bad_scores_and_methods_are_refused():
  pool = _counts([2, 1])
  with pytest.raises(ValueError, match="one a solution"):
    solved.best_of_n(pool, np.ones((1, 2)), 1)
  with pytest.raises(ValueError, match="must not be NaN"):
    solved.best_of_n(pool, np.full((1, 3), _NAN), 1)
  with pytest.raises(ValueError, match="weights >= 0"):
    solved.weighted_sc(pool, -np.ones((1, 3)), 1)
  with pytest.raises(ValueError, match="not exact or mc"):
    solved.self_consistency(pool, 1, method="guess")
