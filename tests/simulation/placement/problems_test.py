# SPDX-License-Identifier: Apache-2.0
"""Problems are made from what can be, and from nothing else."""

import numpy as np
import pytest

from jaxttc.simulation.placement import cells, constraints, problems

CAPACITY = np.array([[1.0, 2.0], [1.0, 1.0]])
USAGE = np.array([[0.5, 0.5], [0.2, 0.1], [0.1, 0.1]])


def _make(capacity=CAPACITY, usage=USAGE, start=(0, 0, 1), **fields):
  workload = cells.Workload(usage, **fields)
  count = usage.shape[0] if usage.ndim == 2 else 1
  return problems.problem(
    cells.Cell(capacity, ({"k": "1"}, {"k": "2"})),
    workload,
    np.array(start),
    np.ones(count),
  )


def _with(array, place, value):
  changed = array.copy()
  changed[place] = value
  return changed


@pytest.mark.parametrize(
  ("fields", "message"),
  [
    ({"capacity": -CAPACITY}, "capacity of node 0, resource 0 is -1.0"),
    ({"usage": _with(USAGE, (1, 1), -0.1)}, "usage of service 1, resource 1"),
    ({"usage": _with(USAGE, (2, 0), np.nan)}, "usage of service 2.* is nan"),
    ({"usage": USAGE[:, :1]}, "usage has 1 resources, capacity 2"),
    ({"usage": USAGE[0]}, r"expected a \[service, resource\] array"),
    ({"request": USAGE[:2]}, r"request has shape \(2, 2\), expected \(3, 2\)"),
    ({"mem_bytes": np.ones(2)}, r"mem_bytes has shape \(2,\)"),
    ({"dirty_rate": -np.ones(3)}, "dirty_rate of service 0"),
    ({"job": np.zeros(2, int)}, r"job has shape \(2,\)"),
    ({"constraints": ((),)}, "constraints of 1 services"),
    ({"start": (0, 2, 1)}, r"service 1 is on node 2: expected .* \[0, 2\)"),
    ({"start": (0, 1)}, "start has shape"),
  ],
)
def test_bad_input(fields, message):
  with pytest.raises(ValueError, match=message):
    _make(**fields)


def test_service_that_fits_nowhere_is_named():
  with pytest.raises(cells.InfeasibleError, match="service 0 uses .* none of"):
    _make(usage=_with(USAGE, (0, 0), 1.5))
  rule = (constraints.Constraint("==", "k", "2"),)
  big = _with(USAGE, (1, 1), 1.5)  # fits node 0 only, may run on node 1 only
  with pytest.raises(cells.InfeasibleError, match="service 1"):
    _make(usage=big, constraints=((), rule, ()))


def test_a_node_without_a_resource_in_use_hosts_nothing():
  capacity = _with(CAPACITY, (1, 1), 0.0)
  with pytest.raises(ValueError, match="service 2 is on node 1"):
    _make(capacity=capacity)
  made = _make(capacity=capacity, start=(0, 0, 0))
  np.testing.assert_array_equal(made.eligible, [[True, False]])


def test_kinds_rosters_and_targets():
  rule = (constraints.Constraint("==", "k", "2"),)
  made = _make(constraints=((), (), rule), job=np.array([7, -1, 7]))
  np.testing.assert_array_equal(made.kind, [0, 0, 1])
  np.testing.assert_array_equal(made.eligible, [[True, True], [False, True]])
  np.testing.assert_array_equal(made.target_counts, [2, 1])
  assert made.targets[1, 0] == 1
  np.testing.assert_array_equal(made.job, [0, -1, 0])
  np.testing.assert_array_equal(made.roster, [[0, 2]])


def test_weights():
  cell, workload = cells.Cell(CAPACITY), cells.Workload(USAGE)
  start = np.zeros(3, int)
  made = problems.problem(cell, workload, start, np.array([1.0, 3.0, 2.0]))
  assert made.overload_weight == 300
  with pytest.raises(ValueError, match="weights must be >= 0"):
    problems.problem(cell, workload, start, np.ones(3), imbalance_weight=-1.0)
  with pytest.raises(ValueError, match="move_cost of service 1 is -1.0"):
    problems.problem(cell, workload, start, np.array([1.0, -1.0, 0.0]))
