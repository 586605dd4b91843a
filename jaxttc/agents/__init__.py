# SPDX-License-Identifier: Apache-2.0
"""Programs that talk to models, plan and check themselves under a budget."""

from jaxttc.agents.outline_choice import decompose
from jaxttc.agents.outlines import Outline
from jaxttc.agents.rounds import reason
from jaxttc.agents.two_speed import System, carry_out, scale

__all__ = [
  "Outline",
  "System",
  "carry_out",
  "decompose",
  "reason",
  "scale",
]
