# SPDX-License-Identifier: Apache-2.0
"""The experiments of the study of oversubscription, as tidy tables."""

from collections.abc import Callable, Mapping, Sequence
import dataclasses
import functools
import time
from typing import Any

import numpy as np

from jaxttc.simulation import traces as traces_lib
from jaxttc.simulation.power import model as model_lib
from jaxttc.simulation.power import outcome as outcome_lib
from jaxttc.simulation.power import planning as planning_lib
from jaxttc.simulation.power import policies as policies_lib
from jaxttc.simulation.power import profile as profile_lib
from jaxttc.simulation.power import requests as requests_lib
from jaxttc.simulation.power import row as row_lib
from jaxttc.simulation.power import services as services_lib
from jaxttc.testing import row_reference

Table = list[dict[str, Any]]


def policies() -> dict[str, policies_lib.Policy]:
  """The policies compared, by the names of claims."""
  return {
    "no_cap": policies_lib.no_cap(),
    "one_threshold_low": policies_lib.single_threshold("low"),
    "one_threshold_all": policies_lib.single_threshold("all"),
    "one_threshold_all_early": policies_lib.single_threshold("all", 0.80),
    "dual": policies_lib.dual_threshold(),
    "dual_held": policies_lib.hold_through_brakes(
      policies_lib.dual_threshold()
    ),
    "proportional": policies_lib.proportional(),
    "oracle": policies_lib.oracle(),
  }


@dataclasses.dataclass(frozen=True, eq=False)
class Setting:
  """A row and its load.

  Attributes:
    profile: how long phases take.
    power: what they draw.
    servers: how many the budget is provisioned for.
    busy: least and largest share of time that servers are busy.
    peak: largest reading of the row as provisioned, over the budget.
    seeds: of the load.
    horizon_s: how long each seed is simulated.
    dt: length of a step.
    made: loads and rows as provisioned, kept; settings that differ from this
      one in `busy` or `peak` may share it.
  """

  profile: profile_lib.Profile
  power: model_lib.PowerModel
  servers: int
  busy: tuple[float, float]
  peak: float
  seeds: tuple[int, ...]
  horizon_s: float
  dt: float
  made: dict[Any, Any] = dataclasses.field(default_factory=dict)

  def requests(self, servers: int, seed: int) -> requests_lib.Requests:
    """The load of a row of so many servers."""
    key = (self.busy, servers, seed)
    if key not in self.made:
      self.made[key] = services_lib.row(
        seed,
        servers=servers,
        horizon_s=self.horizon_s,
        profile=self.profile,
        power=self.power,
        busy=self.busy,
      )
    return self.made[key]

  @property
  def provisioned(self) -> list[outcome_lib.RowResult]:
    """The row as provisioned, free and without a budget, one a seed."""
    if self.busy not in self.made:
      self.made[self.busy] = self.simulate(
        [self.row(self.servers, seed, "no_cap", 1e9) for seed in self.seeds]
      )
    return self.made[self.busy]

  @functools.cached_property
  def budget_w(self) -> float:
    """The budget: what makes the largest reading of all seeds its `peak`."""
    most = max(float(one.readings_w.max()) for one in self.provisioned)
    return most / self.peak

  def row(
    self,
    servers: int,
    seed: int,
    policy: str,
    budget_w: float | None = None,
  ) -> row_lib.Row:
    """One row; the budget is the setting's if None."""
    return row_lib.Row(
      self.requests(servers, seed),
      policies()[policy],
      self.power,
      self.budget_w if budget_w is None else budget_w,
    )

  def simulate(
    self, rows: Sequence[row_lib.Row]
  ) -> list[outcome_lib.RowResult]:
    """Simulates rows with this setting's horizon and step."""
    return row_lib.simulate_rows(rows, horizon_s=self.horizon_s, dt=self.dt)


def describe(
  found: outcome_lib.RowResult, base: outcome_lib.RowResult
) -> dict[str, Any]:
  """One simulated row as a row of a table; shares are of the budget."""
  budget = found.budget_w
  return {
    "brakes": found.brakes,
    "peak": float(found.power_w.max() / budget),
    "peak_reading": float(found.readings_w.max() / budget),
    "mean": float(found.power_w.mean() / budget),
    "energy_mj": found.energy_j / 1e6,
    "served": found.served,
    "unfinished": found.unfinished,
    "locked_share": float((found.level > 0).mean()),
    **planning_lib.slowdown([found], [base]),
  }


