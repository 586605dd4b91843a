# SPDX-License-Identifier: Apache-2.0
r"""Routing between two sizes of language model by the smaller one's states.

    python scripts/study_state_routing.py --config=configs/state_routing.py \
      --workdir=runs/state_routing --out=docs/results/state_routing

The models ship with the package (configs/fast_sums_lm.py,
configs/two_speed_lm.py). A few minutes on one CPU core.
"""

from jaxttc.studies import state_routing_study, two_speed_recipe


def get_config() -> state_routing_study.StudyRecipe:
  """The study; every field can be overridden with `--config.a.b=value`."""
  return state_routing_study.StudyRecipe(
    bench=two_speed_recipe.StudyRecipe(
      fast_model="fast_sums_lm", additions=(1, 2, 3, 4, 5, 6)
    ),
  )
