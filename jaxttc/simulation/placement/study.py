# SPDX-License-Identifier: Apache-2.0
"""The study of placement: solvers on hot starts, policies on traces."""

from collections.abc import Callable, Mapping, Sequence
import dataclasses
import functools
import json
import pathlib
import time
from typing import Any

import jax
import numpy as np
from rich import progress as rich_progress
import scipy.stats

from jaxttc import results
from jaxttc.simulation import study as study_lib
from jaxttc.simulation.placement import (
  bounds,
  generator,
  google_2011,
  google_2019,
  instances,
  masb,
  objective,
  picture,
  policies,
  problems,
  proposals,
  rebalancing,
  replay,
  solvers,
)

POLICIES: Mapping[str, Callable[[], policies.Policy]] = {
  "random": policies.random,
  "round_robin": policies.round_robin,
  "first_fit": policies.first_fit,
  "best_fit": policies.best_fit,
  "worst_fit": policies.worst_fit,
  "power_of_k": policies.power_of_k,
  "recorded": policies.recorded,
  "rebalancing": rebalancing.rebalancing,
  "masb": masb.masb,
}
_HEURISTICS = tuple(name for name in solvers.SOLVERS if name != "full_scan")
_READERS = {"2011": google_2011.read, "2019": google_2019.read}
_SETTLED = 2  # periods at the start that no mean counts: tasks all come at once
# Settings that say which parts there are, or that are in a part's name.
_WHAT = (
  "cell_policies",
  "large",
  "large_evals",
  "large_policies",
  "large_solvers",
  "workdir",
)
PARTS = ("small", "medium", "large", "cells", "replay")
_EXACT = 1e-3  # a total this near to the least is the least

Row = dict[str, Any]


