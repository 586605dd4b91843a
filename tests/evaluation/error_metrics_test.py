# SPDX-License-Identifier: Apache-2.0
"""Tests of errors of numbers and directions against loops and hand cases."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxttc.evaluation import dense_metrics, error_metrics
from jaxttc.tasks.multitask import base

updated = jax.jit(dense_metrics.update, static_argnums=0)


def summary(kind, prediction, value, valid):
  task = base.Task("it", kind, prediction.shape[-1])
  state = updated(
    task,
    dense_metrics.zeros(task),
    jnp.asarray(prediction, jnp.float32),
    base.Label(np.asarray(value, np.float32), valid),
  )
  return dense_metrics.summary(task, state)


def test_regression_of_a_hand_case():
  found = summary(
    "regression",
    np.array([[1.0, 2], [3, 4], [9, 9]]),
    np.zeros((3, 2)),
    np.array([True, True, False]),
  )
  assert found == {"mse": pytest.approx((1 + 4 + 9 + 16) / 4)}


def test_depth_errors_agree_with_loops():
  rng = np.random.default_rng(0)
  guess, truth = rng.uniform(0.5, 9, (2, 2, 4, 5, 1))
  valid = rng.random((2, 4, 5)) < 0.7
  pairs = list(zip(guess[valid][:, 0], truth[valid][:, 0], strict=True))

  def mean(each):
    return sum(each(p, g) for p, g in pairs) / len(pairs)

  assert summary("depth", guess, truth, valid) == pytest.approx(
    {
      "rmse": math.sqrt(mean(lambda p, g: (p - g) ** 2)),
      "log_rmse": math.sqrt(mean(lambda p, g: math.log(p / g) ** 2)),
      "absolute_error": mean(lambda p, g: abs(p - g)),
      "relative_error": mean(lambda p, g: abs(p - g) / g),
    },
    rel=1e-5,
  )


def test_depth_is_pooled_over_pixels_and_not_over_images():
  """One bad pixel in an image with few valid ones weighs as any other."""
  guess = np.zeros((2, 2, 2, 1))
  truth = np.zeros((2, 2, 2, 1))
  truth[0, 0, 0] = 4.0
  valid = np.ones((2, 2, 2), bool)
  valid[0] = [[True, False], [False, False]]
  found = summary("depth", guess, truth, valid)
  assert found["rmse"] == pytest.approx(math.sqrt(16 / 5))
  assert math.isfinite(found["log_rmse"])


def turned(degrees):
  """Unit vectors at angles from the x axis, [1, 1, N, 3]."""
  angle = np.radians(degrees)
  rows = [np.cos(angle), np.sin(angle), np.zeros_like(angle)]
  return np.stack(rows, -1)[None, None]


def test_angles_of_normals_by_hand():
  degrees = np.array([0.0, 5, 11, 12, 25, 29, 40, 90, 170])
  guess = 3.0 * turned(degrees)  # of any length
  truth = turned(np.zeros(9))
  found = summary("normals", guess, truth, np.ones((1, 1, 9), bool))
  assert found["mean_angle"] == pytest.approx(degrees.mean(), rel=1e-5)
  assert found["median_angle"] == pytest.approx(25, abs=0.05)
  shares = [found[f"within_{d}"] for d in ("11.25", "22.5", "30")]
  assert shares == pytest.approx([3 / 9, 4 / 9, 6 / 9])


def test_angles_agree_with_the_arc_cosine():
  rng = np.random.default_rng(1)
  a, b = rng.normal(size=(2, 500, 3))
  cosine = (a * b).sum(-1) / np.linalg.norm(a, axis=1)
  cosine /= np.linalg.norm(b, axis=1)
  found = error_metrics.angles_between(
    jnp.asarray(a, jnp.float32), jnp.asarray(b, jnp.float32)
  )
  np.testing.assert_allclose(found, np.degrees(np.arccos(cosine)), rtol=1e-4)


def test_small_angles_keep_their_digits_and_zero_is_at_a_right_angle():
  one = jnp.asarray(turned(np.zeros(1)), jnp.float32)
  small = jnp.asarray(turned(np.array([0.003])), jnp.float32)
  found = error_metrics.angles_between(one, small)
  np.testing.assert_allclose(found, 0.003, rtol=1e-4)
  assert error_metrics.angles_between(one, 0 * one) == 90
  assert error_metrics.angles_between(one, -one) == 180


def test_the_median_of_many_angles_is_that_of_numpy():
  degrees = np.random.default_rng(2).gamma(2.0, 9.0, 999)
  found = summary(
    "normals",
    turned(degrees),
    turned(np.zeros(999)),
    np.ones((1, 1, 999), bool),
  )
  assert found["median_angle"] == pytest.approx(np.median(degrees), abs=0.05)