def sweep(
  setting: Setting,
  extras: Sequence[float],
  names: Sequence[str],
  progress: Callable[[], None],
) -> tuple[Table, dict[str, np.ndarray]]:
  """All policies at all shares of extra servers.

  Returns:
    A row a policy, share and seed; and the power over the budget of the first
    seed at 30 % more servers, by policy, minute by minute (largest reading).
  """
  table: Table = []
  traces: dict[str, np.ndarray] = {}
  for at, seed in enumerate(setting.seeds):
    cells = [
      (name, extra, round(setting.servers * (1 + extra)))
      for extra in extras
      for name in names
    ]
    rows = [setting.row(servers, seed, name) for name, _, servers in cells]
    for (name, extra, servers), found in zip(
      cells, setting.simulate(rows), strict=True
    ):
      table.append(
        {"policy": name, "extra": extra, "servers": servers, "seed": seed}
        | describe(found, setting.provisioned[at])
      )
      if at == 0 and abs(extra - 0.3) < 1e-9:
        minute = round(60 / setting.dt)
        whole = len(found.power_w) // minute * minute
        shares = found.power_w[:whole].reshape(-1, minute).max(1)
        traces[name] = shares / found.budget_w
    progress()
  return table, traces


def most_servers(
  setting: Setting, policy: str, most: int
) -> planning_lib.Oversubscription:
  """The most servers at which latencies hold without a brake."""
  return planning_lib.max_oversubscription(
    lambda servers, seed: setting.row(servers, seed, policy),
    servers=setting.servers,
    most=most,
    seeds=setting.seeds,
    horizon_s=setting.horizon_s,
    dt=setting.dt,
  )


def sensitivity(setting: Setting, extra: float) -> Table:
  """The dual policy under other guesses of hardware and actuators."""
  clock = setting.power.clock
  changes: list[tuple[str, float, dict[str, Any]]] = [
    ("cap_latency_s", value, {"control": row_lib.Control(cap_latency_s=value)})
    for value in (0.0, 20.0, 40.0, 80.0, 160.0)
  ]
  for field, values in (
    ("prompt_power", (1.0, 2.4)),
    ("token_power", (0.6, 2.0)),
    ("token_time", (0.0, 0.5, 1.0)),
  ):
    for value in values:
      power = dataclasses.replace(
        setting.power, clock=dataclasses.replace(clock, **{field: value})
      )
      changes.append((field, value, {"power": power}))
  servers = round(setting.servers * (1 + extra))
  rows = [
    dataclasses.replace(setting.row(servers, seed, "dual"), **change)
    for _, _, change in changes
    for seed in setting.seeds
  ]
  found = setting.simulate(rows)
  each = len(setting.seeds)
  table = []
  for at, (field, value, _) in enumerate(changes):
    mine = found[at * each : (at + 1) * each]
    judged = planning_lib.judge(mine, setting.provisioned, planning_lib.Slo())
    table.append(
      {
        "what": field,
        "value": value,
        "brakes_by_seed": [one.brakes for one in mine],
        "peak": max(float(one.power_w.max()) for one in mine)
        / setting.budget_w,
        "holds": judged.holds,
        **judged.slowdown,
      }
    )
  return table


def stress(
  seeds: Sequence[int], extras: Sequence[float], names: Sequence[str]
) -> Table:
  """A harder row: bursts of long prompts, each server with its own queue.

  Two hours from 45 to 87 % busy, gamma phases of 4 and 12 s, servers that
  draw 0.28, 0.70 and 1.00 idle, decoding and in the prompt phase.
  """
  power, horizon, servers = model_lib.constant(0.28, 0.70, 1.0), 7200.0, 40
  cells, rows = [], []
  for seed in seeds:
    for extra in (0.0, *extras):
      count = round(servers * (1 + extra))
      low, high = (
        requests_lib.diurnal(
          [seed, side],
          servers=(count + 1 - side) // 2,
          horizon_s=horizon,
          power=power,
        )
        for side in range(2)
      )
      asked = requests_lib.alternate(low, high, count, "random")
      for name in names if extra else ("no_cap",):
        cells.append((name, extra, seed))
        rows.append(row_lib.Row(asked, policies()[name], power, 40.0))
  found = row_lib.simulate_rows(rows, horizon_s=horizon)
  base = {
    seed: one
    for (_, extra, seed), one in zip(cells, found, strict=True)
    if not extra
  }
  return [
    {"policy": name, "extra": extra, "seed": seed} | describe(one, base[seed])
    for (name, extra, seed), one in zip(cells, found, strict=True)
  ]


