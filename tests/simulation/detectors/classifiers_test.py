# SPDX-License-Identifier: Apache-2.0
"""Classifiers' shares are those of the distributions they stand for."""

import jax
import numpy as np
import pytest
from scipy import stats

from jaxttc.simulation.detectors import classifiers


def _roc(made, thresholds):
  survival = jax.jit(jax.vmap(made.survival))
  return np.asarray(survival(np.asarray(thresholds)))


@pytest.mark.parametrize(("skill", "variance"), [(0.0, 1.0), (1.5, 4.0)])
def test_area_under_the_gaussian_roc(skill, variance):
  with jax.enable_x64(True):
    kept = _roc(
      classifiers.Gaussian(skill, variance), np.linspace(-12, 14, 4001)
    )
  area = -np.trapezoid(kept[:, 1], kept[:, 0])
  expected = stats.norm.cdf(skill / np.sqrt(1 + variance))
  assert area == pytest.approx(expected, abs=1e-5)


def test_boost_adds_to_gaussian_skill():
  thresholds = np.linspace(-2, 5, 9)
  np.testing.assert_allclose(
    _roc(classifiers.Gaussian(1.0, 2.0, skill_boost=0.5), thresholds),
    _roc(classifiers.Gaussian(1.5, 2.0), thresholds),
    rtol=1e-6,
  )


def test_empirical_shares_are_linear_between_knots():
  made = classifiers.empirical(
    [0, 1, 2], [0, 0.8, 1], [0, 0.2, 1], skill_boost=0.5
  )
  np.testing.assert_allclose(made.survival(0.5), [1 - 0.4, 1.0], rtol=1e-6)
  np.testing.assert_allclose(made.survival(1.0), [0.2, 0.9], rtol=1e-6)
  low, high = made.ends()
  np.testing.assert_array_equal(made.survival(low), [1, 1])
  np.testing.assert_allclose(made.survival(high), [0, 0], atol=1e-7)


def test_roc_is_gone_through_point_by_point():
  rates, hits = [0, 0, 0.1, 0.1, 1], [0, 0.3, 0.6, 0.8, 1]
  made = classifiers.from_roc(rates, hits)
  kept = _roc(made, np.asarray(made.scores))
  points = list(zip(rates, hits, strict=True))[::-1]
  np.testing.assert_allclose(kept, points, atol=1e-6)


def test_measured_shares_are_those_of_counting():
  rng = np.random.default_rng(0)
  labels = rng.random(3000) < 0.1
  scores = rng.normal(size=3000) + 1.5 * labels
  made = classifiers.measured(scores, labels)
  for cut in (-1.0, 0.3, 2.0):
    counted = [(scores[c] > cut).mean() for c in (~labels, labels)]
    np.testing.assert_allclose(
      made.survival(cut), counted, atol=1 / labels.sum()
    )


def test_few_knots_keep_the_rare_class():
  rng = np.random.default_rng(1)
  labels = np.arange(20_000) < 40
  scores = rng.normal(size=20_000) + 3 * labels
  made = classifiers.measured(scores, labels, knots=256)
  assert len(made.scores) == 257
  for cut in np.quantile(scores[labels], (0.1, 0.5, 0.9)):
    counted = [(scores[c] > cut).mean() for c in (~labels, labels)]
    np.testing.assert_allclose(made.survival(cut), counted, atol=0.03)


def test_tied_scores_are_kept_in_part():
  made = classifiers.measured([0, 0, 1, 1], [False, False, True, True])
  np.testing.assert_allclose(made.survival(0.0), [0, 1])
  np.testing.assert_allclose(made.survival(-0.5), [0.5, 1])


@pytest.mark.parametrize(
  ("columns", "message"),
  [
    (([0, 1], [0, 1], [0, 0.5, 1]), "expected 2 shares"),
    (([0, 2, 1], [0, 0.5, 1], [0, 0.5, 1]), "scores, row 2: 1 follows 2"),
    (([0, 1, 2], [0, 0.6, 0.5], [0, 1, 1]), "irrelevant, row 2: 0.5 follows"),
    (([0, 1], [0, 0.9], [0, 1]), "runs from 0 to 1"),
    (([0, np.nan], [0, 1], [0, 1]), "scores, row 1: nan"),
    (([0], [0], [1]), "at least two"),
  ],
)
def test_distributions_that_are_none(columns, message):
  with pytest.raises(ValueError, match=message):
    classifiers.empirical(*columns)


@pytest.mark.parametrize(
  ("rates", "hits", "message"),
  [
    ([0, 0.5, 0.4, 1], [0, 0.6, 0.7, 1], "not monotone: false.*row 2"),
    ([0, 0.5, 1], [0, 0.9, 0.8], "not monotone: true.*row 2"),
    ([0.1, 1], [0, 1], "must run from 0 to 1"),
    ([0, 1], [0, 0.5, 1], "2 false positives, but 3"),
  ],
)
def test_curves_that_are_no_roc(rates, hits, message):
  with pytest.raises(ValueError, match=message):
    classifiers.from_roc(rates, hits)


@pytest.mark.parametrize(
  ("scores", "labels", "message"),
  [
    ([0, 1], [False, False], "no relevant event"),
    ([0, 1], [True, True], "no irrelevant event"),
    ([1, 1], [True, False], "nothing to tell"),
    ([0, 1], [True], "one label a score"),
    ([0, np.inf], [True, False], "row 1: inf"),
  ],
)
def test_scores_that_measure_nothing(scores, labels, message):
  with pytest.raises(ValueError, match=message):
    classifiers.measured(scores, labels)


def test_too_few_knots():
  with pytest.raises(ValueError, match="at least 4"):
    classifiers.measured([0, 1], [True, False], knots=2)
