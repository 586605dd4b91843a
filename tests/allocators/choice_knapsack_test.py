# SPDX-License-Identifier: Apache-2.0
"""The multiple-choice knapsack, against enumeration and an integer program."""

import itertools

import hypothesis
from hypothesis import strategies as st
import jax.numpy as jnp
import numpy as np
import scipy.optimize

from jaxttc.allocators import choice_knapsack


def _solve(values, costs, amount):
  choice, best = choice_knapsack.solve(
    jnp.asarray(values), jnp.asarray(costs), jnp.int32(amount), 32
  )
  return np.asarray(choice), float(best)


@hypothesis.given(st.integers(0, 2**32 - 1), st.integers(0, 32))
@hypothesis.settings(max_examples=30)
def test_equals_enumeration(seed, amount):
  rng = np.random.default_rng(seed)
  values = rng.normal(size=(4, 3)).astype(np.float32)
  values[rng.random(values.shape) < 0.2] = -np.inf
  costs = rng.integers(0, 12, (4, 3)).astype(np.int32)
  choice, found = _solve(values, costs, amount)
  rows = np.arange(4)
  best = max(
    (
      values[rows, list(choices)].sum()
      for choices in itertools.product(range(3), repeat=4)
      if costs[rows, list(choices)].sum() <= amount
    ),
    default=-np.inf,
  )
  np.testing.assert_allclose(found, best, atol=1e-5)
  if np.isfinite(best):
    assert costs[rows, choice].sum() <= amount
    np.testing.assert_allclose(values[rows, choice].sum(), best, atol=1e-5)


def test_equals_an_integer_program():
  rng = np.random.default_rng(3)
  items, choices, amount = 12, 5, 30
  values = rng.normal(size=(items, choices)).astype(np.float32)
  costs = rng.integers(0, 8, (items, choices)).astype(np.int32)
  costs[:, 0] = 0
  one_each = np.kron(np.eye(items), np.ones(choices))
  solved = scipy.optimize.milp(
    -values.ravel().astype(np.float64),
    integrality=np.ones(values.size),
    bounds=scipy.optimize.Bounds(0, 1),
    constraints=[
      scipy.optimize.LinearConstraint(one_each, 1, 1),
      scipy.optimize.LinearConstraint(costs.ravel()[None], -np.inf, amount),
    ],
  )
  _, found = _solve(values, costs, amount)
  np.testing.assert_allclose(found, -solved.fun, atol=1e-5)
