# SPDX-License-Identifier: Apache-2.0
r"""Fits a budget policy to arms that search, think or take problems apart.

    python scripts/study_mixed_arms.py --config=configs/mixed_arms.py \
      --workdir=runs/mixed_arms --out=docs/results/mixed_arms

The policy is written to <workdir>/policy.npz, for scripts/solve.py
--policy=FILE --router=MODELS; a picture of its run to <workdir>/stages.png.
"""

import pathlib

from jaxttc import script, simulation
from jaxttc.solving import budget_policies, policy_report
from jaxttc.studies import mixed_arms_study


def study(
  recipe: mixed_arms_study.StudyRecipe, workdir: str
) -> simulation.Study:
  """Runs the study, and writes its policy."""
  found = mixed_arms_study.run(recipe)
  folder = pathlib.Path(workdir)
  budget_policies.save(found.policy, folder / "policy.npz")
  policy_report.draw(found.rows, folder / "stages.png")
  print(folder / "policy.npz")
  return mixed_arms_study.report(recipe, found)


if __name__ == "__main__":
  script.run_study(study, __file__, refused=(ValueError, OSError, ImportError))
