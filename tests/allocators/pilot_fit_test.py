# SPDX-License-Identifier: Apache-2.0
"""Parameters of the budget model, from pilot runs of known ones."""

import numpy as np
import pytest
import scipy.optimize

from jaxttc.allocators import pilot_fit

_TOKENS = np.array([1.0, 2, 4, 8, 16, 32])


def _law(c, beta, aleatoric):
  return aleatoric + c * _TOKENS**-beta


@pytest.mark.parametrize(
  ("c", "beta", "aleatoric"),
  [(0.7, 0.9, 0.05), (0.4, 2.5, 0.0), (0.6, 0.3, 0.1)],
)
def test_exact_curves_give_their_parameters(c, beta, aleatoric):
  errors = np.repeat(_law(c, beta, aleatoric)[:, None], 3, axis=1)
  fit = pilot_fit.fit(_TOKENS, errors, resamples=3)
  assert fit.c.value == pytest.approx(c, rel=1e-3)
  assert fit.beta.value == pytest.approx(beta, rel=1e-3)
  assert fit.aleatoric.value == pytest.approx(aleatoric, abs=1e-3)
  assert fit.residual < 1e-5
  np.testing.assert_allclose(
    fit.predict(_TOKENS), _law(c, beta, aleatoric), atol=1e-4
  )


def test_is_no_worse_than_a_general_least_squares():
  mean = np.random.default_rng(1).random(6) * 0.2 + _law(0.5, 1.0, 0.1)
  fit = pilot_fit.fit(_TOKENS, mean[:, None], resamples=1)

  def off(x):
    return x[2] + x[0] * _TOKENS ** -x[1] - mean

  best = min(
    scipy.optimize.least_squares(
      off, (0.5, beta, 0.05), bounds=([0, 0.05, 0], [np.inf, 5, mean.min()])
    ).cost
    for beta in (0.1, 0.5, 1.0, 3.0)
  )
  found = off((fit.c.value, fit.beta.value, fit.aleatoric.value))
  assert (found**2).sum() / 2 <= best * (1 + 1e-6)


def test_intervals_cover_the_truth_as_often_as_they_say():
  rng = np.random.default_rng(2)
  covered = 0
  for seed in range(8):
    wrong = rng.random((6, 300)) < _law(0.6, 1.0, 0.1)[:, None]
    fit = pilot_fit.fit(_TOKENS, wrong.astype(float), resamples=40, seed=seed)
    covered += fit.c.low <= 0.6 <= fit.c.high
    assert fit.beta.low <= fit.beta.value <= fit.beta.high
    assert fit.draws.shape == (40, 3)
  assert covered >= 6


def test_flat_errors_have_no_doubt_to_dispel():
  fit = pilot_fit.fit(_TOKENS, np.full((6, 4), 0.25), resamples=2)
  assert fit.predict(_TOKENS) == pytest.approx(0.25)


@pytest.mark.parametrize(
  ("tokens", "errors", "message"),
  [
    ([1, 2], np.zeros((2, 1)), "at least 3 budgets"),
    ([1, 2, 0], np.zeros((3, 1)), "budget 2 is 0"),
    ([1, 2, 2], np.zeros((3, 1)), "comes twice"),
    ([1, 2, 3], np.zeros(3), "a column a question"),
    ([1, 2, 3], np.full((3, 2), 1.5), "question 0 at budget 1 is 1.5"),
  ],
)
def test_pilots_that_cannot_be_fitted_are_refused(tokens, errors, message):
  with pytest.raises(ValueError, match=message):
    pilot_fit.fit(np.array(tokens), errors)


def test_settings_that_cannot_be_are_refused():
  with pytest.raises(ValueError, match="resamples and level"):
    pilot_fit.fit(_TOKENS, np.zeros((6, 1)), resamples=0)
