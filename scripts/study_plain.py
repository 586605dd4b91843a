# SPDX-License-Identifier: Apache-2.0
r"""Runs the plain policy, and judges it against single decoders.

    python scripts/study_plain.py --config=configs/plain.py \
      --workdir=runs/plain --out=docs/results/plain

Run the same command again after a stop, or a kill, and it goes on.
"""

from jaxttc import script, simulation
from jaxttc.studies import plain_study


def study(recipe: plain_study.StudyRecipe, workdir: str) -> simulation.Study:
  """Runs or resumes the study."""
  return plain_study.report(recipe, plain_study.run(recipe, workdir))


if __name__ == "__main__":
  script.run_study(study, __file__, refused=(ValueError, OSError, ImportError))
