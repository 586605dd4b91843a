# SPDX-License-Identifier: Apache-2.0
"""Splitting one budget over what it can be spent on."""

from jaxttc.allocators import model_width
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
  "WidthPrices",
  "model_width",
  "plan",
  "preference_vector",
]
