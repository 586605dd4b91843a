# SPDX-License-Identifier: Apache-2.0
r"""Thinking budgets by difficulty against equal ones, on the embedded thinker.

About 3 minutes on one CPU core.

    python scripts/study_thinking_split.py --config=configs/thinking_split.py \
      --out=docs/results/thinking_split \
      --export=jaxttc/pretrained/thinking_difficulty.json
"""

from jaxttc.studies import thinking_split_study


def get_config() -> thinking_split_study.SplitRecipe:
  """The study; every field can be overridden with `--config.field=value`."""
  return thinking_split_study.SplitRecipe()
