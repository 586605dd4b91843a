# SPDX-License-Identifier: Apache-2.0
"""How many servers a power budget carries: the study of POLCA.

Patel et al., "Characterizing power management opportunities for LLMs in the
cloud" (2024): rows of inference servers rarely draw what they are provisioned
for, so 30 % more fit, if the row is governed by two thresholds and low
priority gives way first.
"""

from collections.abc import Callable, Sequence
import dataclasses
import os
from typing import Any

import numpy as np
from rich import progress as rich_progress

from jaxttc import results
from jaxttc.simulation import study as study_lib
from jaxttc.simulation import traces as traces_lib
from jaxttc.simulation.power import experiments as experiments_lib
from jaxttc.simulation.power import model as model_lib
from jaxttc.simulation.power import planning as planning_lib
from jaxttc.simulation.power import profile as profile_lib

_SWEPT = (
  "no_cap",
  "one_threshold_low",
  "one_threshold_all",
  "dual",
  "dual_held",
  "oracle",
)


@dataclasses.dataclass(kw_only=True)
class PolcaRecipe:
  """Settings of the study; the docstring of configs/polca.py says more.

  Attributes:
    profile: serving profile, for power and phase times.
    model: which of its models.
    hardware: on which machine.
    tensor_parallel: over how many GPUs.
    trace: recorded requests, to be replayed.
    gpu_w: limit of one GPU.
    gpus: in a server.
    other_w: what the rest of a server draws.
    idle_w: what a server draws idle.
    servers: how many the budget is provisioned for.
    busy_least: least share of time that servers are busy, at night.
    busy_most: the largest, by day.
    busier: both shares of a busier day, on which servers are counted, too.
    peak: largest reading of the row as provisioned, over the budget.
    other_peaks: other values of it for which servers are counted, too.
    extras: shares of extra servers of the sweep.
    most: the most servers to try.
    hours: how long each seed is simulated.
    dt: length of a step in seconds.
    seeds: of the load.
    fresh_seeds: how many further seeds the answer is tried on.
  """

  profile: str = "../shared/data/llm_serving/splitwise_perf_model.csv"
  model: str = "bloom-176b"
  hardware: str = "a100-80gb"
  tensor_parallel: int = 8
  trace: str = "../shared/data/llm_serving/azure_llm_trace_conv.csv"
  gpu_w: float = 400.0
  gpus: int = 8
  other_w: float = 996.0
  idle_w: float = 1500.0
  servers: int = 40
  busy_least: float = 0.30
  busy_most: float = 0.85
  busier: tuple[float, float] = (0.40, 0.90)
  peak: float = 0.79
  other_peaks: tuple[float, ...] = (0.83,)
  extras: tuple[float, ...] = (0.1, 0.2, 0.3, 0.4)
  most: int = 60
  hours: float = 24.0
  dt: float = 1.0
  seeds: tuple[int, ...] = (0, 1, 2, 3)
  fresh_seeds: int = 4

  def setting(self, **changes: Any) -> experiments_lib.Setting:
    """The row of the study, or one that differs in some fields."""
    profile = profile_lib.load(
      self.profile,
      model=self.model,
      hardware=self.hardware,
      tensor_parallel=self.tensor_parallel,
    )
    watts = profile.watts(
      gpu_w=self.gpu_w, gpus=self.gpus, other_w=self.other_w, extrapolate=True
    )
    setting = experiments_lib.Setting(
      profile=profile,
      power=model_lib.PowerModel(self.idle_w, watts),
      servers=self.servers,
      busy=(self.busy_least, self.busy_most),
      peak=self.peak,
      seeds=tuple(self.seeds),
      horizon_s=self.hours * 3600.0,
      dt=self.dt,
    )
    return dataclasses.replace(setting, **changes)

  def run(self) -> study_lib.Study:
    """Runs all experiments, with a progress bar.

    Raises:
      ValueError: if a setting cannot be, or a file is not valid.
    """
    setting, trace = self.setting(), traces_lib.load(self.trace)
    if not setting.seeds:
      raise ValueError("seeds is empty; expected at least one")
    data: dict[str, Any] = {}
    stages = 2 * len(self.seeds) + len(self.other_peaks) + 8
    with rich_progress.Progress() as bar:
      task = bar.add_task("rows under a budget", total=stages)

      def step() -> None:
        bar.advance(task)

      data["row"] = _row_facts(setting)
      step()
      data["sweep"], power = experiments_lib.sweep(
        setting, self.extras, _SWEPT, step
      )
      data["power"] = {name: list(shares) for name, shares in power.items()}
      data["servers"] = self._servers(setting)
      step()
      data["fresh"] = _fresh(
        setting, data["servers"]["servers"], self.fresh_seeds
      )
      step()
      data["conditions"] = []
      for peak in self.other_peaks:
        other = dataclasses.replace(setting, peak=peak)
        data["conditions"].append({"peak": peak} | self._servers(other))
        step()
      data["busier"] = self._busier(setting, step)
      data["sensitivity"] = experiments_lib.sensitivity(setting, 0.3)
      step()
      data["stress"] = experiments_lib.stress(
        self.seeds, self.extras, _SWEPT[:-1]
      )
      step()
      data["replayed"] = experiments_lib.replayed(
        trace, setting, self.extras, ("no_cap", "one_threshold_all", "dual")
      )
      step()
      data["speed"] = experiments_lib.speed(setting, repeats=3)
      step()

    def draw(path: str | os.PathLike[str]) -> None:
      from jaxttc.simulation.power import picture  # matplotlib is optional.

      picture.draw(data, path)

    return study_lib.Study(self.seeds, data, _claims(data), draw)

  def _busier(
    self, setting: experiments_lib.Setting, step: Callable[[], None]
  ) -> dict[str, Any]:
    """Servers of a busier day, and what 30 % more would do there."""
    other = dataclasses.replace(setting, busy=tuple(self.busier))
    table, _ = experiments_lib.sweep(other, (0.3,), ("no_cap", "dual"), step)
    found = {"busy": list(self.busier), "sweep": table} | self._servers(other)
    step()
    return found

  def _servers(self, setting: experiments_lib.Setting) -> dict[str, Any]:
    """The most servers under the dual policy, and what was tried."""
    found = experiments_lib.most_servers(setting, "dual", self.most)
    return {
      "extra": found.extra,
      "servers": found.servers,
      "tried": [one._asdict() for one in found.tried],
    }


