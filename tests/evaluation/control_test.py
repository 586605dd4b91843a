# SPDX-License-Identifier: Apache-2.0
"""Tests of control metrics against hand cases, SciPy and loops."""

import itertools
import math

import hypothesis
from hypothesis import strategies as st
from hypothesis.extra import numpy as st_numpy
import numpy as np
import pytest
import scipy.stats

from jaxttc.evaluation import control


@pytest.mark.parametrize("tasks", [1, 2, 3, 5])
@pytest.mark.parametrize("parts", [1, 2, 6])
def test_rays_are_the_grid_of_the_simplex(tasks, parts):
  found = control.rays(tasks, 1 / parts)
  grid = itertools.product(range(parts + 1), repeat=tasks)
  want = {row for row in grid if sum(row) == parts}
  rows = [tuple(np.round(row * parts).astype(int).tolist()) for row in found]
  assert len(rows) == len(set(rows)) == math.comb(parts + tasks - 1, tasks - 1)
  assert set(rows) == want
  assert rows == sorted(rows, reverse=True)
  np.testing.assert_allclose(found.sum(axis=1), 1)


def test_the_sheets_grid_has_28_rays():
  assert control.rays(3, 1 / 6).shape == (28, 3)


@hypothesis.settings(max_examples=50)
@hypothesis.given(
  st_numpy.arrays(np.int64, (2, 9, 2), elements=st.integers(0, 4))
)
def test_rank_control_agrees_with_scipy_where_it_is_defined(drawn):
  weights, scores = drawn
  found = control.rank_control(weights, scores)
  for t in range(2):
    if np.ptp(weights[:, t]) and np.ptp(scores[:, t]):
      want = scipy.stats.spearmanr(weights[:, t], scores[:, t]).statistic
      assert found[t] == pytest.approx(want, abs=1e-12)
    else:
      assert found[t] == 0


def test_rank_control_of_hand_cases():
  weights = [[0.1, 0.9], [0.5, 0.5], [0.9, 0.1]]
  assert control.rank_control(
    weights, [[1, 1], [2, 5], [9, 7]]
  ).tolist() == pytest.approx([1, -1])
  # Two of three scores tie: ranks 1, 2.5, 2.5, correlation sqrt(3) / 2.
  tied = control.rank_control([[1.0], [2.0], [3.0]], [[0.0], [1.0], [1.0]])
  assert tied[0] == pytest.approx(math.sqrt(3) / 2)


def test_score_range_is_over_preferences():
  assert control.score_range([[1, 5], [3, 5], [2, 1]]).tolist() == [2, 4]


def test_marginal_curves_average_over_the_other_tasks():
  weights = control.rays(3, 0.1)
  scores = np.stack([weights[:, 0], weights[:, 1] ** 2, weights[:, 0]], axis=1)
  first, second, third = control.marginal_curves(weights, scores, bins=10)
  # The last bin holds the weights 0.9 and 1, of two and one rays.
  np.testing.assert_array_equal(first.count, [11, 10, 9, 8, 7, 6, 5, 4, 3, 3])
  np.testing.assert_allclose(first.weight[:9], np.arange(9) / 10, atol=1e-12)
  np.testing.assert_allclose(first.score, first.weight)
  np.testing.assert_allclose(second.score[:9], (np.arange(9) / 10) ** 2)
  # Of what the third task leaves, the first has half on average.
  np.testing.assert_allclose(third.score, (1 - third.weight) / 2)


def test_marginal_curves_leave_empty_bins_out():
  (curve,) = control.marginal_curves([[0.0], [0.1], [1.0]], [[1], [3], [5]], 4)
  np.testing.assert_allclose(curve.weight, [0.05, 1])
  np.testing.assert_allclose(curve.score, [2, 5])
  np.testing.assert_array_equal(curve.count, [2, 1])


@pytest.mark.parametrize("weight", [0.1, 0.2, 0.3, 0.6, 0.7, 1 - 0.9, 1 - 0.4])
def test_a_weight_at_an_edge_opens_its_bin(weight):
  """0.3 * 10 is not 3 in floating point."""
  inside = round(weight * 10) / 10 + 0.05
  (curve,) = control.marginal_curves([[weight], [inside]], [[0], [1]], 10)
  assert curve.count.tolist() == [2]


def test_non_uniformity_is_zero_iff_products_are_equal():
  losses = np.array([1.0, 2.0, 4.0])
  assert control.non_uniformity(losses, 1 / losses) < 1e-15
  assert control.non_uniformity(losses, [1, 1, 1]) > 0.01
  alone = control.non_uniformity([1.0, 1.0, 1.0], [0.0, 1.0, 0.0])
  assert alone == pytest.approx(math.log(3))


