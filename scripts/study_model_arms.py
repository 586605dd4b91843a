# SPDX-License-Identifier: Apache-2.0
r"""Fits budget policies to arms of several models or widths, and judges them.

    python scripts/study_model_arms.py --config=configs/model_arms.py \
      --workdir=runs/model_arms --out=docs/results/model_arms

The policy of all problems is written to <workdir>/policy.npz, for
scripts/solve.py --policy=FILE --router=MODELS. Run the same command again
after a stop, or a kill, and it goes on.
"""

import pathlib

from jaxttc import script, simulation
from jaxttc.solving import budget_policies
from jaxttc.studies import model_arms_study


def study(
  recipe: model_arms_study.StudyRecipe, workdir: str
) -> simulation.Study:
  """Runs or resumes the study, and writes its policy."""
  found = model_arms_study.run(recipe, workdir)
  path = pathlib.Path(workdir) / "policy.npz"
  budget_policies.save(found.policy, path)
  print(path)
  return model_arms_study.report(recipe, found)


if __name__ == "__main__":
  script.run_study(study, __file__, refused=(ValueError, OSError, ImportError))
