# SPDX-License-Identifier: Apache-2.0
"""What things cost: budgets and meters, FLOPs, bytes, energy and money."""

from jaxttc.cost.budget import Budget, BudgetExceeded, Meter
from jaxttc.cost.costs import Cost
from jaxttc.cost.hardware import Hardware
from jaxttc.cost.jaxpr_flops import count_flops
from jaxttc.cost.tariff import Tariff
from jaxttc.cost.transformer_flops import TransformerShape

__all__ = (
  "Budget",
  "BudgetExceeded",
  "Cost",
  "Hardware",
  "Meter",
  "Tariff",
  "TransformerShape",
  "count_flops",
)
