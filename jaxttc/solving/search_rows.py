# SPDX-License-Identifier: Apache-2.0
"""Recorded searches as the day of a row of servers under a power budget."""

import numpy as np

from jaxttc.simulation import traces
from jaxttc.simulation.clusters import machines as machines_lib
from jaxttc.simulation.power import model as model_lib
from jaxttc.simulation.power import policies as policies_lib
from jaxttc.simulation.power import requests as requests_lib
from jaxttc.simulation.power import row as row_lib
from jaxttc.solving import machine_room

FREE_W = 1e12  # a budget that nothing reaches


def diurnal_row(
  work: machine_room.Workload,
  spec: machines_lib.MachineSpec,
  *,
  servers: int,
  seed: int,
  horizon_s: float,
  policy: policies_lib.Policy,
  budget_w: float = FREE_W,
  busy: tuple[float, float] = (0.30, 0.85),
) -> row_lib.Row:
  """A row whose servers run a decoder's rounds, one at a time, over a day.

  Problems arrive at rates that rise and fall once in the horizon; servers of
  even and odd numbers, which differ in priority, have streams of their own.

  Args:
    work: whose problems, drawn with replacement.
    spec: of the servers.
    servers: how many.
    seed: of arrivals and problems.
    horizon_s: how long the day is.
    policy: how the row is governed.
    budget_w: what the row may draw.
    busy: least and largest share of time that servers are busy.

  Raises:
    ValueError: if there are fewer than two servers, the shares are no such, or
      the budget is below what idle servers draw.
  """
  if servers < 2:
    raise ValueError(f"servers is {servers}; expected two or more")
  requests_lib.check_busy(busy)
  traces.check_positive("horizon_s", horizon_s)
  alone = machine_room.rounds_as_stream(
    work, spec, np.zeros(len(work.solved)), np.arange(len(work.solved))
  )
  seconds = float((alone.prompt_s + alone.token_s).sum() / len(work.solved))
  streams = []
  for side in range(2):
    rng = np.random.default_rng([seed, side, servers])
    mine = (servers + 1 - side) // 2
    start = requests_lib.diurnal_arrivals(
      rng,
      most_per_s=busy[1] * mine / seconds,
      horizon_s=horizon_s,
      least_over_most=busy[0] / busy[1],
      period_s=horizon_s,
    )
    which = rng.integers(len(work.solved), size=len(start))
    streams.append(machine_room.rounds_as_stream(work, spec, start, which))
  power = model_lib.constant(
    float(spec.idle_w), float(spec.decode_w), float(spec.prompt_w)
  )
  asked = requests_lib.alternate(streams[0], streams[1], servers)
  return row_lib.Row(asked, policy, power, budget_w)
