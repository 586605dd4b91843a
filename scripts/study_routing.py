# SPDX-License-Identifier: Apache-2.0
"""Compares routers between models on real questions.

    python scripts/study_routing.py --config=configs/routing.py \
      --workdir=runs/routing --out=docs/results/routing

Trains every router on folds of the questions, then writes figures, claims and
a picture. Run the same command again after a stop, or a kill, and it goes on.
"""

import pathlib

from absl import app, flags
import jax
from ml_collections import config_flags

from jaxttc import compilation, simulation
from jaxttc.evaluation import routing_report, routing_study

_ROOT = pathlib.Path(__file__).resolve().parents[1]
_CONFIG = config_flags.DEFINE_config_file(
  "config", None, "File with get_config() -> StudyRecipe.", lock_config=True
)
_WORKDIR = flags.DEFINE_string("workdir", None, "Folder of predictions.")
_OUT = flags.DEFINE_string(
  "out", None, "Where .json and .png go; default <workdir>/routing."
)


def main(argv: list[str]) -> None:
  """Parses the flags and runs the study."""
  if len(argv) > 1:
    raise app.UsageError(f"unexpected arguments: {argv[1:]}")
  if _CONFIG.value is None or _WORKDIR.value is None:
    raise app.UsageError("--config and --workdir are required")
  recipe, workdir = _CONFIG.value, _WORKDIR.value
  out = _OUT.value or str(pathlib.Path(workdir) / "routing")
  try:
    found = routing_study.run(recipe, workdir)
    study = routing_report.report(recipe, found)
    simulation.publish(study, out)
  except (ValueError, OSError, ImportError) as error:
    raise SystemExit(f"study_routing.py: {error}") from None


if __name__ == "__main__":
  compilation.keep(_ROOT)
  jax.config.config_with_absl()
  app.run(main)
