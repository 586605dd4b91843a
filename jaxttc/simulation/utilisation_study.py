# SPDX-License-Identifier: Apache-2.0
"""Who is busy when, and how long requests wait: machines over time.

Serving clusters of equal cost under one trace, near the load that they can
bear: whole prompts, chunked prompts, and phases split. And one cell of machines
under two policies of placement. Averages hide what these maps show: machines
that idle beside full ones, and the requests that pay for it.
"""

import dataclasses
import functools
from typing import Any

import numpy as np
from rich import progress

from jaxttc import results
from jaxttc.simulation import study, traces, utilisation_picture
from jaxttc.simulation.clusters import activity, reference, search, sweeps
from jaxttc.simulation.clusters import cluster as cluster_lib
from jaxttc.simulation.clusters import machines as machines_lib
from jaxttc.simulation.clusters import slo as slo_lib
from jaxttc.simulation.placement import cluster as cell_lib
from jaxttc.simulation.placement import generator, masb, policies, replay

PERCENTS = (*range(100), 99.5, 99.9, 100)
_POLICIES = {"power_of_k": policies.power_of_k, "masb": masb.masb}
_MODEL = machines_lib.BLOOM_176B

Row = dict[str, Any]


@dataclasses.dataclass(kw_only=True)
class UtilisationStudy:
  """The recipe; see configs/utilisation.py.

  Attributes:
    trace: recorded requests, in Azure's format.
    table: measured times, in splitwise-sim's format.
    machines: H100 machines of each cluster.
    prompt_machines: of them, in the cluster that splits phases.
    chunk_tokens: of the cluster that chunks prompts.
    rate_per_s: requests a second; the trace's arrivals are scaled.
    bins: of time, in the maps of clusters.
    gap_requests: how many requests, from the trace's start, the plain
      simulation follows token by token for their longest gaps.
    cell_machines: of the cell where placement is mapped.
    cell_hours: how long.
    seed: of the cell's trace.
  """

  trace: str = "../shared/data/llm_serving/azure_llm_trace_conv.csv"
  table: str = "../shared/data/llm_serving/splitwise_perf_model.csv"
  machines: int = 10
  prompt_machines: int = 4
  chunk_tokens: int = 512
  rate_per_s: float = 19.0
  bins: int = 120
  gap_requests: int = 3000
  cell_machines: int = 60
  cell_hours: float = 2.0
  seed: int = 0

  def run(self) -> study.Study:
    """Simulates, with a progress bar.

    Raises:
      ValueError: if a file is missing or not valid, or a setting is not.
    """
    if not 0 < self.prompt_machines < self.machines:
      raise ValueError(
        f"prompt_machines is {self.prompt_machines} of {self.machines} "
        "machines; expected one or more, and fewer than all"
      )
    for name in ("chunk_tokens", "rate_per_s", "bins", "gap_requests"):
      traces.check_positive(name, getattr(self, name))
    recorded = traces.load(self.trace).at_rate(self.rate_per_s)
    kinds = machines_lib.dgx(self.table)
    clusters = self.clusters(kinds["H100"])
    with progress.Progress() as bars:
      steps = 1 + len(clusters) + len(_POLICIES)
      task = bars.add_task("utilisation", total=steps)
      runs = sweeps.sweep([sweeps.Case(one) for one in clusters], [recorded])
      bars.advance(task)
      alone = slo_lib.unloaded(recorded, kinds["A100"])
      rows = []
      for cluster, run in zip(clusters, runs, strict=True):
        row = _served(cluster, run, recorded, alone, self.bins)
        rows.append(row | {"gap_s": self._gaps(cluster, recorded)})
        bars.advance(task)
      cells = []
      for name in _POLICIES:
        cells.append(self._cell(name))
        bars.advance(task)
    data = {"percents": list(PERCENTS), "clusters": rows, "cells": cells}
    draw = functools.partial(utilisation_picture.draw, data)
    return study.Study([self.seed], data, claims(data), draw)

  def clusters(
    self, spec: machines_lib.MachineSpec
  ) -> list[cluster_lib.Cluster]:
    """Whole prompts, chunked prompts, and split phases, on equal machines."""
    prompt, count = self.prompt_machines, self.machines
    return [
      search.undivided("whole prompts", _MODEL, (spec, count)),
      search.undivided(
        "chunked prompts",
        _MODEL,
        (spec, count),
        chunk_tokens=self.chunk_tokens,
      ),
      search.split(
        "split phases", _MODEL, (spec, prompt), (spec, count - prompt)
      ),
    ]

  def _gaps(
    self, cluster: cluster_lib.Cluster, recorded: traces.Trace
  ) -> list[float]:
    """Percentiles of the longest wait between two tokens of a request."""
    part = traces.Trace(
      recorded.arrival_s[: self.gap_requests],
      recorded.prompt_tokens[: self.gap_requests],
      recorded.output_tokens[: self.gap_requests],
    )
    gaps = reference.request_table(cluster, part, gaps=True).longest_gap_s
    return _percentiles(gaps[part.output_tokens > 1])

  def _cell(self, name: str) -> Row:
    """The use of every machine at the end of every period, under a policy."""
    spec = generator.Spec(
      machines=self.cell_machines,
      hours=self.cell_hours,
      seed=self.seed,
      requested=0.95,
    )
    maps, waiting = [], []
    for record, cell in replay.steps(
      generator.generate(spec), _POLICIES[name](), seed=self.seed
    ):
      capacity = np.asarray(cell.capacity)[:, 0]
      load = np.asarray(cell.load)[:, 0]
      share = np.where(capacity > 0, load / np.maximum(capacity, 1e-9), np.nan)
      maps.append(share[np.asarray(cell_lib.present(cell))])
      waiting.append(record.waiting)
    rows = max(len(column) for column in maps)
    table = [
      [*map(float, column), *[None] * (rows - len(column))] for column in maps
    ]
    use = np.concatenate(maps)
    return {
      "policy": name,
      "use": table,
      "use_percentiles": _percentiles(use),
      "overloaded_share": float((use > 1).mean()),
      "waiting": waiting,
    }