@hypothesis.given(
  st.lists(
    st.tuples(st.floats(0.01, 9), st.floats(0.01, 9)), min_size=1, max_size=5
  )
)
def test_non_uniformity_is_a_divergence(pairs):
  losses, weights = np.array(pairs).T
  found = control.non_uniformity(losses, weights)
  q = losses * weights / (losses * weights).sum()
  want = sum(x * math.log(len(q) * x) for x in q)
  assert found == pytest.approx(max(want, 0.0), abs=1e-12)
  assert 0 <= found <= math.log(len(q)) + 1e-12
  stacked = control.non_uniformity(np.stack([losses, losses]), weights)
  np.testing.assert_allclose(stacked, [found, found])


def test_budget_error_and_gain():
  np.testing.assert_allclose(
    control.budget_error([90, 110, 100], 100), [0.1, 0.1, 0]
  )
  assert control.relative_gain(1.2, 0.9) == pytest.approx(1 / 3)


def test_similarities_are_cosines():
  found = control.similarity([[2.0, 0], [0, 3], [1, 1], [0, 0]])
  half = math.sqrt(0.5)
  want = [[1, 0, half, 0], [0, 1, half, 0], [half, half, 1, 0], [0, 0, 0, 0]]
  np.testing.assert_allclose(found, want, atol=1e-12)


def test_configuration_variance_agrees_with_loops():
  rng = np.random.default_rng(0)
  teacher = rng.normal(size=(6, 8))
  features = [teacher[:, :n] + 0.1 * rng.normal(size=(6, n)) for n in (2, 4, 8)]

  def cosine(a, b):
    return a @ b / math.sqrt((a @ a) * (b @ b))

  spread, between = [], []
  for i, j in itertools.product(range(6), repeat=2):
    spread.append(np.var([cosine(rows[i], rows[j]) for rows in features]))
    between.append(cosine(teacher[i], teacher[j]))
  found = control.configuration_variance(features, teacher)
  assert found == pytest.approx(np.mean(spread) / np.var(between), rel=1e-9)


def test_configurations_that_agree_do_not_vary():
  rng = np.random.default_rng(1)
  teacher = rng.normal(size=(5, 3))
  turn, _ = np.linalg.qr(rng.normal(size=(3, 3)))
  alike = [
    teacher,
    7 * teacher,
    teacher @ turn,
    np.pad(teacher, ((0, 0), (0, 2))),
  ]
  assert control.configuration_variance(alike, teacher) < 1e-12
  other = [*alike, rng.normal(size=(5, 3))]
  assert control.configuration_variance(other, teacher) > 0.05


@pytest.mark.parametrize(
  ("call", "said"),
  [
    (lambda: control.rays(0, 0.5), "tasks must be at least 1, got 0"),
    (lambda: control.rays(3, 0.3), "step must be 1 / n for a whole n, got 0.3"),
    (lambda: control.rays(3, 0.0), "got 0.0"),
    (lambda: control.rank_control([[1.0]], [[1.0]]), "at least 2 preferences"),
    (lambda: control.rank_control([[1.0, 2]], [[1.0]]), r"got \(1, 1\) and"),
    (lambda: control.score_range([1.0]), r"expected values\[N, K\], got"),
    (lambda: control.score_range([[np.nan]]), "values must be finite"),
    (lambda: control.marginal_curves([[2.0]], [[1.0]]), r"lie in \[0, 1\]"),
    (lambda: control.marginal_curves([[1.0]], [[1.0]], 0), "bins must be at"),
    (lambda: control.non_uniformity([0.0], [1.0]), "every weighted loss is 0"),
    (lambda: control.non_uniformity([-1.0], [1.0]), "must be >= 0"),
    (lambda: control.non_uniformity([1.0, 2], [1.0]), r"preference\[K\]"),
    (lambda: control.budget_error(1, 0), "budgets must be positive"),
    (lambda: control.budget_error(np.nan, 1), "must be finite"),
    (lambda: control.relative_gain(1, 0), "prior must be positive, got 0"),
    (
      lambda: control.configuration_variance([], np.eye(2)),
      "no configurations",
    ),
    (
      lambda: control.configuration_variance([np.eye(3)], np.eye(2)),
      r"features\[0\] has shape \(3, 3\), expected \[2, C\]",
    ),
    (
      lambda: control.configuration_variance([np.eye(2)], np.ones((2, 2))),
      "similarities are all equal",
    ),
    (
      lambda: control.configuration_variance(
        [np.eye(2)], np.full((2, 2), np.inf)
      ),
      "teacher is not finite",
    ),
  ],
)
def test_bad_input_is_refused(call, said):
  with pytest.raises(ValueError, match=said):
    call()
