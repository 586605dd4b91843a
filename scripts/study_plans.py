# SPDX-License-Identifier: Apache-2.0
r"""Measures ways to split a budget over the sub-questions of a plan.

    python scripts/study_plans.py --config=configs/plan_and_budget.py \
      --out=docs/results/plan_and_budget

Samples a model that answers sums at once, and lets it work sums out under hard
caps; then writes figures, claims and a picture.
"""

from jaxttc import script, simulation
from jaxttc.studies import plan_recipe, plan_report, plan_study


def study(recipe: plan_recipe.StudyRecipe) -> simulation.Study:
  """Runs or resumes the study."""
  return plan_report.report(recipe, plan_study.run(recipe))


if __name__ == "__main__":
  script.run_study(study, __file__, out="runs/plans")
