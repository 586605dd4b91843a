# SPDX-License-Identifier: Apache-2.0
r"""Progress against outcomes as the reward of episodes: a table of logits.

    python scripts/study_progress.py --config=configs/mrt.py \
      --out=docs/results/mrt

Under a minute on one CPU core.
"""

from jaxttc.studies import progress_study


def get_config() -> progress_study.StudyRecipe:
  """The study; every field can be overridden with `--config.field=value`."""
  return progress_study.StudyRecipe()