def replayed(
  trace: traces_lib.Trace,
  setting: Setting,
  extras: Sequence[float],
  names: Sequence[str],
) -> Table:
  """A recorded trace in place of the services, thinned to fit the row.

  Each request is kept with the probability that makes servers as busy, over
  the whole trace, as the setting's are at most; half are of low priority.
  Prompts beyond the profile follow its last slope.
  """
  power = setting.power
  stream = setting.profile.stream(trace, power, extrapolate=True)
  horizon = float(trace.arrival_s[-1]) + 1.0
  work = float((stream.prompt_s + stream.token_s).sum()) / horizon

  def asked(servers: int, seed: int) -> requests_lib.Requests:
    rng = np.random.default_rng([seed, servers])
    keep = setting.busy[1] * servers / work
    if keep > 1:
      raise ValueError(
        f"the trace keeps {work:.1f} servers busy; {servers} servers would "
        f"need {keep * work:.1f}"
      )
    draw = rng.uniform(size=len(trace.arrival_s))
    low, high = (
      requests_lib.Stream(*(field[kept] for field in stream))
      for kept in (draw < keep / 2, (draw >= keep / 2) & (draw < keep))
    )
    return requests_lib.alternate(low, high, servers)

  free = [
    row_lib.Row(asked(setting.servers, seed), policies()["no_cap"], power, 1e9)
    for seed in setting.seeds
  ]
  run = functools.partial(row_lib.simulate_rows, horizon_s=horizon, dt=0.25)
  base = run(free)
  budget_w = max(float(one.readings_w.max()) for one in base) / setting.peak
  cells = [
    (extra, name, at, seed)
    for extra in extras
    for name in names
    for at, seed in enumerate(setting.seeds)
  ]
  held = functools.cache(asked)
  rows = [
    row_lib.Row(
      held(round(setting.servers * (1 + extra)), seed),
      policies()[name],
      power,
      budget_w,
    )
    for extra, name, _, seed in cells
  ]
  return [
    {"policy": name, "extra": extra, "seed": seed} | describe(one, base[at])
    for (extra, name, at, seed), one in zip(cells, run(rows), strict=True)
  ]


def speed(setting: Setting, repeats: int) -> dict[str, Any]:
  """Server-seconds simulated in a CPU second, compiled and in plain Python.

  Both run the dual policy on the same load; the compiled engine 64 rows of it
  at once, plain Python one, as many steps as make either run for a while. They
  take turns, and the least time of each counts.
  """
  servers, steps, copies = round(setting.servers * 1.3), 512, 64
  row = setting.row(servers, setting.seeds[0], "dual")
  many = [row] * copies
  compiled_s = 2048 * setting.dt * 4
  row_lib.simulate_rows(many, horizon_s=compiled_s, dt=setting.dt)
  seconds: Mapping[str, list[float]] = {"compiled": [], "python": []}
  for _ in range(repeats):
    start = time.process_time()
    row_lib.simulate_rows(many, horizon_s=compiled_s, dt=setting.dt)
    seconds["compiled"].append(time.process_time() - start)
    asked = python_row(row, setting.dt)
    start = time.process_time()
    row_reference.simulate(*asked, *row_reference.dual(0.80, 0.89, 0.05), steps)
    seconds["python"].append(time.process_time() - start)
  compiled = [
    copies * servers * compiled_s / one for one in seconds["compiled"]
  ]
  python = [servers * steps * setting.dt / one for one in seconds["python"]]
  ratios = [a / b for a, b in zip(compiled, python, strict=True)]
  return {
    "compiled": max(compiled),
    "python": max(python),
    "ratio": max(compiled) / max(python),
    "ratio_low": min(*ratios, max(compiled) / max(python)),
    "ratio_high": max(*ratios, max(compiled) / max(python)),
  }


def python_row(row: row_lib.Row, dt: float) -> tuple[Any, list[bool], Any]:
  """A row as `testing.row_reference.simulate` takes it.

  Returns:
    The servers' requests, their priorities and the rules.
  """
  asked, idle_w = row.requests, row.power.idle_w
  servers = []
  for at in range(len(asked.high)):
    real = np.isfinite(asked.arrival_s[at])
    arrival, prompt, token, prompt_w, token_w = (
      field[at][real] for field in asked[:5]
    )
    columns = (arrival, prompt, token, prompt_w - idle_w, token_w - idle_w)
    servers.append(
      [
        row_reference.Request(*numbers)
        for numbers in zip(*(one.tolist() for one in columns), strict=True)
      ]
    )
  clock, control = row.power.clock, row.control
  rules = row_reference.Rules(
    paces=row.policy.plan.paces(clock).tolist(),
    brake=list(clock.pace(clock.brake_mhz)),
    idle_w=idle_w,
    budget_w=row.budget_w,
    telemetry=round(control.telemetry_s / dt),
    cap_latency=round(control.cap_latency_s / dt),
    brake_latency=round(control.brake_latency_s / dt),
    brake_hold=round(control.brake_hold_s / dt),
    dt=dt,
  )
  return servers, asked.high.tolist(), rules
