# SPDX-License-Identifier: Apache-2.0
r"""Compares rewards of progress with rewards of outcomes on a language model.

    python scripts/study_progress_lm.py --config=configs/mrt_lm.py:study \
      --workdir=runs/mrt_lm_study --out=docs/results/mrt_lm

Every method and seed is a training run of its own; then come figures, claims
and a picture. Run the same command again after a stop, or a kill, and it goes
on.
"""

from jaxttc import script, simulation
from jaxttc.studies import progress_language_report, progress_language_study


def study(
  recipe: progress_language_study.StudyRecipe, workdir: str
) -> simulation.Study:
  """Runs or resumes the study."""
  found = progress_language_study.run(recipe, workdir)
  return progress_language_report.report(recipe, found)


if __name__ == "__main__":
  script.run_study(
    study, __file__, refused=(ValueError, FloatingPointError, OSError)
  )
