# SPDX-License-Identifier: Apache-2.0
"""Sums of digits for the embedded model that thinks, under a thinking budget.

python scripts/solve.py --thinking="guided(budget=14)"
"""

from jaxttc.solving import problem_sets, solve_recipe


def get_config() -> solve_recipe.SolveRecipe:
  """The recipe; every field can be overridden with `--config.a.b=value`."""
  return solve_recipe.SolveRecipe(
    problems=problem_sets.ProblemSource(
      family="digit_sums", steps=(2, 3, 4), count=48
    ),
    policy="thinking_lm",
    verifier="",
    thinking="guided(budget=14)",
    budget="",
    # Guidance favours the closing token: what is hardly ever written comes out
    # before anything is bent.
    sampling=solve_recipe.SamplingOptions(min_p=0.01, max_tokens=64),
    batch=48,
  )
