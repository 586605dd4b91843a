# SPDX-License-Identifier: Apache-2.0
"""Asks how to split one budget between demonstrations and preference pairs.

    python scripts/study_preferences.py --config=configs/preferences.py \
      --workdir=runs/preferences --out=docs/results/sft_vs_dpo

Trains every split and writes each run to a line of runs.jsonl, then figures,
claims and a picture. Run the same command again after a stop, or a kill, and it
goes on.
"""

from jaxttc import script, simulation
from jaxttc.evaluation import split_report, split_study


def study(recipe: split_study.SplitRecipe, workdir: str) -> simulation.Study:
  """Runs or resumes the study."""
  return split_report.study(recipe, split_study.run(recipe, workdir))


if __name__ == "__main__":
  script.run_study(study, __file__)
