# SPDX-License-Identifier: Apache-2.0
r"""Measures ways to split a budget over the sub-questions of a plan.

    python scripts/study_plans.py --config=configs/plan_and_budget.py \
      --out=docs/results/plan_and_budget
    python scripts/study_plans.py --config=configs/guided_plans.py \
      --out=docs/results/guided_plans

The first samples a model that answers sums at once, and lets it work sums out
under hard caps. The second lets a model think about sums, and keeps each
thought within its share by guidance, or by caps. Either then writes figures,
claims and a picture.
"""

from jaxttc import script, simulation
from jaxttc.studies import (
  guided_plan_study,
  plan_recipe,
  plan_report,
  plan_study,
)


def study(
  recipe: plan_recipe.StudyRecipe | guided_plan_study.StudyRecipe,
) -> simulation.Study:
  """Runs the study that a recipe is of."""
  if isinstance(recipe, guided_plan_study.StudyRecipe):
    return guided_plan_study.report(recipe, guided_plan_study.run(recipe))
  return plan_report.report(recipe, plan_study.run(recipe))


if __name__ == "__main__":
  script.run_study(study, __file__, out="runs/plans")
