# SPDX-License-Identifier: Apache-2.0
"""Solves generated problems with the embedded model and its reward model.

python scripts/solve.py
"""

from jaxttc.evaluation import problem_sets, solving


def get_config() -> solving.SolveRecipe:
  """The recipe; every field can be overridden with `--config.a.b=value`."""
  return solving.SolveRecipe(
    problems=problem_sets.ProblemSource(count=32),
    decoder="astar(children=4, nodes=128)",
    budget="generated_tokens=400",
    batch=32,
  )
