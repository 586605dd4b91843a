# SPDX-License-Identifier: Apache-2.0
"""Centralised re-balancing: a solver looks at the whole cell now and then."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from jaxttc.simulation.placement import cluster as cluster_lib
from jaxttc.simulation.placement import migration, policies, problems, solvers

_GIB = 2.0**30


class Memory(NamedTuple):
  """How many periods have passed, and which machine was taken last."""

  period: Int[Array, ""]
  cursor: policies.Memory


def rebalancing(
  solver: str = "greedy",
  *,
  every: int = 1,
  budget_evals: int = 1_000_000,
  trigger: float = 0.95,
  imbalance_weight: float = 0.0,
  first: policies.Policy | None = None,
  link: migration.Link | None = None,
) -> policies.Policy:
  """New tasks by a simple rule; all tasks re-balanced every few periods.

  Args:
    solver: a name of `solvers.SOLVERS`.
    every: periods from one solution to the next.
    budget_evals: what each solution may cost.
    trigger: share of a machine above which it counts as overloaded.
    imbalance_weight: mu of the objective, in GiB moved.
    first: the rule for new tasks; `policies.power_of_k()` if None.
    link: how migrations travel.

  Raises:
    ValueError: if a setting is out of range or the solver unknown.
  """
  solve = solvers.solver(solver)
  if every < 1:
    raise ValueError(f"rebalancing: expected every >= 1, got {every}")
  if not 0 < trigger <= 1:
    raise ValueError(f"rebalancing: trigger {trigger} is not in (0, 1]")
  rule = first or policies.power_of_k()
  travel = migration.check_link(link or migration.Link())

  def init(cluster):
    return Memory(jnp.int32(0), rule.init(cluster))

  def place(memory, cluster, slot, where, key):
    choice = rule.place(memory.cursor, cluster, slot, where, key)
    return choice._replace(memory=memory._replace(cursor=choice.memory))

  def balance(memory, cluster, key):
    period = int(memory.period)
    memory = memory._replace(period=memory.period + 1)
    if period % every or not bool(_troubled(cluster, trigger)):
      return memory, cluster, cluster_lib.no_moves()
    problem = as_problem(cluster, trigger, imbalance_weight, travel)
    found = solve(problem, key, budget_evals)
    cluster, moves = _carry_out(cluster, problem, found.allocation, travel)
    return memory, cluster, moves

  return policies.Policy("rebalancing", init, place, balance)


@functools.partial(jax.jit, static_argnames="link")
def as_problem(
  cluster: cluster_lib.Cluster,
  trigger: float | Float[Array, ""],
  imbalance_weight: float | Float[Array, ""],
  link: migration.Link,
) -> problems.Problem:
  """The re-balancing problem of a running cell; moves cost GiB.

  Tasks on their way count as arrived and stay; slots without a running task use
  nothing and stay.

  Args:
    cluster: the cell.
    trigger: share of a machine above which it counts as overloaded.
    imbalance_weight: mu.
    link: how migrations travel.
  """
  slots = cluster.live.shape[0]
  running = cluster.live & (cluster.node >= 0)
  ahead = jnp.where(cluster.heading >= 0, cluster.heading, cluster.node)
  free = running & (cluster.heading < 0)
  everybody = jnp.arange(slots, dtype=jnp.int32)
  trip = cluster_lib.transfers(cluster, everybody, link)
  cost = jnp.where(free, trip.bytes / _GIB, 0.0)
  capacity = cluster.capacity * trigger
  roster = cluster.roster
  held = (roster >= 0) & running[jnp.maximum(roster, 0)]
  return problems.Problem(
    capacity=capacity,
    inverse=jnp.where(capacity > 0, 1.0 / capacity, 0.0),
    usage=jnp.where(running[:, None], cluster.usage, 0.0),
    start=jnp.where(running, ahead, 0),
    move_cost=cost,
    kind=cluster.kind,
    eligible=cluster.eligible,
    targets=cluster.targets,
    target_counts=cluster.target_counts,
    job=cluster.job,
    roster=jnp.where(held, roster, -1),
    movable=jnp.argsort(~free, stable=True).astype(jnp.int32),
    movable_count=free.sum().astype(jnp.int32),
    overload_weight=100.0 * jnp.maximum(cost.max(), 1.0),
    imbalance_weight=jnp.asarray(imbalance_weight, jnp.float32),
  )


@jax.jit
def _troubled(
  cluster: cluster_lib.Cluster, trigger: float | Float[Array, ""]
) -> Bool[Array, ""]:
  over = cluster.load > trigger * cluster.capacity
  return (over.any(1) & cluster_lib.present(cluster)).any()


@functools.partial(jax.jit, static_argnames="link")
def _carry_out(
  cluster: cluster_lib.Cluster,
  problem: problems.Problem,
  allocation: Int[Array, " S"],
  link: migration.Link,
) -> tuple[cluster_lib.Cluster, cluster_lib.Moves]:
  """Starts the migrations from where tasks are to where they should be."""
  slots = jnp.arange(allocation.shape[0], dtype=jnp.int32)
  really = (allocation != problem.start) & problems.movable_mask(problem)
  trip = cluster_lib.transfers(cluster, slots, link)
  moved = cluster_lib.depart(cluster, slots, allocation, really, trip)
  started = really.sum().astype(jnp.int32)
  # A word to the old machine and to the new one, and their answers.
  return moved, cluster_lib.no_moves()._replace(
    started=started,
    decisions=started,
    messages=4 * started,
    bytes=jnp.where(really, trip.bytes, 0.0).sum(),
  )
