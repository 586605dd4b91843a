# SPDX-License-Identifier: Apache-2.0
"""The loop closed: what each decoder costs in the machine room.

Decoders are recorded on the same problems, become loads of equal problem
rates, and are served by simulated clusters and by a row under a power budget.
The lengths are those of the models that were recorded; the times, watts and
prices those of the served model and machine that the recipe names.
"""

from collections.abc import Mapping, Sequence
import dataclasses
import os
import pathlib
from typing import Any

import numpy as np
from rich import progress as rich_progress

from jaxttc import results
from jaxttc.cost import budget as budget_lib
from jaxttc.runtime import driver
from jaxttc.simulation import study as study_lib
from jaxttc.simulation.clusters import cluster as cluster_lib
from jaxttc.simulation.clusters import machines as machines_lib
from jaxttc.simulation.clusters import search as search_lib
from jaxttc.simulation.clusters import slo as slo_lib
from jaxttc.simulation.power import planning, policies
from jaxttc.simulation.power import row as row_lib
from jaxttc.solving import (
  comparing,
  decoder_text,
  decoder_traces,
  loading,
  machine_room,
  problem_sets,
  search_rows,
  solve_recipe,
)

_PEAK = 0.79  # of a row as provisioned, over its budget; as in the POLCA study
# Of a request that is scored only, the last token is the first, so the limits
# of its end cannot be tighter than those of its first token.
OBJECTIVE = slo_lib.Objective(e2e=(2.0, 3.0, 6.0))


