# SPDX-License-Identifier: Apache-2.0
"""The study of data acquisition: CMS scenarios, a trained cascade, LLMs."""

from collections.abc import Mapping
import dataclasses
from typing import Any

import jax
import numpy as np
from rich import progress
from scipy import stats

from jaxttc import results
from jaxttc.cost import transformer_flops
from jaxttc.simulation import study as study_lib
from jaxttc.simulation.detectors import (
  cms,
  design,
  llm_cascade,
  performance,
  picture,
  queueing,
  trained_cascade,
  trained_study,
)
from jaxttc.simulation.detectors import graph as graph_lib

_KILO, _MEGA = 1e3, 1e6
_POINTS = 41  # of every curve
# Which technologies each system of the upgrade has.
_SYSTEMS: dict[str, dict[str, bool]] = {
  "upgrade": {},
  "GPU": {"gpu": True},
  "tracks": {"tracks": True},
  "smart": {"smart_sensors": True},
  "GPU + tracks": {"gpu": True, "tracks": True},
  "all three": {"gpu": True, "tracks": True, "smart_sensors": True},
}


@dataclasses.dataclass(kw_only=True)
class LlmRecipe:
  """A cascade of language models; see `llm_cascade.build`."""

  draft: transformer_flops.TransformerShape
  verifier: llm_cascade.Reader
  judge: llm_cascade.Reader
  drafts_per_s: float
  prompt_tokens: int
  solution_tokens: int
  right_share: float


@dataclasses.dataclass(kw_only=True)
class DaqRecipe:
  """What the study takes.

  Attributes:
    today: inputs of the system of today.
    upgrade: inputs of its planned upgrade.
    released: by system, the release's MW, F1 and samples per kJ.
    trigger_samples: events from which the release drew each trigger's shares:
      the intervals of claims are over that draw.
    trained: the cascade that is really trained.
    llm: the cascade of language models.
    queue_events: events that are followed through queues.
    seeds: of the trained cascade.
  """

  today: cms.CmsInputs
  upgrade: cms.CmsInputs
  released: Mapping[str, tuple[float, float, float]]
  trigger_samples: int
  trained: trained_cascade.CascadeRecipe
  llm: LlmRecipe
  queue_events: int
  seeds: tuple[int, ...]

  def run(self) -> study_lib.Study:
    """Evaluates the scenarios, trains and runs the cascade.

    Raises:
      ValueError: if the recipe is not valid.
    """
    self.trained.validate()
    if not self.seeds:
      raise ValueError("expected at least one seed")
    with jax.enable_x64(True):
      scenarios = _scenarios(self)
      early = _early_or_late(self)
      moved = _rejection_moved(self)
      gains = _gains(self)
      queues = _queues(self)
      language = _language(self.llm)
    trained = [
      trained_study.run(self.trained, seed)
      for seed in progress.track(self.seeds, "Training cascades")
    ]
    data = {
      "scenarios": scenarios,
      "early_or_late": early,
      "rejection_moved": moved,
      "gain_by_tracks_boost": gains,
      "elasticities": _elasticities(self),
      "queues": queues,
      "trained": trained,
      "language": language,
    }
    claims = [
      *_scenario_claims(self, data),
      *trained_study.claims(trained),
      *_queue_claims(queues),
      results.Claim("llm_right_per_joule_gain", language["gain"]),
    ]
    return study_lib.Study(
      self.seeds, data, claims, lambda path: picture.draw(data, path)
    )


def _scenarios(recipe: DaqRecipe) -> list[dict[str, Any]]:
  """One row a system, with the release's figures beside ours."""
  graphs = {"today": cms.build(recipe.today)}
  for name, options in _SYSTEMS.items():
    graphs[name] = cms.build(recipe.upgrade, **options)
  rows = []
  for name, graph in graphs.items():
    report = performance.evaluate(graph)
    row = {
      "system": name,
      "megawatts": float(report.power) / _MEGA,
      "f1": float(report.f1),
      "recall": float(report.recall),
      "samples_per_kj": float(report.productivity) * _KILO,
      "relevant_per_kj": float(report.relevant_per_joule) * _KILO,
      "stored_hz": float(report.stored_rate),
    }
    if name in recipe.released:
      megawatts, f1, samples = recipe.released[name]
      row |= {
        "released_megawatts": megawatts,
        "released_f1": f1,
        "released_samples_per_kj": samples,
      }
    rows.append(row)
  return rows


def _early_or_late(recipe: DaqRecipe) -> dict[str, list[float]]:
  """F1 as one trigger, then the other, becomes more skilled."""
  graph = cms.build(recipe.upgrade)
  added = np.linspace(0.0, 2.0, _POINTS)
  found: dict[str, list[float]] = {"added_skill": added.tolist()}
  for name in (cms.LEVEL1, cms.HIGH_LEVEL):
    report = _sweep(graph, {f"{name}.classifier.skill_boost": added})
    found[name] = np.asarray(report.f1).tolist()
  return found