@dataclasses.dataclass(kw_only=True)
class BalancingStudy:
  """What to study.

  Attributes:
    seeds: of the instances of the small and the medium comparison.
    small: services, nodes, resources of cells that are scanned in full.
    medium: likewise, of cells where solvers are compared at equal evaluations.
    evals: evaluations of each solver there.
    bound_seconds: time that the integer program gets for a medium cell.
    large: likewise, of the cell where solvers are timed; nodes 0 leaves it out.
    large_solvers: solvers that are timed there.
    large_evals: evaluations of each of them.
    cell_machines: machines of the cells of the small replay.
    cell_hours: length of its traces.
    cell_seeds: of its traces.
    cell_policies: who replays them.
    machines: machines of the cell of the large replay; 0 leaves it out.
    hours: length of its trace.
    large_policies: who replays it.
    requested: share of a cell's CPU that its first tasks ask for.
    trace: a folder to replay in place of the large generated trace.
    layout: its layout, "2011" or "2019".
    workdir: where finished parts are kept, so that a study that was stopped
      goes on; "" keeps nothing. Parts of other settings are not taken.
  """

  seeds: tuple[int, ...] = tuple(range(8))
  small: tuple[int, ...] = (8, 3, 2)
  medium: tuple[int, ...] = (100, 16, 3)
  evals: int = 6000
  bound_seconds: float = 10.0
  large: tuple[int, ...] = (40_000, 12_500, 3)
  large_solvers: tuple[str, ...] = ("greedy", "tabu", "annealing", "genetic")
  large_evals: tuple[int, ...] = (60_000_000, 400_000, 400_000, 600)
  cell_machines: int = 60
  cell_hours: float = 2.0
  cell_seeds: tuple[int, ...] = tuple(range(8))
  cell_policies: tuple[str, ...] = ("best_fit", "power_of_k", "masb")
  machines: int = 12_500
  hours: float = 1.0
  large_policies: tuple[str, ...] = ("power_of_k", "masb")
  requested: float = 0.95
  trace: str = ""
  layout: str = "2011"
  workdir: str = "runs/balancing"

  def run(self) -> study_lib.Study:
    """Runs all parts, with progress bars.

    Raises:
      ValueError: if a policy, a solver or the layout is unknown, or there are
        fewer than two seeds.
    """
    self._check()
    data: dict[str, Any] = {}
    with rich_progress.Progress() as bar:
      for part in PARTS:
        data[part] = self.part(part, bar)
    return study_lib.Study(
      seeds=self.seeds,
      data=data,
      claims=claims(data),
      draw=functools.partial(picture.draw, data),
    )

  def part(self, name: str, bar: rich_progress.Progress) -> list[Row]:
    """The rows of one of `PARTS`, from the workdir what is there already."""
    return getattr(self, f"_{name}")(bar)

  def _kept(self, name: str, make: Callable[[], list[Row]]) -> list[Row]:
    """Rows that were made before with the same settings, or made now."""
    if not self.workdir:
      return make()
    path = pathlib.Path(self.workdir) / f"{name}.json"
    settings = {
      field: value
      for field, value in dataclasses.asdict(self).items()
      if field not in _WHAT
    }
    settings = json.loads(json.dumps(settings))
    if path.exists():
      held = json.loads(path.read_text(encoding="utf-8"))
      kept = {k: v for k, v in held["settings"].items() if k not in _WHAT}
      if kept == settings:
        return held["rows"]
    rows = make()
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps({"settings": settings, "rows": rows})
    path.write_text(text, encoding="utf-8")
    return rows

  def _check(self) -> None:
    for name in (*self.cell_policies, *self.large_policies):
      if name not in POLICIES:
        raise ValueError(f"policy {name!r} is not one of {', '.join(POLICIES)}")
    for name in self.large_solvers:
      solvers.solver(name)
    if len(self.large_evals) != len(self.large_solvers):
      raise ValueError(
        f"large_evals has {len(self.large_evals)} numbers for "
        f"{len(self.large_solvers)} large_solvers"
      )
    if self.layout not in _READERS:
      raise ValueError(f"layout {self.layout!r} is not 2011 or 2019")
    if len(self.seeds) < 2 or len(self.cell_seeds) < 2:
      raise ValueError("an interval needs two seeds of cells at least")

  def _small(self, bar: rich_progress.Progress) -> list[Row]:
    """Against the full scan, on cells that allow one."""
    services, nodes, resources = self.small

    def one(seed: int) -> list[Row]:
      problem = instances.hot_start(
        seed, services=services, nodes=nodes, resources=resources, load=0.6
      )
      full = _timed("full_scan", problem, seed, nodes**services)
      rows: list[Row] = [{"seed": seed, "solver": "full_scan", **full}]
      for name in _HEURISTICS:
        found = _timed(name, problem, seed, self.evals)
        exact = found["total"] <= full["total"] + _EXACT
        rows.append({"seed": seed, "solver": name, "exact": exact, **found})
      return rows

    seeds = bar.track(self.seeds, description="small cells")
    return self._kept("small", lambda: [row for s in seeds for row in one(s)])

  def _medium(self, bar: rich_progress.Progress) -> list[Row]:
    """At equal evaluations, beside what an integer program proves."""
    services, nodes, resources = self.medium

    def one(seed: int) -> list[Row]:
      problem = instances.hot_start(
        seed, services=services, nodes=nodes, resources=resources
      )
      start = time.process_time()
      bound = bounds.integer_bound(problem, seconds=self.bound_seconds)
      rows: list[Row] = [
        {
          "seed": seed,
          "solver": "integer_program",
          "total": bound.lower,
          "optimal": bound.optimal,
          "seconds": time.process_time() - start,
        }
      ]
      before = float(objective.cost(problem, problem.start).total)
      for name in _HEURISTICS:
        found = _timed(name, problem, seed, self.evals)
        rows.append({"seed": seed, "solver": name, "start": before, **found})
      return rows

    seeds = bar.track(self.seeds, description="medium cells")
    return self._kept("medium", lambda: [row for s in seeds for row in one(s)])

  def _large(self, bar: rich_progress.Progress) -> list[Row]:
    """How far and how fast solvers get in a cell of thousands of nodes."""
    services, nodes, resources = self.large
    if not nodes:
      return []

    def one(name: str, evals: int) -> list[Row]:
      problem = instances.hot_start(
        0,
        services=services,
        nodes=nodes,
        resources=resources,
        load=0.6,
        hot_nodes=0.05,
      )
      before = float(objective.cost(problem, problem.start).total)
      found = _timed(name, problem, 0, evals)
      return [{"solver": name, "start": before, **found}]

    rows = []
    pairs = list(zip(self.large_solvers, self.large_evals, strict=True))
    for name, evals in bar.track(pairs, description="large cell"):
      part = f"large_{name}_{services}_{nodes}_{resources}_{evals}"
      rows += self._kept(part, functools.partial(one, name, evals))
    return rows

  def _cells(self, bar: rich_progress.Progress) -> list[Row]:
    """All policies on the same small traces."""

    def one(name: str) -> list[Row]:
      policy = POLICIES[name]()
      rows = []
      for seed in self.cell_seeds:
        trace = generator.generate(self._spec(self.cell_machines, seed))
        found = replay.replay(trace, policy, seed=seed)
        rows.append({"policy": name, "seed": seed, **summary(found)})
      return rows

    rows = []
    for name in bar.track(self.cell_policies, description="small replays"):
      rows += self._kept(f"cells_{name}", functools.partial(one, name))
    return rows

  def _replay(self, bar: rich_progress.Progress) -> list[Row]:
    """Policies on one large trace, period by period."""
    if not (self.machines or self.trace):
      return []

    def one(name: str) -> list[Row]:
      task = bar.add_task(f"large replay, {name}", total=None)

      def watch(record: replay.Record) -> None:
        bar.update(task, advance=1)

      found = replay.replay(self._large_trace(), POLICIES[name](), watch=watch)
      bar.update(task, total=len(found))
      series = [
        {
          "hours": record.time / 3600.0,
          "overloaded": record.overloaded / max(record.machines, 1),
          "migrations": record.migrations,
        }
        for record in found
      ]
      return [{"policy": name, **summary(found), "series": series}]

    rows = []
    for name in self.large_policies:
      rows += self._kept(f"replay_{name}", functools.partial(one, name))
    # Of a generated cell some machines may be away whenever it is measured.
    made = 0 if self.trace else self.machines
    return [{**row, "nodes": max(made, row["machines"])} for row in rows]

  def _large_trace(self):
    if self.trace:
      return _READERS[self.layout](self.trace)
    spec = dataclasses.replace(
      self._spec(self.machines, self.seeds[0]), hours=self.hours
    )
    return generator.generate(spec)

  def _spec(self, machines: int, seed: int) -> generator.Spec:
    return generator.Spec(
      machines=machines,
      hours=self.cell_hours,
      seed=seed,
      requested=self.requested,
    )


