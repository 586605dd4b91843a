# SPDX-License-Identifier: Apache-2.0
r"""How good an allocation can be: the problem as a mixed-integer program.

    minimise    sum of c[s] (1 - x[s, start[s]]) + lambda (sum of z + sum of y)
    subject to  sum over n of x[s, n] = 1 for every service
                z[n, r] >= load[n, r] / capacity[n, r] - 1
                y[j, n] >= services of job j on n, less 1
                x in {0, 1}, y and z >= 0, x[s, n] = 0 where s must not run

Imbalance is not linear, and left out: the optimum is that of the objective for
mu = 0, and a lower bound of it for any other mu. SciPy's HiGHS solves it; it is
meant for small cells, up to some thousands of variables.
"""

from typing import NamedTuple

from jaxtyping import Int
import numpy as np
import scipy.optimize
import scipy.sparse

from jaxttc.simulation.placement import problems


class Bound(NamedTuple):
  """What the program says.

  Attributes:
    lower: no allocation has a total below this.
    total: migration and overload terms of `allocation`; infinite if none was
      found.
    allocation: i32[S], the best allocation found; None if none was.
    optimal: whether `total` is proven to be the least.
  """

  lower: float
  total: float
  allocation: Int[np.ndarray, " S"] | None
  optimal: bool


def integer_bound(problem: problems.Problem, *, seconds: float = 60.0) -> Bound:
  """Solves the program, or bounds it for as long as it may take.

  Args:
    problem: the problem; all services count as movable.
    seconds: time limit.

  Raises:
    ValueError: if the solver fails for another reason than the time.
  """
  return _solve(problem, seconds, integer=True)


def linear_bound(problem: problems.Problem, *, seconds: float = 60.0) -> Bound:
  """The lower bound in which services may be split over nodes.

  Raises:
    ValueError: if the solver fails, or does not finish in time.
  """
  return _solve(problem, seconds, integer=False)


def _solve(problem: problems.Problem, seconds: float, integer: bool) -> Bound:
  services, nodes = problem.start.shape[0], problem.capacity.shape[0]
  usage = np.asarray(problem.usage, np.float64)
  inverse = np.asarray(problem.inverse, np.float64)
  start = np.asarray(problem.start)
  move_cost = np.asarray(problem.move_cost, np.float64)
  weight = float(problem.overload_weight)
  roster = np.asarray(problem.roster)
  jobs = [row[row >= 0] for row in roster if (row >= 0).sum() > 1]
  choices, excess = services * nodes, nodes * usage.shape[1]
  variables = choices + excess + len(jobs) * nodes

  objective = np.zeros(variables)
  objective[np.arange(services) * nodes + start] = -move_cost
  objective[choices:] = weight
  upper = np.full(variables, np.inf)
  allowed = np.asarray(problem.eligible)[np.asarray(problem.kind)]
  upper[:choices] = allowed.reshape(-1)
  whole = np.zeros(variables)
  whole[:choices] = 1.0 if integer else 0.0
  found = scipy.optimize.milp(
    objective,
    integrality=whole,
    bounds=scipy.optimize.Bounds(0.0, upper),
    constraints=[
      _one_node_each(services, nodes, variables),
      _excess(usage, inverse, variables),
      *_apart(jobs, services, nodes, excess, variables),
    ],
    options={"time_limit": seconds, "mip_rel_gap": 1e-9},
  )
  base = float(move_cost.sum())
  if found.status not in (0, 1) or (not integer and found.status):
    raise ValueError(f"the solver gave up: {found.message}")
  allocation, total = None, np.inf
  if found.x is not None:
    total = base + float(found.fun)
    taken = found.x[:choices].reshape(services, nodes)
    allocation = taken.argmax(1).astype(np.int32) if integer else None
  dual = found.mip_dual_bound if integer else None
  lower = total if dual is None else base + float(dual)
  return Bound(max(lower, 0.0), total, allocation, found.status == 0)


def _one_node_each(
  services: int, nodes: int, variables: int
) -> scipy.optimize.LinearConstraint:
  rows = np.repeat(np.arange(services), nodes)
  matrix = scipy.sparse.csr_array(
    (np.ones(services * nodes), (rows, np.arange(services * nodes))),
    shape=(services, variables),
  )
  return scipy.optimize.LinearConstraint(matrix, 1.0, 1.0)


def _excess(
  usage: np.ndarray, inverse: np.ndarray, variables: int
) -> scipy.optimize.LinearConstraint:
  """load / capacity - z <= 1, for each node and resource."""
  services, resources = usage.shape
  nodes = inverse.shape[0]
  part = usage[:, None, :] * inverse[None]  # [S, N, R]
  service, node, resource = np.nonzero(part)
  rows = node * resources + resource
  excess = np.arange(nodes * resources)
  matrix = scipy.sparse.csr_array(
    (
      np.concatenate([part[service, node, resource], -np.ones(len(excess))]),
      (
        np.concatenate([rows, excess]),
        np.concatenate([service * nodes + node, services * nodes + excess]),
      ),
    ),
    shape=(len(excess), variables),
  )
  return scipy.optimize.LinearConstraint(matrix, -np.inf, 1.0)


def _apart(
  jobs: list[np.ndarray],
  services: int,
  nodes: int,
  excess: int,
  variables: int,
) -> list[scipy.optimize.LinearConstraint]:
  """Services of a job on one node, less y, are at most one."""
  made = []
  for number, members in enumerate(jobs):
    first = services * nodes + excess + number * nodes
    node = np.arange(nodes)
    columns = (members[:, None] * nodes + node[None]).reshape(-1)
    matrix = scipy.sparse.csr_array(
      (
        np.concatenate([np.ones(len(columns)), -np.ones(nodes)]),
        (
          np.concatenate([np.tile(node, len(members)), node]),
          np.concatenate([columns, first + node]),
        ),
      ),
      shape=(nodes, variables),
    )
    made.append(scipy.optimize.LinearConstraint(matrix, -np.inf, 1.0))
  return made
