# SPDX-License-Identifier: Apache-2.0
r"""Shares of four sums that are thought about, kept by guidance and by caps.

    python scripts/study_plans.py --config=configs/guided_plans.py \
      --out=docs/results/guided_plans

A few minutes on one CPU core.
"""

from jaxttc.studies import guided_plan_study


def get_config() -> guided_plan_study.StudyRecipe:
  """The study; every field can be overridden with `--config.field=value`."""
  return guided_plan_study.StudyRecipe()
