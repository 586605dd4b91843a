# SPDX-License-Identifier: Apache-2.0
"""Measures which steps of a chain are worth thinking through.

    python scripts/study_scale.py --config=configs/scale.py \
      --workdir=runs/scale --out=docs/results/scale

Carries out chains of sums with a model of two modes, by every policy, and
writes figures, claims and a picture. Run the same command again after a stop,
or a kill, and it goes on.
"""

import pathlib

from absl import app, flags
import jax
from ml_collections import config_flags

from jaxttc import compilation, simulation
from jaxttc.evaluation import two_speed_report, two_speed_study

_ROOT = pathlib.Path(__file__).resolve().parents[1]
_CONFIG = config_flags.DEFINE_config_file(
  "config", None, "File with get_config() -> StudyRecipe.", lock_config=True
)
_WORKDIR = flags.DEFINE_string("workdir", None, "Folder of runs.")
_OUT = flags.DEFINE_string(
  "out", None, "Where .json and .png go; default <workdir>/scale."
)


def main(argv: list[str]) -> None:
  """Parses the flags and runs the study."""
  if len(argv) > 1:
    raise app.UsageError(f"unexpected arguments: {argv[1:]}")
  if _CONFIG.value is None or _WORKDIR.value is None:
    raise app.UsageError("--config and --workdir are required")
  recipe, workdir = _CONFIG.value, _WORKDIR.value
  try:
    found = two_speed_study.run(recipe, workdir)
    study = two_speed_report.report(recipe, found)
    simulation.publish(study, _OUT.value or f"{workdir}/scale")
  except (ValueError, OSError) as error:
    raise SystemExit(f"study_scale.py: {error}") from None


if __name__ == "__main__":
  compilation.keep(_ROOT)
  jax.config.config_with_absl()
  app.run(main)
