# SPDX-License-Identifier: Apache-2.0
import hypothesis
from hypothesis import strategies as st
import numpy as np
import pytest
import scipy.stats

from jaxttc.evaluation import statistics as statistics_lib


@pytest.mark.parametrize("level", [0.8, 0.95, 0.99])
@pytest.mark.parametrize("n", [1, 7, 500])
def test_wilson_agrees_with_scipy(n, level):
  for successes in {0, n // 3, n}:
    ours = statistics_lib.wilson_interval(successes, n, level)
    theirs = scipy.stats.binomtest(successes, n).proportion_ci(level, "wilson")
    assert ours.value == successes / n
    np.testing.assert_allclose(ours[1:], theirs, atol=1e-12)


def test_wilson_contains_the_truth_about_as_often_as_it_says():
  rng = np.random.default_rng(0)
  n, trials = 60, 4000
  truth = rng.uniform(0.02, 0.98, trials)
  successes = rng.binomial(n, truth)
  intervals = [statistics_lib.wilson_interval(int(s), n) for s in successes]
  low, high = np.array(intervals)[:, 1:].T
  covered = ((low <= truth) & (truth <= high)).mean()
  assert abs(covered - 0.95) < 0.012  # 3.5 standard errors


@hypothesis.given(st.integers(1, 50), st.data())
@hypothesis.settings(deadline=None, max_examples=50)
def test_wilson_holds_the_proportion_and_stays_in_range(n, data):
  successes = data.draw(st.integers(0, n))
  value, low, high = statistics_lib.wilson_interval(successes, n)
  assert 0 <= low <= value <= high <= 1
  assert low < high


@pytest.mark.parametrize(
  "arguments, message",
  [((1, 0), "n must"), ((3, 2), r"\[0, 2\]"), ((1, 2, 1.0), "level")],
)
def test_wilson_refuses(arguments, message):
  with pytest.raises(ValueError, match=message):
    statistics_lib.wilson_interval(*arguments)


def test_percentile_interval_of_known_draws():
  draws = np.arange(1, 101)
  result = statistics_lib.percentile_interval(50.0, draws, 0.9)
  assert result == (50.0, 5.0, 95.0)


def test_percentile_interval_counts_infinite_and_drops_undefined_draws():
  draws = [1.0] * 50 + [np.inf] * 50 + [np.nan] * 900
  result = statistics_lib.percentile_interval(1.0, draws, 0.9)
  assert result == (1.0, 1.0, np.inf)
  with pytest.raises(ValueError, match="no draw"):
    statistics_lib.percentile_interval(1.0, [np.nan], 0.9)


def test_resample_counts_are_multinomial():
  rng = np.random.default_rng(1)
  counts = statistics_lib.resample_counts(5, 20_000, rng)
  assert (counts.sum(axis=1) == 5).all()
  np.testing.assert_allclose(counts.mean(axis=0), 1, atol=0.03)
  np.testing.assert_allclose(counts.var(axis=0), 0.8, atol=0.04)
  with pytest.raises(ValueError, match="at least 1"):
    statistics_lib.resample_counts(0, 3, rng)


def test_crossed_means_are_means_of_the_drawn_cells():
  rng = np.random.default_rng(2)
  values = rng.normal(size=(3, 7))
  seeds = rng.integers(0, 3, (11, 3))
  problems = rng.integers(0, 7, (11, 7))

  def count(picks, n):
    return np.stack([np.bincount(p, minlength=n) for p in picks])

  got = statistics_lib.crossed_means(
    values, count(seeds, 3), count(problems, 7)
  )
  want = [
    values[np.ix_(s, p)].mean() for s, p in zip(seeds, problems, strict=True)
  ]
  np.testing.assert_allclose(got, want)


def test_bootstrap_moves_the_seeds_of_a_problem_together():
  # Seeds that only repeat their problem's value are no further evidence.
  rng = np.random.default_rng(3)
  once = rng.normal(size=(80, 1))
  often = np.repeat(once, 50, axis=1)

  def run(values):
    return statistics_lib.bootstrap(values, rng=np.random.default_rng(4))

  np.testing.assert_allclose(run(once), run(often), atol=1e-12)


def test_bootstrap_has_the_width_of_the_standard_error():
  values = np.random.default_rng(5).normal(size=400)
  result = statistics_lib.bootstrap(
    values, resamples=4000, rng=np.random.default_rng(6)
  )
  want = 2 * 1.96 * values.std() / 20
  assert abs((result.high - result.low) / want - 1) < 0.06


def test_bootstrap_takes_any_statistic():
  values = np.random.default_rng(7).exponential(size=(101, 2))

  def median(rows):
    return float(np.median(rows[:, 0]))

  result = statistics_lib.bootstrap(
    values, median, resamples=300, rng=np.random.default_rng(8)
  )
  assert result.value == np.median(values[:, 0])
  assert result.low < result.value < result.high


@pytest.mark.parametrize("values", [[], np.array(1.0), [1.0, np.nan]])
def test_bootstrap_refuses(values):
  with pytest.raises(ValueError, match="bootstrap"):
    statistics_lib.bootstrap(values, rng=np.random.default_rng(0))


def test_pairing_cancels_what_problems_share():
  rng = np.random.default_rng(9)
  hardness = rng.normal(scale=10, size=(200, 1))
  a = hardness + rng.normal(1.0, 0.1, (200, 3))
  b = hardness + rng.normal(0.0, 0.1, (200, 2))
  result = statistics_lib.paired_difference(a, b, rng=rng)
  assert 0.95 < result.low < result.value < result.high < 1.05


def test_ratio_of_means_of_a_multiple_is_exact():
  cost = np.random.default_rng(10).uniform(1, 9, (50, 3))
  result = statistics_lib.ratio_of_means(
    3 * cost, cost, rng=np.random.default_rng(0)
  )
  np.testing.assert_allclose(result, 3)


def test_ratio_of_means_contains_the_truth():
  rng = np.random.default_rng(11)
  inside = 0
  for _ in range(100):
    a, b = rng.exponential(2, 60), rng.exponential(1, 60)
    result = statistics_lib.ratio_of_means(a, b, resamples=400, rng=rng)
    inside += result.low <= 2 <= result.high
  assert 86 <= inside <= 100


def test_ratio_with_free_denominator_is_infinite():
  rng = np.random.default_rng(0)
  result = statistics_lib.ratio_of_means([1.0, 2.0], [0.0, 0.0], rng=rng)
  assert result == (np.inf, np.inf, np.inf)


def test_comparisons_refuse():
  rng = np.random.default_rng(0)
  with pytest.raises(ValueError, match="same problems"):
    statistics_lib.paired_difference([1.0], [1.0, 2.0], rng=rng)
  with pytest.raises(ValueError, match="negative"):
    statistics_lib.ratio_of_means([-1.0], [1.0], rng=rng)
  with pytest.raises(ValueError, match="0 / 0"):
    statistics_lib.ratio_of_means([0.0], [0.0], rng=rng)
