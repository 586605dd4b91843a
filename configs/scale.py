# SPDX-License-Identifier: Apache-2.0
r"""SCALE on chains of digit sums: 120 chains of 5 steps for each of 3 seeds.

    python scripts/study_scale.py --config=configs/scale.py \
      --workdir=runs/scale --out=docs/results/scale

A few minutes on one CPU core.
"""

from jaxttc.studies import two_speed_recipe


def get_config() -> two_speed_recipe.StudyRecipe:
  """The study; every field can be overridden with `--config.field=value`."""
  return two_speed_recipe.StudyRecipe()
