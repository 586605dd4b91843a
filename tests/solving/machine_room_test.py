# SPDX-License-Identifier: Apache-2.0
import dataclasses

import numpy as np
import pytest

from jaxttc.simulation.clusters import machines, performance, search, slo
from jaxttc.solving import decoder_traces, machine_room

SPEC = machines.MachineSpec(
  name="one",
  performance=performance.LinearPerformance(
    0.05, 1e-4, performance.Decode(0.03, 1e-4, 1e-7)
  ),
  kv_capacity_bytes=5e11,
  idle_w=1000.0,
  prompt_w=5000.0,
  decode_w=3000.0,
  provisioned=10.0,
  cost_per_h=4.0,
)
MODEL = machines.LLAMA2_70B
WIDE = slo.Objective(ttft=(9, 9, 9), tbt=(9, 9, 9), e2e=(9, 9, 9))


def _record(solved=True, name="a"):
  """Two spans of 5 and 3 tokens after 10, both scored, then one of 4."""
  call = decoder_traces.Call
  return decoder_traces.Record(
    name,
    10,
    solved,
    (
      call("read", 0, 0, 10, 10, 0, 0, 10, 0),
      call("sample", 0, 10, 5, 0, 0, 5, 0, 0),
      call("sample", 0, 10, 3, 0, 0, 3, 0, 0),
      call("score", 0, 10, 5, 0, 0, 0, 5, 1),
      call("score", 0, 10, 3, 0, 0, 0, 3, 1),
      call("sample", 1, 15, 4, 0, 0, 4, 0, 0),
    ),
  )


def _work(shared=True, solved=(True, False)):
  records = [_record(one, str(i)) for i, one in enumerate(solved)]
  return machine_room.workload(records, SPEC, shared=shared)


def test_sharing_computes_a_prefix_once():
  shared, plain = _work(True), _work(False)
  assert shared.prompt_tokens[:5].tolist() == [10, 1, 15, 3, 1]
  assert plain.prompt_tokens[:5].tolist() == [10, 10, 15, 13, 15]
  for work in (shared, plain):
    assert work.output_tokens[:5].tolist() == [5, 3, 1, 1, 4]
    assert work.accuracy == 0.5 and work.requests_per_problem == 5


def test_rounds_follow_one_another_by_unloaded_times():
  work = _work()
  first = 0.05 + 1e-3 + sum(0.03 + 1e-4 + 1e-7 * (10 + k) for k in range(1, 5))
  assert work.offset_s[:2].tolist() == [0, 0]
  np.testing.assert_allclose(work.offset_s[2:4], first)
  np.testing.assert_allclose(work.offset_s[4], first + 0.05 + 15e-4)
  assert (work.duration_s > work.offset_s[4]).all()


def test_loads_have_the_rate_and_conserve_problems():
  work = _work()
  load = machine_room.poisson_load(work, rate_per_s=20.0, requests=4000, seed=1)
  assert len(load.trace) == 4000
  assert load.problems == pytest.approx(4000 / 5)
  assert load.problems / load.trace.duration_s == pytest.approx(20, rel=0.15)
  assert load.solved == pytest.approx(load.problems / 2, rel=0.15)
  again = machine_room.poisson_load(
    work, rate_per_s=20.0, requests=4000, seed=1
  )
  assert np.array_equal(again.trace.arrival_s, load.trace.arrival_s)


def test_clusters_serve_loads_and_sharing_costs_less():
  # So slow at prompts that what sharing saves is more than chance batching.
  slow = dataclasses.replace(
    SPEC,
    performance=performance.LinearPerformance(
      0.005, 5e-3, SPEC.performance.decode
    ),
  )
  clusters = [
    search.undivided("two", MODEL, (slow, 2)),
    search.undivided("four", MODEL, (slow, 4)),
    search.split("split", MODEL, (slow, 1), (slow, 1)),
  ]
  loads = [
    machine_room.poisson_load(
      _work(shared), rate_per_s=2.0, requests=300, seed=0
    )
    for shared in (True, False)
  ]
  shared, plain = machine_room.serve(clusters, loads, slow, WIDE)
  for one, other in zip(shared, plain, strict=True):
    assert one.busy_joules_per_solved < other.busy_joules_per_solved
    assert one.busy_joules_per_solved < one.joules_per_solved
    assert 0 < one.utilisation < 1 and 0 < one.prefill_share < 1
  assert shared[1].joules_per_solved > shared[0].joules_per_solved
  # Two machines idle and busy for as long cost in proportion to their number.
  assert shared[1].dollars_per_solved == pytest.approx(
    2 * shared[0].dollars_per_solved, rel=0.05
  )
  best = machine_room.smallest(shared)
  assert best is not None
  assert best.machines == min(one.machines for one in shared if one.met)
  failed = [dataclasses.replace(one, met=False) for one in shared]
  assert machine_room.smallest(failed) is None


def test_rounds_become_batches_of_a_server():
  work = _work()
  stream = machine_room.rounds_as_stream(
    work, SPEC, np.array([0.0, 50.0]), np.array([0, 1])
  )
  assert stream.arrival_s.tolist() == pytest.approx(
    [0, work.offset_s[4], 50, 50 + work.offset_s[9]]
  )
  # 11 tokens to sample from and 18 to score, in an iteration each.
  assert stream.prompt_s[0] == pytest.approx(0.1 + 29e-4)
  cached = 10 + 5 // 2 + 1 + 3 // 2
  assert stream.token_s[0] == pytest.approx(4 * (0.03 + 2e-4 + cached * 1e-7))
  assert stream.prompt_s[1] == pytest.approx(0.05 + 1e-4)


def test_bad_input_is_refused():
  with pytest.raises(ValueError, match="no records"):
    machine_room.workload([], SPEC, shared=True)
  with pytest.raises(ValueError, match="'a' is not graded"):
    machine_room.workload([_record(None)], SPEC, shared=True)
  with pytest.raises(ValueError, match="'a' asked for nothing"):
    machine_room.workload(
      [dataclasses.replace(_record(), calls=())], SPEC, shared=True
    )
  with pytest.raises(ValueError, match="rate_per_s must be positive"):
    machine_room.poisson_load(_work(), rate_per_s=0.0, requests=9, seed=0)
  load = machine_room.poisson_load(
    _work(solved=(False,)), rate_per_s=1.0, requests=9, seed=0
  )
  with pytest.raises(ValueError, match="no problem is solved"):
    machine_room.serve([], [load], SPEC, WIDE)