def summary(records: Sequence[replay.Record]) -> Row:
  """What a replay came to, the first two periods left out.

  Shares of overloaded and idle machines are means over time, of what was
  measured before the policy could react.

  Raises:
    ValueError: if there are no more than those periods.
  """
  kept = records[_SETTLED:]
  if not kept:
    raise ValueError(
      f"a trace of {len(records)} periods is too short to settle: expected "
      f"more than {_SETTLED}"
    )

  def total(field: str) -> int | float:
    return sum(getattr(record, field) for record in kept)

  def mean(field: str) -> Any:
    return np.mean([getattr(record, field) for record in kept], axis=0)

  machines = mean("machines")
  cpu, memory = mean("used").tolist()
  placed = max(total("placed"), 1)
  return {
    "machines": max(record.machines for record in records),
    "periods": len(kept),
    "running": float(mean("running")),
    "overloaded_share": float(mean("overloaded") / machines),
    "idle_share": float(mean("idle") / machines),
    "cpu_used": cpu,
    "memory_used": memory,
    "spread": mean("spread").tolist(),
    "submitted": total("submitted"),
    "placed": total("placed"),
    "refused": total("refused"),
    "waiting": records[-1].waiting,
    "migrations": total("migrations"),
    "forced": total("forced"),
    "failed": total("failed"),
    "gigabytes": total("bytes") / 1e9,
    "messages_per_decision": total("messages")
    / max(total("placed") + total("decisions"), 1),
    "place_microseconds": 1e6 * total("place_seconds") / placed,
    "balance_milliseconds": 1e3 * total("balance_seconds") / len(kept),
  }


