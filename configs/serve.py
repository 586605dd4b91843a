# SPDX-License-Identifier: Apache-2.0
"""Serves the embedded model and its reward model.

python scripts/serve.py
"""

from jaxttc import serving
from jaxttc.solving import solve_recipe


def get_config() -> serving.ServeRecipe:
  """The recipe; every field can be overridden with `--config.a.b=value`."""
  return serving.ServeRecipe(
    decoder="astar(children=1, nodes=128, f_tolerance=0.2, reopen_penalty=0.4)",
    budget="generated_tokens=1k",
    # A terse step has six tokens, the longest answer line twelve.
    sampling=solve_recipe.SamplingOptions(
      temperature=0.8, step_tokens=12, last_tokens=12, max_tokens=64
    ),
  )
