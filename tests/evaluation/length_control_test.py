# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest

from jaxttc.evaluation import length_control


def test_control_counts_runs_within_their_bounds():
  lengths = np.array([3, 10, 20, 21])
  assert length_control.control(lengths, 10, 20) == 0.5
  assert length_control.control(lengths, 0, 99) == 1.0
  assert length_control.control(lengths, 4, 9) == 0.0
  with pytest.raises(ValueError, match="bounds 9..4"):
    length_control.control(lengths, 9, 4)
  with pytest.raises(ValueError, match="0 runs"):
    length_control.control(lengths[:0], 4, 9)


def test_scaling_is_the_mean_slope_of_all_pairs():
  # Slopes .3/10, .2/10 and .5/20, in any order of the budgets.
  lengths, accuracy = np.array([10, 20, 30]), np.array([0.2, 0.5, 0.7])
  expected = (0.03 + 0.02 + 0.025) / 3
  for order in ([0, 1, 2], [2, 0, 1]):
    found = length_control.scaling(lengths[order], accuracy[order])
    np.testing.assert_allclose(found, expected)
  straight = length_control.scaling(np.array([1.0, 4.0]), np.array([0.9, 0.3]))
  np.testing.assert_allclose(straight, -0.2)
  with pytest.raises(ValueError, match="two budgets have one length"):
    length_control.scaling(np.array([5, 5]), np.array([0.1, 0.2]))
  with pytest.raises(ValueError, match="1 lengths and 2 accuracies"):
    length_control.scaling(np.array([5]), np.array([0.1, 0.2]))


def test_performance_is_the_best():
  assert length_control.performance(np.array([0.2, 0.7, 0.6])) == 0.7
  with pytest.raises(ValueError, match="expected at least one"):
    length_control.performance(np.array([]))


def test_adherence_by_hand():
  found = length_control.adherence(
    np.array([8, 10, 15]), np.array([10, 10, 10]), np.array([False, True, True])
  )
  np.testing.assert_allclose(found.error, 7 / 3)
  np.testing.assert_allclose(found.deviation, 0.7 / 3)
  np.testing.assert_allclose(found.overshoot, 1 / 3)
  np.testing.assert_allclose(found.forced, 2 / 3)
  with pytest.raises(ValueError, match="a budget of 0"):
    length_control.adherence(np.array([8]), np.array([0]), np.array([False]))
  with pytest.raises(ValueError, match="2 lengths, 1 budgets"):
    length_control.adherence(np.array([8, 9]), np.array([9]), np.array([False]))
