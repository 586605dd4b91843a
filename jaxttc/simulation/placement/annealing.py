# SPDX-License-Identifier: Apache-2.0
"""Simulated annealing: many chains at once, each a Metropolis walk.

A move that costs `d` is made with probability exp(-d / T), and T falls
geometrically. At a fixed T, and with moves drawn evenly (`focus=0`), a chain
visits allocations in proportion to exp(-total / T). Reference: Kirkpatrick,
Gelatt and Vecchi (1983), Optimization by simulated annealing.
"""

import functools

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

from jaxttc.simulation.placement import objective, problems, proposals


def annealing(
  problem: problems.Problem,
  key: PRNGKeyArray,
  budget_evals: int,
  *,
  chains: int = 4,
  hottest: float = 1.0,
  coldest: float = 0.02,
  focus: float = 0.5,
) -> proposals.Result:
  """Anneals several chains from the start and returns the best allocation.

  Args:
    problem: the problem.
    key: of the moves, and of whether they are made.
    budget_evals: moves scored, at most, over all chains.
    chains: walks; they share the budget.
    hottest: first temperature, in units of the mean cost of moving a service
      (1 if moving is free).
    coldest: last temperature, likewise.
    focus: share of moves that start from overloaded nodes.

  Raises:
    ValueError: if the budget does not pay for one step of every chain, or the
      temperatures do not fall and stay above 0.
  """
  proposals.check_budget(budget_evals, chains, "annealing")
  if not hottest >= coldest > 0:
    raise ValueError(
      f"annealing: expected hottest >= coldest > 0, got {hottest}, {coldest}"
    )
  steps = budget_evals // chains
  temperatures = (hottest, coldest)
  return _search(problem, key, temperatures, steps, chains, focus)


def walk(
  problem: problems.Problem,
  hot: proposals.Hot,
  focus: float,
  carry: tuple[objective.Tally, Int[Array, " S"], Float[Array, ""]],
  given: tuple[Float[Array, ""], Float[Array, "5"]],
) -> tuple[
  tuple[objective.Tally, Int[Array, " S"], Float[Array, ""]],
  Float[Array, ""],
]:
  """One Metropolis step of one chain, as `lax.scan` takes it.

  Args:
    problem: the problem.
    hot: services of overloaded nodes.
    focus: share of moves that start from them.
    carry: tally, allocation, and objective of the chain.
    given: a temperature, at 0 of which nothing moves, and five uniform draws.

  Returns:
    The carry, and the objective.
  """
  state, allocation, total = carry
  temperature, draws = given
  service, node = proposals.propose(problem, hot, draws[:4], focus)
  changed = objective.change(problem, state, allocation, service, node)
  odds = jnp.exp(-jnp.maximum(changed.total, 0.0) / temperature)
  accept = (changed.total <= 0) | (draws[4] < odds)
  accept &= temperature > 0
  state, allocation = objective.move(
    problem, state, allocation, service, node, changed, accept
  )
  total = total + jnp.where(accept, changed.total, 0.0)
  return (state, allocation, total), total


@functools.partial(jax.jit, static_argnames=("steps", "chains", "focus"))
def _search(
  problem: problems.Problem,
  key: PRNGKeyArray,
  temperatures: tuple[float | Float[Array, ""], float | Float[Array, ""]],
  steps: int,
  chains: int,
  focus: float,
) -> proposals.Result:
  services, dtype = problem.start.shape[0], problem.usage.dtype
  # Blocks that cost as much as looking at all services once or twice.
  block = min(steps, max(64, services // 16))
  blocks = -(-steps // block)
  hottest, coldest = temperatures
  share = jnp.arange(blocks * block) / max(steps - 1, 1)
  falling = _unit(problem) * hottest * (coldest / hottest) ** share
  # Behind the last step nothing moves: the budget is spent.
  falling = jnp.where(jnp.arange(blocks * block) < steps, falling, 0.0)

  def run_block(carry, number):
    allocations, best, best_total = carry
    state = jax.vmap(functools.partial(objective.tally, problem))(allocations)
    totals = objective.cost(problem, allocations).total
    hot = jax.vmap(functools.partial(proposals.hot_services, problem))(
      state.load, allocations
    )
    draws = proposals.uniform(
      jax.random.fold_in(key, number), (block, chains, 5), dtype
    )
    cool = jax.lax.dynamic_slice(falling, (number * block,), (block,))

    def advance(chain, given):
      temperature, drawn = given
      return jax.vmap(
        lambda one_hot, one, row: walk(
          problem, one_hot, focus, one, (temperature, row)
        )
      )(hot, chain, drawn)

    (_, allocations, _), _ = jax.lax.scan(
      advance, (state, allocations, totals), (cool, draws)
    )
    totals = objective.cost(problem, allocations).total
    chain = jnp.argmin(totals)
    better = totals[chain] < best_total
    best = jnp.where(better, allocations[chain], best)
    best_total = jnp.where(better, totals[chain], best_total)
    return (allocations, best, best_total), best_total

  first = objective.cost(problem, problem.start).total
  everywhere = jnp.broadcast_to(problem.start[None], (chains, services))
  (_, best, _), history = jax.lax.scan(
    run_block, (everywhere, problem.start, first), jnp.arange(blocks)
  )
  evals = jnp.minimum((jnp.arange(blocks) + 1) * block, steps) * chains
  return proposals.Result(
    best,
    objective.cost(problem, best),
    *proposals.checkpoints(history, evals.astype(jnp.int32)),
    jnp.int32(steps * chains),
  )


def _unit(problem: problems.Problem) -> Float[Array, ""]:
  """The mean cost of moving a service that may move; 1 if that is nothing."""
  there = jnp.arange(problem.movable.shape[0]) < problem.movable_count
  costs = jnp.where(there, problem.move_cost[problem.movable], 0.0)
  mean = costs.sum() / jnp.maximum(problem.movable_count, 1)
  return jnp.where(mean > 0, mean, 1.0)
