# SPDX-License-Identifier: Apache-2.0
"""Thresholds from history, bounds on brakes, the most servers."""

import hypothesis
from hypothesis import strategies
import numpy as np
import pytest
from scipy import stats

from jaxttc.simulation.power import (
  model,
  planning,
  policies,
  requests,
  row,
)

POWER = model.constant(0.28, 0.70, 1.0)


@hypothesis.given(
  powers=strategies.lists(
    strategies.floats(1, 100), min_size=6, max_size=30
  ).map(np.array),
  window=strategies.integers(1, 5),
)
def test_rise_is_the_largest_of_all_pairs(powers, window):
  expected = max(
    powers[b] - powers[a]
    for a in range(len(powers) - window)
    for b in range(a, a + window + 1)
  )
  found = planning.rise(powers, 50.0, window)
  assert found == pytest.approx(expected / 50.0)


def test_thresholds_leave_room_for_the_rise():
  power = np.full(100, 50.0)
  power[40:] = 60.0
  found = planning.thresholds_from_trace(
    power, 100.0, latency_s=40.0, every_s=2.0
  )
  assert found == pytest.approx((0.8, 0.9))
  policies.dual_threshold(*found)
  with pytest.raises(ValueError, match="the row rises by 0.6 of the budget"):
    planning.thresholds_from_trace(
      np.repeat([10.0, 70.0], 40), 100.0, latency_s=4.0, every_s=2.0
    )
  with pytest.raises(ValueError, match="rises by 0 of the budget"):
    planning.thresholds_from_trace(
      np.ones(40), 100.0, latency_s=4.0, every_s=2.0
    )


@pytest.mark.parametrize(
  "powers, readings, message",
  [
    ([1.0, 0.0, 1.0], 1, "reading 1 is 0.0 W"),
    ([1.0, np.nan, 1.0], 1, "reading 1 is nan W"),
    ([1.0, 2.0], 2, "a rise over 2 readings, of 2"),
    ([1.0, 2.0], 0, "a rise over 0 readings"),
  ],
)
def test_refuses_histories_that_cannot_be(powers, readings, message):
  with pytest.raises(ValueError, match=message):
    planning.rise(np.array(powers), 1.0, readings)


def test_bound_of_brakes_is_garwoods():
  # No brake in three days: the rule of three, in days.
  assert planning.brakes_per_day(0, 3 * 86400) == pytest.approx(
    -np.log(0.05) / 3
  )
  bound = planning.brakes_per_day(4, 86400)
  assert stats.poisson.cdf(4, bound) == pytest.approx(0.05)
  with pytest.raises(ValueError, match="-1 brakes"):
    planning.brakes_per_day(-1, 10.0)


def _make(servers, seed):
  streams = [
    requests.diurnal(
      [seed, side, servers],
      servers=(servers + 1 - side) // 2,
      horizon_s=1500.0,
      power=POWER,
      busy=(0.6, 0.6),
    )
    for side in range(2)
  ]
  return row.Row(
    requests.alternate(*streams, servers), policies.no_cap(), POWER, 16 * 0.75
  )


def test_finds_the_most_servers():
  slo = planning.Slo(3.0, 3.0, 3.0, 3.0)
  seen = []
  found = planning.max_oversubscription(
    _make,
    servers=16,
    most=24,
    seeds=[0, 1],
    horizon_s=1500.0,
    slo=slo,
    progress=seen.append,
  )
  assert 16 <= found.servers < 24
  assert found.extra == pytest.approx(found.servers / 16 - 1)
  by_servers = {one.servers: one for one in found.tried}
  assert seen == list(found.tried)
  assert by_servers[found.servers].holds
  assert not by_servers[found.servers + 1].holds
  assert by_servers[found.servers].brakes == 0


def test_asks_for_rare_brakes_with_confidence():
  results = row.simulate_rows([_make(16, 0)], horizon_s=1500.0)
  slo = planning.Slo()
  free = planning.judge(results, results, slo)
  assert free.holds and free.slowdown["low_p50"] == 1.0
  # 25 minutes without a brake do not show that there is none in a day.
  assert not planning.judge(
    results, results, slo, most_brakes_per_day=1.0
  ).holds
  assert planning.judge(results, results, slo, most_brakes_per_day=1000.0).holds


def test_refuses_searches_that_cannot_be():
  with pytest.raises(ValueError, match="0 seeds and at most 5 servers"):
    planning.max_oversubscription(
      _make, servers=4, most=5, seeds=[], horizon_s=10.0
    )
  with pytest.raises(ValueError, match="high_p50 is 0.0"):
    planning.Slo(high_p50=0.0)
