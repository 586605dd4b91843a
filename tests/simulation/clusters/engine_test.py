# SPDX-License-Identifier: Apache-2.0
"""The compiled simulation against plain Python, and against closed forms."""

import dataclasses

import hypothesis
from hypothesis import strategies as st
import numpy as np
import pytest

from jaxttc.simulation import clusters, traces, workloads
from jaxttc.simulation.clusters import cluster as cluster_lib
from jaxttc.simulation.clusters import reference

_REQUESTS = 60


def _designs(model, fast, slow):
  """One of each router, way of batching and shape; all in one sweep."""
  rules = clusters.Rules
  tight = rules(batch_tokens=500, queue_tokens=700, max_batch=6)
  wire = clusters.Link(bytes_per_s=5e6, overlapped=False)

  def design(name, **fields):
    return clusters.Cluster(name=name, model=model, **fields)

  return [
    design("split", prompt=[(fast, 2)], token=[(slow, 2)], rules=tight),
    design(
      "mixed pool",
      prompt=[(fast, 1)],
      token=[(slow, 1)],
      mixed=[(fast, 1)],
      rules=tight,
      link=wire,
    ),
    design(
      "chunked split",
      prompt=[(fast, 1)],
      token=[(fast, 3)],
      rules=rules(chunk_tokens=100, batch_tokens=500, max_batch=6),
    ),
    *(
      design(
        router,
        mixed=[(fast, 2), (slow, 1)],
        rules=rules(
          router=router, batch_tokens=500, max_batch=6, chunk_tokens=chunk
        ),
      )
      for router, chunk in (
        ("least_tokens", None),
        ("least_requests", 150),
        ("random", None),
        ("turns", 150),
      )
    ),
  ]


def _trace(seed, requests=_REQUESTS):
  rng = np.random.default_rng(seed)
  gaps = rng.exponential(1.0, requests) * rng.integers(0, 2, requests)
  prompt = np.rint(np.exp(rng.uniform(0, 6.6, requests))).astype(int)
  output = np.rint(np.exp(rng.uniform(0, 4.5, requests))).astype(int)
  return traces.Trace(np.cumsum(gaps), np.maximum(prompt, 1), output)


@pytest.fixture(scope="module")
def designs(model, fast, slow):
  return _designs(model, fast, slow)


def _table(cluster, trace, seed=0, gaps=False):
  out = reference.simulate(cluster, trace, seed=seed, gaps=gaps)
  made = clusters.table(
    cluster_lib.ticks(trace.arrival_s),
    trace.output_tokens,
    *out[:4],
    out.prompt_machine,
    out.token_machine,
  )
  return made, out


@hypothesis.settings(max_examples=8)
@hypothesis.given(
  seed=st.integers(0, 2**20), rate=st.sampled_from([0.3, 3.0, 30.0])
)
def test_equals_plain_python_to_the_last_bit(designs, seed, rate):
  trace = _trace(seed).at_rate(rate)
  runs = clusters.sweep(
    [clusters.Case(design) for design in designs], [trace], seed=seed
  )
  for design, run in zip(designs, runs, strict=True):
    expected, plain = _table(design, trace, seed)
    for field in dataclasses.fields(expected):
      np.testing.assert_array_equal(
        getattr(run.requests, field.name),
        getattr(expected, field.name),
        err_msg=f"{design.name}: {field.name}",
      )
    np.testing.assert_array_equal(run.prompt_s, plain.prompt_s)
    np.testing.assert_array_equal(run.decode_s, plain.decode_s)
    assert run.makespan_s == plain.end_s
    assert run.requests.unfinished == 0


def test_rates_scale_arrivals(designs):
  trace = _trace(1)
  scaled, slow = clusters.sweep(
    [clusters.Case(designs[0], 0, 5.0), clusters.Case(designs[0], 0, 0.1)],
    [trace],
  )
  expected, _ = _table(designs[0], trace.at_rate(5.0))
  np.testing.assert_array_equal(scaled.requests.e2e_s, expected.e2e_s)
  assert slow.requests.queue_s.mean() < scaled.requests.queue_s.mean()


