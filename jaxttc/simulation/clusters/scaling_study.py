# SPDX-License-Identifier: Apache-2.0
"""How the time of a cluster simulation grows, and a thousand designs at once.

Designs are splits of one fleet into prompt, token and mixed pools of four pairs
of machines, all under the same recorded hour, judged by the latency objective.
Their time has all in it: compiling, and judging. The growth is that of the
compiled simulation alone.
"""

from collections.abc import Mapping, Sequence
import dataclasses
import functools
import os
import time
from typing import Any

import numpy as np
from rich import progress

from jaxttc import results
from jaxttc.simulation import study, traces, workloads
from jaxttc.simulation.clusters import cluster as cluster_lib
from jaxttc.simulation.clusters import machines as machines_lib
from jaxttc.simulation.clusters import scaling_picture, search, sweeps
from jaxttc.simulation.clusters import slo as slo_lib

PAIRS = {
  "HH": ("H100", "H100"),
  "HHcap": ("H100", "H100 capped"),
  "HA": ("H100", "A100"),
  "AA": ("A100", "A100"),
}
_LOADS = {"load": 1.0, "overload": 8.0}  # requests a second and machine
_PART = 125  # designs in hand at once; their requests are judged and let go
_MODEL = machines_lib.BLOOM_176B

Row = dict[str, Any]


@dataclasses.dataclass(kw_only=True)
class ScalingStudy:
  """The recipe; see configs/scaling.py.

  Attributes:
    trace: recorded requests, in Azure's format.
    table: measured times, in splitwise-sim's format.
    fleet: machines of each design.
    designs: how many are tried.
    hours: of the trace that they serve, from its start.
    sizes: machines of the clusters over which time is measured.
    size_requests: requests of those runs.
    requests: lengths of the traces over which time is measured.
    machines: of the clusters that serve them.
    lanes: simulated at once where growth is measured.
    seed: of generated traces.
  """

  trace: str = "../shared/data/llm_serving/azure_llm_trace_conv.csv"
  table: str = "../shared/data/llm_serving/splitwise_perf_model.csv"
  fleet: int = 40
  designs: int = 1000
  hours: float = 1.0
  sizes: tuple[int, ...] = (10, 40, 160)
  size_requests: int = 3000
  requests: tuple[int, ...] = (2000, 8000, 32_000)
  machines: int = 8
  lanes: int = 32
  seed: int = 0

  def run(self) -> study.Study:
    """Simulates, with progress bars.

    Raises:
      ValueError: if a file is missing or not valid, or a setting is not.
    """
    for name in ("designs", "hours", "size_requests", "machines", "lanes"):
      traces.check_positive(name, getattr(self, name))
    if min((self.fleet, *self.sizes)) < 2 or len(self.requests) < 2:
      raise ValueError(
        "fleet and sizes must be 2 or more, requests two lengths or more"
      )
    kinds = machines_lib.dgx(self.table)
    recorded = _beginning(traces.load(self.trace), 3600.0 * self.hours)
    with progress.Progress() as bars:
      swept, designs = self._designs(recorded, kinds, bars)
      data = {
        "sweep": swept,
        "designs": designs,
        "by_machines": self._by_machines(kinds, bars),
        "by_requests": self._by_requests(kinds, bars),
      }
    draw = functools.partial(scaling_picture.draw, data)
    return study.Study([self.seed], data, claims(data), draw)

  def _designs(
    self,
    recorded: traces.Trace,
    kinds: Mapping[str, machines_lib.MachineSpec],
    bars: progress.Progress,
  ) -> tuple[Row, list[Row]]:
    """What the sweep of all designs took, and a row a design."""
    tried = fleet_designs(kinds, self.fleet, self.designs)
    task = bars.add_task("designs", total=len(tried))
    wall, cpu = time.perf_counter(), time.process_time()
    alone = slo_lib.unloaded(recorded, kinds["A100"])
    rows, events = [], 0
    for start in range(0, len(tried), _PART):
      part = tried[start : start + _PART]
      runs = sweeps.sweep([sweeps.Case(one) for one in part], [recorded])
      events += sum(run.events for run in runs)
      rows += [_judged(*pair, alone) for pair in zip(part, runs, strict=True)]
      bars.advance(task, len(part))
    swept = {
      "designs": len(tried),
      "machines": self.fleet,
      "requests": len(recorded),
      "events": events,
      "wall_seconds": time.perf_counter() - wall,
      "cpu_seconds": time.process_time() - cpu,
      "cores_used": len(os.sched_getaffinity(0)),
    }
    return swept, rows

  def _by_machines(
    self,
    kinds: Mapping[str, machines_lib.MachineSpec],
    bars: progress.Progress,
  ) -> list[Row]:
    """CPU seconds by the size of the cluster, at equal load a machine."""
    task = bars.add_task("cluster sizes", total=len(self.sizes))
    trace = self._trace(self.size_requests)
    rows = []
    for size in self.sizes:
      rows += self._timed(kinds, size, trace)
      bars.advance(task)
    return rows

  def _by_requests(
    self,
    kinds: Mapping[str, machines_lib.MachineSpec],
    bars: progress.Progress,
  ) -> list[Row]:
    """CPU seconds by the length of the trace."""
    task = bars.add_task("trace lengths", total=len(self.requests))
    rows = []
    for requests in self.requests:
      rows += self._timed(kinds, self.machines, self._trace(requests))
      bars.advance(task)
    return rows

  def _trace(self, requests: int) -> traces.Trace:
    return workloads.generate(
      workloads.CONVERSATION,
      rate_per_s=1.0,
      requests=requests,
      seed=self.seed,
    )

  def _timed(
    self,
    kinds: Mapping[str, machines_lib.MachineSpec],
    size: int,
    trace: traces.Trace,
  ) -> list[Row]:
    """A row a load: the same clusters under it, compiled beforehand."""
    h100 = kinds["H100"]
    prompt = max(1, round(0.6 * size))
    pair = [
      search.split("split", _MODEL, (h100, prompt), (h100, size - prompt)),
      search.undivided("undivided", _MODEL, (h100, size)),
    ]
    rows = []
    for load, each in _LOADS.items():
      rate = each * size
      cases = [sweeps.Case(pair[i % 2], 0, rate) for i in range(self.lanes)]
      if not rows:
        sweeps.sweep(cases, [trace])  # compiles
      start = time.process_time()
      runs = sweeps.sweep(cases, [trace])
      seconds = time.process_time() - start
      rows.append(
        {
          "load": load,
          "machines": size,
          "requests": len(trace),
          "lanes": self.lanes,
          "seconds": seconds,
          "events": sum(run.events for run in runs),
          "unfinished": sum(run.requests.unfinished for run in runs),
        }
      )
    return rows


