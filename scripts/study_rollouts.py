# SPDX-License-Identifier: Apache-2.0
"""Trains by reinforcement with rollouts given out by rival strategies.

    python scripts/study_rollouts.py --config=configs/knapsack_rl.py:study \
      --workdir=runs/knapsack_study --out=docs/results/knapsack_rl

Every strategy and seed is a training run of its own; then come figures, claims
and a picture. Run the same command again after a stop, or a kill, and it goes
on.
"""

import pathlib

from absl import app, flags, logging
import jax
from ml_collections import config_flags

from jaxttc import compilation, simulation
from jaxttc.evaluation import rollout_report, rollout_study

_ROOT = pathlib.Path(__file__).resolve().parents[1]
_CONFIG = config_flags.DEFINE_config_file(
  "config", None, "File with get_config() -> StudyRecipe.", lock_config=True
)
_WORKDIR = flags.DEFINE_string("workdir", None, "Folder of the runs.")
_OUT = flags.DEFINE_string(
  "out", None, "Where .json and .png go; default <workdir>/study."
)


def main(argv: list[str]) -> None:
  """Parses the flags and runs the study."""
  if len(argv) > 1:
    raise app.UsageError(f"unexpected arguments: {argv[1:]}")
  if _CONFIG.value is None or _WORKDIR.value is None:
    raise app.UsageError("--config and --workdir are required")
  logging.set_verbosity(logging.WARNING)  # orbax is talkative
  recipe = _CONFIG.value
  out = _OUT.value or str(pathlib.Path(_WORKDIR.value) / "study")
  try:
    found = rollout_study.run(recipe, _WORKDIR.value)
    study = rollout_report.report(recipe, found)
    simulation.publish(study, out)
  except (ValueError, FloatingPointError, OSError) as error:
    raise SystemExit(f"study_rollouts.py: {error}") from None


if __name__ == "__main__":
  compilation.keep(_ROOT)
  jax.config.config_with_absl()
  app.run(main)