def test_sweeps_are_the_same_in_any_company(designs, monkeypatch):
  trace = _trace(2)
  together = clusters.sweep([clusters.Case(d) for d in designs], [trace])
  alone = clusters.simulate(designs[1], trace)
  np.testing.assert_array_equal(
    together[1].requests.e2e_s, alone.requests.e2e_s
  )
  done = []
  monkeypatch.setattr(clusters.sweeps, "_LANES", 3)
  parts = clusters.sweep(
    [clusters.Case(d) for d in designs], [trace], advance=done.append
  )
  assert done == [3, 3, 1]
  for one, other in zip(together, parts, strict=True):
    np.testing.assert_array_equal(one.requests.e2e_s, other.requests.e2e_s)


@pytest.mark.parametrize("overlapped", [False, True])
def test_a_request_alone_takes_its_closed_form(model, fast, overlapped):
  link = clusters.Link(bytes_per_s=1e6, overlapped=overlapped)
  cluster = clusters.Cluster(
    name="pair", model=model, prompt=[(fast, 1)], token=[(fast, 1)], link=link
  )
  trace = traces.Trace([2.0], [300], [40])
  run = clusters.simulate(cluster, trace)
  alone = clusters.unloaded(trace, fast)
  travel = 300 * 1000 / 1e6 / (10 if overlapped else 1)
  np.testing.assert_allclose(run.requests.ttft_s, alone["ttft"], rtol=1e-7)
  np.testing.assert_allclose(run.requests.transfer_s, travel, rtol=1e-6)
  np.testing.assert_allclose(
    run.requests.e2e_s, alone["e2e"] + travel, rtol=1e-7
  )


def test_a_prompt_machine_is_a_queue_with_known_waits(model, fast):
  """A queue of equal services, one prompt a batch: Lindley's recursion."""
  cluster = clusters.Cluster(
    name="queue",
    model=model,
    mixed=[(fast, 1)],
    rules=clusters.Rules(router="least_tokens", batch_tokens=100),
  )
  service, n = 0.05, 60
  gaps = np.random.default_rng(0).exponential(service / 0.8, n)
  ones = np.ones(n, int)
  trace = traces.Trace(np.cumsum(gaps), 100 * ones, ones)
  wait, expected = 0.0, [0.0]
  for gap in gaps[1:]:
    wait = max(0.0, wait + service - gap)
    expected.append(wait)
  found = clusters.simulate(cluster, trace).requests.queue_s
  assert max(expected) > service
  np.testing.assert_allclose(found, expected, atol=1e-8)


def test_energy_and_time_are_whole(designs):
  trace = _trace(3)
  run = clusters.simulate(designs[3], trace)
  busy = run.prompt_s + run.decode_s
  assert (busy <= run.makespan_s).all()
  idle = run.makespan_s - busy
  joules = (700 * run.prompt_s + 400 * run.decode_s + 100 * idle).sum()
  assert run.energy_j == pytest.approx(joules)
  assert run.cost == pytest.approx(3 * 2.0 * run.makespan_s / 3600)


def test_no_link_and_one_pair_never_delays_a_decode(model, fast):
  cluster = clusters.Cluster(
    name="pair",
    model=model,
    prompt=[(fast, 1)],
    token=[(fast, 1)],
    link=clusters.Link(bytes_per_s=float("inf")),
    rules=clusters.Rules(queue_tokens=10**6),
  )
  lengths = workloads.Lengths(
    workloads.Quantiles((0, 1), (50, 400)), workloads.Quantiles((0, 1), (2, 9))
  )
  trace = workloads.generate(lengths, rate_per_s=5.0, requests=60, seed=0)
  run = clusters.simulate(cluster, trace)
  assert set(run.requests.prompt_machine) == {0}
  assert set(run.requests.token_machine) == {1}
  _, plain = _table(cluster, trace, gaps=True)
  # One iteration to finish, and one of as many sequences as there were.
  assert plain.longest_gap.max() < 2 * (0.03 + 0.0005 * 20 + 2e-7 * 8000)