@dataclasses.dataclass(kw_only=True)
class LoopRecipe:
  """The recipe; see configs/loop.py.

  Attributes:
    problems: what is solved, all with answers.
    methods: the decoders.
    sampling: how tokens are drawn.
    policy: a model file, or the name of one that ships.
    verifier: likewise.
    budget: of each problem.
    seed: of sampling.
    workdir: where recorded traces are kept.
    table: measured times, in splitwise-sim's format.
    rate_per_s: problems a second that clusters serve.
    sizes: machines of the clusters that are tried.
    requests: of a simulated trace.
    seeds: of arrivals.
    servers: that the power budget of the row is provisioned for.
    most: servers to try at most.
    row_s: how long the row is simulated.
    dt: its step.
  """

  problems: problem_sets.ProblemSource
  methods: tuple[comparing.MethodSpec, ...]
  sampling: solve_recipe.SamplingOptions
  policy: str = "arithmetic_lm"
  verifier: str = "arithmetic_prm"
  budget: str = "generated_tokens=480"
  seed: int = 0
  workdir: str = "runs/loop"
  table: str = "../shared/data/llm_serving/splitwise_perf_model.csv"
  rate_per_s: float = 10.0
  sizes: tuple[int, ...] = (1, 2, 3, 4, 6, 8, 12, 16)
  requests: int = 12000
  seeds: tuple[int, ...] = (0, 1)
  servers: int = 40
  most: int = 60
  row_s: float = 900.0
  dt: float = 0.1

  def run(self) -> study_lib.Study:
    """Records, serves and governs, with progress bars.

    Raises:
      ValueError: if a file is missing or not valid, or a setting is not.
    """
    labels = [method.label for method in self.methods]
    if not labels or len(set(labels)) < len(labels):
      raise ValueError(f"methods: labels {labels} must be distinct, some")
    if not self.seeds or not self.sizes or min(self.sizes) < 1:
      raise ValueError("seeds and sizes: expected a seed, and sizes above 0")
    kinds = machines_lib.dgx(self.table, machines_lib.LLAMA2_70B)
    with rich_progress.Progress() as bar:
      task = bar.add_task("record", total=len(labels))
      recorded = {}
      for method in self.methods:
        recorded[method.label] = self.recorded(method)
        bar.advance(task)
      task = bar.add_task("serve", total=len(labels) * len(self.seeds))
      served = [
        row
        for label, records in recorded.items()
        for row in self._served(label, records, kinds, bar, task)
      ]
      task = bar.add_task("govern", total=len(labels))
      governed = []
      for label, records in recorded.items():
        governed.append(
          {"decoder": label} | self._governed(records, kinds["H100"])
        )
        bar.advance(task)
    data = {
      "decoders": [_described(*item) for item in recorded.items()],
      "served": served,
      "power": governed,
    }
    data["summary"] = _summary(data)

    def draw(path: str | os.PathLike[str]) -> None:
      # matplotlib is optional.
      from jaxttc.studies import machine_room_picture

      machine_room_picture.draw(data, path)

    return study_lib.Study(self.seeds, data, _claims(data), draw)

  def recorded(
    self, method: comparing.MethodSpec
  ) -> list[decoder_traces.Record]:
    """The records of a method: read from the work directory, or made.

    Raises:
      ValueError: if a kept file is not valid, or was recorded otherwise.
    """
    path = pathlib.Path(self.workdir) / f"{method.label}.jsonl"
    about = {
      "decoder": method.decoder,
      "problems": dataclasses.asdict(self.problems),
      "sampling": self.sampling.identity(),
      "policy": self.policy,
      "verifier": self.verifier,
      "budget": self.budget,
      "seed": self.seed,
    }
    about["problems"]["steps"] = list(self.problems.steps)
    if path.exists():
      kept, records = decoder_traces.read(path)
      if kept != about:
        differs = sorted(k for k in about if kept.get(k) != about[k])
        raise ValueError(
          f"{path}: recorded with another {', '.join(differs) or 'recipe'}; "
          "remove it, or choose another workdir"
        )
      return records
    records = self._record(method)
    decoder_traces.save(path, about, records)
    return records

  def _record(
    self, method: comparing.MethodSpec
  ) -> list[decoder_traces.Record]:
    decoder = decoder_text.build(method.decoder)
    settings = self.sampling.build_for(method.decoder)
    policy, verifier = loading.load_models(self.policy, self.verifier)
    problems = self.problems.load()
    pairs = decoder_traces.record(
      *driver.local_engines(policy, verifier, decoder, settings, slots=16),
      decoder,
      self.problems.prompts(problems),
      [f"problem {i}" for i in range(len(problems))],
      budget=budget_lib.Budget.parse(self.budget),
      settings=settings,
      seed=self.seed,
    )
    return [
      dataclasses.replace(
        record,
        solved=bool(
          problem_sets.is_right(problems[result.problem], result.completion)
        ),
      )
      for result, record in sorted(pairs, key=lambda pair: pair[0].problem)
    ]

  def _served(
    self,
    label: str,
    records: Sequence[decoder_traces.Record],
    kinds: Mapping[str, machines_lib.MachineSpec],
    bar: rich_progress.Progress,
    task: Any,
  ) -> list[dict[str, Any]]:
    """A row a seed, way of sharing, and cluster."""
    clusters = room_clusters(kinds["H100"], self.sizes)
    works = {
      shared: machine_room.workload(records, kinds["H100"], shared=shared)
      for shared in (True, False)
    }
    rows = []
    for seed in self.seeds:
      loads = [
        machine_room.poisson_load(
          work, rate_per_s=self.rate_per_s, requests=self.requests, seed=seed
        )
        for work in works.values()
      ]
      found = machine_room.serve(clusters, loads, kinds["A100"], OBJECTIVE)
      rows += [
        {"decoder": label, "seed": seed, "shared": shared}
        | {"kind": "split" if cluster.prompt else "undivided"}
        | dataclasses.asdict(one)
        for shared, outcomes in zip(works, found, strict=True)
        for cluster, one in zip(clusters, outcomes, strict=True)
      ]
      bar.advance(task)
    return rows

  def _governed(
    self,
    records: Sequence[decoder_traces.Record],
    spec: machines_lib.MachineSpec,
  ) -> dict[str, Any]:
    """How many servers a power budget carries under this decoder's rounds."""
    work = machine_room.workload(records, spec, shared=True)
    alone = machine_room.rounds_as_stream(
      work, spec, np.zeros(len(work.solved)), np.arange(len(work.solved))
    )

    def row(servers: int, seed: int, budget_w: float, policy) -> row_lib.Row:
      return search_rows.diurnal_row(
        work,
        spec,
        servers=servers,
        seed=seed,
        horizon_s=self.row_s,
        policy=policy,
        budget_w=budget_w,
      )

    base = row_lib.simulate_rows(
      [
        row(self.servers, s, search_rows.FREE_W, policies.no_cap())
        for s in self.seeds
      ],
      horizon_s=self.row_s,
      dt=self.dt,
    )
    budget_w = max(float(one.readings_w.max()) for one in base) / _PEAK
    found = planning.max_oversubscription(
      lambda servers, seed: row(
        servers, seed, budget_w, policies.dual_threshold()
      ),
      servers=self.servers,
      most=self.most,
      seeds=self.seeds,
      horizon_s=self.row_s,
      dt=self.dt,
    )
    return {
      "servers": found.servers,
      "extra": found.extra,
      "most": self.most,
      "prefill_share": float(
        alone.prompt_s.sum() / (alone.prompt_s + alone.token_s).sum()
      ),
      "budget_w_per_server": budget_w / self.servers,
      "tried": [one._asdict() for one in found.tried],
      "series": _minutes(base[0]),
    }