def claims(data: Mapping[str, Any]) -> list[results.Claim]:
  """The claims of the study's data."""
  made = _solver_claims(data["small"], data["medium"])
  by_policy: dict[str, list[Row]] = {}
  for row in data["cells"]:
    by_policy.setdefault(row["policy"], []).append(row)
  for name, rows in by_policy.items():
    shares = [row["overloaded_share"] for row in rows]
    bar = 0.01 if name == "masb" else None
    claim = "agent_based" if name == "masb" else name
    made.append(_mean(f"{claim}_overloaded_share", shares, bar, "<="))
    made.append(_mean(f"{claim}_refused", [row["refused"] for row in rows]))
  nodes = [row["nodes"] for row in data["replay"]]
  if nodes:
    made.append(results.Claim("nodes", max(nodes), bar=12_500))
  for row in data["replay"]:
    for field in (
      "overloaded_share",
      "migrations",
      "gigabytes",
      "refused",
      "messages_per_decision",
      "place_microseconds",
      "balance_milliseconds",
      "cpu_used",
    ):
      made.append(results.Claim(f"large_{row['policy']}_{field}", row[field]))
  for row in data["large"]:
    for field in ("total", "overload", "seconds"):
      made.append(results.Claim(f"large_{row['solver']}_{field}", row[field]))
  return made


def _solver_claims(small: list[Row], medium: list[Row]) -> list[results.Claim]:
  totals = {
    name: np.array([r["total"] for r in medium if r["solver"] == name])
    for name in ("integer_program", *_HEURISTICS)
  }
  ratio = totals["seeded_genetic"] / totals["genetic"]
  made = [_mean("seeded_genetic_over_genetic_cost", ratio, 1.0, "<=")]
  wins = float((ratio < 1).mean())
  made.append(results.Claim("seeded_genetic_wins", wins))
  floor = np.maximum(totals["integer_program"], 1e-9)
  for name in _HEURISTICS:
    made.append(_mean(f"{name}_cost", totals[name]))
    made.append(_mean(f"{name}_over_bound", totals[name] / floor))
    seconds = [r["seconds"] for r in medium if r["solver"] == name]
    made.append(results.Claim(f"{name}_seconds", float(np.median(seconds))))
    exact = [r["exact"] for r in small if r["solver"] == name]
    made.append(results.Claim(f"{name}_exact_share", float(np.mean(exact))))
  seconds = [r["seconds"] for r in medium if r["solver"] == "integer_program"]
  made.append(
    results.Claim("integer_program_seconds", float(np.median(seconds)))
  )
  return made


def _mean(
  name: str,
  values: Sequence[int | float] | np.ndarray,
  bar: float | None = None,
  comparison: str = ">=",
) -> results.Claim:
  """The mean over instances, with its 95 % t-interval."""
  mean = float(np.mean(values))
  half = float(
    scipy.stats.t.ppf(0.975, len(values) - 1) * scipy.stats.sem(values)
  )
  return results.Claim(name, mean, mean - half, mean + half, bar, comparison)


def _timed(name: str, problem: problems.Problem, seed: int, evals: int) -> Row:
  """What a solver finds, and its CPU seconds once it is compiled."""
  solve, key = solvers.solver(name), jax.random.key(seed)
  jax.block_until_ready(solve(problem, key, evals))
  start = time.process_time()
  found: proposals.Result = jax.block_until_ready(solve(problem, key, evals))
  seconds = time.process_time() - start
  return {
    **_terms(found.cost),
    "evals": int(found.evals),
    "seconds": seconds,
  }


def _terms(cost: objective.Costs) -> Row:
  return {name: float(value) for name, value in cost._asdict().items()}
