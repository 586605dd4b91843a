# SPDX-License-Identifier: Apache-2.0
r"""Compares voting and verifying at equal compute, on the embedded models.

    python scripts/study_verification.py --config=configs/sc_vs_genrm.py \
      --workdir=runs/sc_vs_genrm --out=docs/results/sc_vs_genrm

Samples pools of solutions and verifications, then writes figures, claims and a
picture. Run the same command again after a stop, or a kill, and it goes on.
"""

from jaxttc import script, simulation
from jaxttc.studies import (
  verification_recipe,
  verification_report,
  verification_study,
)


def study(
  recipe: verification_recipe.StudyRecipe, workdir: str
) -> simulation.Study:
  """Runs or resumes the study."""
  found = verification_study.run(recipe, workdir)
  return verification_report.report(recipe, found)


if __name__ == "__main__":
  script.run_study(study, __file__)
