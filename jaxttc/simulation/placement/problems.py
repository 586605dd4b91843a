# SPDX-License-Identifier: Apache-2.0
"""One re-balancing problem, as arrays that the solvers are compiled for."""

from flax import struct
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int
import numpy as np

from jaxttc.simulation.placement import cells
from jaxttc.simulation.placement import constraints as constraints_lib


@struct.dataclass
class Problem:
  """Where services are, where they may go, and what moving them costs.

  Attributes:
    capacity: f[N, R].
    inverse: f[N, R], one over capacity; 0 where there is none.
    usage: f[S, R]; zero for a slot without a service.
    start: i32[S], the allocation that migrations are counted from.
    move_cost: f[S], what moving a service away from `start` costs.
    kind: i32[S], row of `eligible`.
    eligible: bool[G, N].
    targets: i32[G, N], the eligible nodes of each kind first.
    target_counts: i32[G], how many there are.
    job: i32[S], row of `roster`; -1 without a rule against sharing machines.
    roster: i32[J, M], services of each such job; -1 behind the last.
    movable: i32[S], the services that may move come first.
    movable_count: i32, how many there are.
    overload_weight: lambda of the objective; far above any `move_cost`.
    imbalance_weight: mu of the objective.
  """

  capacity: Float[Array, "N R"]
  inverse: Float[Array, "N R"]
  usage: Float[Array, "S R"]
  start: Int[Array, " S"]
  move_cost: Float[Array, " S"]
  kind: Int[Array, " S"]
  eligible: Bool[Array, "G N"]
  targets: Int[Array, "G N"]
  target_counts: Int[Array, " G"]
  job: Int[Array, " S"]
  roster: Int[Array, "J M"]
  movable: Int[Array, " S"]
  movable_count: Int[Array, ""]
  overload_weight: Float[Array, ""]
  imbalance_weight: Float[Array, ""]


def problem(
  cell: cells.Cell,
  workload: cells.Workload,
  start: Int[np.ndarray, "..."],
  move_cost: Float[np.ndarray, "..."],
  *,
  overload_weight: float | None = None,
  imbalance_weight: float = 1.0,
) -> Problem:
  """A problem from host arrays; f32, or f64 where JAX has it enabled.

  Args:
    cell: machines.
    workload: services.
    start: i[S], where they are.
    move_cost: f[S] >= 0, what moving each costs.
    overload_weight: lambda; by default a hundred times the dearest move.
    imbalance_weight: mu.

  Raises:
    ValueError: if the cell or the workload cannot be, the allocation names a
      node that does not exist or may not host the service, or a cost or a
      weight is negative.
    InfeasibleError: if a service fits no machine that it may run on.
  """
  cells.check(cell, workload)
  start, move_cost = np.asarray(start), np.asarray(move_cost)
  services, nodes = workload.usage.shape[0], cell.capacity.shape[0]
  _check_start(start, move_cost, services, nodes)
  if overload_weight is None:
    overload_weight = 100.0 * max(float(move_cost.max()), 1.0)
  if overload_weight < 0 or imbalance_weight < 0:
    raise ValueError(
      f"weights must be >= 0, got overload {overload_weight}, imbalance "
      f"{imbalance_weight}"
    )
  kind, eligible = kinds(cell, workload)
  used = (workload.usage > 0).any(0)
  eligible = eligible & ~((cell.capacity == 0) & used[None]).any(1)[None]
  _check_hosts(cell, workload, start, kind, eligible)
  job, roster = rosters(workload.job, services)
  targets, target_counts = eligible_first(eligible)
  with np.errstate(divide="ignore"):
    inverse = np.where(cell.capacity > 0, 1.0 / cell.capacity, 0.0)
  real = jax.dtypes.canonicalize_dtype(np.float64)
  made = Problem(
    capacity=cell.capacity.astype(real),
    inverse=inverse.astype(real),
    usage=workload.usage.astype(real),
    start=start.astype(np.int32),
    move_cost=move_cost.astype(real),
    kind=kind,
    eligible=eligible,
    targets=targets,
    target_counts=target_counts,
    job=job,
    roster=roster,
    movable=np.arange(services, dtype=np.int32),
    movable_count=np.int32(services),
    overload_weight=np.asarray(overload_weight, real),
    imbalance_weight=np.asarray(imbalance_weight, real),
  )
  return jax.tree.map(jnp.asarray, made)


