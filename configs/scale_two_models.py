# SPDX-License-Identifier: Apache-2.0
r"""SCALE over two models: a small one answers at once, a larger one thinks.

    python scripts/study_scale.py --config=configs/scale_two_models.py \
      --workdir=runs/scale_two_models --out=docs/results/scale_two_models

48 chains of 5 steps for each of 3 seeds; some minutes on one CPU core. A sixth
of the steps are longer than any that the smaller model was trained on: on the
steps of `configs/scale.py` it hardly needs the larger one (docs/scale.md).
"""

from jaxttc.studies import two_speed_recipe


def get_config() -> two_speed_recipe.StudyRecipe:
  """The study; every field can be overridden with `--config.field=value`."""
  return two_speed_recipe.StudyRecipe(
    fast_model="fast_sums_lm",
    chains=48,
    additions=(1, 2, 3, 4, 5, 6),
    seeds=(6, 7, 8),
    taus=(0.02, 0.1, 0.2, 0.4, 0.6),
    shares=(0.8,),
    calibration=1200,
    slots=48,
  )
