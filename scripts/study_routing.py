# SPDX-License-Identifier: Apache-2.0
r"""Compares routers between models on real questions.

    python scripts/study_routing.py --config=configs/routing.py \
      --workdir=runs/routing --out=docs/results/routing

    python scripts/study_routing.py --config=configs/routing_domains.py \
      --workdir=runs/routing_domains --out=docs/results/routing_domains

Trains every router on folds of the questions, then writes figures, claims and
a picture. The second config leaves one kind of question out at a time. Run the
same command again after a stop, or a kill, and it goes on.
"""

from jaxttc import script, simulation
from jaxttc.studies import (
  routing_domains,
  routing_report,
  routing_study,
)


def study(recipe: routing_study.StudyRecipe, workdir: str) -> simulation.Study:
  """Runs or resumes the study."""
  if recipe.split != "groups":
    return routing_domains.report(recipe, routing_domains.run(recipe, workdir))
  return routing_report.report(recipe, routing_study.run(recipe, workdir))


if __name__ == "__main__":
  script.run_study(study, __file__, refused=(ValueError, OSError, ImportError))
