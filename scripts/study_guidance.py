# SPDX-License-Identifier: Apache-2.0
r"""Compares ways to keep a model's thinking within a budget.

    python scripts/study_guidance.py --config=configs/budget_guidance.py \
      --out=docs/results/budget_guidance

Asks the questions under every policy, budget and seed, checks the length
predictors by themselves, prints a table of policies and budgets, and writes
figures, claims and a picture. Override any
field of the recipe: --config.items=60.
"""

import rich

from jaxttc import script, simulation
from jaxttc.studies import guidance_report, guidance_study


def study(recipe: guidance_study.GuidanceStudyRecipe) -> simulation.Study:
  """Runs the study, and prints accuracy by budget and policy."""
  found = guidance_study.run(recipe)
  checks = guidance_report.check(recipe, found)
  rich.print(guidance_report.table(found))
  return guidance_report.report(recipe, found, checks)


if __name__ == "__main__":
  script.run_study(study, __file__, out="runs/budget_guidance")