def _rejection_moved(recipe: DaqRecipe) -> list[dict[str, Any]]:
  """Level-1 rejects more, the high level less, the store stays as full."""
  upgrade = recipe.upgrade
  total = upgrade.level1.reduction * upgrade.high_level.reduction
  first = np.geomspace(40.0, 450.0, _POINTS)
  curves = []
  for tracks in (False, True):
    report = _sweep(
      cms.build(upgrade, tracks=tracks),
      {
        f"{cms.LEVEL1}.reduction": first,
        f"{cms.HIGH_LEVEL}.reduction": total / first,
      },
    )
    curves.append(
      {
        "tracks": tracks,
        "level1_reduction": first.tolist(),
        "megawatts": (np.asarray(report.power) / _MEGA).tolist(),
        "f1": np.asarray(report.f1).tolist(),
        "samples_per_kj": (np.asarray(report.productivity) * _KILO).tolist(),
      }
    )
  return curves


def _gains(recipe: DaqRecipe) -> dict[str, list[float]]:
  """The gain of all three technologies if tracks were worth less or more."""
  base = performance.evaluate(cms.build(recipe.upgrade))
  boosts = np.linspace(0.0, 2.0, _POINTS)
  graph = cms.build(recipe.upgrade, gpu=True, tracks=True, smart_sensors=True)
  report = _sweep(graph, {f"{cms.LEVEL1}.classifier.skill_boost": boosts})
  gain = np.asarray(report.productivity / base.productivity)
  return {"tracks_boost": boosts.tolist(), "gain": gain.tolist()}


def _sweep(
  graph: graph_lib.PipelineGraph, columns: Mapping[str, np.ndarray]
) -> performance.Report:
  """Sweeps all of the triggers' numbers, so that one program does for all."""
  numbers = graph.parameters()
  count = len(next(iter(columns.values())))
  everything = {
    f"{name}.{field}": np.full(count, numbers[f"{name}.{field}"])
    for name in (cms.LEVEL1, cms.HIGH_LEVEL)
    for field in ("reduction", "classifier.skill", "classifier.skill_boost")
  }
  return design.sweep(graph, everything | dict(columns))


def _elasticities(recipe: DaqRecipe) -> list[dict[str, Any]]:
  """Per cent of samples per J by one per cent of each number of the upgrade."""
  with jax.enable_x64(True):
    graph = cms.build(recipe.upgrade)
    found = design.elasticities(graph, "productivity")
  # Of a year, or of a fit's numbers, nobody buys one per cent more.
  rows = [
    {"number": path, "elasticity": float(value)}
    for path, value in found.items()
    if np.ndim(value) == 0
    and path != "year"
    and ".complexity." not in path
    and abs(float(value)) > 1e-3
  ]
  return sorted(rows, key=lambda row: -abs(row["elasticity"]))


def _queues(recipe: DaqRecipe) -> list[dict[str, Any]]:
  """Losses of the upgrade when its Level-1 decides in a finite time.

  One decision takes twenty crossings; so many servers would do if events came
  evenly. Extra slots are what irregular arrivals need.
  """
  graph = cms.build(recipe.upgrade)
  ops = performance.evaluate(graph).ops
  seconds = {cms.LEVEL1: 20 / recipe.upgrade.event_rate, cms.HIGH_LEVEL: 1e-4}
  graph = graph.updated(
    {f"{x}.op_latency": s / float(ops[x]) for x, s in seconds.items()}
  )
  kept = recipe.upgrade.event_rate / recipe.upgrade.level1.reduction
  servers = {
    cms.LEVEL1: 24,
    cms.HIGH_LEVEL: int(np.ceil(1.2 * kept * seconds[cms.HIGH_LEVEL])),
    cms.DISK: 1,
  }
  rows = []
  for slots, dead in ((0, 0.0), (8, 0.0), (32, 0.0), (32, 2.5e-9)):
    found = queueing.simulate(
      graph,
      jax.random.key(0),
      events=recipe.queue_events,
      servers=servers,
      slots={name: count + slots for name, count in servers.items()},
      dead_time_s=dead,
      back_pressure=True,
    )
    rows.append(
      {
        "extra_slots": slots,
        "dead_time_s": dead,
        "dead_share": found.dead_share,
        "lost_share": sum(found.lost_share.values()),
      }
    )
  return rows


