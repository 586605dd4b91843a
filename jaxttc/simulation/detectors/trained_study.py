# SPDX-License-Identifier: Apache-2.0
"""Trains a cascade, predicts it, runs it, and says how far they are apart."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

from jaxttc import results
from jaxttc.simulation.detectors import classifiers, design, performance
from jaxttc.simulation.detectors import graph as graph_lib
from jaxttc.simulation.detectors import trained_cascade as cascade_lib


def run(recipe: cascade_lib.CascadeRecipe, seed: int) -> dict[str, Any]:
  """One cascade: what its graphs predict, and what filtering finds.

  The graphs are made of one set of events; their thresholds are applied to
  another set, event by event.
  """
  keys = jax.random.split(jax.random.key(seed), 3)
  stages = cascade_lib.train(recipe, keys[0])
  made = cascade_lib.score(recipe, stages, keys[1])
  held_out = cascade_lib.score(recipe, stages, keys[2])
  with jax.enable_x64(True):
    graphs = cascade_lib.graphs(recipe, stages, made)
    predicted = {
      name: _compare(graph, made, held_out) for name, graph in graphs.items()
    }
    alone = _alone(recipe, stages, made)
    recall_alone = _recall_alone(alone, held_out)
    curve = _curve(recipe, graphs, made, held_out)
    rng = np.random.default_rng(seed)
    spread = _bootstrap(recipe, graphs["independent"], made, rng)
  cascade = predicted["conditional"]
  flops = stages.linear_flops + stages.network_flops / recipe.keep_first
  share = cascade["recall"] / recall_alone
  return {
    "seed": seed,
    "flops": {
      "linear": stages.linear_flops,
      "network": stages.network_flops,
      "cascade_per_event": flops,
    },
    "relevant_events": int(held_out.labels.sum()),
    "predicted": predicted,
    "recall_of_network_alone": recall_alone,
    "recall_share": share,
    "samples_per_flop_gain": share * stages.network_flops / flops,
    "recall_interval": spread,
    "stored_over_planned_if_independent": (
      predicted["independent"]["counted"][1].sum()
      * recipe.keep_all
      / recipe.events
    ),
    "curve": curve,
  }


def claims(runs: Sequence[Mapping[str, Any]]) -> list[results.Claim]:
  """Means over seeds between their least and most; of sigmas the most."""
  sigmas = [run["predicted"]["conditional"]["worst_sigma"] for run in runs]
  surplus = [
    run["predicted"]["independent"]["predicted_recall"]
    - run["predicted"]["conditional"]["recall"]
    for run in runs
  ]
  stored = [run["stored_over_planned_if_independent"] for run in runs]
  return [
    results.Claim(
      "trained_prediction_sigmas", max(sigmas), bar=3.0, comparison="<="
    ),
    _over(runs, "samples_per_flop_gain", 5.0),
    _over(runs, "recall_share", 0.9),
    _mean("recall_overstated_by_independence", surplus),
    _mean("stored_over_planned_if_independent", stored),
  ]


def _over(
  runs: Sequence[Mapping[str, Any]], key: str, bar: float
) -> results.Claim:
  return _mean(f"trained_{key}", [run[key] for run in runs], bar)


def _mean(
  name: str, values: Sequence[float], bar: float | None = None
) -> results.Claim:
  mean = min(max(float(np.mean(values)), min(values)), max(values))
  return results.Claim(name, mean, min(values), max(values), bar=bar)


def _compare(
  graph: graph_lib.PipelineGraph,
  made: cascade_lib.Scored,
  held_out: cascade_lib.Scored,
) -> dict[str, Any]:
  """Predicted and counted shares kept, in units of their binomial error."""
  report = performance.evaluate(graph)
  levels = tuple(float(report.thresholds[x]) for x in ("linear", "network"))
  counts = cascade_lib.filtered(held_out, levels)
  kept = counts[1] / counts.sum(0)
  confusion = np.asarray(report.confusion)
  expected = confusion[1] / confusion.sum(0)
  # Both sets are draws, so both have a binomial error.
  sizes = [(~made.labels).sum(), made.labels.sum()] / np.ones(2)
  variance = expected * (1 - expected) * (1 / sizes + 1 / counts.sum(0))
  sigma = (kept - expected) / np.sqrt(variance)
  return {
    "thresholds": levels,
    "predicted_recall": float(report.recall),
    "recall": float(kept[1]),
    "predicted_precision": float(report.precision),
    "precision": float(counts[1, 1] / counts[1].sum()),
    "counted": counts,
    "sigmas": sigma,
    "worst_sigma": float(np.abs(sigma).max()),
  }


def _alone(
  recipe: cascade_lib.CascadeRecipe,
  stages: cascade_lib.Stages,
  made: cascade_lib.Scored,
) -> performance.Report:
  """Stage 2 on everything, keeping as many: stage 1 keeps all."""
  second = classifiers.measured(made.second, made.labels)
  graph = cascade_lib.graph(recipe, stages, second, second)
  return performance.evaluate(
    graph.updated(
      {"linear.reduction": 1.0, "network.reduction": recipe.keep_all}
    )
  )


def _recall_alone(
  alone: performance.Report, held_out: cascade_lib.Scored
) -> float:
  level = float(alone.thresholds["network"])
  counts = cascade_lib.filtered(held_out, (-np.inf, level))
  return float(counts[1, 1] / counts[:, 1].sum())


def _curve(
  recipe: cascade_lib.CascadeRecipe,
  graphs: Mapping[str, graph_lib.PipelineGraph],
  made: cascade_lib.Scored,
  held_out: cascade_lib.Scored,
) -> dict[str, Any]:
  """Recall against FLOPs as stage 1 keeps fewer and fewer."""
  first = np.geomspace(1.5, min(200.0, recipe.keep_all / 1.5), 25)
  columns = {
    "linear.reduction": first,
    "network.reduction": recipe.keep_all / first,
  }
  found: dict[str, Any] = {"keep_first": first}
  for name in ("independent", "copula"):
    report = design.sweep(graphs[name], columns)
    found[f"{name}_recall"] = report.recall
    found["flops"] = report.power  # one event a second, one joule a FLOP
  found["recall"] = [
    _filtered_recall(made, held_out, keep, recipe.keep_all) for keep in first
  ]
  return found


def _filtered_recall(
  made: cascade_lib.Scored,
  held_out: cascade_lib.Scored,
  keep_first: float,
  keep_all: float,
) -> float:
  """Recall of cuts that keep so many of one set, on the other."""
  cut = float(np.quantile(made.first, 1 - 1 / keep_first))
  passed = made.second[made.first > cut]
  stored = min(len(made.second) / keep_all / len(passed), 1.0)
  level = float(np.quantile(passed, 1 - stored))
  counts = cascade_lib.filtered(held_out, (cut, level))
  return float(counts[1, 1] / counts[:, 1].sum())


def _bootstrap(
  recipe: cascade_lib.CascadeRecipe,
  graph: graph_lib.PipelineGraph,
  made: cascade_lib.Scored,
  rng: np.random.Generator,
) -> list[float]:
  """95 % interval of the independent graph's recall over resampled scores.

  Only relevant events are resampled: of the others there are a thousand times
  as many. All samples are evaluated in one program.
  """
  relevant = np.flatnonzero(made.labels)
  columns = {}
  draws = rng.choice(relevant, (recipe.bootstrap, len(relevant)))
  for name, scores in (("linear", made.first), ("network", made.second)):
    places = np.asarray(graph.parameters()[f"{name}.classifier.scores"])
    ordered = np.sort(scores[draws], axis=1)
    shares = [np.searchsorted(row, places, side="right") for row in ordered]
    columns[f"{name}.classifier.relevant"] = np.stack(shares) / len(relevant)
  recall = np.asarray(design.sweep(graph, columns).recall)
  return np.quantile(recall, (0.025, 0.975)).tolist()
