# SPDX-License-Identifier: Apache-2.0
"""Tests of exact counts and long sums."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxttc.evaluation import accumulators


def test_a_long_sum_keeps_what_plain_addition_loses():
  """2^24 + 1 is not a float32, so adding ones stops there."""

  @jax.jit
  def total(start):
    add = jax.lax.fori_loop
    one = jnp.ones(())
    many = add(0, 1000, lambda _, s: accumulators.add(s, one), start)
    return accumulators.number(many), many.value

  start = accumulators.add(accumulators.no_sum(), jnp.float32(2**24))
  found, plain = total(start)
  assert plain == 2**24
  assert found == 2**24 + 1000


def test_counts_beyond_32_bits_are_exact():
  total = accumulators.no_count((2,))
  most = np.array([2**31 - 1, 3])
  for _ in range(5):
    total = accumulators.count(total, jnp.asarray(most, jnp.int32))
  both = accumulators.merge(total, total)
  for at, amount in enumerate(most.tolist()):
    one = jax.tree.map(lambda x, at=at: x[at], both)
    assert int(one) == 10 * amount
  np.testing.assert_allclose(accumulators.number(both), 10 * most, rtol=1e-7)


def test_merging_keeps_the_rests_of_both():
  a = accumulators.WideSum(jnp.float32(2**24), jnp.float32(0.75))
  b = accumulators.WideSum(jnp.float32(1), jnp.float32(0.25))
  found = accumulators.merge({"x": a}, {"x": b})["x"]
  assert accumulators.number(found) == 2**24 + 2
  assert float(found.value) + float(found.rest) == 2**24 + 2


def test_what_does_not_count_is_dropped():
  bins = jnp.array([0, 2, -1, 3, 7, 2])
  valid = jnp.array([True, True, True, True, True, False])
  found = accumulators.histogram(bins, valid, 4)
  np.testing.assert_array_equal(found, [1, 0, 1, 1])
  each = jnp.array([[1.0, 2], [jnp.inf, 4]])
  sums = accumulators.sum_over(jnp.array([True, False]), each)
  np.testing.assert_array_equal(sums, [1, 2])
