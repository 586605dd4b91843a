# SPDX-License-Identifier: Apache-2.0
import fractions
import itertools
import math

import hypothesis
from hypothesis import strategies as st
import numpy as np
import pytest

from jaxttc.evaluation import estimators

Fraction = fractions.Fraction
SETTINGS = hypothesis.settings(deadline=None, max_examples=40)


def mean_over_subsets(n, k, value):
  subsets = list(itertools.combinations(range(n), k))
  return sum(value(subset) for subset in subsets) / Fraction(len(subsets))


def vote(answers, correct, subset):
  """P(majority of a subset is right), ties uniform, by counting."""
  votes = [answers[i] for i in subset if answers[i] >= 0]
  if not votes:
    return Fraction(0)
  tally = {a: votes.count(a) for a in votes}
  winners = [a for a, v in tally.items() if v == max(tally.values())]
  return Fraction(sum(correct[a] for a in winners), len(winners))


def best(scores, correct, subset):
  top = max(scores[i] for i in subset)
  winners = [i for i in subset if scores[i] == top]
  return Fraction(sum(correct[i] for i in winners), len(winners))


@hypothesis.given(st.integers(1, 8), st.data())
@SETTINGS
def test_pass_at_k_is_the_mean_over_subsets(n, data):
  c = data.draw(st.integers(0, n))
  k = data.draw(st.integers(1, n))
  want = mean_over_subsets(n, k, lambda s: Fraction(min(s) < c))
  assert math.isclose(
    estimators.pass_at_k(n, c, k), want, rel_tol=1e-12, abs_tol=1e-15
  )


@hypothesis.given(st.integers(1, 60), st.data())
@SETTINGS
def test_pass_at_k_rises_from_the_rate_to_certainty(n, data):
  c = data.draw(st.integers(0, n))
  curve = [estimators.pass_at_k(n, c, k) for k in range(1, n + 1)]
  assert math.isclose(curve[0], c / n, abs_tol=1e-15)
  assert curve[-1] == (c > 0)
  assert (np.diff(curve) >= -1e-15).all()


@pytest.mark.parametrize("n, c, k", [(16384, 3, 8192), (16384, 900, 20)])
def test_pass_at_k_of_large_pools(n, c, k):
  want = 1 - Fraction(math.comb(n - c, k), math.comb(n, k))
  assert math.isclose(estimators.pass_at_k(n, c, k), want, rel_tol=1e-12)


def test_pass_at_k_keeps_digits_near_zero():
  assert math.isclose(estimators.pass_at_k(10**9, 1, 3), 3e-9, rel_tol=1e-12)


@pytest.mark.parametrize(
  "arguments, message",
  [
    ((0, 0, 1), "empty"),
    ((4, 2, 5), r"k must lie in \[1, 4\]"),
    ((4, 2, 0), "k must"),
    ((4, 5, 1), "c must"),
  ],
)
def test_pass_at_k_refuses(arguments, message):
  with pytest.raises(ValueError, match=message):
    estimators.pass_at_k(*arguments)


@hypothesis.given(
  st.lists(st.tuples(st.integers(0, 3), st.booleans()), min_size=1, max_size=8),
  st.data(),
)
@SETTINGS
def test_best_of_n_is_the_mean_over_subsets_with_ties(samples, data):
  scores, correct = zip(*samples, strict=True)
  k = data.draw(st.integers(1, len(samples)))
  want = mean_over_subsets(len(samples), k, lambda s: best(scores, correct, s))
  got = estimators.best_of_n_at_k(scores, correct, k)
  assert math.isclose(got, want, rel_tol=1e-12, abs_tol=1e-15)


def test_best_of_n_between_its_limits():
  rng = np.random.default_rng(0)
  correct = rng.random(200) < 0.3
  c = int(correct.sum())
  for k in (1, 2, 17, 199, 200):
    oracle = estimators.best_of_n_at_k(correct.astype(float), correct, k)
    assert math.isclose(oracle, estimators.pass_at_k(200, c, k))
    blind = estimators.best_of_n_at_k(np.zeros(200), correct, k)
    assert math.isclose(blind, c / 200)
  any_score = estimators.best_of_n_at_k(rng.random(200), correct, 1)
  assert math.isclose(any_score, c / 200)


def test_best_of_n_takes_minus_infinity_as_the_worst_score():
  assert estimators.best_of_n_at_k([-np.inf, 0.1], [True, False], 2) == 0


@pytest.mark.parametrize(
  "scores, correct, k, message",
  [
    ([0.1, 0.2], [True], 1, "shapes"),
    ([0.1, np.nan], [True, False], 1, "NaN"),
    ([0.1, 0.2], [True, False], 3, "k must"),
    ([0.1, 0.2], [2.0, 0.0], 1, "correct must"),
    ([], [], 1, "empty"),
  ],
)
def test_best_of_n_refuses(scores, correct, k, message):
  with pytest.raises(ValueError, match=message):
    estimators.best_of_n_at_k(scores, correct, k)


