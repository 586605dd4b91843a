# SPDX-License-Identifier: Apache-2.0
import fractions

import hypothesis
from hypothesis import strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxttc.cost import rounding

AMOUNTS = st.one_of(st.integers(0, 10**30), st.floats(1e-12, 1e30), st.just(0))
FLOATS = st.one_of(
  st.floats(2.0**-60, 2.0**60, width=32),
  st.integers(0, 2**24).map(float),
)
ADD = jax.jit(rounding.add_up)


@hypothesis.settings(max_examples=200)
@hypothesis.given(AMOUNTS)
def test_float32_up_and_down_are_the_nearest_bounds(value):
  up, down = rounding.float32_up(value), rounding.float32_down(value)
  assert float(down) <= value <= float(up)
  assert up == down or up == np.nextafter(down, np.float32(np.inf))


@hypothesis.settings(max_examples=200)
@hypothesis.given(FLOATS, FLOATS)
def test_add_up_is_the_least_float_not_below_the_sum(a, b):
  got = np.float32(ADD(jnp.float32(a), jnp.float32(b)))
  exact = fractions.Fraction(a) + fractions.Fraction(b)
  below = np.nextafter(got, np.float32(-np.inf))
  assert fractions.Fraction(float(below)) < exact
  assert exact <= fractions.Fraction(float(got))


def test_add_up_does_not_stall_where_float32_does():
  total = jnp.float32(2**24)
  assert total + jnp.float32(1) == total
  assert ADD(total, jnp.float32(1)) > total
  assert ADD(jnp.float32(jnp.inf), jnp.float32(1)) == jnp.inf


@hypothesis.settings(max_examples=100)
@hypothesis.given(
  st.integers(0, 1000), st.integers(0, 1000), st.integers(-2, 40)
)
def test_counts_fitting_against_enumeration(limit, spent, bound):
  got = rounding.counts_fitting(
    jnp.int32(limit), jnp.int32(spent), jnp.int32(bound)
  )
  if bound < 0:
    expected = 0
  elif bound == 0:
    expected = rounding.UNLIMITED_COUNT
  else:
    expected = sum(spent + n * bound <= limit for n in range(1, 1002))
  assert got == expected


def test_counts_stick_at_the_largest():
  top = jnp.int32(rounding.UNLIMITED_COUNT)
  assert rounding.add_count(top - 1, jnp.int32(5)) == top
  assert rounding.add_count(jnp.int32(2), jnp.int32(5)) == 7
  assert rounding.counts_fitting(top, top, jnp.int32(9)) == top


@hypothesis.settings(max_examples=100)
@hypothesis.given(
  st.floats(0.0009765625, 2.0**30, width=32),
  st.floats(0, 1, width=32),
  st.floats(0.0009765625, 2.0**20, width=32),
)
def test_times_fitting_never_overruns(limit, share, bound):
  spent = jnp.float32(limit) * jnp.float32(share)
  times = int(
    rounding.times_fitting(jnp.float32(limit), spent, jnp.float32(bound))
  )
  hypothesis.assume(times <= 200)
  total = spent
  for _ in range(times):
    total = ADD(total, jnp.float32(bound))
  assert total <= limit


@hypothesis.settings(max_examples=100)
@hypothesis.given(
  st.integers(1, 2**24), st.integers(0, 2**24), st.integers(1, 2**20)
)
def test_times_fitting_is_maximal_for_whole_numbers(limit, spent, bound):
  hypothesis.assume(spent <= limit)
  got = rounding.times_fitting(
    jnp.float32(limit), jnp.float32(spent), jnp.float32(bound)
  )
  assert got == (limit - spent) // bound


def test_times_fitting_at_the_edges():
  times = rounding.times_fitting(
    jnp.float32([jnp.inf, 1, 1, 0, 0, 1]),
    jnp.float32([5, 1, 2, 0, 0, 0]),
    jnp.float32([3, 1, 1, 1, 0, jnp.nan]),
  )
  np.testing.assert_array_equal(times, [2**30, 0, 0, 0, 2**30, 0])


def test_price_up_covers_four_rounded_products():
  rng = np.random.default_rng(0)
  terms = rng.uniform(0, 1e9, (1000, 4, 2)).astype(np.float32)
  got = rounding.price_up(jnp.asarray(terms).prod(-1).sum(-1))
  exact = terms.astype(np.float64).prod(-1).sum(-1)
  assert (np.asarray(got, np.float64) >= exact).all()
  np.testing.assert_allclose(got, exact, rtol=2e-6)


def test_as_count_refuses_what_an_int32_cannot_hold():
  assert rounding.as_count(7).dtype == jnp.int32
  for bad in (-1, 2**31, 1.5):
    with pytest.raises(ValueError, match="whole number"):
      rounding.as_count(bad)


def test_is_host_tells_numbers_from_arrays():
  assert all(map(rounding.is_host, (1, 1.0, np.float64(1), np.int64(1))))
  assert not any(map(rounding.is_host, (jnp.ones(()), np.ones(()), None)))


def test_amounts_round_up_and_limits_down():
  assert float(rounding.as_amount(0.1)) > 0.1
  assert float(rounding.as_limit(2**24 + 1)) == 2**24
