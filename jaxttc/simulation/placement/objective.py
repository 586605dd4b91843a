# SPDX-License-Identifier: Apache-2.0
r"""What an allocation costs, and what one move changes.

With utilisation `x[n, r] = load / capacity`,

    migration   M = sum of move_cost[s] over services with A[s] != start[s]
    overload    O = sum over n, r of max(0, x - 1)
    imbalance   I = mean over r of the standard deviation over n of x
    conflicts   V = services that share their machine with another of a job
                whose services must be apart, less one a machine
    total         = M + lambda (O + V) + mu I

A system is stable if O = 0. The terms are reported apart; lambda lies far above
any move, so that overload is never affordable. One move changes two nodes, so
its effect takes O(R) operations (`change`), whatever the size of the cell.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from jaxttc.simulation.placement import problems


class Costs(NamedTuple):
  """The terms of the objective, each f[*B]."""

  migration: Float[Array, "*B"]
  overload: Float[Array, "*B"]
  imbalance: Float[Array, "*B"]
  conflicts: Float[Array, "*B"]
  total: Float[Array, "*B"]


class Tally(NamedTuple):
  """What moves change of a cell.

  Attributes:
    load: f[N, R].
    mean: f[R], of utilisation over the nodes that have the resource.
    variance: f[R], likewise.
  """

  load: Float[Array, "N R"]
  mean: Float[Array, " R"]
  variance: Float[Array, " R"]


class Change(NamedTuple):
  """What one move does: to the objective, and to a `Tally`."""

  total: Float[Array, ""]
  mean: Float[Array, " R"]
  variance: Float[Array, " R"]


def loads(
  problem: problems.Problem, allocation: Int[Array, " S"]
) -> Float[Array, "N R"]:
  """What the services of each node use together."""
  return jnp.zeros_like(problem.capacity).at[allocation].add(problem.usage)


def tally(problem: problems.Problem, allocation: Int[Array, " S"]) -> Tally:
  """The tally of an allocation, from scratch."""
  load = loads(problem, allocation)
  count, used = _counts(problem), load * problem.inverse
  mean = used.sum(0) / count
  there = problem.inverse > 0
  variance = (jnp.where(there, used - mean[None], 0.0) ** 2).sum(0) / count
  return Tally(load, mean, variance)


def overloaded(
  problem: problems.Problem, load: Float[Array, "N R"]
) -> Bool[Array, " N"]:
  """Which nodes are asked for more than they have of some resource."""
  return (load > problem.capacity).any(1)


def cost(problem: problems.Problem, allocation: Int[Array, "*B S"]) -> Costs:
  """The terms of the objective, over any leading axes of the allocation.

  Args:
    problem: the problem.
    allocation: i32[*B, S], a node in [0, N) for each service.
  """
  batch = allocation.shape[:-1]
  flat = allocation.reshape((-1, allocation.shape[-1]))
  found = jax.vmap(lambda one: _cost(problem, one))(flat)
  return jax.tree.map(lambda term: term.reshape(batch), found)


def change(
  problem: problems.Problem,
  state: Tally,
  allocation: Int[Array, " S"],
  service: Int[Array, ""],
  node: Int[Array, ""],
) -> Change:
  """What reassigning one service to a node changes, in O(R).

  The difference of two standard deviations is taken as the difference of the
  variances over their sum, since the former are nearly equal in large cells.
  """
  source, moved = allocation[service], problem.usage[service]
  inverse_from, inverse_to = problem.inverse[source], problem.inverse[node]
  before_from = state.load[source] * inverse_from
  before_to = state.load[node] * inverse_to
  after_from = before_from - moved * inverse_from
  after_to = before_to + moved * inverse_to
  overload = (
    _over(after_from) + _over(after_to) - _over(before_from) - _over(before_to)
  ).sum()
  count = _counts(problem)
  first = (after_from - before_from) + (after_to - before_to)
  # Squares about the mean before the move keep small differences exact.
  second = _square_change(before_from, after_from, state.mean)
  second += _square_change(before_to, after_to, state.mean)
  mean = first / count
  variance = second / count - mean**2
  grown = jnp.maximum(state.variance + variance, 0.0)
  spread = jnp.sqrt(grown) + jnp.sqrt(jnp.maximum(state.variance, 0.0))
  imbalance = ((grown - state.variance) / jnp.maximum(spread, 1e-12)).mean()
  start = problem.start[service]
  away = (node != start).astype(moved.dtype) - (source != start)
  conflict = neighbours(problem, allocation, service, node)
  conflict -= neighbours(problem, allocation, service, source)
  total = (
    problem.move_cost[service] * away
    + problem.overload_weight * (overload + conflict)
    + problem.imbalance_weight * imbalance
  )
  stays = node == source
  return Change(
    jnp.where(stays, 0.0, total),
    jnp.where(stays, 0.0, mean),
    jnp.where(stays, 0.0, variance),
  )


def move(
  problem: problems.Problem,
  state: Tally,
  allocation: Int[Array, " S"],
  service: Int[Array, ""],
  node: Int[Array, ""],
  changed: Change,
  accept: Bool[Array, ""],
) -> tuple[Tally, Int[Array, " S"]]:
  """Makes a move whose `change` is known, where it is accepted."""
  source = allocation[service]
  moved = jnp.where(accept, problem.usage[service], 0.0)
  load = state.load.at[source].add(-moved).at[node].add(moved)
  mean = state.mean + jnp.where(accept, changed.mean, 0.0)
  variance = state.variance + jnp.where(accept, changed.variance, 0.0)
  return (
    Tally(load, mean, variance),
    allocation.at[service].set(jnp.where(accept, node, source)),
  )


def _cost(problem: problems.Problem, allocation: Int[Array, " S"]) -> Costs:
  state = tally(problem, allocation)
  away = allocation != problem.start
  migration = jnp.where(away, problem.move_cost, 0.0).sum()
  overload = _over(state.load * problem.inverse).sum()
  imbalance = jnp.sqrt(state.variance).mean()
  conflicts = _conflicts(problem, allocation)
  total = (
    migration
    + problem.overload_weight * (overload + conflicts)
    + problem.imbalance_weight * imbalance
  )
  return Costs(migration, overload, imbalance, conflicts, total)


def _conflicts(
  problem: problems.Problem, allocation: Int[Array, " S"]
) -> Float[Array, ""]:
  """Services of jobs that must be apart, less the machines that they use."""
  slots = problem.roster.shape[1]
  empty = -1 - jnp.arange(slots, dtype=jnp.int32)
  held = problem.roster >= 0
  where = jnp.where(
    held, allocation[jnp.maximum(problem.roster, 0)], empty[None]
  )
  ordered = jnp.sort(where, axis=1)
  same = (ordered[:, 1:] == ordered[:, :-1]) & (ordered[:, 1:] >= 0)
  return same.sum().astype(problem.usage.dtype)


def neighbours(
  problem: problems.Problem,
  allocation: Int[Array, " S"],
  service: Int[Array, ""],
  node: Int[Array, ""],
) -> Float[Array, ""]:
  """1 if another service of the job, which must be apart, is on the node."""
  job = problem.job[service]
  others = problem.roster[jnp.maximum(job, 0)]
  there = allocation[jnp.maximum(others, 0)] == node
  there &= (others >= 0) & (others != service) & (job >= 0)
  return there.any().astype(problem.usage.dtype)


def _counts(problem: problems.Problem) -> Float[Array, " R"]:
  """How many nodes have each resource, at least one."""
  count = (problem.inverse > 0).sum(0)
  return jnp.maximum(count, 1).astype(problem.usage.dtype)


def _over(used: Float[Array, "..."]) -> Float[Array, "..."]:
  return jnp.maximum(used - 1.0, 0.0)


def _square_change(
  before: Float[Array, " R"],
  after: Float[Array, " R"],
  mean: Float[Array, " R"],
) -> Float[Array, " R"]:
  return (after - before) * (after + before - 2.0 * mean)
