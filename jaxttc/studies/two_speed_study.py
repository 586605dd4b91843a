# SPDX-License-Identifier: Apache-2.0
"""SCALE on chains of digit sums: which steps to think through, measured.

Each arm (`two_speed_bench`) is a file of its runs, so a run that was stopped
goes on where it was.
"""

from collections.abc import Mapping
import dataclasses
import json
import os
import pathlib
from typing import Any, NamedTuple

import numpy as np
from rich import progress

from jaxttc.studies import two_speed_arms, two_speed_bench, two_speed_recipe


class Found(NamedTuple):
  """All that a study computes: calibration, and outcomes by arm and seed."""

  calibration: two_speed_arms.Calibration
  arms: dict[str, dict[int, two_speed_bench.Outcome]]


def run(
  recipe: two_speed_recipe.StudyRecipe, workdir: str | os.PathLike[str]
) -> Found:
  """Decodes what is not there yet, and returns everything.

  Args:
    recipe: the study.
    workdir: where runs are kept.

  Raises:
    ValueError: if the recipe cannot be run, or the folder holds another's.
  """
  recipe.check()
  folder = pathlib.Path(workdir)
  folder.mkdir(parents=True, exist_ok=True)
  settings = dataclasses.asdict(recipe)
  del settings["seeds"], settings["resamples"]
  claim_folder(folder, settings)
  bench = two_speed_bench.Bench(recipe)
  calibration = bench.calibrate()
  arms: dict[str, dict[int, two_speed_bench.Outcome]] = {}
  cells = _arms(recipe)
  with progress.Progress(transient=True) as bar:
    shown = bar.add_task("arms", total=len(cells) * len(recipe.seeds))
    for seed in recipe.seeds:
      hard: dict[str, np.ndarray] = {}
      for name in cells:
        bar.update(shown, description=f"seed {seed}, {name}")
        path = folder / f"{name}_{seed}.json"
        if path.exists():
          outcome = _read(path)
        else:
          outcome = bench.measure(name, seed, calibration, hard)
          _write(path, outcome)
        hard[name] = outcome.hard
        arms.setdefault(name, {})[seed] = outcome
        bar.advance(shown)
  return Found(calibration, arms)


def _arms(recipe: two_speed_recipe.StudyRecipe) -> list[str]:
  """Names of all arms; those that match others come after them."""
  taus = recipe.taus
  # What an oracle's threshold buys is shown in full for one model only.
  told = (two_speed_recipe.FIXED,) if recipe.two_models else taus
  shared = [
    "fast",
    "slow",
    "vote",
    *(f"probe-{tau}" for tau in taus),
    *(f"random-{tau}" for tau in taus),
    *(f"oracle-{tau}" for tau in told),
    *(f"budgeted-{share}" for share in recipe.shares),
  ]
  if recipe.two_models:
    return [*shared, "large_at_once"]
  caps = [recipe.slow_limit * k // 8 for k in (1, 2, 3, 4, 6, 8)]
  return [
    *shared,
    *(f"disagreement-{tau}" for tau in (0.2, 0.4, 0.6)),
    "probe_floor-0.4",
    "text_only-0.4",
    "slow_without_answers",
    "slow_independent",
    "slow_independent_without_answers",
    *(f"cap_easy-{cap}" for cap in caps),
    *(f"cap_hard-{cap}" for cap in caps),
  ]


def claim_folder(folder: pathlib.Path, settings: Mapping[str, Any]) -> None:
  """Marks a folder as that of a study's settings.

  Raises:
    ValueError: if it is marked as that of others.
  """
  path = folder / "recipe.json"
  text = json.dumps(settings, sort_keys=True)
  if path.exists() and path.read_text(encoding="utf-8") != text:
    raise ValueError(
      f"{folder}: holds the runs of another recipe; expected an empty folder"
    )
  path.write_text(text, encoding="utf-8")


def _write(path: pathlib.Path, outcome: two_speed_bench.Outcome) -> None:
  rows = {name: part.tolist() for name, part in outcome._asdict().items()}
  unfinished = path.with_suffix(".part")
  unfinished.write_text(json.dumps(rows), encoding="utf-8")
  unfinished.replace(path)


def _read(path: pathlib.Path) -> two_speed_bench.Outcome:
  try:
    rows = json.loads(path.read_text(encoding="utf-8"))
    return two_speed_bench.Outcome(
      *(np.array(rows[name]) for name in two_speed_bench.Outcome._fields)
    )
  except (OSError, ValueError, KeyError, TypeError) as error:
    raise ValueError(f"{path}: cannot be read ({error}); delete it") from None
