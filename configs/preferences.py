# SPDX-License-Identifier: Apache-2.0
r"""How to split one budget between demonstrations and preference pairs.

    python scripts/study_preferences.py --config=configs/preferences.py \
      --workdir=runs/preferences --out=docs/results/sft_vs_dpo

About ten minutes on one CPU core. Any field can be overridden, for example
--config.seeds=5.
"""

from jaxttc.studies import split_study
from jaxttc.tasks import styled_answers
from jaxttc.training import preference_losses


def get_config() -> split_study.SplitRecipe:
  """The study."""
  return split_study.SplitRecipe(
    task=styled_answers.StyledAnswers(),
    loss=preference_losses.PreferenceLossConfig(),
  )
