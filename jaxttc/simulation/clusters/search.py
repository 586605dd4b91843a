# SPDX-License-Identifier: Apache-2.0
"""Searches over clusters: how much each serves, and which to build.

The throughput of a cluster is the largest Poisson rate at which it meets an
objective. It is found by bisection of the rate's logarithm, for all clusters
and seeds at once: a round is one compiled sweep.
"""

from collections.abc import Callable, Sequence
import dataclasses

from jaxtyping import Float
import numpy as np

from jaxttc.simulation import traces, workloads
from jaxttc.simulation.clusters import cluster as cluster_lib
from jaxttc.simulation.clusters import machines as machines_lib
from jaxttc.simulation.clusters import slo as slo_lib
from jaxttc.simulation.clusters import sweeps

_Workload = workloads.Lengths | traces.Trace


@dataclasses.dataclass(frozen=True, kw_only=True)
class Load:
  """What clusters are tried under.

  Attributes:
    workload: where lengths come from.
    reference: the machine that slowdowns are over.
    objective: what must hold.
    requests: of a run.
    seeds: one run a seed.
    rates: between which throughput is sought, requests a second.
    rounds: of bisection.
  """

  workload: _Workload
  reference: machines_lib.MachineSpec
  objective: slo_lib.Objective = slo_lib.Objective()
  requests: int = 4000
  seeds: tuple[int, ...] = (0, 1, 2)
  rates: tuple[float, float] = (1.0, 400.0)
  rounds: int = 8

  def __post_init__(self):
    if not 0 < self.rates[0] < self.rates[1]:
      raise ValueError(f"load: rates {self.rates} must be positive and rise")
    if not self.seeds or self.rounds < 1 or self.requests < 1:
      raise ValueError("load: expected a seed, a round and a request or more")

  def traces(self) -> list[traces.Trace]:
    """A Poisson trace a seed, at one request a second."""
    return [
      workloads.generate(
        self.workload, rate_per_s=1.0, requests=self.requests, seed=seed
      )
      for seed in self.seeds
    ]


def max_throughput(
  clusters: Sequence[cluster_lib.Cluster],
  load: Load,
  *,
  advance: Callable[[int], object] | None = None,
) -> Float[np.ndarray, "clusters seeds"]:
  """The largest rate at which each cluster meets the objective.

  Args:
    clusters: what to try.
    load: under which.
    advance: called with the number of runs done since the last call.

  Returns:
    Requests a second; 0 where even the least rate is too much. Off by at most
    the last bisection's step, downwards.

  Raises:
    ValueError: if a cluster cannot serve some request at all.
  """
  many = load.traces()
  alone = [slo_lib.unloaded(trace, load.reference) for trace in many]
  shape = (len(clusters), len(many))
  low = np.full(shape, np.log(load.rates[0]))
  high = np.full(shape, np.log(load.rates[1]))
  served = np.zeros(shape)
  for turn in range(load.rounds + 1):
    # The first round asks whether the least rate is met at all.
    middle = low if turn == 0 else (low + high) / 2
    cases = [
      sweeps.Case(cluster, seed, float(np.exp(middle[i, seed])))
      for i, cluster in enumerate(clusters)
      for seed in range(len(many))
    ]
    runs = sweeps.sweep(cases, many, advance=advance)
    met = np.array(
      [
        slo_lib.check(run.requests, alone[case.trace], load.objective).met
        for case, run in zip(cases, runs, strict=True)
      ]
    ).reshape(shape)
    served = np.where(met, np.exp(middle), served)
    low = np.where(met, middle, low)
    if turn:
      high = np.where(met, high, middle)
  return served


@dataclasses.dataclass(frozen=True)
class Found:
  """One cluster of a search.

  Attributes:
    cluster: the cluster.
    rates: its throughput under each seed, requests a second.
    pareto: whether no other serves as much for as little cost and power.
  """

  cluster: cluster_lib.Cluster
  rates: tuple[float, ...]
  pareto: bool

  @property
  def rate_per_s(self) -> float:
    """Its mean throughput."""
    return float(np.mean(self.rates))


