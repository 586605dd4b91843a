# SPDX-License-Identifier: Apache-2.0
r"""Training with and without a verifier, on planted subsequences.

    python scripts/study_planted.py --config=configs/planted.py \
      --workdir=runs/planted --out=docs/results/verifier_based

A few minutes on one CPU core. Any field can be overridden, for example
--config.seeds=5.
"""

from jaxttc.studies import planted_study

# Odds of the next gold token, of six styles: 2 to 2000, evenly in logarithms.
_SPREAD = (2.0, 7.96, 31.7, 126.2, 502.4, 2000.0)


def get_config() -> planted_study.StudyRecipe:
  """The study."""
  return planted_study.StudyRecipe(
    families={
      "heterogeneous": (_SPREAD, ()),
      "homogeneous": ((63.2,), ()),
      # The fast style is there, but n traces hardly ever show it.
      "rare": ((0.1, 2000.0), (0.999, 0.001)),
      "contextual": (_SPREAD, ()),
    },
    contextual="contextual",
  )
