# SPDX-License-Identifier: Apache-2.0
r"""Compares a slimmable network with every published alternative.

    python scripts/study_slimming.py \
      --config=configs/slimmable_vectors.py:study \
      --workdir=runs/study_vectors --out=docs/results/slimmable_vectors

Trains what the study names, a folder a model and seed, then writes figures,
claims and a picture. Run the same command again after a stop, or a kill, and it
goes on. Seeds can be trained beside each other: give each its own --only_seed
(the tuning seed first), then run once without it. --recorded=FILE.json trains
the rivals anew, and takes our own networks' figures from an earlier run.
"""

import pathlib

from absl import app, flags, logging

from jaxttc import arguments, results, script
from jaxttc.studies import (
  slimming_analysis,
  slimming_report,
  slimming_training,
)

_CONFIG = arguments.define_config(
  "config", None, "File with get_config() -> StudyRecipe."
)
_WORKDIR = flags.DEFINE_string("workdir", None, "Folder of trained models.")
_OUT = flags.DEFINE_string(
  "out", None, "Where .json and .png go; default <workdir>/study."
)
_ONLY_SEED = flags.DEFINE_integer(
  "only_seed",
  None,
  "Train the models of this seed, and write no figures. The recipe's "
  "tuning_seed tunes, and trains nothing else.",
)
_RECORDED = flags.DEFINE_string(
  "recorded",
  None,
  "Train the rivals only, and take the figures of our networks from this "
  "results file of the same study.",
)


def main(argv: list[str]) -> None:
  """Parses the flags and runs the study."""
  if len(argv) > 1:
    raise app.UsageError(f"unexpected arguments: {argv[1:]}")
  if _CONFIG.value is None or _WORKDIR.value is None:
    raise app.UsageError("--config and --workdir are required")
  logging.set_verbosity(logging.WARNING)  # orbax is talkative
  recipe, workdir = _CONFIG.value, _WORKDIR.value
  try:
    recorded = None
    if _RECORDED.value is not None:
      recorded = slimming_report.Recorded(_RECORDED.value, recipe)
    tuning = slimming_training.tune(recipe, workdir)
    own = recorded is None
    if _ONLY_SEED.value is not None:
      if _ONLY_SEED.value != recipe.tuning_seed:
        slimming_training.train(
          recipe, _ONLY_SEED.value, workdir, tuning, own=own
        )
      return
    found = {}
    for seed in recipe.seeds:
      analysis = slimming_analysis.SeedAnalysis(
        recipe,
        slimming_training.train(recipe, seed, workdir, tuning, own=own),
      )
      ours = (
        slimming_report.own_figures(recipe, analysis)
        if recorded is None
        else recorded.own_figures(seed)
      )
      found[seed] = slimming_report.seed_figures(recipe, ours, analysis)
    out = _OUT.value or str(pathlib.Path(workdir) / "study")
    claims = slimming_report.write(
      recipe,
      found,
      tuning,
      out,
      results.command_line(),
      recorded=recorded and recorded.source,
    )
  except (ValueError, FloatingPointError) as error:
    raise SystemExit(f"study_slimming.py: {error}") from None
  file = f"{pathlib.Path(out).name}.json"
  results.show({file: claims})
  print(f"{out}.json\n{out}.png")


if __name__ == "__main__":
  script.run(main, __file__)
