# SPDX-License-Identifier: Apache-2.0
r"""GSM8K: grade-school word problems.

    python scripts/solve.py --task=gsm8k --problems=FILE.jsonl \
      --model=DIRECTORY --reward=DIRECTORY

The models are Hugging Face directories or URLs. Methods by name, as in
--config=configs/gsm8k.py:particle_filter: see `solving.protocols`.
"""

from jaxttc.solving import protocols, solve_recipe


def get_config(method: str = "") -> solve_recipe.SolveRecipe:
  """The recipe; every field can be overridden with `--config.a.b=value`."""
  return protocols.recipe("gsm8k", method)
