# SPDX-License-Identifier: Apache-2.0
"""Objectives are judged, and searches find what enumeration finds."""

import dataclasses

import numpy as np
import pytest

from jaxttc.simulation import clusters, traces, workloads

_LENGTHS = workloads.Lengths(
  workloads.Quantiles((0, 0.5, 1), (50, 200, 800)),
  workloads.Quantiles((0, 0.5, 1), (1, 20, 100)),
)


@pytest.fixture(scope="module")
def load(slow):
  return clusters.Load(
    workload=_LENGTHS,
    reference=slow,
    requests=60,
    seeds=(0,),
    rates=(0.5, 64.0),
    rounds=4,
  )


def test_an_idle_cluster_meets_the_objective_and_a_full_one_does_not(
  model, slow, load
):
  cluster = clusters.split("pair", model, (slow, 2), (slow, 2))
  trace = load.traces()[0]
  calm, busy = (
    clusters.check(run.requests, clusters.unloaded(trace, slow), load.objective)
    for run in clusters.sweep(
      [clusters.Case(cluster, 0, 0.1), clusters.Case(cluster, 0, 500.0)],
      [trace],
    )
  )
  assert calm.met and calm.worst[0] < 1
  assert not busy.met and busy.worst[1].startswith("ttft")
  assert all(busy.slowdowns["ttft"] > np.array(calm.slowdowns["ttft"]))


def test_an_unfinished_request_is_never_met(slow):
  trace = traces.Trace([0.0, 1.0], [10, 10], [5, 5])
  alone = clusters.unloaded(trace, slow)
  zero = np.zeros(2)
  finished = clusters.RequestTable(
    alone["ttft"], alone["tbt"], alone["e2e"], zero, zero, zero, zero
  )
  loose = clusters.Objective(e2e=(2.0, 2.0, np.inf))
  assert clusters.check(finished, alone, loose).met
  never = dataclasses.replace(
    finished, e2e_s=np.array([alone["e2e"][0], np.inf])
  )
  assert never.unfinished == 1
  assert not clusters.check(never, alone, loose).met


def test_bisection_finds_the_last_rate_that_is_met(model, fast, slow, load):
  cluster = clusters.split("pair", model, (fast, 1), (fast, 1))
  found = clusters.max_throughput([cluster], load)[0, 0]
  trace = load.traces()[0]
  step = (64 / 0.5) ** (1 / 2**4)
  below, above = (
    clusters.check(
      run.requests, clusters.unloaded(trace, slow), load.objective
    ).met
    for run in clusters.sweep(
      [
        clusters.Case(cluster, 0, rate)
        for rate in (float(found), float(found * step))
      ],
      [trace],
    )
  )
  assert below and not above


def test_design_search_keeps_to_budgets_and_marks_the_front(model, fast, load):
  designs = [
    clusters.split(f"{p}P{t}T", model, (fast, p), (fast, t))
    for p, t in ((1, 1), (2, 1), (1, 2), (2, 2), (3, 3))
  ]
  found = clusters.design_search(designs, load, cost_per_h=8.0)
  names = [f.cluster.name for f in found]
  assert "3P3T" not in names and len(names) == 4
  rates = [f.rate_per_s for f in found]
  assert rates == sorted(rates, reverse=True)
  for one in found:
    beaten = any(
      other.rate_per_s >= one.rate_per_s
      and other.cluster.cost_per_h < one.cluster.cost_per_h
      for other in found
    )
    assert one.pareto != beaten or not beaten
  with pytest.raises(ValueError, match="none of 5 clusters costs at most 1"):
    clusters.design_search(designs, load, cost_per_h=1.0)


def test_advice_compares_all_splits_with_undivided(model, fast, load):
  advice = clusters.should_split(fast, 3, model, load, chunk_tokens=200)
  assert advice.best_split.cluster.name in ("1P 2T", "2P 1T")
  assert advice.best_undivided.cluster.name.endswith("prompts")
  assert advice.split == (advice.gain > 1)
  with pytest.raises(ValueError, match="1 machines cannot be split"):
    clusters.should_split(fast, 1, model, load)
