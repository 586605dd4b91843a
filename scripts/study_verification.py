# SPDX-License-Identifier: Apache-2.0
r"""Compares voting and verifying at equal compute, on the embedded models.

    python scripts/study_verification.py --config=configs/sc_vs_genrm.py \
      --workdir=runs/sc_vs_genrm --out=docs/results/sc_vs_genrm

Samples pools of solutions and verifications, then writes figures, claims and a
picture. Run the same command again after a stop, or a kill, and it goes on.

With --config.more_verifiers="('runs/verifier_12.safetensors',)" the claims are
measured again with verifiers of other seeds, on the same solutions. With
--export=FILE.json it also writes what splits were worth, for
scripts/solve.py --policy=FILE.json.
"""

from absl import flags

from jaxttc import script, simulation
from jaxttc.solving import measured_splits
from jaxttc.studies import (
  verification_export,
  verification_recipe,
  verification_seeds,
  verification_study,
)

_EXPORT = flags.DEFINE_string(
  "export", None, "Write what splits were worth here, as JSON."
)


def study(
  recipe: verification_recipe.StudyRecipe, workdir: str
) -> simulation.Study:
  """Runs or resumes the study."""
  found = verification_study.run_all(recipe, workdir)
  told = verification_seeds.report_all(recipe, found)
  if _EXPORT.value:
    own = verification_export.measured(recipe, told.data)
    measured_splits.save(own, _EXPORT.value)
  return told


if __name__ == "__main__":
  script.run_study(study, __file__)
