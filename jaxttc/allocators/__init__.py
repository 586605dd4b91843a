# SPDX-License-Identifier: Apache-2.0
"""Splitting one budget over what it can be spent on."""

from jaxttc.allocators import (
  annotation_split,
  budget_model,
  choice_knapsack,
  decay_schedules,
  executors,
  local_budgets,
  model_width,
  pilot_fit,
  plans,
  priced_rollouts,
  ragged_groups,
  rollout_allocation,
  rollout_strategies,
  rollout_value,
  unit_filling,
  width_requests,
)
from jaxttc.allocators.rollout_rules import RolloutRules
from jaxttc.allocators.width_planner import (
  InfeasibleBudget,
  Plan,
  plan,
  preference_vector,
)
from jaxttc.allocators.width_prices import WidthPrices

__all__ = [
  "InfeasibleBudget",
  "Plan",
  "RolloutRules",
  "WidthPrices",
  "annotation_split",
  "budget_model",
  "choice_knapsack",
  "decay_schedules",
  "executors",
  "local_budgets",
  "model_width",
  "pilot_fit",
  "plan",
  "plans",
  "preference_vector",
  "priced_rollouts",
  "ragged_groups",
  "rollout_allocation",
  "rollout_strategies",
  "rollout_value",
  "unit_filling",
  "width_requests",
]
