# SPDX-License-Identifier: Apache-2.0
"""Solves generated problems with the embedded model and its reward model.

python scripts/solve.py
"""

from jaxttc.solving import problem_sets, solve_recipe


def get_config() -> solve_recipe.SolveRecipe:
  """The recipe; every field can be overridden with `--config.a.b=value`."""
  return solve_recipe.SolveRecipe(
    problems=problem_sets.ProblemSource(
      count=32, steps=(4, 6, 8), style="terse"
    ),
    decoder="astar(children=1, nodes=128, f_tolerance=0.2, reopen_penalty=0.4)",
    budget="generated_tokens=240",
    # A terse step has six tokens, the longest answer line twelve.
    sampling=solve_recipe.SamplingOptions(
      temperature=0.8, step_tokens=12, last_tokens=12, max_tokens=64
    ),
    batch=32,
  )