def test_the_order_of_equal_kinds_changes_nothing(model, fast):
  trace = _trace(4)
  twin = dataclasses.replace(fast, name="twin")
  tables = [
    clusters.simulate(
      clusters.Cluster(
        name="two",
        model=model,
        mixed=kinds,
        rules=clusters.Rules(router="least_tokens"),
      ),
      trace,
    ).requests
    for kinds in ([(fast, 1), (twin, 2)], [(twin, 1), (fast, 2)])
  ]
  np.testing.assert_array_equal(tables[0].e2e_s, tables[1].e2e_s)


def test_more_bandwidth_never_slows_a_request_alone(model, fast):
  trace = traces.Trace([0.0], [500], [10])
  times = [
    clusters.simulate(
      clusters.Cluster(
        name="pair",
        model=model,
        prompt=[(fast, 1)],
        token=[(fast, 1)],
        link=clusters.Link(bytes_per_s=rate),
      ),
      trace,
    ).requests.e2e_s[0]
    for rate in (1e5, 1e6, 1e9, float("inf"))
  ]
  assert times == sorted(times, reverse=True)


def test_refuses_traces_of_two_lengths(designs):
  with pytest.raises(ValueError, match="expected one length"):
    clusters.sweep(
      [clusters.Case(designs[0])], [_trace(0), _trace(0, requests=5)]
    )


def test_memory_is_never_oversold_and_all_given_back(designs, monkeypatch):
  """Of the plain simulation, which the compiled one equals."""
  simulation = reference._Simulation
  settle = simulation._settle

  def check(self, machine):
    assert 0 <= machine.reserved <= machine.kind.capacity
    assert len(machine.sequences) <= 6
    settle(self, machine)

  monkeypatch.setattr(simulation, "_settle", check)
  for design in designs:
    ran = simulation(design, _trace(5).at_rate(20.0), 0, False)
    ran.run()
    for machine in ran.machines:
      left = (machine.reserved, machine.load, machine.batch, machine.cached)
      assert left == (0, 0, 0, 0)
      assert not (machine.waiting or machine.leaving or machine.sequences)
      assert not machine.moved


def _far_overloaded(model, fast, slow):
  """Small memories, in which far more requests wait than fit."""
  rules = clusters.Rules(batch_tokens=500, max_batch=6)
  pools = ((1, 1, 0), (2, 2, 0), (1, 1, 1), (1, 3, 0), (3, 1, 0), (2, 1, 3))
  return [
    clusters.Cluster(
      name=str(sizes),
      model=model,
      prompt=[(fast, sizes[0])],
      token=[(slow, sizes[1])],
      mixed=[(fast, sizes[2])],
      rules=dataclasses.replace(rules, queue_tokens=queue),
    )
    for sizes in pools
    for queue in (700, 8192)
  ]


@pytest.mark.parametrize("rate", [30.0, 300.0])
def test_overload_locks_no_machines(model, fast, slow, rate):
  """Of the plain simulation: machines never wait for one another in a ring."""
  for seed in range(2):
    trace = _trace(seed, requests=200).at_rate(rate)
    for design in _far_overloaded(model, fast, slow):
      found, out = _table(design, trace, seed)
      assert found.unfinished == 0, design.name
      assert out.end_s >= found.e2e_s.max()


def test_overload_is_the_same_in_plain_python(model, fast, slow):
  designs = _far_overloaded(model, fast, slow)
  trace = _trace(6).at_rate(100.0)
  runs = clusters.sweep([clusters.Case(one) for one in designs], [trace])
  for design, run in zip(designs, runs, strict=True):
    expected, plain = _table(design, trace)
    assert run.requests.unfinished == 0
    np.testing.assert_array_equal(run.requests.e2e_s, expected.e2e_s)
    np.testing.assert_array_equal(run.decode_s, plain.decode_s)


def test_the_longest_gap_is_told_where_every_token_is_followed(designs):
  trace = _trace(7)
  found = reference.request_table(designs[0], trace, gaps=True)
  assert reference.request_table(designs[0], trace).longest_gap_s is None
  single = trace.output_tokens == 1
  assert (found.longest_gap_s[single] == 0).all()
  # No shorter than the mean, and no longer than all of them together.
  mean, gap = found.tbt_s[~single], found.longest_gap_s[~single]
  assert (gap >= mean - 1e-12).all()
  assert (gap <= mean * (trace.output_tokens[~single] - 1) + 1e-12).all()
