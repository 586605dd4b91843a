# SPDX-License-Identifier: Apache-2.0
import dataclasses

import hypothesis
from hypothesis import strategies as st
import numpy as np
import pytest

from jaxttc.cost import estimate as estimate_lib

Estimate = estimate_lib.Estimate


def flop(value, low=None, high=None, **fields):
  return Estimate(
    value=value,
    low=value if low is None else low,
    high=value if high is None else high,
    unit="FLOP",
    method=fields.pop("method", "test"),
    **fields,
  )


def test_draws_have_the_percentiles_that_were_asked_for():
  lopsided = flop(1e25, 8e24, 4e25)
  draws = lopsided.draws(200_000, seed=3, name="a")
  low, middle, high = np.quantile(draws, [0.05, 0.5, 0.95])
  assert low == pytest.approx(8e24, rel=0.01)
  assert middle == pytest.approx(1e25, rel=0.01)
  assert high == pytest.approx(4e25, rel=0.02)


@hypothesis.given(st.permutations(list(range(5))), st.integers(0, 9))
def test_a_sum_does_not_depend_on_the_order(order, seed):
  parts = [
    ("a", flop(3.0)),
    ("b", flop(2.0, 1.0, 4.0)),
    ("c", flop(5.0, 4.0, 5.0, shared="u")),
    ("d", flop(1.0, 0.5, 9.0, shared="u")),
    ("e", flop(0.0)),
  ]
  first = estimate_lib.monte_carlo(parts, 100, seed)
  again = estimate_lib.monte_carlo([parts[i] for i in order], 100, seed)
  np.testing.assert_array_equal(first, again)


def test_what_is_certain_has_no_spread():
  total = estimate_lib.monte_carlo(
    [("a", flop(1e26)), ("b", flop(2e26))], 50, 0
  )
  assert set(total) == {1e26 + 2e26}


def test_shared_unknowns_do_not_average_out():
  apart = [(f"e{i}", flop(1.0, 0.5, 2.0)) for i in range(64)]
  together = [(f"e{i}", flop(1.0, 0.5, 2.0, shared="u")) for i in range(64)]
  spread = lambda parts: np.std(  # noqa: E731
    estimate_lib.monte_carlo(parts, 4000, 0)
  )
  assert spread(together) == pytest.approx(8 * spread(apart), rel=0.1)


def test_sums_add_intervals_in_squares_or_plainly():
  a, b = flop(10.0, 7.0, 13.0), flop(20.0, 16.0, 24.0, provenance="assumed")
  both = a + b
  assert (both.value, both.low, both.high) == (30.0, 25.0, 35.0)
  assert both.provenance == "assumed"
  shared = [dataclasses.replace(e, shared="u") for e in (a, b)]
  both = shared[0] + shared[1]
  assert (both.low, both.high, both.shared) == (23.0, 37.0, "u")
  assert a.scaled(2).high == 26.0
  with pytest.raises(ValueError, match="cannot add J"):
    a + Estimate.exact(1, "J", "test")


@pytest.mark.parametrize(
  ("change", "message"),
  [
    (dict(value=-1.0, low=-1.0), "value must be finite and not negative"),
    (dict(high=float("nan")), "high must be finite"),
    (dict(low=2.0), "must hold the value"),
    (dict(low=0.0), "low is 0"),
    (dict(unit="FLOPs"), "unknown unit 'FLOPs'"),
    (dict(provenance="guessed"), "unknown provenance"),
  ],
)
def test_bad_estimates_are_refused(change, message):
  good = dict(value=1.0, low=0.5, high=2.0, unit="FLOP", method="test")
  with pytest.raises(ValueError, match=message):
    Estimate(**good | change)


def test_a_rate_is_no_amount():
  rate = Estimate.exact(1e20, "FLOP/s", "peak")
  with pytest.raises(ValueError, match="multiply it by seconds"):
    estimate_lib.require(rate, "FLOP", "Entry.flop")
  with pytest.raises(ValueError, match="must be an Estimate in FLOP"):
    estimate_lib.require(1e20, "FLOP", "Entry.flop")
  with pytest.raises(ValueError, match="cannot add FLOP and FLOP/s"):
    estimate_lib.monte_carlo([("a", flop(1.0)), ("b", rate)], 5, 0)
  with pytest.raises(ValueError, match="at least one draw"):
    estimate_lib.monte_carlo([("a", flop(1.0))], 0, 0)
  with pytest.raises(ValueError, match="scaled by a finite number"):
    rate.scaled(-1)
