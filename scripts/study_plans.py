# SPDX-License-Identifier: Apache-2.0
"""Measures ways to split a budget over the sub-questions of a plan.

    python scripts/study_plans.py --config=configs/plan_and_budget.py \
      --out=docs/results/plan_and_budget

Samples a model that answers sums at once, and lets it work sums out under hard
caps; then writes figures, claims and a picture.
"""

import pathlib

from absl import app, flags
import jax
from ml_collections import config_flags

from jaxttc import compilation, simulation
from jaxttc.evaluation import plan_report, plan_study

_ROOT = pathlib.Path(__file__).resolve().parents[1]
_CONFIG = config_flags.DEFINE_config_file(
  "config", None, "File with get_config() -> StudyRecipe.", lock_config=True
)
_OUT = flags.DEFINE_string("out", "runs/plans", "Where .json and .png go.")


def main(argv: list[str]) -> None:
  """Parses the flags and runs the study."""
  if len(argv) > 1:
    raise app.UsageError(f"unexpected arguments: {argv[1:]}")
  if _CONFIG.value is None:
    raise app.UsageError("--config is required")
  try:
    data = plan_study.run(_CONFIG.value)
    simulation.publish(plan_report.report(_CONFIG.value, data), _OUT.value)
  except (ValueError, OSError) as error:
    raise SystemExit(f"study_plans.py: {error}") from None


if __name__ == "__main__":
  compilation.keep(_ROOT)
  jax.config.config_with_absl()
  app.run(main)
