# SPDX-License-Identifier: Apache-2.0
"""Accuracy at a budget: estimators, intervals, Pareto fronts, pictures."""

from jaxttc.evaluation.estimators import (
  ClassCounts,
  best_of_n_at_k,
  class_counts,
  maj_at_k,
  pass_at_k,
)
from jaxttc.evaluation.frontier import (
  FrontCheck,
  Saving,
  cost_at_accuracy,
  on_front_at_every_budget,
  pareto,
  savings,
  savings_at_best,
)
from jaxttc.evaluation.plots import (
  accuracy_against_cost,
  comparison,
  search_tree,
)
from jaxttc.evaluation.statistics import (
  Interval,
  bootstrap,
  paired_difference,
  ratio_of_means,
  wilson_interval,
)
from jaxttc.evaluation.tables import Point, Run, summarise, tidy

__all__ = (
  "ClassCounts",
  "FrontCheck",
  "Interval",
  "Point",
  "Run",
  "Saving",
  "accuracy_against_cost",
  "best_of_n_at_k",
  "bootstrap",
  "class_counts",
  "comparison",
  "cost_at_accuracy",
  "maj_at_k",
  "on_front_at_every_budget",
  "paired_difference",
  "pareto",
  "pass_at_k",
  "ratio_of_means",
  "savings",
  "savings_at_best",
  "search_tree",
  "summarise",
  "tidy",
  "wilson_interval",
)
