# SPDX-License-Identifier: Apache-2.0
import math

import hypothesis
from hypothesis import strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxttc.cost import budget as budget_lib
from jaxttc.cost import costs

COUNTS = st.integers(0, 10**18)


def some_costs():
  counts = {name: COUNTS for name in costs.COUNTS}
  amounts = {name: st.integers(0, 10**12) for name in costs.AMOUNTS}
  return st.builds(costs.Cost, **counts, **amounts)


@hypothesis.settings(max_examples=30)
@hypothesis.given(some_costs(), some_costs(), st.integers(0, 1000))
def test_arithmetic_is_that_of_each_field(a, b, factor):
  for name in costs.FIELDS:
    x, y = getattr(a, name), getattr(b, name)
    assert getattr(a + b, name) == x + y
    assert getattr(a - b, name) == x - y
    assert getattr(a * factor, name) == getattr(factor * a, name) == x * factor
  assert a + costs.Cost.zero() == a
  assert costs.Cost.sum([a, b, a]) == a * 2 + b
  assert costs.Cost.sum([]) == costs.Cost.zero()
  assert costs.Cost.from_dict(a.as_dict()) == a


def test_fits_within_compares_every_field():
  limit = costs.Cost(generated_tokens=5, flops=100.0)
  assert costs.Cost(generated_tokens=5, flops=100).fits_within(limit)
  assert not costs.Cost(generated_tokens=6, flops=1).fits_within(limit)
  assert not costs.Cost(tool_calls=1).fits_within(limit)
  budget = budget_lib.Budget(generated_tokens=5)
  assert costs.Cost(tool_calls=9, generated_tokens=5).fits_within(budget)


def test_the_same_code_serves_arrays():
  def double(cost):
    return cost * 2 + costs.Cost(tool_calls=1)

  host = costs.Cost(generated_tokens=3, flops=0.5)
  batch = jax.tree.map(lambda x: jnp.stack([x, x + 1]), host.to_arrays())
  mapped = jax.jit(jax.vmap(double))(batch)
  assert mapped.generated_tokens.dtype == jnp.int32
  assert mapped.flops.dtype == jnp.float32
  np.testing.assert_array_equal(mapped.generated_tokens, [6, 8])
  np.testing.assert_array_equal(mapped.tool_calls, [1, 3])
  np.testing.assert_array_equal(mapped.flops, [1.0, 3.0])
  fits = mapped.fits_within(budget_lib.Budget(generated_tokens=7))
  np.testing.assert_array_equal(fits, [True, False])
  assert double(host.to_arrays()).to_numbers() == double(host)


def test_arrays_round_amounts_up():
  amount = 2**24 + 1
  array = costs.Cost(flops=amount, joules=0.1).to_arrays()
  assert float(array.flops) == 2**24 + 2
  assert float(array.joules) >= 0.1


@pytest.mark.parametrize(
  "fields", [{"flops": -1}, {"dollars": math.nan}, {"seconds": math.inf}]
)
def test_validate_refuses_amounts_that_are_none(fields):
  with pytest.raises(ValueError, match=next(iter(fields))):
    costs.Cost(**fields).validate()


def test_bad_inputs_are_refused():
  with pytest.raises(ValueError, match="whole units"):
    costs.Cost(tool_calls=1.5).validate()
  with pytest.raises(TypeError, match="must be a number"):
    costs.Cost(tool_calls="3").validate()
  with pytest.raises(ValueError, match="did you mean 'generated_tokens'"):
    costs.Cost.from_dict({"generated_token": 1})
  with pytest.raises(ValueError, match="does not fit an int32"):
    costs.Cost(generated_tokens=2**31).to_arrays()
  with pytest.raises(TypeError):
    costs.Cost() + 1
  with pytest.raises(TypeError):
    costs.Cost() * costs.Cost()