def movable_mask(problem: Problem) -> Bool[Array, " S"]:
  """Which services may move."""
  slots = problem.movable.shape[0]
  there = jnp.arange(slots) < problem.movable_count
  return jnp.zeros((slots,), bool).at[problem.movable].set(there)


def kinds(
  cell: cells.Cell, workload: cells.Workload
) -> tuple[Int[np.ndarray, " S"], Bool[np.ndarray, "G N"]]:
  """Services by their set of constraints, and the machines of each set.

  Raises:
    ValueError: if a constraint is not valid.
  """
  services, nodes = workload.usage.shape[0], cell.capacity.shape[0]
  if not workload.constraints:
    return np.zeros(services, np.int32), np.ones((1, nodes), bool)
  numbers: dict[frozenset[constraints_lib.Constraint], int] = {}
  kind = np.array(
    [
      numbers.setdefault(frozenset(asked), len(numbers))
      for asked in workload.constraints
    ],
    np.int32,
  )
  attributes = cell.attributes or [{}] * nodes
  return kind, constraints_lib.eligibility(attributes, list(numbers))


def rosters(
  job: Int[np.ndarray, " S"] | None, services: int
) -> tuple[Int[np.ndarray, " S"], Int[np.ndarray, "J M"]]:
  """Dense job numbers, and the services of each; jobs of one are left out."""
  dense = np.full(services, -1, np.int32)
  if job is None:
    return dense, np.full((1, 1), -1, np.int32)
  names, counts = np.unique(job[job >= 0], return_counts=True)
  names = names[counts > 1]
  roster = np.full((max(len(names), 1), max(counts, default=1)), -1, np.int32)
  for row, name in enumerate(names):
    members = np.flatnonzero(job == name)
    roster[row, : len(members)] = members
    dense[members] = row
  return dense, roster


def eligible_first(
  eligible: Bool[np.ndarray, "G N"],
) -> tuple[Int[np.ndarray, "G N"], Int[np.ndarray, " G"]]:
  """The nodes of each row, eligible ones first, and how many those are."""
  order = np.argsort(~eligible, axis=1, kind="stable").astype(np.int32)
  return order, eligible.sum(1).astype(np.int32)


def _check_start(
  start: np.ndarray, move_cost: np.ndarray, services: int, nodes: int
) -> None:
  if start.shape != (services,) or move_cost.shape != (services,):
    raise ValueError(
      f"start has shape {start.shape}, move_cost {move_cost.shape}: expected "
      f"({services},) for both"
    )
  outside = np.flatnonzero((start < 0) | (start >= nodes))
  if len(outside):
    raise ValueError(
      f"service {outside[0]} is on node {start[outside[0]]}: expected a node "
      f"in [0, {nodes})"
    )
  bad = np.flatnonzero(~(np.isfinite(move_cost) & (move_cost >= 0)))
  if len(bad):
    raise ValueError(
      f"move_cost of service {bad[0]} is {move_cost[bad[0]]}: expected >= 0"
    )


def _check_hosts(
  cell: cells.Cell,
  workload: cells.Workload,
  start: np.ndarray,
  kind: np.ndarray,
  eligible: np.ndarray,
) -> None:
  """Every service fits somewhere, and is where it may be."""
  for row, allowed in enumerate(eligible):
    members = np.flatnonzero(kind == row)
    # Machines of one shape are one machine here: cells have few shapes.
    shapes = np.unique(cell.capacity[allowed], axis=0)
    fits = np.zeros(len(members), bool)
    for shape in shapes:
      fits |= (workload.usage[members] <= shape[None]).all(1)
    if not fits.all():
      service = members[np.flatnonzero(~fits)[0]]
      raise cells.InfeasibleError(
        f"service {service} uses {workload.usage[service].tolist()}: none of "
        f"the {int(allowed.sum())} nodes that it may run on has as much"
      )
  wrong = np.flatnonzero(~eligible[kind, start])
  if len(wrong):
    raise ValueError(
      f"service {wrong[0]} is on node {start[wrong[0]]}, which its constraints "
      "rule out or which has no capacity"
    )
