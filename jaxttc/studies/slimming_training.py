# SPDX-License-Identifier: Apache-2.0
"""Trains the models of a study of slimmable networks, a seed at a time."""

import dataclasses
import pathlib
from typing import Any, NamedTuple

import numpy as np

from jaxttc.studies import slimming_analysis, slimming_trainer
from jaxttc.studies.slimming_study import StudyRecipe


class Tuning(NamedTuple):
  """What was tried before the seeds of a study.

  Attributes:
    volumes: budget-aware hypervolume on the calibration examples of the tuning
      seed, by rival and learning rate.
    chosen: the learning rate of the largest, by rival.
  """

  volumes: dict[str, dict[float, float]]
  chosen: dict[str, float]

  def describe(self, recipe: StudyRecipe) -> dict[str, Any] | None:
    """JSON-ready; None if nothing was tuned."""
    if not self.chosen:
      return None
    volumes = {
      name: {f"{rate:g}": volume for rate, volume in tried.items()}
      for name, tried in self.volumes.items()
    }
    return {
      "seed": recipe.tuning_seed,
      "volumes": volumes,
      "chosen": self.chosen,
    }


def tune(recipe: StudyRecipe, workdir: str) -> Tuning:
  """Tries learning rates where a rival's is open; trains what is not there."""
  names = recipe.open()
  if not names:
    return Tuning({}, {})
  trainer = slimming_trainer.Trainer(
    recipe.recipe,
    recipe.tuning_seed,
    pathlib.Path(workdir) / "tuning",
    recipe.rays(),
    tuning=True,
  )
  volumes: dict[str, dict[float, float]] = {name: {} for name in names}
  for rate in recipe.rates:
    for cell in recipe.rivals(dict.fromkeys(names, rate)):
      if cell.name in names:
        tried = dataclasses.replace(cell, name=f"{cell.name}_{rate:g}")
        print(f"tuning: {tried.name}", flush=True)
        seed = slimming_analysis.SeedAnalysis(
          recipe, {tried.name: trainer.run(tried)}, recipe.tuning_seed
        )
        volumes[cell.name][rate] = seed.single(tried.name).volume()
  chosen = {
    name: max(found, key=found.__getitem__) for name, found in volumes.items()
  }
  return Tuning(volumes, chosen)


def train(
  recipe: StudyRecipe,
  seed: int,
  workdir: str,
  tuning: Tuning,
  *,
  own: bool = True,
) -> dict[str, dict[str, np.ndarray]]:
  """Trains the cells of a seed that are not there yet; what all measured.

  Args:
    recipe: the study.
    seed: of everything.
    workdir: of all seeds.
    tuning: what `tune` found.
    own: whether to train our networks, too, beside their rivals.
  """
  folder = pathlib.Path(workdir) / f"seed_{seed}"
  trainer = slimming_trainer.Trainer(recipe.recipe, seed, folder, recipe.rays())
  cells = recipe.own_cells() if own else []
  cells += recipe.rivals(tuning.chosen)
  found = {}
  for i, cell in enumerate(cells, 1):
    print(f"seed {seed}, model {i} of {len(cells)}: {cell.name}", flush=True)
    found[cell.name] = trainer.run(cell)
  return found