def _row_facts(setting: experiments_lib.Setting) -> dict[str, Any]:
  """The row as provisioned: budget, peak, rises, thresholds by the rule."""
  base = setting.provisioned
  readings = [one.readings_w for one in base]
  every = base[0].telemetry_s
  budget = setting.budget_w
  facts: dict[str, Any] = {
    "budget_w_per_server": budget / setting.servers,
    "mean": float(np.mean([one.mean() for one in readings]) / budget),
    "peak": float(max(one.max() for one in readings) / budget),
    "rise_2_s": max(planning_lib.rise(one, budget, 1) for one in readings),
    "rise_40_s": max(
      planning_lib.rise(one, budget, round(40 / every)) for one in readings
    ),
    "low_requests": sum(len(one.latency_s("low")) for one in base),
    "high_requests": sum(len(one.latency_s("high")) for one in base),
  }
  for priority in ("low", "high"):
    latency = np.concatenate([one.latency_s(priority) for one in base])
    for percent in (50, 99):
      facts[f"{priority}_p{percent}_s"] = float(np.percentile(latency, percent))
  try:
    facts["thresholds"] = planning_lib.thresholds_from_trace(
      np.concatenate(readings), budget, latency_s=40.0, every_s=every
    )
  except ValueError as error:
    facts["thresholds"] = str(error)
  return facts


def _fresh(
  setting: experiments_lib.Setting, servers: int, count: int
) -> dict[str, Any]:
  """The answer on loads that it was not found on."""
  seeds = range(1000, 1000 + count)
  found = setting.simulate(
    [setting.row(servers, seed, "dual") for seed in seeds]
  )
  brakes = sum(one.brakes for one in found)
  seconds = sum(one.horizon_s for one in found)
  return {
    "servers": servers,
    "brakes": brakes,
    "days": seconds / 86400,
    "brakes_per_day_bound": planning_lib.brakes_per_day(brakes, seconds),
  }


def _claims(data: dict[str, Any]) -> list[results.Claim]:
  sweep = data["sweep"]

  def at_30(policy: str, field: str, table: Sequence[Any] = sweep) -> Any:
    return [
      entry[field]
      for entry in table
      if entry["policy"] == policy and abs(entry["extra"] - 0.3) < 1e-9
    ]

  def spread(
    name: str, values: Sequence[int | float], **bar: Any
  ) -> results.Claim:
    return results.Claim(
      name, float(np.mean(values)), min(values), max(values), **bar
    )

  speed = data["speed"]
  claims = [results.Claim("extra_servers", data["servers"]["extra"], bar=0.30)]
  if at_30("dual", "brakes"):
    claims.append(
      spread("brakes", at_30("dual", "brakes"), bar=0.0, comparison="<=")
    )
    claims += [
      spread(f"brakes_{policy}", at_30(policy, "brakes"))
      for policy in _SWEPT
      if policy != "dual"
    ]
    claims += [
      spread(f"slowdown_{field}", at_30("dual", field))
      for field in ("high_p50", "high_p99", "low_p50", "low_p99")
    ]
    claims += [
      spread(f"{table}_brakes_{policy}", at_30(policy, "brakes", data[table]))
      for table in ("stress", "replayed")
      for policy in ("no_cap", "one_threshold_all", "dual")
    ]
  claims += [
    results.Claim(f"extra_servers_at_peak_{one['peak']:g}", one["extra"])
    for one in data["conditions"]
  ]
  # Beside the claim, and held to no bar: the row of the claim is another one.
  busier = data["busier"]
  claims.append(results.Claim("busier_extra_servers", busier["extra"]))
  claims += [
    spread(f"busier_brakes_{policy}", at_30(policy, "brakes", busier["sweep"]))
    for policy in ("no_cap", "dual")
  ]
  claims += [
    spread(f"busier_slowdown_{field}", at_30("dual", field, busier["sweep"]))
    for field in ("high_p50", "high_p99", "low_p50", "low_p99")
  ]
  claims += [
    results.Claim("fresh_brakes", data["fresh"]["brakes"]),
    results.Claim(
      "fresh_brakes_per_day_bound", data["fresh"]["brakes_per_day_bound"]
    ),
    results.Claim(
      "server_seconds_per_s_over_python_reference",
      speed["ratio"],
      speed["ratio_low"],
      speed["ratio_high"],
    ),
    results.Claim("server_seconds_per_s", speed["compiled"]),
  ]
  return claims
