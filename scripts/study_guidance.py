# SPDX-License-Identifier: Apache-2.0
"""Compares ways to keep a model's thinking within a budget.

    python scripts/study_guidance.py --config=configs/budget_guidance.py \
      --out=docs/results/budget_guidance

Asks the questions under every policy, budget and seed, checks the length
predictor by itself, and writes figures, claims and a picture. Override any
field of the recipe: --config.items=60.
"""

from jaxttc import script, simulation
from jaxttc.evaluation import guidance_report, guidance_study


def study(recipe: guidance_study.GuidanceStudyRecipe) -> simulation.Study:
  """Runs or resumes the study."""
  found = guidance_study.run(recipe)
  checks = guidance_report.check(recipe, found)
  return guidance_report.report(recipe, found, checks)


if __name__ == "__main__":
  script.run_study(study, __file__, out="runs/budget_guidance")
