# SPDX-License-Identifier: Apache-2.0
"""The study of Splitwise: what splitting phases gains, and how fast it is.

Throughput is the largest Poisson rate that meets all nine latency objectives.
Budgets are those of so many undivided H100 machines; designs are grids of pool
sizes inside them. Every baseline is tried with two queues and every budget's
best counts. Chunked prompts, which the source does not compare with, have
figures of their own.
"""

from collections.abc import Mapping, Sequence
import dataclasses
import math
import time
from typing import Any

import numpy as np
from rich import progress

from jaxttc import results
from jaxttc.simulation import study, traces, workloads
from jaxttc.simulation.clusters import cluster as cluster_lib
from jaxttc.simulation.clusters import machines as machines_lib
from jaxttc.simulation.clusters import (
  reference,
  search,
  splitwise_picture,
  sweeps,
)

_BASELINE, _CHUNKED, _SPLIT = "baseline", "chunked", "split"
_CHUNKS = (512, 2048)
_ROUTERS = ("least_tokens", "least_requests")
_CHEAPER = 0.8


@dataclasses.dataclass(kw_only=True)
class SplitwiseStudy:
  """The recipe; see configs/splitwise.py.

  Attributes:
    trace: recorded requests, in Azure's format.
    table: measured times, in splitwise-sim's format.
    machines: undivided H100 machines that set the budgets.
    fleet: machines of the clusters whose simulation is timed.
    steps: pool sizes tried of each design.
    requests: of a run.
    seeds: of Poisson arrivals and resampled lengths.
    rounds: of bisection.
    lanes: designs that are simulated at once where speed is measured.
    sizes: requests of the runs that time is measured over.
  """

  trace: str = "../shared/data/llm_serving/azure_llm_trace_conv.csv"
  table: str = "../shared/data/llm_serving/splitwise_perf_model.csv"
  machines: int = 10
  fleet: int = 40
  steps: int = 5
  requests: int = 3000
  seeds: tuple[int, ...] = (0, 1)
  rounds: int = 6
  lanes: int = 64
  sizes: tuple[int, ...] = (2000, 8000)

  def run(self) -> study.Study:
    """Measures throughputs and speeds.

    Raises:
      ValueError: if a file is missing or not valid, or a setting is not.
    """
    for name in ("machines", "fleet", "steps", "requests", "rounds", "lanes"):
      traces.check_positive(name, getattr(self, name))
    recorded = traces.load(self.trace)
    kinds = machines_lib.dgx(self.table)
    bars = progress.Progress(
      progress.TextColumn("{task.description}"),
      progress.BarColumn(),
      progress.MofNCompleteColumn(),
      progress.TimeElapsedColumn(),
    )
    with bars:
      rows = [
        row
        for name, source, used in (
          ("conversation", recorded, kinds),
          ("coding", workloads.CODE, kinds),
          ("conversation, flat decode", recorded, flat_decode(kinds)),
        )
        for row in self._throughputs(name, source, used, bars)
      ]
      speed = self._speed(recorded, kinds, bars)
      growth = self._growth(kinds, bars)
    claims = [*_throughput_claims(rows), *_speed_claims(speed, growth)]
    data = {"throughput": rows, "speed": speed, "growth": growth}
    return study.Study(
      list(self.seeds),
      data,
      claims,
      lambda path: splitwise_picture.draw(data, path),
    )

  def _throughputs(
    self,
    workload: str,
    source: workloads.Lengths | traces.Trace,
    kinds: Mapping[str, machines_lib.MachineSpec],
    bars: progress.Progress,
  ) -> list[dict[str, Any]]:
    """A row a cluster of either budget."""
    h100 = kinds["H100"]
    cost = self.machines * h100.cost_per_h
    power = self.machines * h100.provisioned
    listed = [
      (kind, 1.0, cluster)
      for kind, cluster in undivided_clusters(kinds, cost, power)
    ]
    for share in (1.0, _CHEAPER):
      listed += [
        (_SPLIT, share, cluster)
        for cluster in split_clusters(kinds, share * cost, power, self.steps)
      ]
    load = search.Load(
      workload=source,
      reference=kinds["A100"],
      requests=self.requests,
      seeds=self.seeds,
      rounds=self.rounds,
      rates=(0.3 * self.machines, 6.0 * self.machines),
    )
    total = len(listed) * len(self.seeds) * (self.rounds + 1)
    task = bars.add_task(f"throughput, {workload}", total=total)
    rates = search.max_throughput(
      [cluster for _, _, cluster in listed],
      load,
      advance=lambda n: bars.advance(task, n),
    )
    return [
      {
        "workload": workload,
        "kind": kind,
        "budget": share,
        "design": cluster.name,
        "machines": len(cluster.machines),
        "cost_share": cluster.cost_per_h / cost,
        "power_share": cluster.provisioned / power,
        "rates": rate.tolist(),
      }
      for (kind, share, cluster), rate in zip(listed, rates, strict=True)
    ]

  def _speed(
    self,
    recorded: traces.Trace,
    kinds: Mapping[str, machines_lib.MachineSpec],
    bars: progress.Progress,
  ) -> list[dict[str, Any]]:
    """Requests a CPU second of a sweep and of the reference, by rate."""
    h100, model = kinds["H100"], machines_lib.BLOOM_176B
    pools = [1 + i % (self.fleet - 1) for i in range(self.lanes)]
    swept = [
      search.split(str(p), model, (h100, p), (h100, self.fleet - p))
      for p in pools
    ]
    middle = swept[len(swept) // 2]
    rates = [recorded.rate_per_s] + [self.fleet * each for each in (1.5, 6.0)]
    task = bars.add_task("speed", total=2 * len(rates))
    rows = []
    for i, rate in enumerate(rates):
      cases = [sweeps.Case(cluster, 0, rate) for cluster in swept]
      if i == 0:
        sweeps.sweep(cases, [recorded.at_rate(1e6)])  # compiles
      seconds, runs = _timed(sweeps.sweep, cases, [recorded])
      bars.advance(task)
      plain, found = _timed(reference.simulate, middle, recorded.at_rate(rate))
      bars.advance(task)
      arrival = cluster_lib.ticks(recorded.at_rate(rate).arrival_s)
      same = np.array_equal(
        runs[len(swept) // 2].requests.e2e_s, found.finished - arrival
      )
      rows.append(
        {
          "rate_per_s": rate,
          "recorded": i == 0,
          "lanes": len(swept),
          "requests_per_s": len(swept) * len(recorded) / seconds,
          "reference_requests_per_s": len(recorded) / plain,
          "reference_events_per_request": found.events / len(recorded),
          "equal": same,
        }
      )
    return rows

  def _growth(
    self,
    kinds: Mapping[str, machines_lib.MachineSpec],
    bars: progress.Progress,
  ) -> list[dict[str, Any]]:
    """CPU seconds of a sweep by its requests, under load and overload."""
    h100, model = kinds["H100"], machines_lib.BLOOM_176B
    clusters = [
      search.split("split", model, (h100, 5), (h100, 3)),
      search.undivided("undivided", model, (h100, 8)),
    ]
    task = bars.add_task("growth", total=2 * len(self.sizes))
    rows = []
    for size in self.sizes:
      trace = workloads.generate(
        workloads.CONVERSATION, rate_per_s=1.0, requests=size, seed=0
      )
      cases = [sweeps.Case(clusters[i % 2]) for i in range(32)]
      sweeps.sweep(cases, [trace.at_rate(1e6)])  # compiles
      for name, rate in (("load", 8.0), ("overload", 64.0)):
        scaled = trace.at_rate(rate)
        seconds, _ = _timed(sweeps.sweep, cases, [scaled])
        rows.append({"load": name, "requests": size, "seconds": seconds})
        bars.advance(task)
    return rows


def flat_decode(
  kinds: Mapping[str, machines_lib.MachineSpec],
) -> dict[str, machines_lib.MachineSpec]:
  """Machines whose decode iterations take as long for any batch as for one.

  So they do in the source's simulator, which looks the time of a batch up by
  its number of sequences on the table's axis of prompt tokens.
  """
  return {
    name: dataclasses.replace(
      spec,
      performance=dataclasses.replace(
        spec.performance,
        decode=spec.performance.decode._replace(sequence=0.0, cached=0.0),
      ),
    )
    for name, spec in kinds.items()
  }


def undivided_clusters(
  kinds: Mapping[str, machines_lib.MachineSpec], cost: float, power: float
) -> list[tuple[str, cluster_lib.Cluster]]:
  """As many machines of one kind as the budgets allow, by kind of batching."""
  model = machines_lib.BLOOM_176B
  made = []
  for name in ("H100", "A100"):
    spec = kinds[name]
    count = _affordable(spec, cost, power)
    for router in _ROUTERS:
      made.append(
        (
          _BASELINE,
          search.undivided(
            f"{name} x{count}, {router}", model, (spec, count), router=router
          ),
        )
      )
    for chunk in _CHUNKS:
      made.append(
        (
          _CHUNKED,
          search.undivided(
            f"{name} x{count}, chunks of {chunk}",
            model,
            (spec, count),
            chunk_tokens=chunk,
          ),
        )
      )
  return made


def split_clusters(
  kinds: Mapping[str, machines_lib.MachineSpec],
  cost: float,
  power: float,
  steps: int,
) -> list[cluster_lib.Cluster]:
  """Splits of four pairs of kinds, with all that the budgets allow."""
  model = machines_lib.BLOOM_176B
  pairs = {
    "HH": ("H100", "H100"),
    "HHcap": ("H100", "H100 capped"),
    "HA": ("H100", "A100"),
    "AA": ("A100", "A100"),
  }
  made = []
  for name, (prompt, token) in pairs.items():
    first, second = kinds[prompt], kinds[token]
    most = _affordable(first, cost, power)
    # From three tenths of the machines that compute prompts to nine tenths.
    counts = np.unique(np.linspace(0.3 * most, 0.9 * most, steps).astype(int))
    for count in counts[counts > 0].tolist():
      rest = _affordable(
        second,
        cost - count * first.cost_per_h,
        power - count * first.provisioned,
      )
      if rest:
        made.append(
          search.split(
            f"{name} {count}P {rest}T", model, (first, count), (second, rest)
          )
        )
  return made


def _affordable(
  spec: machines_lib.MachineSpec, cost: float, power: float
) -> int:
  slack = 1 + 1e-9
  return math.floor(
    slack * min(cost / spec.cost_per_h, power / spec.provisioned)
  )


def _timed(call: Any, *arguments: Any) -> tuple[float, Any]:
  """(CPU seconds of this process, what came back)."""
  start = time.process_time()
  value = call(*arguments)
  return time.process_time() - start, value


def _best(
  rows: Sequence[Mapping[str, Any]], design: str = "", **where: Any
) -> np.ndarray:
  """Rates, by seed, of the row with the largest mean rate.

  Args:
    rows: clusters.
    design: what the names of those that count begin with.
    **where: the fields that they have.
  """
  chosen = [
    row["rates"]
    for row in rows
    if row["design"].startswith(design)
    and all(row[name] == value for name, value in where.items())
  ]
  return np.array(max(chosen, key=np.mean))


def _ratio(name: str, over: Any, under: Any, bar: Any = None) -> results.Claim:
  """A claim of a ratio of means, with the span of the seeds' ratios."""
  under = np.maximum(under, 1e-9)
  each = over / under
  value = float(np.mean(over) / np.mean(under))
  low, high = min(float(each.min()), value), max(float(each.max()), value)
  return results.Claim(name, value, low, high, bar)


def _throughput_claims(
  rows: Sequence[Mapping[str, Any]],
) -> list[results.Claim]:
  """The named claims are of the conversation, as the source's headline is."""
  claims = []
  for workload, suffix in (
    ("conversation", ""),
    ("coding", "_coding"),
    ("conversation, flat decode", "_flat_decode"),
  ):
    mine = [row for row in rows if row["workload"] == workload]
    baseline = _best(mine, kind=_BASELINE)
    chunked = _best(mine, kind=_CHUNKED)
    equal = _best(mine, kind=_SPLIT, budget=1.0)
    cheaper = _best(mine, kind=_SPLIT, budget=_CHEAPER)
    bars = (None, None) if suffix else (2.35, 1.4)
    claims += [
      _ratio(
        f"throughput_at_equal_cost_and_power{suffix}", equal, baseline, bars[0]
      ),
      _ratio(
        f"throughput_at_20pct_lower_cost{suffix}", cheaper, baseline, bars[1]
      ),
      _ratio(f"throughput_over_chunked_prompts{suffix}", equal, chunked),
    ]
    # Of one kind of machine, which the best of all kinds hides.
    for design, kind in (("AA", "A100"), ("HH", "H100")):
      claims.append(
        _ratio(
          f"throughput_{design.lower()}_over_undivided_{kind.lower()}{suffix}",
          _best(mine, f"{design} ", kind=_SPLIT, budget=1.0),
          _best(mine, f"{kind} x", kind=_BASELINE),
        )
      )
  return claims


def _speed_claims(
  speed: Sequence[Mapping[str, Any]], growth: Sequence[Mapping[str, Any]]
) -> list[results.Claim]:
  ratios = [
    row["requests_per_s"] / row["reference_requests_per_s"] for row in speed
  ]
  exponents = []
  for load in ("load", "overload"):
    mine = [row for row in growth if row["load"] == load]
    slope, _ = np.polyfit(
      np.log([row["requests"] for row in mine]),
      np.log([row["seconds"] for row in mine]),
      1,
    )
    exponents.append(float(slope))
  return [
    results.Claim(
      "sweep_requests_per_s_over_python_reference", ratios[0], bar=20.0
    ),
    results.Claim("sweep_over_python_reference_at_least_load", min(ratios)),
    results.Claim("sweep_requests_per_s", speed[0]["requests_per_s"]),
    results.Claim(
      "time_exponent_in_requests", max(exponents), bar=1.15, comparison="<="
    ),
    results.Claim(
      "times_unlike_python_reference",
      float(sum(not row["equal"] for row in speed)),
      bar=0.0,
      comparison="<=",
    ),
  ]
