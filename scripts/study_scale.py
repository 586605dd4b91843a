# SPDX-License-Identifier: Apache-2.0
r"""Measures which steps of a chain are worth thinking through.

    python scripts/study_scale.py --config=configs/scale.py \
      --workdir=runs/scale --out=docs/results/scale

Carries out chains of sums with a model of two modes, by every policy, and
writes figures, claims and a picture. Run the same command again after a stop,
or a kill, and it goes on.
"""

from jaxttc import script, simulation
from jaxttc.studies import (
  two_speed_recipe,
  two_speed_report,
  two_speed_study,
)


def study(
  recipe: two_speed_recipe.StudyRecipe, workdir: str
) -> simulation.Study:
  """Runs or resumes the study."""
  return two_speed_report.report(recipe, two_speed_study.run(recipe, workdir))


if __name__ == "__main__":
  script.run_study(study, __file__)