def _language(llm: LlmRecipe) -> dict[str, Any]:
  """Right answers a joule, with the verifier before the judge and without."""
  settings = {
    "drafts_per_s": llm.drafts_per_s,
    "prompt_tokens": llm.prompt_tokens,
    "solution_tokens": llm.solution_tokens,
    "right_share": llm.right_share,
  }
  alone = dataclasses.replace(
    llm.judge, keep=llm.judge.keep * llm.verifier.keep
  )
  graphs = {
    "draft, verifier, judge": llm_cascade.build(
      llm.draft, {"verifier": llm.verifier, "judge": llm.judge}, **settings
    ),
    "draft, judge": llm_cascade.build(llm.draft, {"judge": alone}, **settings),
  }
  reports = {name: performance.evaluate(x) for name, x in graphs.items()}
  rows = [
    {
      "cascade": name,
      "kilowatts": float(report.power) / _KILO,
      "precision": float(report.precision),
      "recall": float(report.recall),
      "right_per_joule": float(report.relevant_per_joule),
    }
    for name, report in reports.items()
  ]
  gain = rows[0]["right_per_joule"] / rows[1]["right_per_joule"]
  return {"cascades": rows, "gain": gain}


def _scenario_claims(
  recipe: DaqRecipe, data: Mapping[str, Any]
) -> list[results.Claim]:
  rows = {row["system"]: row for row in data["scenarios"]}
  base, best = rows["upgrade"], rows["all three"]
  gain = best["samples_per_kj"] / base["samples_per_kj"]
  low, high = _interval(recipe, gain)
  early = data["early_or_late"]
  one = int(np.argmin(np.abs(np.asarray(early["added_skill"]) - 1.0)))
  ours, theirs = (
    [row[key] for row in rows.values()]
    for key in ("samples_per_kj", "released_samples_per_kj")
  )
  return [
    results.Claim("samples_per_kj_gain", gain, low, high, bar=4.0),
    results.Claim(
      "power_reduction",
      1 - best["megawatts"] / base["megawatts"],
      bar=0.5,
    ),
    results.Claim(
      "relevant_per_kj_gain", best["relevant_per_kj"] / base["relevant_per_kj"]
    ),
    results.Claim("samples_per_kj_upgrade", base["samples_per_kj"]),
    results.Claim("samples_per_kj_all_three", best["samples_per_kj"]),
    results.Claim("megawatts_upgrade", base["megawatts"]),
    results.Claim("megawatts_all_three", best["megawatts"]),
    results.Claim("order_of_systems_spearman", _spearman(ours, theirs)),
    results.Claim(
      "early_over_late_f1",
      early[cms.LEVEL1][one] - early[cms.HIGH_LEVEL][one],
      bar=0.1,
    ),
    results.Claim("f1_tracks", rows["tracks"]["f1"]),
    results.Claim("least_boost_for_gain_of_4", _least_boost(data)),
  ]


def _queue_claims(rows: list[dict[str, Any]]) -> list[results.Claim]:
  return [
    results.Claim("lost_without_extra_slots", rows[0]["lost_share"]),
    results.Claim("lost_with_8_extra_slots", rows[1]["lost_share"]),
    results.Claim("missed_by_dead_time", rows[-1]["dead_share"]),
  ]


def _interval(recipe: DaqRecipe, gain: float) -> tuple[float, float]:
  """Of the gain, over the draw of the events that the skills are read off."""
  rng = np.random.default_rng(0)
  count = 2000
  columns = {}
  for name, trigger in (
    (cms.LEVEL1, recipe.upgrade.level1),
    (cms.HIGH_LEVEL, recipe.upgrade.high_level),
  ):
    error = _skill_error(recipe, name)
    column = trigger.skill + error * rng.standard_normal(count)
    columns[f"{name}.classifier.skill"] = column
  with jax.enable_x64(True):
    graphs = [
      cms.build(recipe.upgrade),
      cms.build(recipe.upgrade, gpu=True, tracks=True, smart_sensors=True),
    ]
    base, best = (
      np.asarray(_sweep(graph, columns).productivity) for graph in graphs
    )
  low, high = np.quantile(best / base, (0.025, 0.975))
  return min(float(low), gain), max(float(high), gain)


def _skill_error(recipe: DaqRecipe, name: str) -> float:
  """Standard error of a trigger's skill, by the delta method."""
  with jax.enable_x64(True):
    report = performance.evaluate(cms.build(recipe.upgrade))
    kept = np.asarray(report.output_rates[name] / report.input_rates[name])
  slope = 1 / stats.norm.pdf(stats.norm.ppf(kept))
  variance = kept * (1 - kept) / recipe.trigger_samples * slope**2
  return float(np.sqrt(variance.sum()))


def _spearman(left: list[float], right: list[float]) -> float:
  return float(stats.spearmanr(left, right).statistic)


def _least_boost(data: Mapping[str, Any]) -> float:
  """What tracks must add to Level-1's skill for a gain of 4."""
  curve = data["gain_by_tracks_boost"]
  return float(np.interp(4.0, curve["gain"], curve["tracks_boost"]))
