# SPDX-License-Identifier: Apache-2.0
"""Compares voting and verifying at equal compute, on the embedded models.

    python scripts/study_verification.py --config=configs/sc_vs_genrm.py \
      --workdir=runs/sc_vs_genrm --out=docs/results/sc_vs_genrm

Samples pools of solutions and verifications, then writes figures, claims and a
picture. Run the same command again after a stop, or a kill, and it goes on.
"""

import pathlib

from absl import app, flags
import jax
from ml_collections import config_flags

from jaxttc import compilation, simulation
from jaxttc.evaluation import verification_report, verification_study

_ROOT = pathlib.Path(__file__).resolve().parents[1]
_CONFIG = config_flags.DEFINE_config_file(
  "config", None, "File with get_config() -> StudyRecipe.", lock_config=True
)
_WORKDIR = flags.DEFINE_string("workdir", None, "Folder of the pools.")
_OUT = flags.DEFINE_string(
  "out", None, "Where .json and .png go; default <workdir>/study."
)


def main(argv: list[str]) -> None:
  """Parses the flags and runs the study."""
  if len(argv) > 1:
    raise app.UsageError(f"unexpected arguments: {argv[1:]}")
  if _CONFIG.value is None or _WORKDIR.value is None:
    raise app.UsageError("--config and --workdir are required")
  recipe, workdir = _CONFIG.value, _WORKDIR.value
  out = _OUT.value or str(pathlib.Path(workdir) / "study")
  try:
    found = verification_study.run(recipe, workdir)
    study = verification_report.report(recipe, found)
    simulation.publish(study, out)
  except (ValueError, OSError) as error:
    raise SystemExit(f"study_verification.py: {error}") from None


if __name__ == "__main__":
  compilation.keep(_ROOT)
  jax.config.config_with_absl()
  app.run(main)
