# SPDX-License-Identifier: Apache-2.0
"""Compares ways to keep a model's thinking within a budget.

    python scripts/study_guidance.py --config=configs/budget_guidance.py \
      --out=docs/results/budget_guidance

Asks the questions under every policy, budget and seed, checks the length
predictors by themselves, prints a table of policies and budgets, and writes
figures, claims and a picture. Override any
field of the recipe: --config.items=60.
"""

import pathlib

from absl import app, flags
import jax
from ml_collections import config_flags
import rich

from jaxttc import compilation, simulation
from jaxttc.evaluation import guidance_report, guidance_study

_ROOT = pathlib.Path(__file__).resolve().parents[1]
_CONFIG = config_flags.DEFINE_config_file(
  "config",
  None,
  "File with get_config() -> GuidanceStudyRecipe.",
  lock_config=True,
)
_OUT = flags.DEFINE_string(
  "out", "runs/budget_guidance", "Where .json and .png go."
)


def main(argv: list[str]) -> None:
  """Parses the flags and runs the study."""
  if len(argv) > 1:
    raise app.UsageError(f"unexpected arguments: {argv[1:]}")
  recipe = _CONFIG.value
  if recipe is None:
    raise app.UsageError("--config is required: configs/budget_guidance.py")
  try:
    found = guidance_study.run(recipe)
    checks = guidance_report.check(recipe, found)
    study = guidance_report.report(recipe, found, checks)
    rich.print(guidance_report.table(found))
    simulation.publish(study, _OUT.value)
  except (ValueError, OSError) as error:
    raise SystemExit(f"study_guidance.py: {error}") from None


if __name__ == "__main__":
  compilation.keep(_ROOT)
  jax.config.config_with_absl()
  app.run(main)
