# SPDX-License-Identifier: Apache-2.0
r"""Compares all ways to think within a budget, as their defaults have them.

    python scripts/study_ways.py --config=configs/thinking_ways.py \
      --out=docs/results/thinking_ways

Asks the same questions under every way, budget and seed, and writes figures,
claims and a picture. Override any field of the recipe: --config.questions=30.
"""

from jaxttc import script, simulation
from jaxttc.studies import ways_study


def study(recipe: ways_study.WaysRecipe) -> simulation.Study:
  """Runs the study."""
  return ways_study.report(recipe, ways_study.run(recipe))


if __name__ == "__main__":
  script.run_study(study, __file__, out="runs/thinking_ways")
