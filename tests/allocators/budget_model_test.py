# SPDX-License-Identifier: Apache-2.0
"""The budget allocation model: closed forms, KKT, gradients, whole tokens."""

import itertools

import hypothesis
from hypothesis import strategies as st
import jax
from jax import test_util
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize

from jaxttc.allocators import budget_model

_C = np.array([1.0, 2.0, 0.5, 3.0, 0.1])
_BETA = np.array([1.0, 2.0, 0.5, 1.5, 3.0])


@pytest.fixture(autouse=True)
def _float64():
  with jax.enable_x64(True):
    yield


def _solve(*given):
  return jax.jit(budget_model.solve)(*map(jnp.asarray, given))


def test_one_beta_has_a_closed_form():
  beta, budget = 1.3, 100.0
  split = _solve(_C, np.full(5, beta), budget)
  weights = _C ** (1 / (beta + 1))
  np.testing.assert_allclose(
    split.tokens, budget * weights / weights.sum(), rtol=1e-10
  )
  constant = weights.sum() ** (beta + 1)
  value = budget_model.value(jnp.asarray(_C), jnp.full(5, beta), budget)
  assert float(value) == pytest.approx(constant / budget**beta, rel=1e-10)
  best = budget_model.best_total(jnp.asarray(_C), jnp.full(5, beta), 0.9)
  closed = (constant * (1 + 2 * beta) / 0.9) ** (1 / beta)
  assert float(best) == pytest.approx(closed, rel=1e-8)


@hypothesis.given(st.integers(0, 2**32 - 1))
@hypothesis.settings(max_examples=15)
def test_marginals_are_equal_between_the_bounds(seed):
  rng = np.random.default_rng(seed)
  c, beta = rng.exponential(size=5) + 0.01, rng.uniform(0.3, 4, 5)
  floor, cap = rng.uniform(0, 4, 5), rng.uniform(5, 60, 5)
  budget = rng.uniform(floor.sum() + 0.5, cap.sum() * 1.1)
  split = _solve(c, beta, budget, floor, cap)
  tokens, price = np.asarray(split.tokens), float(split.multiplier)
  assert tokens.sum() == pytest.approx(min(budget, cap.sum()), rel=1e-9)
  marginal = np.asarray(budget_model.marginal(c, beta, tokens))
  inside = (tokens > floor + 1e-9) & (tokens < cap - 1e-9)
  np.testing.assert_allclose(marginal[inside], price, rtol=1e-7)
  assert (marginal[tokens <= floor + 1e-9] <= price * (1 + 1e-7)).all()
  assert (marginal[tokens >= cap - 1e-9] >= price * (1 - 1e-7)).all()


def test_is_no_worse_than_a_general_solver():
  solved = scipy.optimize.minimize(
    lambda b: (_C / b**_BETA).sum(),
    np.full(5, 20.0),
    bounds=[(1.0, 40.0)] * 5,
    constraints={"type": "eq", "fun": lambda b: b.sum() - 100},
    method="SLSQP",
    options={"ftol": 1e-14, "maxiter": 500},
  )
  value = budget_model.value(
    jnp.asarray(_C), jnp.asarray(_BETA), 100.0, 1.0, 40.0
  )
  assert float(value) == pytest.approx(solved.fun, abs=1e-7)
  # Normalising (c beta)^(1/(beta+1)) is not optimal where betas differ.
  naive = (_C * _BETA) ** (1 / (_BETA + 1))
  naive = 100 * naive / naive.sum()
  assert (_C / naive**_BETA).sum() > float(value) * 1.01


def test_gradients_are_those_of_differences_of_both_orders():
  def value(c, beta, budget):
    return budget_model.value(c, beta, budget, 2.0, 30.0)

  given = (jnp.asarray(_C), jnp.asarray(_BETA), jnp.asarray(100.0))
  value = jax.jit(value)
  test_util.check_grads(value, given, order=2, modes=["rev"], rtol=1e-4)
  # The slope with respect to the budget is the multiplier.
  slope = jax.grad(value, 2)(*given)
  split = budget_model.solve(given[0], given[1], 100.0, 2.0, 30.0)
  assert float(-slope) == pytest.approx(float(split.multiplier), rel=1e-8)


def test_more_budget_takes_from_nobody_and_scale_does_not_matter():
  budgets = jnp.linspace(5.0, 300.0, 12)
  many = jax.vmap(
    lambda b: (
      budget_model.solve(
        jnp.asarray(_C), jnp.asarray(_BETA), b, 0.5, 80.0
      ).tokens
    )
  )(budgets)
  assert (np.diff(many, axis=0) >= -1e-9).all()
  beta = np.full(5, 2.0)
  np.testing.assert_allclose(
    _solve(_C, beta, 50.0).tokens, _solve(9 * _C, beta, 50.0).tokens, rtol=1e-9
  )


