# SPDX-License-Identifier: Apache-2.0
r"""MATH-500: competition mathematics.

    python scripts/solve.py --task=math500 --problems=FILE.jsonl \
      --model=DIRECTORY --reward=DIRECTORY

The models are Hugging Face directories or URLs. Methods by name, as in
--config=configs/math500.py:particle_filter: see `solving.protocols`.
"""

from jaxttc.solving import protocols, solve_recipe


def get_config(method: str = "") -> solve_recipe.SolveRecipe:
  """The recipe; every field can be overridden with `--config.a.b=value`."""
  return protocols.recipe("math500", method)
