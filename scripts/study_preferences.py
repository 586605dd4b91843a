# SPDX-License-Identifier: Apache-2.0
"""Asks how to split one budget between demonstrations and preference pairs.

    python scripts/study_preferences.py --config=configs/preferences.py \
      --workdir=runs/preferences --out=docs/results/sft_vs_dpo

With --config=configs/preferences_lm.py, on a language model.

Trains every split and writes each run to a line of runs.jsonl, then figures,
claims and a picture. Run the same command again after a stop, or a kill, and it
goes on.
"""

import pathlib

from absl import app, flags, logging
import jax
from ml_collections import config_flags

from jaxttc import compilation, simulation
from jaxttc.evaluation import (
  split_language_report,
  split_language_study,
  split_report,
  split_study,
)

_ROOT = pathlib.Path(__file__).resolve().parents[1]
_CONFIG = config_flags.DEFINE_config_file(
  "config", None, "File with get_config() -> recipe.", lock_config=True
)
_WORKDIR = flags.DEFINE_string("workdir", None, "Folder of runs.jsonl.")
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
    if isinstance(recipe, split_language_study.LanguageSplitRecipe):
      found = split_language_study.run(recipe, _WORKDIR.value)
      study = split_language_report.study(recipe, found)
    else:
      runs = split_study.run(recipe, _WORKDIR.value)
      study = split_report.study(recipe, runs)
    simulation.publish(study, out)
  except (ValueError, FloatingPointError, OSError) as error:
    raise SystemExit(f"study_preferences.py: {error}") from None


if __name__ == "__main__":
  compilation.keep(_ROOT)
  jax.config.config_with_absl()
  app.run(main)