def test_tokens_are_unimodal_in_beta_with_a_known_peak():
  beta = np.linspace(0.05, 12, 400)
  price = 0.01
  tokens = (beta / price) ** (1 / (beta + 1))
  peak = int(tokens.argmax())
  assert (np.diff(tokens[: peak + 1]) > 0).all()
  assert (np.diff(tokens[peak:]) < 0).all()
  assert np.log(beta[peak] / price) == pytest.approx(
    1 + 1 / beta[peak], abs=0.05
  )
  # The same at the solver's own multiplier.
  split = _solve(np.ones(400), beta, 400 * tokens.mean())
  assert abs(int(np.argmax(split.tokens)) - peak) <= 1


def test_padding_gets_nothing_and_changes_nothing():
  padded = _solve(np.append(_C, [0, 0]), np.append(_BETA, [1, 1]), 80.0)
  np.testing.assert_allclose(padded.tokens[:5], _solve(_C, _BETA, 80.0).tokens)
  assert padded.tokens[5:].tolist() == [0, 0]
  slope = jax.grad(lambda c: budget_model.solve(c, jnp.ones(3), 9.0).tokens[0])(
    jnp.array([1.0, 2.0, 0.0])
  )
  assert np.isfinite(slope).all()


@pytest.mark.parametrize("budget", [3, 4, 11, 18])
def test_whole_tokens_are_brute_force(budget):
  c, beta = _C[1:4], _BETA[1:4]
  tokens = budget_model.solve_integer(jnp.asarray(c), jnp.asarray(beta), budget)
  every = itertools.product(range(1, budget + 1), repeat=3)
  best = min(
    (c / np.array(b, float) ** beta).sum() for b in every if sum(b) == budget
  )
  found = np.asarray(tokens, float)
  assert found.sum() == budget
  assert (c / found**beta).sum() == pytest.approx(best, rel=1e-12)


def test_whole_tokens_keep_bounds_and_the_total_in_float32():
  with jax.enable_x64(False):
    tokens = budget_model.solve_integer(
      jnp.asarray(_C, jnp.float32),
      jnp.asarray(_BETA, jnp.float32),
      100_003,
      floor=jnp.array([1, 1, 7, 1, 9]),
      cap=60_000,
    )
  tokens = np.asarray(tokens)
  assert tokens.sum() == 100_003 and tokens.max() <= 60_000
  assert tokens[2] >= 7 and tokens[4] >= 9
  smooth = _solve(_C, _BETA, 100_003.0, np.array([1.0, 1, 7, 1, 9]), 6e4)
  assert np.abs(tokens - smooth.tokens).max() < 0.01 * tokens.max()


def test_best_total_is_where_a_grid_has_its_peak():
  c, beta = jnp.asarray(_C), jnp.asarray(_BETA)
  best = float(budget_model.best_total(c, beta, 0.9))
  grid = jnp.linspace(0.5 * best, 2 * best, 400)
  doubt = jax.vmap(lambda b: budget_model.value(c, beta, b))(grid)
  peak = np.argmax(np.square(np.maximum(0.9 - doubt, 0)) / grid)
  assert float(grid[peak]) == pytest.approx(best, rel=0.01)


@pytest.mark.parametrize(
  ("given", "message"),
  [
    (([], [], 1.0), "number a step"),
    (([1.0], [1.0, 2.0], 1.0), "2 betas for 1"),
    (([1.0, -1.0], [1.0, 1.0], 1.0), r"c\[1\] is -1.0"),
    (([1.0, np.nan], [1.0, 1.0], 1.0), r"c\[1\] is nan"),
    (([1.0, 1.0], [1.0, 0.0], 1.0), r"beta\[1\] is 0.0"),
    (([0.0, 0.0], [1.0, 1.0], 1.0), "all c are 0"),
    (([1.0, 1.0], [1.0, 1.0], 0.0), "budget is 0"),
    (([1.0, 1.0], [1.0, 1.0], 3.0, 2.0), "4 tokens of the floors"),
    (([1.0, 1.0], [1.0, 1.0], 3.0, 1.0, 0.5), r"cap\[0\] is 0.5"),
    (([1.0, 1.0], [1.0, 1.0], 3.0, np.ones(3)), "floor has shape"),
  ],
)
def test_what_cannot_be_split_is_refused(given, message):
  with pytest.raises(ValueError, match=message):
    budget_model.check(*map(np.asarray, given))


def test_both_solvers_check_what_is_not_traced():
  for solve in (budget_model.solve, budget_model.solve_integer):
    with pytest.raises(ValueError, match="all c are 0"):
      solve(jnp.zeros(2), jnp.ones(2), 5)


def test_whole_tokens_need_a_floor_and_a_budget_that_can_be_counted():
  with pytest.raises(ValueError, match="below 2"):
    budget_model.solve_integer(jnp.ones(2), jnp.ones(2), 1 << 29)
  with pytest.raises(ValueError, match="at least 1 token"):
    budget_model.solve_integer(jnp.ones(2), jnp.ones(2), 5, floor=0)
