# SPDX-License-Identifier: Apache-2.0
r"""Asks how to split one budget between demonstrations and preference pairs.

    python scripts/study_preferences.py --config=configs/preferences.py \
      --workdir=runs/preferences --out=docs/results/sft_vs_dpo

With --config=configs/preferences_lm.py, on a language model.

Trains every split and writes each run to a line of runs.jsonl, then figures,
claims and a picture. Run the same command again after a stop, or a kill, and it
goes on.
"""

from jaxttc import script, simulation
from jaxttc.studies import (
  split_language_report,
  split_language_study,
  split_report,
  split_study,
)


def study(
  recipe: split_study.SplitRecipe | split_language_study.LanguageSplitRecipe,
  workdir: str,
) -> simulation.Study:
  """Runs or resumes the study."""
  if isinstance(recipe, split_language_study.LanguageSplitRecipe):
    found = split_language_study.run(recipe, workdir)
    return split_language_report.study(recipe, found)
  return split_report.study(recipe, split_study.run(recipe, workdir))


if __name__ == "__main__":
  script.run_study(
    study, __file__, refused=(ValueError, FloatingPointError, OSError)
  )
