# SPDX-License-Identifier: Apache-2.0
import fractions
import math

import hypothesis
from hypothesis import strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxttc.cost import budget as budget_lib
from jaxttc.cost import costs

Budget, Cost, Meter = budget_lib.Budget, costs.Cost, budget_lib.Meter
CHARGE = jax.jit(lambda meter, cost: meter.charge(cost))
FUND = jax.jit(lambda meter, bound, wanted: meter.fundable(bound, wanted))
AFFORDS = jax.jit(lambda meter, cost: meter.affords(cost))
INDEX = jax.jit(lambda meter, cost: meter.exhausted_index(cost))

small = st.integers(0, 60)
limits = st.one_of(st.none(), small)
amount = st.one_of(small, st.floats(0, 60, allow_subnormal=False))


def test_parse_reads_fields_and_suffixes():
  budget = Budget.parse(" generated_tokens = 2.5k, flops=1e9,dollars=0.5,")
  assert budget == Budget(generated_tokens=2500, flops=10**9, dollars=0.5)
  assert isinstance(budget.flops, int)
  assert Budget.parse("bytes=3T,joules=1G,seconds=2M") == Budget(
    bytes=3 * 10**12, joules=10**9, seconds=2 * 10**6
  )
  assert Budget.parse("") == Budget()
  assert Budget.parse("tool_calls=0").tool_calls == 0
  assert Budget.from_dict(budget.as_dict()) == budget


@pytest.mark.parametrize(
  ("text", "message"),
  [
    ("generated_token=5", "did you mean 'generated_tokens'"),
    ("tool_calls", "field=number"),
    ("tool_calls=-1", "not negative"),
    ("flops=nan", "finite"),
    ("flops=inf", "finite"),
    ("flops=1e9999", "finite"),
    ("flops=", "must be a number"),
    ("flops=ten", "must be a number"),
    ("tool_calls=2.5", "whole units"),
    ("tool_calls=1,tool_calls=2", "twice"),
  ],
)
def test_parse_refuses_what_is_no_budget(text, message):
  with pytest.raises(ValueError, match=message):
    Budget.parse(text)


def test_budgets_are_validated():
  with pytest.raises(ValueError, match="dollars"):
    Meter.start(Budget(dollars=math.nan))
  with pytest.raises(ValueError, match="did you mean 'tool_calls'"):
    Budget.from_dict({"tool_call": 1})
  with pytest.raises(TypeError, match="number or an array"):
    Budget(flops="many").validate()


def test_tightest_takes_the_smaller_limit_of_each_field():
  a, b = Budget(tool_calls=3, flops=5), Budget(flops=4, seconds=1)
  tight = a.tightest(b)
  assert tight == Budget(tool_calls=3, flops=4, seconds=1)
  arrays = a.to_arrays().tightest(b.to_arrays())
  np.testing.assert_array_equal(arrays.tool_calls, 3)
  np.testing.assert_array_equal(arrays.flops, 4)


def test_meter_counts_down_and_names_what_ran_out():
  meter = Meter.start(Budget(generated_tokens=10, verifier_calls=1))
  bound = Cost(generated_tokens=4, verifier_calls=1)
  assert meter.fundable(bound, 8) == 1
  assert meter.fundable(Cost(generated_tokens=4), 8) == 2
  meter = meter.charge(Cost(generated_tokens=3, verifier_calls=1))
  assert meter.remaining() == Budget(generated_tokens=7, verifier_calls=0)
  assert meter.exhausted_by(bound) == "verifier_calls"
  assert meter.exhausted_by(Cost(generated_tokens=7)) is None
  assert not meter.affords(bound)
  with pytest.raises(budget_lib.BudgetExceeded, match="verifier_calls=1 on to"):
    meter.charge(bound)


def test_budget_exceeded_names_its_field():
  with pytest.raises(budget_lib.BudgetExceeded) as caught:
    Meter.start(Budget(flops=10**15)).charge(Cost(flops=10**15 + 1))
  assert caught.value.field == "flops"


@pytest.mark.parametrize("value", [-1, math.nan])
def test_charges_that_are_no_amount_are_refused(value):
  with pytest.raises(ValueError, match="negative"):
    Meter.start(Budget()).charge(Cost(flops=value))


def test_measured_fields_overrun_once_and_then_stop_everything():
  meter = Meter.start(Budget(seconds=1.0))
  meter = meter.charge(Cost(seconds=0.9))
  assert meter.affords(Cost(generated_tokens=5))
  meter = meter.charge(Cost(seconds=0.9))
  assert meter.spent.seconds == 1.8
  assert meter.remaining().seconds == 0
  assert not meter.affords(Cost())
  assert meter.fundable(Cost(), 3) == 0
  assert meter.exhausted_by(Cost()) == "seconds"
  arrays = meter.to_arrays()
  assert not AFFORDS(arrays, Cost()) and FUND(arrays, Cost(), 3) == 0


def test_decimal_prices_fill_their_budget():
  meter = Meter.start(Budget(dollars=0.3))
  for _ in range(3):
    meter = meter.charge(Cost(dollars=0.1))
  assert meter.spent.dollars == 0.3
  assert not meter.affords(Cost(dollars=1e-9))
  with pytest.raises(budget_lib.BudgetExceeded):
    meter.charge(Cost(dollars=1e-9))


