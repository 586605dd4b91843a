# SPDX-License-Identifier: Apache-2.0
"""The full scan of all allocations: the oracle of small cells."""

import functools

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int, PRNGKeyArray

from jaxttc.simulation.placement import objective, problems, proposals

_CHUNK = 2048


def full_scan(
  problem: problems.Problem, key: PRNGKeyArray, budget_evals: int
) -> proposals.Result:
  """Scores all N ** S allocations and returns the best.

  Args:
    problem: the problem; all its services must be movable.
    key: not used: nothing is drawn.
    budget_evals: must pay for all of them.

  Raises:
    ValueError: if it does not, or there are more than 2 ** 30.
  """
  del key
  services, nodes = problem.start.shape[0], problem.capacity.shape[0]
  everything = nodes**services
  if everything > min(budget_evals, 2**30):
    raise ValueError(
      f"full_scan: {nodes} ** {services} = {everything} allocations, of which "
      f"budget_evals={budget_evals} does not pay for all"
    )
  return _scan(problem, everything)


@functools.partial(jax.jit, static_argnames="everything")
def _scan(problem: problems.Problem, everything: int) -> proposals.Result:
  chunk = min(_CHUNK, everything)
  chunks = -(-everything // chunk)

  def look(carry, number):
    best, best_total = carry
    codes = number * chunk + jnp.arange(chunk, dtype=jnp.int32)
    allocations = _decode(problem, jnp.minimum(codes, everything - 1))
    totals = objective.cost(problem, allocations).total
    may = problem.eligible[problem.kind[None], allocations].all(1)
    totals = jnp.where(may, totals, jnp.inf)
    found = jnp.argmin(totals)
    better = totals[found] < best_total
    best = jnp.where(better, allocations[found], best)
    best_total = jnp.where(better, totals[found], best_total)
    return (best, best_total), best_total

  first = objective.cost(problem, problem.start).total
  (best, _), history = jax.lax.scan(
    look, (problem.start, first), jnp.arange(chunks, dtype=jnp.int32)
  )
  evals = (jnp.arange(chunks, dtype=jnp.int32) + 1) * chunk
  return proposals.Result(
    best,
    objective.cost(problem, best),
    *proposals.checkpoints(history, jnp.minimum(evals, everything)),
    jnp.int32(everything),
  )


def _decode(
  problem: problems.Problem, codes: Int[Array, " C"]
) -> Int[Array, "C S"]:
  """Allocations from their numbers: one digit in base N a service."""
  services, nodes = problem.start.shape[0], problem.capacity.shape[0]
  digits = []
  for _ in range(services):
    digits.append(codes % nodes)
    codes = codes // nodes
  return jnp.stack(digits, axis=1)