def room_clusters(
  spec: machines_lib.MachineSpec, sizes: Sequence[int]
) -> list[cluster_lib.Cluster]:
  """Undivided and split clusters of one kind of machine, of these sizes."""
  model = machines_lib.LLAMA2_70B
  made = []
  for size in sizes:
    made.append(search_lib.undivided(f"{size} undivided", model, (spec, size)))
    pools = {round(size * share) for share in (0.3, 0.5, 0.7)}
    made += [
      search_lib.split(
        f"{p} prompt, {size - p} token", model, (spec, p), (spec, size - p)
      )
      for p in sorted(pools)
      if 0 < p < size
    ]
  return made


def _minutes(found: Any) -> list[float]:
  """Power over budget-free peak, in 120 means over the horizon."""
  watts = found.power_w / found.power_w.max()
  return [float(part.mean()) for part in np.array_split(watts, 120)]


def _described(
  label: str, records: Sequence[decoder_traces.Record]
) -> dict[str, Any]:
  """Counts a problem of one decoder."""
  costs = [record.cost() for record in records]
  return {
    "decoder": label,
    "problems": len(records),
    "accuracy": float(np.mean([record.solved for record in records])),
    "rounds": float(
      np.mean([1 + max(c.round for c in r.calls) for r in records])
    ),
  } | {
    name: float(np.mean([getattr(cost, name) for cost in costs]))
    for name in ("prompt_tokens", "generated_tokens", "verifier_tokens")
  }


def _summary(data: Mapping[str, Any]) -> list[dict[str, Any]]:
  """A row a decoder, sharing and kind of cluster: means over seeds.

  The cluster is the smallest that meets the objective under every seed.
  """
  made = []
  for one in data["decoders"]:
    for shared in (True, False):
      for kind in ("undivided", "split"):
        mine = [
          row
          for row in data["served"]
          if (row["decoder"], row["shared"], row["kind"])
          == (one["decoder"], shared, kind)
        ]
        made.append(
          {"decoder": one["decoder"], "shared": shared, "kind": kind}
          | _smallest(mine)
        )
  return made


_MEANS = (
  "joules_per_solved",
  "busy_joules_per_solved",
  "dollars_per_solved",
  "utilisation",
  "prefill_share",
  "worst",
)


def _smallest(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
  names = dict.fromkeys(row["cluster"] for row in rows)
  grouped = [[r for r in rows if r["cluster"] == name] for name in names]
  met = [group for group in grouped if all(r["met"] for r in group)]
  if not met:
    return {"machines": None, "cluster": None}
  best = min(met, key=lambda g: (g[0]["machines"], max(r["worst"] for r in g)))
  return {
    "machines": best[0]["machines"],
    "cluster": best[0]["cluster"],
    "joules_by_seed": [r["joules_per_solved"] for r in best],
    "binding": max(best, key=lambda r: r["worst"])["binding"],
  } | {name: float(np.mean([r[name] for r in best])) for name in _MEANS}


def _claims(data: Mapping[str, Any]) -> list[results.Claim]:
  """How many were compared, and each decoder's figures on a split cluster."""
  summary = data["summary"]
  compared = [
    row
    for row in summary
    if (row["shared"], row["kind"]) == (True, "split")
    and row["machines"] is not None
  ]
  claims = [results.Claim("decoders_compared", len(compared), bar=6)]

  def at(label: str, shared: bool, kind: str) -> Mapping[str, Any]:
    return next(
      row
      for row in summary
      if (row["decoder"], row["shared"], row["kind"]) == (label, shared, kind)
    )

  for one in data["decoders"]:
    label = one["decoder"]
    claims.append(results.Claim(f"accuracy_{label}", one["accuracy"]))
    best = at(label, True, "split")
    if best["machines"] is None:
      continue
    joules = best["joules_by_seed"]
    claims += [
      results.Claim(
        f"joules_per_solved_{label}",
        best["joules_per_solved"],
        min(*joules, best["joules_per_solved"]),
        max(*joules, best["joules_per_solved"]),
      ),
      results.Claim(f"dollars_per_solved_{label}", best["dollars_per_solved"]),
      results.Claim(f"machines_{label}", best["machines"]),
    ]
    for name, other in (
      ("no_sharing", at(label, False, "split")),
      ("undivided", at(label, True, "undivided")),
    ):
      if other["machines"] is not None:
        claims.append(
          results.Claim(f"machines_{name}_{label}", other["machines"])
        )
    plain = at(label, False, "split")
    if plain["machines"] is not None:
      saving = 1 - best["joules_per_solved"] / plain["joules_per_solved"]
      claims.append(results.Claim(f"sharing_saves_{label}", saving))
  claims += [
    results.Claim(f"extra_servers_{row['decoder']}", row["extra"])
    for row in data["power"]
  ]
  return claims
