# SPDX-License-Identifier: Apache-2.0
"""All centralised solvers, by name."""

from collections.abc import Mapping
import types

from jaxttc.simulation.placement import (
  annealing,
  exhaustive,
  genetic,
  greedy,
  proposals,
  tabu,
)

SOLVERS: Mapping[str, proposals.Solver] = types.MappingProxyType(
  {
    "greedy": greedy.greedy,
    "tabu": tabu.tabu,
    "annealing": annealing.annealing,
    "genetic": genetic.genetic,
    "seeded_genetic": genetic.seeded_genetic,
    "full_scan": exhaustive.full_scan,
  }
)


def solver(name: str) -> proposals.Solver:
  """The solver of a name.

  Raises:
    ValueError: if there is none.
  """
  if name not in SOLVERS:
    raise ValueError(f"solver {name!r} is not one of {', '.join(SOLVERS)}")
  return SOLVERS[name]
