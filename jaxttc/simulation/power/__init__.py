# SPDX-License-Identifier: Apache-2.0
"""A row of servers under a power budget: oversubscription, locks, brakes."""

from jaxttc.simulation.power.model import Clock, PowerModel, constant
from jaxttc.simulation.power.outcome import RowResult
from jaxttc.simulation.power.plans import FrequencyPlan, Level
from jaxttc.simulation.power.policies import (
  Policy,
  dual_threshold,
  no_cap,
  oracle,
  proportional,
  single_threshold,
)
from jaxttc.simulation.power.requests import Requests, Stream
from jaxttc.simulation.power.row import (
  Control,
  Row,
  simulate_row,
  simulate_rows,
)

__all__ = [
  "Clock",
  "Control",
  "FrequencyPlan",
  "Level",
  "Policy",
  "PowerModel",
  "Requests",
  "Row",
  "RowResult",
  "Stream",
  "constant",
  "dual_threshold",
  "no_cap",
  "oracle",
  "proportional",
  "simulate_row",
  "simulate_rows",
  "single_threshold",
]
