# SPDX-License-Identifier: Apache-2.0
"""Compares rewards of progress with rewards of outcomes.

    python scripts/study_progress.py --config=configs/mrt.py \
      --out=docs/results/mrt

Trains tables of logits by policy gradient, each method at its own best learning
rate, and writes figures, claims and a picture.
"""

import pathlib

from absl import app, flags
import jax
from ml_collections import config_flags

from jaxttc import compilation, simulation
from jaxttc.evaluation import progress_study

_ROOT = pathlib.Path(__file__).resolve().parents[1]
_CONFIG = config_flags.DEFINE_config_file(
  "config", None, "File with get_config() -> StudyRecipe.", lock_config=True
)
_OUT = flags.DEFINE_string("out", "runs/progress", "Where .json and .png go.")


def main(argv: list[str]) -> None:
  """Parses the flags and runs the study."""
  if len(argv) > 1:
    raise app.UsageError(f"unexpected arguments: {argv[1:]}")
  if _CONFIG.value is None:
    raise app.UsageError("--config is required")
  try:
    data = progress_study.run(_CONFIG.value)
    simulation.publish(progress_study.report(_CONFIG.value, data), _OUT.value)
  except (ValueError, OSError) as error:
    raise SystemExit(f"study_progress.py: {error}") from None


if __name__ == "__main__":
  compilation.keep(_ROOT)
  jax.config.config_with_absl()
  app.run(main)
