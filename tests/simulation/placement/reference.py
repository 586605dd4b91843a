# SPDX-License-Identifier: Apache-2.0
"""The objective and the best-fit replay again, in plain Python."""

import numpy as np


def cost(problem, allocation):
  """(migration, overload, imbalance, conflicts), one service at a time."""
  capacity = np.asarray(problem.capacity, np.float64)
  usage = np.asarray(problem.usage, np.float64)
  start, move_cost = np.asarray(problem.start), np.asarray(problem.move_cost)
  load = np.zeros_like(capacity)
  migration = 0.0
  for service, node in enumerate(allocation):
    load[node] += usage[service]
    if node != start[service]:
      migration += float(move_cost[service])
  used = load / capacity
  overload = sum(max(0.0, value - 1.0) for value in used.reshape(-1))
  imbalance = float(np.mean([np.std(column) for column in used.T]))
  conflicts = 0
  for row in np.asarray(problem.roster):
    nodes = [allocation[service] for service in row if service >= 0]
    conflicts += len(nodes) - len(set(nodes))
  return migration, overload, imbalance, float(conflicts)


class BestFit:
  """Best fit on requests over a trace's events, with dictionaries."""

  def __init__(self):
    self.capacity, self.order = {}, []
    self.request, self.node = {}, {}

  def _left(self, machine):
    taken = [
      self.request[task] for task, on in self.node.items() if on == machine
    ]
    total = np.sum(taken, axis=0) if taken else np.zeros(2)
    return np.array(self.capacity[machine]) - total

  def place(self, task):
    """Puts a task on the machine with the least left over, if it fits."""
    best, least = None, np.inf
    for machine in self.order:
      left = self._left(machine) - np.array(self.request[task])
      if (left < -1e-7).any():
        continue
      share = float((left / np.array(self.capacity[machine])).sum())
      if share < least - 1e-6:
        best, least = machine, share
    self.node[task] = best
    return best is not None
