# SPDX-License-Identifier: Apache-2.0
"""What all solvers share: what they return, and random moves to try.

A move reassigns one service to one node that may host it. A share of the moves
(`focus`) is guided: half of those take services from nodes that were overloaded
when `hot_services` was last called, and half send a service back to where it
started. Looking for the former costs O(S), so it is done once a block of moves.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

from jaxttc.simulation.placement import objective, problems

HOT = 1024  # services of overloaded nodes that are kept in mind, at most


class Result(NamedTuple):
  """What a solver found.

  Attributes:
    allocation: i32[S], the best allocation that it saw.
    cost: its cost, counted from scratch.
    history: f32[H], the least objective known after each part of the search.
    history_evals: i32[H], allocations scored by then.
    evals: i32, allocations scored, whether in full or by their difference.
  """

  allocation: Int[Array, " S"]
  cost: objective.Costs
  history: Float[Array, " H"]
  history_evals: Int[Array, " H"]
  evals: Int[Array, ""]


# The one signature of all solvers: scores at most so many allocations and
# returns the best. The rest of a solver's settings is by name.
Solver = Callable[[problems.Problem, PRNGKeyArray, int], Result]


class Hot(NamedTuple):
  """Services of overloaded nodes: i32[HOT], and how many of them there are."""

  services: Int[Array, " H"]
  count: Int[Array, ""]


def hot_services(
  problem: problems.Problem,
  load: Float[Array, "N R"],
  allocation: Int[Array, " S"],
) -> Hot:
  """The movable services of overloaded nodes, the first `HOT` of them."""
  slots = problem.movable.shape[0]
  movable = jnp.arange(slots) < problem.movable_count
  found = objective.overloaded(problem, load)[allocation[problem.movable]]
  size = min(HOT, slots)
  (places,) = jnp.nonzero(found & movable, size=size, fill_value=0)
  count = jnp.minimum((found & movable).sum(), size).astype(jnp.int32)
  return Hot(problem.movable[places], count)


def propose(
  problem: problems.Problem,
  hot: Hot,
  draws: Float[Array, "4"],
  focus: float,
) -> tuple[Int[Array, ""], Int[Array, ""]]:
  """A service and a node that it may run on, from four uniform draws.

  With `focus` 0 every move and its reverse are equally likely, as detailed
  balance needs.
  """
  anyone = problem.movable[_index(draws[1], problem.movable_count)]
  burning = hot.services[_index(draws[2], hot.count)]
  use_hot = (draws[0] < 0.5 * focus) & (hot.count > 0)
  service = jnp.where(use_hot, burning, anyone)
  kind = problem.kind[service]
  place = _index(draws[3], problem.target_counts[kind])
  back = (draws[0] >= 0.5 * focus) & (draws[0] < focus)
  node = jnp.where(back, problem.start[service], problem.targets[kind, place])
  return service, node


def check_budget(budget_evals: int, least: int, solver: str) -> None:
  """Refuses a budget that does not pay for one step.

  Raises:
    ValueError: if it does not.
  """
  if budget_evals < least:
    raise ValueError(
      f"{solver}: budget_evals={budget_evals} does not pay for one step of "
      f"{least} evaluations"
    )


def checkpoints(
  best: Float[Array, " T"], evals: Int[Array, " T"]
) -> tuple[Float[Array, " H"], Int[Array, " H"]]:
  """At most 64 evenly spaced points of a history, the last among them."""
  steps = best.shape[0]
  places = jnp.linspace(0, steps - 1, min(64, steps)).astype(jnp.int32)
  return best[places], evals[places]


def _index(draw: Float[Array, ""], count: Int[Array, ""]) -> Int[Array, ""]:
  """floor(draw * count), which rounding must not let reach `count`."""
  place = (draw * count).astype(jnp.int32)
  return jnp.clip(place, 0, jnp.maximum(count - 1, 0))


def uniform(
  key: PRNGKeyArray, shape: tuple[int, ...], dtype: jnp.dtype
) -> Float[Array, "..."]:
  """Uniform draws in the dtype of the problem."""
  return jax.random.uniform(key, shape, dtype)
