# SPDX-License-Identifier: Apache-2.0
"""The data of one seed of a study of slimmable networks."""

from collections.abc import Callable, Sequence
import dataclasses
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxttc.evaluation import constant_scores
from jaxttc.tasks.multitask import base
from jaxttc.training import multitask_recipes


class SeedData(NamedTuple):
  """What one seed trains and measures on.

  Attributes:
    recipe: with the seed in it.
    data: the data set.
    calibration: held-out examples that plans and settings are chosen by.
    test: as many others, that figures are of.
  """

  recipe: multitask_recipes.SlimmableRecipe
  data: Any
  calibration: base.Examples
  test: base.Examples


def of_seed(recipe: multitask_recipes.SlimmableRecipe, seed: int) -> SeedData:
  """The data of a seed; of vectors, a seed is another teacher, too."""
  train = dataclasses.replace(recipe.train, seed=seed)
  options = dict(recipe.data_options)
  if recipe.data == "vectors":
    options["seed"] = seed
  recipe = dataclasses.replace(recipe, train=train, data_options=options)
  data, half = recipe.load_data(), recipe.held_out
  both = data.held_out(2 * half)
  return SeedData(
    recipe,
    data,
    jax.tree.map(lambda x: x[:half], both),
    jax.tree.map(lambda x: x[half:], both),
  )


def constants(
  recipe: multitask_recipes.SlimmableRecipe, seed: int
) -> np.ndarray:
  """Test scores f64[K] of predictions that ignore their inputs."""
  found = of_seed(recipe, seed)
  return constant_scores.scores(found.data.tasks, found.test.labels)


def only(data: Any, names: Sequence[str]) -> Any:
  """A data set with some of its tasks; all if no names are given."""
  if not names:
    return data
  tasks = tuple(task for task in data.tasks if task.name in names)
  return _View(tasks, data.input_shape, data.sample)


@dataclasses.dataclass(frozen=True)
class _View:
  """Some of the tasks of a data set."""

  tasks: tuple[base.Task, ...]
  input_shape: tuple[int, ...]
  sample: Callable
