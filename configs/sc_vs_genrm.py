# SPDX-License-Identifier: Apache-2.0
r"""When to solve and when to verify, measured on the embedded models.

    python scripts/study_verification.py --config=configs/sc_vs_genrm.py \
      --workdir=runs/sc_vs_genrm --out=docs/results/sc_vs_genrm

About 10 minutes on one CPU core. Any field can be overridden, for example
--config.problems=32 in another workdir.
"""

from jaxttc.studies import verification_recipe


def get_config() -> verification_recipe.StudyRecipe:
  """The study."""
  return verification_recipe.StudyRecipe()