def design_search(
  clusters: Sequence[cluster_lib.Cluster],
  load: Load,
  *,
  cost_per_h: float = np.inf,
  provisioned: float = np.inf,
  advance: Callable[[int], object] | None = None,
) -> list[Found]:
  """Tries all clusters within budgets of cost and power; the best come first.

  Raises:
    ValueError: if no cluster is within the budgets, or `max_throughput` does.
  """
  inside = [
    cluster
    for cluster in clusters
    if cluster.cost_per_h <= cost_per_h * (1 + 1e-9)
    and cluster.provisioned <= provisioned * (1 + 1e-9)
  ]
  if not inside:
    raise ValueError(
      f"design search: none of {len(clusters)} clusters costs at most "
      f"{cost_per_h:g} an hour and draws at most {provisioned:g}"
    )
  rates = max_throughput(inside, load, advance=advance)
  mean = rates.mean(1)
  points = np.array(
    [
      [-r, c.cost_per_h, c.provisioned]
      for r, c in zip(mean, inside, strict=True)
    ]
  )
  found = []
  for i, cluster in enumerate(inside):
    better = (points <= points[i]).all(1) & (points < points[i]).any(1)
    found.append(Found(cluster, tuple(rates[i].tolist()), not better.any()))
  return sorted(found, key=lambda f: -f.rate_per_s)


@dataclasses.dataclass(frozen=True)
class Advice:
  """Whether to split machines into pools.

  Attributes:
    split: whether the best split cluster serves more than the best other.
    gain: throughput of the former over the latter; inf if that serves nothing.
    best_split: the best split cluster.
    best_undivided: the best of the others, chunked prompts among them.
  """

  split: bool
  gain: float
  best_split: Found
  best_undivided: Found


def should_split(
  spec: machines_lib.MachineSpec,
  machines: int,
  model: machines_lib.ServedModel,
  load: Load,
  *,
  chunk_tokens: int = 512,
) -> Advice:
  """Says whether so many machines serve a workload better split or undivided.

  All splits are tried, against join-shortest-queue with whole prompts and with
  chunked ones.

  Raises:
    ValueError: if there are fewer than two machines, or `max_throughput` does.
  """
  if machines < 2:
    raise ValueError(f"should_split: {machines} machines cannot be split")
  splits = [
    split(f"{p}P {machines - p}T", model, (spec, p), (spec, machines - p))
    for p in range(1, machines)
  ]
  others = [
    undivided("whole prompts", model, (spec, machines)),
    undivided(
      "chunked prompts", model, (spec, machines), chunk_tokens=chunk_tokens
    ),
  ]
  names = {id(cluster) for cluster in splits}
  found = design_search([*splits, *others], load)
  best = next(f for f in found if id(f.cluster) in names)
  other = next(f for f in found if id(f.cluster) not in names)
  gain = (
    best.rate_per_s / other.rate_per_s
    if other.rate_per_s
    else float("inf" if best.rate_per_s else 1.0)
  )
  return Advice(gain > 1, gain, best, other)


def split(
  name: str,
  model: machines_lib.ServedModel,
  prompt: tuple[machines_lib.MachineSpec, int],
  token: tuple[machines_lib.MachineSpec, int],
) -> cluster_lib.Cluster:
  """A split cluster of two pools."""
  return cluster_lib.Cluster(
    name=name, model=model, prompt=(prompt,), token=(token,)
  )


def undivided(
  name: str,
  model: machines_lib.ServedModel,
  machines: tuple[machines_lib.MachineSpec, int],
  *,
  router: str = "least_tokens",
  chunk_tokens: int | None = None,
) -> cluster_lib.Cluster:
  """An undivided cluster of one kind of machines."""
  return cluster_lib.Cluster(
    name=name,
    model=model,
    mixed=(machines,),
    rules=cluster_lib.Rules(router=router, chunk_tokens=chunk_tokens),
  )
