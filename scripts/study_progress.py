# SPDX-License-Identifier: Apache-2.0
r"""Compares rewards of progress with rewards of outcomes.

    python scripts/study_progress.py --config=configs/mrt.py \
      --out=docs/results/mrt

Trains tables of logits by policy gradient, each method at its own best learning
rate, and writes figures, claims and a picture.
"""

from jaxttc import script, simulation
from jaxttc.studies import progress_study


def study(recipe: progress_study.StudyRecipe) -> simulation.Study:
  """Runs or resumes the study."""
  return progress_study.report(recipe, progress_study.run(recipe))


if __name__ == "__main__":
  script.run_study(study, __file__, out="runs/progress")
