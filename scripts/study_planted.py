# SPDX-License-Identifier: Apache-2.0
r"""Compares training with and without a verifier on planted subsequences.

    python scripts/study_planted.py --config=configs/planted.py \
      --workdir=runs/planted --out=docs/results/verifier_based

With --config=configs/verifier_based_lm.py, on a language model, with a learned
verifier.

Measures point by point, then writes figures, claims and a picture.
Run the same command again after a stop, or a kill, and it goes on.
"""

from jaxttc import script, simulation
from jaxttc.studies import (
  planted_report,
  planted_study,
  verifier_language_recipe,
  verifier_language_report,
  verifier_language_study,
)


def study(
  recipe: planted_study.StudyRecipe
  | verifier_language_recipe.LanguageVerifierRecipe,
  workdir: str,
) -> simulation.Study:
  """Runs or resumes the study."""
  if isinstance(recipe, verifier_language_recipe.LanguageVerifierRecipe):
    found = verifier_language_study.run(recipe, workdir, print)
    return verifier_language_report.study(recipe, found)
  return planted_report.study(recipe, planted_study.run(recipe, workdir))


if __name__ == "__main__":
  script.run_study(study, __file__)
