# SPDX-License-Identifier: Apache-2.0
import jax.numpy as jnp
import numpy as np
import pytest

from jaxttc.cost import costs, limits

COUNT, AMOUNT = limits.Kind.COUNT, limits.Kind.AMOUNT
MEASURED = limits.Kind.MEASURED


def test_every_field_has_a_kind():
  kinds = dict(zip(costs.FIELDS, limits.KINDS, strict=True))
  assert {n for n, k in kinds.items() if k is COUNT} == set(costs.COUNTS)
  assert {n for n, k in kinds.items() if k is MEASURED} == {
    "joules",
    "seconds",
  }


def test_an_absent_limit_limits_nothing():
  assert limits.fits(COUNT, None, 5, 10**30)
  assert limits.times(AMOUNT, None, 5, 1e30, 7) == 7
  assert limits.left(AMOUNT, None, 5) is None
  assert limits.total(COUNT, None, 10**30, 1) == 10**30 + 1


def test_limits_become_arrays_rounded_down():
  assert limits.as_limit(COUNT, None) == 2**31 - 1
  assert limits.as_limit(COUNT, 10**12) == 2**31 - 2  # a limit all the same
  assert limits.as_limit(AMOUNT, None) == jnp.inf
  assert limits.as_limit(AMOUNT, 2**24 + 1) == 2**24


def test_totals_overrun_only_where_they_are_measured():
  assert limits.total(COUNT, 5, 3, 2) == 5
  assert limits.total(COUNT, 5, 3, 3) is None
  assert limits.total(AMOUNT, 0.3, 0.1 + 0.1, 0.1) == 0.3
  assert limits.total(MEASURED, 5, 3, 3) == 6
  with pytest.raises(ValueError, match="negative"):
    limits.total(COUNT, 5, 3, -1)


@pytest.mark.parametrize("wanted", [0, 1, 5, 10**6])
@pytest.mark.parametrize(
  ("limit", "spent", "extra"),
  [(1.0, 0.0, 0.1), (0.3, 0.0, 0.1), (1.1, 0.2, 0.3), (1.0, 1 - 1e-16, 1e-30)],
)
def test_host_times_is_the_largest_that_fits(limit, spent, extra, wanted):
  got = limits.times(AMOUNT, limit, spent, extra, wanted)
  assert 0 <= got <= wanted
  assert spent + got * extra <= limit
  assert got == wanted or spent + (got + 1) * extra > limit


def test_what_is_left_is_never_negative():
  assert limits.left(MEASURED, 1.0, 3.0) == 0
  got = limits.left(COUNT, jnp.int32([5, 2**31 - 1]), jnp.int32([7, 9]))
  np.testing.assert_array_equal(got, [0, 2**31 - 1])


def test_smaller_treats_none_as_unlimited():
  assert limits.smaller(None, None) is None
  assert limits.smaller(None, 0) == 0
  assert limits.smaller(3, 2.5) == 2.5
