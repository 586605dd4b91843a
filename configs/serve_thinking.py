# SPDX-License-Identifier: Apache-2.0
"""Serves the embedded model that thinks, each request within its own budget.

python scripts/serve.py --config=configs/serve_thinking.py
"""

from jaxttc import serving
from jaxttc.solving import solve_recipe


def get_config() -> serving.ServeRecipe:
  """The recipe; every field can be overridden with `--config.a.b=value`."""
  return serving.ServeRecipe(
    policy="thinking_lm",
    verifier="",
    decoder="self_consistency(n=4)",
    budget="generated_tokens=256",
    thinking="guided()",
    # Guidance favours the closing token: what is hardly ever written comes out
    # before anything is bent.
    sampling=solve_recipe.SamplingOptions(min_p=0.01, max_tokens=64),
    warm_tokens=32,
  )
