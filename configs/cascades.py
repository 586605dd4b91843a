# SPDX-License-Identifier: Apache-2.0
"""Cascades on real answers, and routers that learn on a stream.

    python scripts/study_cascades.py --config=configs/cascades.py

The answers are GSM8K's graded solutions of four systems (model_solutions of
openai/grade-school-math), the scores those of configs/routing.py
(docs/routing.md). Some ten minutes on one CPU core.
"""

from jaxttc.studies import cascade_report, cascade_study


def get_config() -> cascade_report.StudyRecipe:
  """The study; every field can be overridden with `--config.field=value`."""
  return cascade_report.StudyRecipe(
    answered_data="../shared/data/gsm8k/model_solutions_first_half.jsonl",
    scored_data="../shared/data/llm_routing/nine_models_train.json",
    scored=cascade_study.CascadeRecipe(heads=("ridge",), rank=64, prices=24),
  )
