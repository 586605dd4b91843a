# SPDX-License-Identifier: Apache-2.0
"""Where work goes in a cell of machines, and whether moving it is worth it.

`placement.masb`, `placement.rebalancing` and `placement.replay` are modules,
each with a function of its name.
"""

from jaxttc.simulation.placement.bounds import integer_bound, linear_bound
from jaxttc.simulation.placement.cells import (
  Allocation,
  Cell,
  InfeasibleError,
  Workload,
)
from jaxttc.simulation.placement.constraints import Constraint
from jaxttc.simulation.placement.masb import MasbState, masb_step
from jaxttc.simulation.placement.migration import Link, migration_traffic
from jaxttc.simulation.placement.negotiation import Rules
from jaxttc.simulation.placement.objective import Costs, cost
from jaxttc.simulation.placement.policies import (
  Policy,
  best_fit,
  first_fit,
  power_of_k,
  random,
  recorded,
  round_robin,
  worst_fit,
)
from jaxttc.simulation.placement.problems import Problem, problem
from jaxttc.simulation.placement.proposals import Result, Solver
from jaxttc.simulation.placement.replay import Record
from jaxttc.simulation.placement.scores import sias, sras
from jaxttc.simulation.placement.solvers import SOLVERS, solver

__all__ = [
  "SOLVERS",
  "Allocation",
  "Cell",
  "Constraint",
  "Costs",
  "InfeasibleError",
  "Link",
  "MasbState",
  "Policy",
  "Problem",
  "Record",
  "Result",
  "Rules",
  "Solver",
  "Workload",
  "best_fit",
  "cost",
  "first_fit",
  "integer_bound",
  "linear_bound",
  "masb_step",
  "migration_traffic",
  "power_of_k",
  "problem",
  "random",
  "recorded",
  "round_robin",
  "sias",
  "solver",
  "sras",
  "worst_fit",
]
