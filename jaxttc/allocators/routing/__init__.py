# SPDX-License-Identifier: Apache-2.0
"""Choosing the model that a question is worth, under a price or a budget."""

from jaxttc.allocators.routing import (
  automix,
  bandits,
  cascades,
  decision_log,
  dispatch,
  policy_gradient,
  pooled_budget,
  routed_engine,
  rungs,
)
from jaxttc.allocators.routing.calibration import (
  Mixture,
  Threshold,
  margins,
  price_for_budget,
  safe_price,
  threshold_for_share,
)
from jaxttc.allocators.routing.choice import (
  cheapest_above,
  choose,
  route,
  sweep,
)
from jaxttc.allocators.routing.dispatch import Dispatcher
from jaxttc.allocators.routing.pacing import Paced, pace
from jaxttc.allocators.routing.pooled_budget import Pool
from jaxttc.allocators.routing.routed_engine import RoutedEngine

__all__ = (
  "Dispatcher",
  "Mixture",
  "Paced",
  "Pool",
  "RoutedEngine",
  "Threshold",
  "automix",
  "bandits",
  "cascades",
  "cheapest_above",
  "choose",
  "decision_log",
  "dispatch",
  "margins",
  "pace",
  "policy_gradient",
  "pooled_budget",
  "price_for_budget",
  "route",
  "routed_engine",
  "rungs",
  "safe_price",
  "sweep",
  "threshold_for_share",
)
