# SPDX-License-Identifier: Apache-2.0
"""What things cost: budgets and meters, FLOPs, bytes, energy and money."""

from jaxttc.cost.budget import Budget, BudgetExceeded, Meter
from jaxttc.cost.cost_record import CostRecord
from jaxttc.cost.costs import Cost
from jaxttc.cost.estimate import Estimate
from jaxttc.cost.hardware import Hardware
from jaxttc.cost.jaxpr_flops import count_flops
from jaxttc.cost.ledger import Ledger
from jaxttc.cost.tariff import Tariff
from jaxttc.cost.transformer_flops import TransformerShape
from jaxttc.cost.window import Window

__all__ = (
  "Budget",
  "BudgetExceeded",
  "Cost",
  "CostRecord",
  "Estimate",
  "Hardware",
  "Ledger",
  "Meter",
  "Tariff",
  "TransformerShape",
  "Window",
  "count_flops",
)