def test_a_numpy_charge_does_not_coarsen_the_total():
  meter = Meter.start(Budget(flops=1e12)).charge(Cost(flops=2**24))
  meter = meter.charge(Cost(flops=np.float32(1)))
  assert meter.spent.flops == 2**24 + 1


@hypothesis.settings(max_examples=100)
@hypothesis.given(
  st.tuples(limits, limits, st.one_of(st.none(), amount)),
  st.tuples(small, small, amount),
  st.integers(0, 12),
)
def test_fundable_is_maximal_and_never_over(limit, bound, wanted):
  names = ("generated_tokens", "verifier_calls", "dollars")
  budget = Budget(**dict(zip(names, limit, strict=True)))
  each = Cost(**dict(zip(names, bound, strict=True)))
  meter = Meter.start(budget)
  funded = meter.fundable(each, wanted)
  by_enumeration = max(
    n for n in range(wanted + 1) if (each * n).fits_within(budget)
  )
  assert funded == by_enumeration
  for _ in range(funded):
    meter = meter.charge(each)
  assert meter.spent.fits_within(budget)
  assert (meter.exhausted_by(each) is None) == meter.affords(each)


@hypothesis.settings(max_examples=25)
@hypothesis.given(
  st.fixed_dictionaries({}, optional={n: small for n in costs.COUNTS}),
  st.fixed_dictionaries({}, optional={n: small for n in costs.COUNTS}),
  st.integers(0, 12),
)
def test_host_and_compiled_agree_on_counts(limit, bound, wanted):
  meter, each = Meter.start(Budget(**limit)), Cost(**bound)
  arrays, array = meter.to_arrays(), each.to_arrays()
  funded = meter.fundable(each, wanted)
  assert FUND(arrays, array, wanted) == funded
  assert bool(AFFORDS(arrays, array)) == meter.affords(each)
  name = meter.exhausted_by(each)
  index = -1 if name is None else costs.FIELDS.index(name)
  assert INDEX(arrays, array) == index
  assert arrays.exhausted_by(array) == name
  meter = meter.charge(each * funded)
  arrays = CHARGE(arrays, (each * funded).to_arrays())
  assert arrays.spent.to_numbers() == meter.spent
  left = arrays.remaining()
  for field, value in meter.remaining().as_dict().items():
    assert getattr(left, field) == value


@hypothesis.settings(max_examples=25)
@hypothesis.given(
  st.floats(0.001, 1e18), st.lists(st.floats(0, 0.5), max_size=12)
)
def test_compiled_meters_never_overspend(limit, shares):
  """The exact sum of what was granted stays within the exact limit."""
  meter = Meter.start(Budget(flops=limit)).to_arrays()
  granted = fractions.Fraction(0)
  for share in shares:
    cost = Cost(flops=share * limit)
    if AFFORDS(meter, cost.to_arrays()):
      meter = CHARGE(meter, cost.to_arrays())
      granted += fractions.Fraction(cost.flops)
  assert granted <= fractions.Fraction(limit)
  assert granted <= fractions.Fraction(float(meter.spent.flops))
  assert float(meter.spent.flops) <= limit
  left = fractions.Fraction(float(meter.remaining().flops))
  spent = fractions.Fraction(float(meter.spent.flops))
  assert left + spent <= fractions.Fraction(limit)


def test_a_compiled_meter_does_not_stall_in_a_long_loop():
  meter = Meter.start(Budget(flops=2**24 + 100)).to_arrays()
  one = Cost(flops=1).to_arrays()
  meter = meter.charge(Cost(flops=2**24 - 50).to_arrays())

  def more(state):
    return state[0].affords(one) & (state[1] < 1000)

  def step(state):
    return state[0].charge(one), state[1] + 1

  meter, count = jax.jit(lambda m: jax.lax.while_loop(more, step, (m, 0)))(
    meter
  )
  assert 50 <= count <= 150
  assert meter.spent.flops <= 2**24 + 100


def test_meters_work_under_vmap_with_mixed_limits():
  budgets = [
    Budget(generated_tokens=10),
    Budget(flops=25.0),
    Budget(generated_tokens=10**12),
    Budget(generated_tokens=0),
    Budget(),
  ]
  meters = [Meter.start(budget).to_arrays() for budget in budgets]
  batch = jax.tree.map(lambda *leaves: jnp.stack(leaves), *meters)
  bound = Cost(generated_tokens=3, flops=10)
  funded = jax.jit(jax.vmap(lambda m: m.fundable(bound, 7)))(batch)
  np.testing.assert_array_equal(funded, [3, 2, 7, 0, 7])
  index = jax.jit(jax.vmap(lambda m: m.exhausted_index(bound)))(batch)
  np.testing.assert_array_equal(index, [-1, -1, -1, 2, -1])


def test_host_meters_take_array_costs():
  meter = Meter.start(Budget(generated_tokens=10, tool_calls=2))
  cost = Cost(generated_tokens=jnp.int32([4, 11]), tool_calls=1)
  np.testing.assert_array_equal(meter.affords(cost), [True, False])
  np.testing.assert_array_equal(meter.fundable(cost, jnp.int32([9, 9])), [2, 0])
