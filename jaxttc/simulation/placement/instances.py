# SPDX-License-Identifier: Apache-2.0
"""Random re-balancing problems with a hot start, of any size."""

import numpy as np

from jaxttc.simulation.placement import cells, problems


def hot_start(
  seed: int,
  *,
  services: int,
  nodes: int,
  resources: int = 3,
  load: float = 0.75,
  hot_nodes: float = 1 / 3,
  heat: float = 4.0,
  imbalance_weight: float = 10.0,
) -> problems.Problem:
  """A cell where some nodes are given several times their share of services.

  Capacities are 1, services are exponential in size and share out `load` of
  every resource; moving one costs between 0.5 and 1.5, more for larger ones.

  Args:
    seed: of everything that is drawn.
    services: services.
    nodes: nodes.
    resources: resources.
    load: used share of each resource of the cell, in (0, 1).
    hot_nodes: share of the nodes that are hot, at least one of them.
    heat: how many times likelier a service is on a hot node.
    imbalance_weight: mu of the objective.

  Raises:
    ValueError: if the load is not in (0, 1).
  """
  if not 0 < load < 1:
    raise ValueError(f"load must lie in (0, 1), got {load}")
  rng = np.random.default_rng(seed)
  sizes = rng.exponential(size=(services, resources)) + 0.1
  usage = sizes / sizes.sum(0, keepdims=True) * load * nodes
  # A service that no machine holds is not what is studied here.
  usage = np.minimum(usage, 0.9)
  weights = np.ones(nodes)
  weights[: max(1, round(hot_nodes * nodes))] = heat
  start = rng.choice(nodes, size=services, p=weights / weights.sum())
  size = usage.mean(1) / usage.mean()
  move_cost = 0.5 + size / (1.0 + size)
  return problems.problem(
    cells.Cell(np.ones((nodes, resources))),
    cells.Workload(usage),
    start,
    move_cost,
    imbalance_weight=imbalance_weight,
  )
