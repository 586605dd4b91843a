# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest

from jaxttc.predictors import success_curves


def test_a_curve_is_found_again_from_answers_drawn_by_it():
  rng = np.random.default_rng(0)
  true = success_curves.SuccessCurve(0.1, 0.9, 5.0, 4.0, 2.0)
  difficulty = rng.uniform(4, 30, 8000)
  budget = rng.choice([4, 8, 16, 32], 8000)
  right = rng.random(8000) < true(difficulty, budget)
  found = success_curves.fit(difficulty, budget, right)
  grid = np.linspace(5, 28, 12)[:, None]
  sizes = np.array([[4, 8, 16, 32]])
  np.testing.assert_allclose(found(grid, sizes), true(grid, sizes), atol=0.05)


def test_more_budget_never_hurts_and_more_difficulty_never_helps():
  curve = success_curves.SuccessCurve(0.1, 0.9, 5.0, 4.0, 2.0)
  grid = np.arange(1.0, 40.0)
  assert (np.diff(curve(9.0, grid)) >= 0).all()
  assert (np.diff(curve(grid, 9)) <= 0).all()
  z = 5 * np.log(8) - 4 * np.log(10) - 2
  assert curve(10.0, 8) == pytest.approx(0.1 + 0.8 / (1 + np.exp(-z)))


def test_what_cannot_be():
  ones, yes = np.ones(4), np.ones(4, bool)
  with pytest.raises(ValueError, match="and two budgets"):
    success_curves.fit(ones, ones, yes)
  with pytest.raises(ValueError, match="as many of each"):
    success_curves.fit(ones[:3], ones, yes)
  with pytest.raises(ValueError, match="must be positive"):
    success_curves.fit(ones, np.arange(4), yes)
