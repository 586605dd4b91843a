# SPDX-License-Identifier: Apache-2.0
r"""Budgets split over four sums, bought as votes and as hard caps.

    python scripts/study_plans.py --config=configs/plan_and_budget.py \
      --out=docs/results/plan_and_budget

A few minutes on one CPU core.
"""

from jaxttc.studies import plan_recipe


def get_config() -> plan_recipe.StudyRecipe:
  """The study; every field can be overridden with `--config.field=value`."""
  return plan_recipe.StudyRecipe()
