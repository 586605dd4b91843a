# SPDX-License-Identifier: Apache-2.0
"""Greedy re-balancing: the move that helps most, until none helps.

Services of overloaded nodes, and those that share a node against their job's
rule, are ranked by what their leaving can gain at most (the overload that goes
with them, less what the move costs), in O(S R). The first is tried on all nodes
and goes to the best. A service that no node improves is put aside, and is tried
once more after others have moved. Every accepted move lowers the objective by
more than rounding does, so plateaus end the search instead of looping.
"""

import functools

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

from jaxttc.simulation.placement import objective, problems, proposals

_HISTORY = 64


def greedy(
  problem: problems.Problem, key: PRNGKeyArray, budget_evals: int
) -> proposals.Result:
  """Takes the best move off overloaded nodes while there is one.

  Args:
    problem: the problem.
    key: not used: the search is deterministic.
    budget_evals: moves scored, at most; a step scores one for each node.

  Raises:
    ValueError: if the budget does not pay for one step.
  """
  del key
  nodes = problem.capacity.shape[0]
  proposals.check_budget(budget_evals, nodes, "greedy")
  return _search(problem, budget_evals)


@functools.partial(jax.jit, static_argnames="budget_evals")
def _search(problem: problems.Problem, budget_evals: int) -> proposals.Result:
  nodes = problem.capacity.shape[0]
  first = objective.cost(problem, problem.start).total
  least_gain = 1e-5 + 1e-6 * jnp.abs(first)
  movable = problems.movable_mask(problem)

  def going(state):
    *_, aside, evals, moved, done, _ = state
    return (evals + nodes <= budget_evals) & ~done

  def step(state):
    tally, allocation, total, aside, evals, moved, _, history = state
    gain = _most_gain(problem, tally.load, allocation)
    gain = jnp.where(aside | ~movable, -jnp.inf, gain)
    service = jnp.argmax(gain).astype(jnp.int32)
    hopeful = gain[service] > 0
    changes = _all_moves(problem, tally, allocation, service)
    node = jnp.argmin(changes.total).astype(jnp.int32)
    accept = hopeful & (changes.total[node] < -least_gain)
    chosen = jax.tree.map(lambda leaf: leaf[node], changes)
    tally, allocation = objective.move(
      problem, tally, allocation, service, node, chosen, accept
    )
    aside = aside.at[service].set(aside[service] | ~accept)
    # None is left to try: begin anew if something moved since, else end.
    done = ~hopeful & ~moved
    aside = jnp.where(hopeful, aside, jnp.zeros_like(aside))
    total = total + jnp.where(accept, chosen.total, 0.0)
    evals = evals + jnp.where(hopeful, nodes, 0)
    place = (evals / budget_evals * (_HISTORY - 1)).astype(jnp.int32)
    return (
      tally,
      allocation,
      total,
      aside,
      evals,
      (moved & hopeful) | accept,
      done,
      history.at[place].min(total),
    )

  start = (
    objective.tally(problem, problem.start),
    problem.start,
    first,
    jnp.zeros_like(movable),
    jnp.int32(0),
    jnp.bool_(False),
    jnp.bool_(False),
    jnp.full((_HISTORY,), jnp.inf, first.dtype).at[0].set(first),
  )
  state = jax.lax.while_loop(going, step, start)
  _, allocation, _, _, evals, _, _, history = state
  times = (jnp.arange(_HISTORY) + 1) * (budget_evals / _HISTORY)
  return proposals.Result(
    allocation,
    objective.cost(problem, allocation),
    jax.lax.cummin(history),
    times.astype(jnp.int32),
    evals,
  )


def _most_gain(
  problem: problems.Problem,
  load: Float[Array, "N R"],
  allocation: Int[Array, " S"],
) -> Float[Array, " S"]:
  """What a move of each service can gain at most, imbalance left aside.

  Minus infinity where nothing is wrong with where it is.
  """
  used = (load * problem.inverse)[allocation]
  part = problem.usage * problem.inverse[allocation]
  relief = jnp.maximum(used - 1.0, 0.0) - jnp.maximum(used - part - 1.0, 0.0)
  cost = problem.move_cost * jnp.where(allocation == problem.start, 1.0, -1.0)
  wrong, relief = (used > 1.0).any(1), relief.sum(1)
  if (
    problem.roster.shape[1] > 1
  ):  # There are jobs whose services must be apart.
    everybody = jnp.arange(allocation.shape[0], dtype=jnp.int32)
    shared = jax.vmap(
      functools.partial(objective.neighbours, problem, allocation)
    )(everybody, allocation)
    wrong, relief = wrong | (shared > 0), relief + shared
  gain = problem.overload_weight * relief - cost
  return jnp.where(wrong, gain, -jnp.inf)


def _all_moves(
  problem: problems.Problem,
  tally: objective.Tally,
  allocation: Int[Array, " S"],
  service: Int[Array, ""],
) -> objective.Change:
  """The change of moving a service to each node; infinite if not allowed."""
  nodes = jnp.arange(problem.capacity.shape[0], dtype=jnp.int32)
  one = functools.partial(objective.change, problem, tally, allocation, service)
  changes = jax.vmap(one)(nodes)
  allowed = problem.eligible[problem.kind[service]]
  return changes._replace(total=jnp.where(allowed, changes.total, jnp.inf))
