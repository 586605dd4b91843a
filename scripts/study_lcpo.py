# SPDX-License-Identifier: Apache-2.0
r"""Measures what training on L1's rewards does for the lengths that are asked.

    python scripts/study_lcpo.py --config=configs/lcpo.py:study \
      --workdir=runs/lcpo_study --out=docs/results/lcpo

Trains the embedded thinker under a few seeds, asks the same questions under all
targets before and after, and writes figures, claims and a picture. Models are
kept: run the same command again after a stop, or a kill, and it goes on.
"""

from jaxttc import script, simulation
from jaxttc.studies import lcpo_study


def study(recipe: lcpo_study.LcpoRecipe, workdir: str) -> simulation.Study:
  """Runs or resumes the study."""
  return lcpo_study.report(recipe, lcpo_study.run(recipe, workdir))


if __name__ == "__main__":
  script.run_study(study, __file__)
