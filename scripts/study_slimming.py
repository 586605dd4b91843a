# SPDX-License-Identifier: Apache-2.0
r"""Compares a slimmable network with every published alternative.

    python scripts/study_slimming.py \
      --config=configs/slimmable_vectors.py:study \
      --workdir=runs/study_vectors --out=docs/results/slimmable_vectors

Trains what the study names, a folder a model and seed, then writes figures,
claims and a picture. Run the same command again after a stop, or a kill, and it
goes on. Seeds can be trained beside each other: give each its own --only_seed
(the tuning seed first), then run once without it. --recorded=FILE.json trains
the rivals anew, and takes our own networks' figures from an earlier run; with
--report_only it takes everything from there.
"""

import functools
import pathlib

from absl import app, flags, logging

from jaxttc import arguments, results, script
from jaxttc.studies import (
  slimming_analysis,
  slimming_report,
  slimming_study,
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
_REPORT_ONLY = flags.DEFINE_bool(
  "report_only",
  False,
  "Train nothing: write the figures of --recorded again, and those that follow "
  "from them and that it lacks.",
)


def study(
  recipe: slimming_study.StudyRecipe, workdir: str
) -> list[results.Claim] | None:
  """Does what the flags say; the claims, if any were written.

  Raises:
    ValueError: in one line, for anything in them that cannot be.
    FloatingPointError: if a training diverges.
  """
  recorded, seed = None, _ONLY_SEED.value
  if _RECORDED.value is not None:
    recorded = slimming_report.Recorded(_RECORDED.value, recipe)
  if _REPORT_ONLY.value:
    if recorded is None:
      raise ValueError("--report_only needs --recorded")
    tuned = recorded.tuning
    found = {seed: recorded.figures(seed) for seed in recipe.seeds}
  else:
    tuning = slimming_training.tune(recipe, workdir)
    tuned = tuning.describe(recipe)
    train = functools.partial(
      slimming_training.train,
      recipe,
      workdir=workdir,
      tuning=tuning,
      own=recorded is None,
    )
    if seed is not None:
      if seed != recipe.tuning_seed:
        train(seed)
      return None
    found = {}
    for seed in recipe.seeds:
      analysis = slimming_analysis.SeedAnalysis(recipe, train(seed), seed)
      if recorded is None:
        own = slimming_report.own_figures(recipe, analysis)
      else:
        own = recorded.own_figures(seed)
      found[seed] = slimming_report.seed_figures(recipe, own, analysis)
  return slimming_report.write(
    recipe,
    found,
    _OUT.value or str(pathlib.Path(workdir) / "study"),
    results.command_line(),
    tuning=tuned,
    recorded=recorded.source if recorded else None,
  )


def main(argv: list[str]) -> None:
  """Parses the flags and runs the study."""
  if len(argv) > 1:
    raise app.UsageError(f"unexpected arguments: {argv[1:]}")
  if _CONFIG.value is None or _WORKDIR.value is None:
    raise app.UsageError("--config and --workdir are required")
  logging.set_verbosity(logging.WARNING)  # orbax is talkative
  try:
    claims = study(_CONFIG.value, _WORKDIR.value)
  except (ValueError, FloatingPointError) as error:
    raise SystemExit(f"study_slimming.py: {error}") from None
  if claims is None:
    return
  out = _OUT.value or str(pathlib.Path(_WORKDIR.value) / "study")
  file = f"{pathlib.Path(out).name}.json"
  results.show({file: claims})
  print(f"{out}.json\n{out}.png")


if __name__ == "__main__":
  script.run(main, __file__)
