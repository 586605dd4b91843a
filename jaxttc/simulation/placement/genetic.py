# SPDX-License-Identifier: Apache-2.0
"""Genetic re-balancing, plain and seeded with what the other solvers found.

Individuals are allocations. Parents win tournaments; a child takes each service
from either parent, some services go to a random node or back to where they
started, and the best of parents and children survive. Survival of the best
makes the seeded search at least as good as every seed. Operators and rates are
ours: those of Sliwko and Getov (2015), "A meta-heuristic load balancer for
cloud computing systems", are not public.
"""

import functools

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Int, PRNGKeyArray

from jaxttc.simulation.placement import annealing as annealing_lib
from jaxttc.simulation.placement import greedy as greedy_lib
from jaxttc.simulation.placement import objective, problems, proposals
from jaxttc.simulation.placement import tabu as tabu_lib

_RANDOM_GENES = 0.2  # of the first individuals
_MUTATED = 1.5  # services of a child that go to a random node, on average
_SENT_BACK = 1.0  # services of a child that go back to where they started


def genetic(
  problem: problems.Problem,
  key: PRNGKeyArray,
  budget_evals: int,
  *,
  population: int = 60,
  tournament: int = 3,
) -> proposals.Result:
  """Evolves a population around the start.

  Args:
    problem: the problem.
    key: of everything that is drawn.
    budget_evals: individuals scored, at most.
    population: individuals that survive a generation.
    tournament: individuals that compete to be a parent.

  Raises:
    ValueError: if the budget does not pay for the first population.
  """
  proposals.check_budget(budget_evals, population, "genetic")
  return _evolve(
    problem,
    key,
    problem.start[None],
    budget_evals // population - 1,
    population,
    tournament,
  )


def seeded_genetic(
  problem: problems.Problem,
  key: PRNGKeyArray,
  budget_evals: int,
  *,
  population: int = 60,
  tournament: int = 3,
  seed_share: float = 0.5,
) -> proposals.Result:
  """Evolves a population that holds what greedy, tabu and annealing found.

  The seeds are paid for from the same budget: a third of `seed_share` each,
  of which greedy may leave some over.

  Args:
    problem: the problem.
    key: of everything that is drawn.
    budget_evals: allocations scored by all four searches together, at most.
    population: individuals that survive a generation.
    tournament: individuals that compete to be a parent.
    seed_share: share of the budget that the seeds may use.

  Returns:
    The best allocation, never worse than any of the seeds.

  Raises:
    ValueError: if the share is not in (0, 1), or a part of the budget does not
      pay for one step of its search.
  """
  if not 0 < seed_share < 1:
    raise ValueError(f"seed_share must lie in (0, 1), got {seed_share}")
  found = seeds(problem, key, int(budget_evals * seed_share))
  spent = int(sum(one.evals for one in found))
  left = budget_evals - spent
  proposals.check_budget(left, population, "seeded_genetic")
  result = _evolve(
    problem,
    jax.random.fold_in(key, len(found)),
    jnp.stack([problem.start, *(one.allocation for one in found)]),
    left // population - 1,
    population,
    tournament,
  )
  return result._replace(
    evals=result.evals + spent, history_evals=result.history_evals + spent
  )


def seeds(
  problem: problems.Problem, key: PRNGKeyArray, budget_evals: int
) -> tuple[proposals.Result, ...]:
  """What greedy, tabu and annealing find, each for a third of a budget.

  Raises:
    ValueError: if a third does not pay for one step of one of them.
  """
  third = budget_evals // 3
  searches = (greedy_lib.greedy, tabu_lib.tabu, annealing_lib.annealing)
  return tuple(
    search(problem, jax.random.fold_in(key, number), third)
    for number, search in enumerate(searches)
  )


@functools.partial(
  jax.jit, static_argnames=("generations", "population", "tournament")
)
def _evolve(
  problem: problems.Problem,
  key: PRNGKeyArray,
  given: Int[Array, "G S"],
  generations: int,
  population: int,
  tournament: int,
) -> proposals.Result:
  """Evolves; the first individuals are `given`, the others near the start."""
  services = problem.start.shape[0]
  movable = problems.movable_mask(problem)
  first_key, key = jax.random.split(key)
  genes = jnp.broadcast_to(problem.start[None], (population, services))
  genes = _mutate(problem, first_key, genes, movable, _RANDOM_GENES, 0.0)
  genes = genes.at[: given.shape[0]].set(given[:population])
  totals = objective.cost(problem, genes).total

  def generation(carry, number):
    genes, totals = carry
    parent_key, cross_key, mutate_key = jax.random.split(
      jax.random.fold_in(key, number), 3
    )
    rivals = jax.random.randint(
      parent_key, (2, population, tournament), 0, population
    )
    # Survivors are sorted, so the least number wins.
    mother, father = rivals.min(-1)
    cross = jax.random.bernoulli(cross_key, shape=(population, services))
    children = jnp.where(cross, genes[mother], genes[father])
    children = _mutate(
      problem,
      mutate_key,
      children,
      movable,
      _MUTATED / services,
      _SENT_BACK / services,
    )
    scores = objective.cost(problem, children).total
    everybody = jnp.concatenate([genes, children])
    merged = jnp.concatenate([totals, scores])
    order = jnp.argsort(merged, stable=True)[:population]
    return (everybody[order], merged[order]), merged[order[0]]

  order = jnp.argsort(totals, stable=True)
  carry = genes[order], totals[order]
  (genes, _), best = jax.lax.scan(generation, carry, jnp.arange(generations))
  best = jnp.concatenate([totals.min()[None], best])
  evals = (jnp.arange(generations + 1, dtype=jnp.int32) + 1) * population
  return proposals.Result(
    genes[0],
    objective.cost(problem, genes[0]),
    *proposals.checkpoints(best, evals),
    jnp.int32((generations + 1) * population),
  )


def _mutate(
  problem: problems.Problem,
  key: PRNGKeyArray,
  genes: Int[Array, "P S"],
  movable: Bool[Array, " S"],
  moved: float,
  sent_back: float,
) -> Int[Array, "P S"]:
  """Sends shares of the services to random nodes, or back to their start."""
  which_key, where_key = jax.random.split(key)
  which = jax.random.uniform(which_key, genes.shape)
  draw = jax.random.uniform(where_key, genes.shape)
  counts = problem.target_counts[problem.kind]
  place = jnp.minimum((draw * counts[None]).astype(jnp.int32), counts[None] - 1)
  node = problem.targets[problem.kind[None], place]
  back = (which >= moved) & (which < moved + sent_back)
  changed = jnp.where(which < moved, node, genes)
  changed = jnp.where(back, problem.start[None], changed)
  return jnp.where(movable[None], changed, genes)
