# SPDX-License-Identifier: Apache-2.0
"""Tabu search: the best of a sample of moves, never straight back.

Each step samples moves and makes the best one that is not forbidden, even where
it costs. To return a service to a node that it left in the last `tenure` steps
is forbidden, unless the result is better than anything seen. Reference: Glover
(1989), Tabu search, part I. Sample size and tenure are ours.
"""

import functools

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from jaxttc.simulation.placement import objective, problems, proposals


def tabu(
  problem: problems.Problem,
  key: PRNGKeyArray,
  budget_evals: int,
  *,
  sample: int = 40,
  tenure: int = 30,
  focus: float = 0.8,
) -> proposals.Result:
  """Searches by sampled moves with a short memory.

  Args:
    problem: the problem.
    key: of the moves sampled.
    budget_evals: moves scored, at most.
    sample: moves scored a step.
    tenure: steps for which a service may not go back.
    focus: share of moves that start from overloaded nodes.

  Raises:
    ValueError: if the budget does not pay for one step.
  """
  proposals.check_budget(budget_evals, sample, "tabu")
  return _search(problem, key, budget_evals // sample, sample, tenure, focus)


@functools.partial(
  jax.jit, static_argnames=("steps", "sample", "tenure", "focus")
)
def _search(
  problem: problems.Problem,
  key: PRNGKeyArray,
  steps: int,
  sample: int,
  tenure: int,
  focus: float,
) -> proposals.Result:
  services = problem.start.shape[0]
  # Sums are refreshed once a block: rounding must not drift away.
  block = min(steps, max(64, services // 8))
  first = objective.cost(problem, problem.start).total

  def run_block(carry, number):
    allocation, total, best, memory = carry
    state = objective.tally(problem, allocation)
    hot = proposals.hot_services(problem, state.load, allocation)
    draws = proposals.uniform(
      jax.random.fold_in(key, number),
      (block, sample, 4),
      problem.usage.dtype,
    )
    step = functools.partial(_step, problem, hot, tenure, focus, steps)
    numbers = number * block + jnp.arange(block)
    (state, allocation, total, best, memory), log = jax.lax.scan(
      step, (state, allocation, total, best, memory), (numbers, draws)
    )
    return (allocation, total, best, memory), log

  memory = (jnp.full((tenure,), -1, jnp.int32),) * 2
  blocks = -(-steps // block)
  (_, _, best, _), log = jax.lax.scan(
    run_block, (problem.start, first, first, memory), jnp.arange(blocks)
  )
  service, node, total = jax.tree.map(lambda leaf: leaf.reshape(-1), log)
  allocation = _after_best(problem.start, service, node, total, first)
  evals = (jnp.arange(steps, dtype=jnp.int32) + 1) * sample
  history = jnp.minimum(jax.lax.cummin(total)[:steps], first)
  return proposals.Result(
    allocation,
    objective.cost(problem, allocation),
    *proposals.checkpoints(history, evals),
    jnp.int32(steps * sample),
  )


def _step(problem, hot, tenure, focus, steps, carry, given):
  """One step; steps behind the last one move nothing."""
  state, allocation, total, best, (held_service, held_node) = carry
  number, draws = given
  service, node = jax.vmap(
    lambda row: proposals.propose(problem, hot, row, focus)
  )(draws)
  changes = jax.vmap(
    lambda one, to: objective.change(problem, state, allocation, one, to)
  )(service, node)
  forbidden = _remembered(held_service, held_node, service, node)
  allowed = ~forbidden | (total + changes.total < best)
  # A move to where the service is already is no move.
  allowed &= allocation[service] != node
  scores = jnp.where(allowed, changes.total, jnp.inf)
  chosen = jnp.argmin(scores)
  accept = (scores[chosen] < jnp.inf) & (number < steps)
  moved, target = service[chosen], node[chosen]
  source = allocation[moved]
  changed = jax.tree.map(lambda leaf: leaf[chosen], changes)
  state, allocation = objective.move(
    problem, state, allocation, moved, target, changed, accept
  )
  total = total + jnp.where(accept, changed.total, 0.0)
  place = number % tenure
  memory = (
    held_service.at[place].set(jnp.where(accept, moved, -1)),
    held_node.at[place].set(jnp.where(accept, source, -1)),
  )
  carry = (state, allocation, total, jnp.minimum(best, total), memory)
  return carry, (moved, allocation[moved], total)


def _remembered(
  held_service: Int[Array, " T"],
  held_node: Int[Array, " T"],
  service: Int[Array, " K"],
  node: Int[Array, " K"],
) -> Bool[Array, " K"]:
  """Which moves would take back one of the last ones."""
  same = held_service[None, :] == service[:, None]
  return (same & (held_node[None, :] == node[:, None])).any(1)


def _after_best(
  start: Int[Array, " S"],
  service: Int[Array, " T"],
  node: Int[Array, " T"],
  total: Float[Array, " T"],
  first: Float[Array, ""],
) -> Int[Array, " S"]:
  """The allocation after the best step, from the log of all moves.

  The last move of each service up to then says where it was. No copy of the
  best allocation is kept while the search runs.
  """
  end = jnp.where(total.min() < first, jnp.argmin(total), -1)
  steps = jnp.arange(total.shape[0], dtype=jnp.int32)
  counted = jnp.where(steps <= end, steps, -1)
  last = jnp.full(start.shape, -1, jnp.int32).at[service].max(counted)
  return jnp.where(last >= 0, node[jnp.maximum(last, 0)], start)