def _served(
  cluster: cluster_lib.Cluster,
  run: sweeps.ClusterRun,
  trace: traces.Trace,
  alone: dict[str, np.ndarray],
  bins: int,
) -> Row:
  """Busy shares by machine and time; percentiles of latencies."""
  verdict = slo_lib.check(run.requests, alone)
  end = float(trace.arrival_s[-1])
  row: Row = {
    "cluster": cluster.name,
    "busy": activity.busy_shares(run, trace, bins=bins, end_s=end).tolist(),
    "in_work": np.round(
      activity.requests_in_work(run, trace, bins=bins, end_s=end), 2
    ).tolist(),
    "end_s": end,
    "met": verdict.met,
    "binding": verdict.worst[1],
    "unfinished": run.requests.unfinished,
  }
  for name in ("ttft", "tbt", "e2e"):
    latency = getattr(run.requests, f"{name}_s")
    row[f"{name}_s"] = _percentiles(latency[np.isfinite(latency)])
    slowdown = latency / alone[name]
    row[f"{name}_slowdown"] = _percentiles(slowdown[np.isfinite(slowdown)])
  return row


def _percentiles(values: np.ndarray) -> list[float]:
  return np.percentile(values, PERCENTS).tolist()


def claims(data: dict[str, Any]) -> list[results.Claim]:
  """Tails of latencies, evenness of use, and overload."""
  at = data["percents"].index(99)
  made = []
  for row in data["clusters"]:
    name = row["cluster"].replace(" ", "_")
    busy, work = np.array(row["busy"]), np.array(row["in_work"]).mean(1)
    made += [
      results.Claim(f"{name}_ttft_p99_slowdown", row["ttft_slowdown"][at]),
      results.Claim(f"{name}_e2e_p99_slowdown", row["e2e_slowdown"][at]),
      results.Claim(f"{name}_longest_gap_p99_s", row["gap_s"][at]),
      results.Claim(f"{name}_busy_share", float(busy.mean())),
      results.Claim(f"{name}_idlest_machine_busy", float(busy.mean(1).min())),
      results.Claim(f"{name}_most_over_mean_in_work", work.max() / work.mean()),
      results.Claim(f"{name}_unfinished", row["unfinished"]),
    ]
  made += [
    results.Claim(f"{row['policy']}_overloaded_share", row["overloaded_share"])
    for row in data["cells"]
  ]
  return made
