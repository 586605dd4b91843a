# SPDX-License-Identifier: Apache-2.0
r"""Splits thinking tokens by difficulty, and compares with equal budgets.

    python scripts/study_thinking_split.py --config=configs/thinking_split.py \
      --out=docs/results/thinking_split

Fits curves on tuning questions, splits totals over others, and writes figures,
claims and a picture. With --export=FILE.json it keeps the fitted estimator, for
scripts/solve.py --thinking="guided(budget=10, adaptive='FILE.json')".
"""

from absl import flags

from jaxttc import script, simulation
from jaxttc.predictors import thinking_difficulty
from jaxttc.studies import thinking_split_study

_EXPORT = flags.DEFINE_string(
  "export", None, "Write the fitted estimator here, as JSON."
)


def study(recipe: thinking_split_study.SplitRecipe) -> simulation.Study:
  """Runs the study."""
  found = thinking_split_study.run(recipe)
  if _EXPORT.value:
    thinking_difficulty.save(_EXPORT.value, found.estimator)
  return thinking_split_study.report(recipe, found)


if __name__ == "__main__":
  script.run_study(study, __file__, out="runs/thinking_split")
