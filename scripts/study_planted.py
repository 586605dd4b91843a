# SPDX-License-Identifier: Apache-2.0
r"""Compares training with and without a verifier on planted subsequences.

    python scripts/study_planted.py --config=configs/planted.py \
      --workdir=runs/planted --out=docs/results/verifier_based

Measures a file a point of the study, then writes figures, claims and a picture.
Run the same command again after a stop, or a kill, and it goes on.
"""

from jaxttc import script, simulation
from jaxttc.studies import planted_report, planted_study


def study(recipe: planted_study.StudyRecipe, workdir: str) -> simulation.Study:
  """Runs or resumes the study."""
  return planted_report.study(recipe, planted_study.run(recipe, workdir))


if __name__ == "__main__":
  script.run_study(study, __file__)