@hypothesis.given(
  st.lists(st.integers(-1, 3), min_size=1, max_size=9),
  st.lists(st.booleans(), min_size=4, max_size=4),
  st.data(),
)
@SETTINGS
def test_majority_is_the_mean_over_subsets(answers, right, data):
  k = data.draw(st.integers(1, len(answers)))
  correct = [a >= 0 and right[a] for a in answers]
  pool = estimators.class_counts(answers, correct)
  got = estimators.maj_at_k(pool.counts, pool.correct, k, pool.abstained)
  want = mean_over_subsets(len(answers), k, lambda s: vote(answers, right, s))
  assert math.isclose(got, want, rel_tol=1e-12, abs_tol=1e-15)


@pytest.mark.parametrize(
  "counts, k, want",
  [([3, 2, 2, 1], 4, Fraction(1, 2)), ([4, 3, 3], 5, Fraction(10, 21))],
)
def test_majority_known_values(counts, k, want):
  correct = [i == 0 for i in range(len(counts))]
  assert math.isclose(estimators.maj_at_k(counts, correct, k), want)


def exact_majority(counts, star, k):
  """The same probability from integer polynomials in x (draws), z (ties)."""
  total = Fraction(0)
  for m in range(1, min(counts[star], k) + 1):
    table = {(0, 0): 1}  # (draws, ties) -> ways
    for a, size in enumerate(counts):
      if a == star:
        continue
      grown = {}
      for (t, u), ways in table.items():
        for s in range(min(m, size) + 1):
          key = (t + s, u + (s == m))
          if key[0] <= k - m:
            grown[key] = grown.get(key, 0) + ways * math.comb(size, s)
      table = grown
    ways = sum(Fraction(w, u + 1) for (t, u), w in table.items() if t == k - m)
    total += math.comb(counts[star], m) * ways
  return total / math.comb(sum(counts), k)


@pytest.mark.parametrize("k", [1, 2, 5, 16, 40, 64])
def test_majority_of_larger_pools(k):
  counts = [20, 14, 9, 9, 5, 3, 1, 1, 1, 1]
  for star in (0, 1, 6):
    correct = np.arange(len(counts)) == star
    got = estimators.maj_at_k(counts, correct, k)
    want = exact_majority(counts, star, k)
    assert math.isclose(got, want, rel_tol=1e-10, abs_tol=1e-300)


@hypothesis.given(st.lists(st.integers(0, 20), min_size=1, max_size=8))
@SETTINGS
def test_majority_chances_of_all_classes_add_up(counts):
  n = sum(counts)
  hypothesis.assume(n > 0)
  everything = np.ones(len(counts), bool)
  for k in {1, (n + 1) // 2, n}:
    assert math.isclose(estimators.maj_at_k(counts, everything, k), 1)
  first = [i == 0 for i in range(len(counts))]
  for k in {1, min(2, n)}:  # two votes are a tie or a pair
    got = estimators.maj_at_k(counts, first, k)
    assert math.isclose(got, counts[0] / n, abs_tol=1e-12)


def test_majority_follows_condorcet():
  odd = range(1, 60, 2)
  for counts, sign in (([40, 20], 1), ([20, 40], -1)):
    curve = [estimators.maj_at_k(counts, [True, False], k) for k in odd]
    assert sign * (curve[-1] - curve[0]) > 0.3
    assert (sign * np.diff(curve) >= -1e-12).all()


def test_class_counts_of_a_pool():
  pool = estimators.class_counts([7, -1, 2, 7, -1], [1, 0, 0, 1, 0])
  np.testing.assert_array_equal(pool.counts, [1, 2])
  np.testing.assert_array_equal(pool.correct, [False, True])
  assert pool.abstained == 2


def test_a_pool_without_answers_is_wrong():
  pool = estimators.class_counts([-1, -1], [False, False])
  assert estimators.maj_at_k(*pool[:2], 1, pool.abstained) == 0


@pytest.mark.parametrize(
  "answers, correct, message",
  [
    ([1, 2], [True], "shapes"),
    ([1.0, 2.0], [True, False], "integers"),
    ([4, 4], [True, False], "class 4 is right in one sample"),
  ],
)
def test_class_counts_refuses(answers, correct, message):
  with pytest.raises(ValueError, match=message):
    estimators.class_counts(answers, correct)


@pytest.mark.parametrize(
  "counts, correct, k, abstained, message",
  [
    ([1, 2], [True], 1, 0, "shapes"),
    ([1.5], [True], 1, 0, "integers"),
    ([-1, 3], [True, False], 1, 0, "negative"),
    ([1, 2], [True, False], 4, 0, "k must"),
    ([1, 2], [True, False], 1, -1, "negative"),
    ([0], [True], 1, 0, "empty"),
  ],
)
def test_majority_refuses(counts, correct, k, abstained, message):
  with pytest.raises(ValueError, match=message):
    estimators.maj_at_k(counts, correct, k, abstained)
