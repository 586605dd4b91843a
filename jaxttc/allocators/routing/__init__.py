# SPDX-License-Identifier: Apache-2.0
"""Choosing the model that a question is worth, under a price or a budget."""

from jaxttc.allocators.routing import (
  automix,
  bandits,
  cascades,
  policy_gradient,
  pooled_budget,
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
from jaxttc.allocators.routing.pacing import Paced, pace
from jaxttc.allocators.routing.pooled_budget import Pool

__all__ = (
  "Mixture",
  "Paced",
  "Pool",
  "Threshold",
  "automix",
  "bandits",
  "cascades",
  "cheapest_above",
  "choose",
  "margins",
  "pace",
  "policy_gradient",
  "pooled_budget",
  "price_for_budget",
  "route",
  "rungs",
  "safe_price",
  "sweep",
  "threshold_for_share",
)
