# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest

from jaxttc.simulation.clusters import machines, performance
from jaxttc.simulation.power import policies
from jaxttc.simulation.power import row as row_lib
from jaxttc.solving import decoder_traces, machine_room, search_rows

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


def _day(servers=4, **changes):
  calls = (
    decoder_traces.Call("read", 0, 0, 30, 30, 0, 0, 30, 0),
    decoder_traces.Call("sample", 0, 30, 20, 0, 0, 20, 0, 0),
  )
  record = decoder_traces.Record("a", 30, True, calls)
  work = machine_room.workload([record], SPEC, shared=True)
  changes = {"policy": policies.no_cap(), "horizon_s": 200.0} | changes
  return search_rows.diurnal_row(work, SPEC, servers=servers, seed=0, **changes)


def test_a_day_is_as_busy_as_asked():
  row = _day(servers=6)
  asked = row.requests
  real = np.isfinite(asked.arrival_s)
  work = (asked.prompt_s + asked.token_s)[real].sum()
  # The mean of a sine from 0.30 to 0.85.
  assert work / (6 * 200.0) == pytest.approx(0.575, rel=0.15)
  found = row_lib.simulate_row(row, horizon_s=200.0, dt=0.1)
  idle = 6 * SPEC.idle_w
  assert idle <= found.power_w.min() < found.power_w.max() <= 6 * SPEC.prompt_w
  night, noon = (found.power_w[a:b].mean() for a, b in ((0, 400), (800, 1200)))
  assert night < noon


def test_days_that_cannot_be_are_refused():
  with pytest.raises(ValueError, match="servers is 1; expected two or more"):
    _day(servers=1)
  with pytest.raises(ValueError, match="expected 0 <= least <= most < 1"):
    _day(busy=(0.9, 0.3))
  with pytest.raises(ValueError, match="horizon_s must be positive"):
    _day(horizon_s=0.0)