def _beginning(trace: traces.Trace, seconds: float) -> traces.Trace:
  inside = trace.arrival_s <= seconds
  return traces.Trace(
    trace.arrival_s[inside],
    trace.prompt_tokens[inside],
    trace.output_tokens[inside],
  )


def fleet_designs(
  kinds: Mapping[str, machines_lib.MachineSpec], fleet: int, count: int
) -> list[cluster_lib.Cluster]:
  """Splits of a fleet into three pools, as evenly spread as `count` allows.

  Args:
    kinds: machines by the names of `PAIRS`.
    fleet: machines of each design, two or more.
    count: how many designs; fewer come back if there are no more.
  """
  every = [
    (pair, prompt, fleet - prompt - mixed, mixed)
    for pair in PAIRS
    for mixed in range(fleet - 1)
    for prompt in range(1, fleet - mixed)
  ]
  chosen = np.unique(np.linspace(0, len(every) - 1, count).round().astype(int))
  made = []
  for pair, prompt, token, mixed in (every[i] for i in chosen.tolist()):
    first, second = (kinds[name] for name in PAIRS[pair])
    made.append(
      cluster_lib.Cluster(
        name=f"{pair} {prompt}P {token}T {mixed}M",
        model=_MODEL,
        prompt=((first, prompt),),
        token=((second, token),),
        mixed=((first, mixed),),
      )
    )
  return made


def _judged(
  cluster: cluster_lib.Cluster,
  run: sweeps.ClusterRun,
  alone: Mapping[str, np.ndarray],
) -> Row:
  verdict = slo_lib.check(run.requests, alone)
  worst, binding = verdict.worst
  return {
    "design": cluster.name,
    "cost_per_h": cluster.cost_per_h,
    "met": verdict.met,
    "worst": worst if np.isfinite(worst) else None,
    "binding": binding,
    "unfinished": run.requests.unfinished,
    "energy_mj": run.energy_j / 1e6,
  }


def claims(data: Mapping[str, Any]) -> list[results.Claim]:
  """The claims of the study's data."""
  swept = data["sweep"]
  lanes = swept["designs"] * swept["requests"]
  made = [
    results.Claim("designs", swept["designs"]),
    results.Claim("requests_of_a_design", swept["requests"]),
    results.Claim("sweep_wall_seconds", swept["wall_seconds"]),
    results.Claim("sweep_cpu_seconds", swept["cpu_seconds"]),
    results.Claim(
      "designs_a_cpu_minute", 60 * swept["designs"] / swept["cpu_seconds"]
    ),
    results.Claim("sweep_requests_a_cpu_second", lanes / swept["cpu_seconds"]),
    results.Claim(
      "designs_that_meet", sum(row["met"] for row in data["designs"])
    ),
  ]
  for load in _LOADS:
    for table, field in (
      ("by_requests", "requests"),
      ("by_machines", "machines"),
    ):
      mine = [row for row in data[table] if row["load"] == load]
      bar = 1.15 if field == "requests" else None
      made.append(
        results.Claim(
          f"time_exponent_in_{field}_{load}",
          _exponent(mine, field),
          bar=bar,
          comparison="<=",
        )
      )
  return made


def _exponent(rows: Sequence[Row], field: str) -> float:
  """The slope of log seconds; 0 if there is one size only."""
  if len(rows) < 2:
    return 0.0
  logs = [np.log([row[name] for row in rows]) for name in (field, "seconds")]
  return float(np.polyfit(*logs, 1)[0])
