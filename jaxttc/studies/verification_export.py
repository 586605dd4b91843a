# SPDX-License-Identifier: Apache-2.0
"""What a study of voting against verifying tells later budgets."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from jaxttc.evaluation import verification_curves
from jaxttc.inference import bundle as bundle_lib
from jaxttc.solving import measured_splits, solve_recipe
from jaxttc.studies import verification_recipe, verification_study


def measured(
  recipe: verification_recipe.StudyRecipe, data: Mapping[str, Any]
) -> measured_splits.MeasuredSplits:
  """What the study's splits are worth, for the policy "solve_or_verify".

  Args:
    recipe: of the study.
    data: of its report, or of the results file that came of it.

  Raises:
    ValueError: if a model cannot be read.
  """
  pool, surface = data["pool"], data["surface"]
  grids = tuple(
    np.asarray(surface[name]) for name in ("solutions", "verifications")
  )
  votes = [
    row for row in data["curves"]["vote"] if row["budget"] <= pool["solutions"]
  ]
  return measured_splits.MeasuredSplits(
    models=(
      bundle_lib.load(recipe.policy).weights_fingerprint,
      bundle_lib.load(recipe.verifier).weights_fingerprint,
    ),
    style=recipe.style,
    sampling=solve_recipe.SamplingOptions(
      temperature=recipe.temperature,
      max_tokens=recipe.max_tokens,
      checks=solve_recipe.CheckOptions(
        samples=recipe.verifications,
        temperature=recipe.verifier_temperature,
        max_tokens=recipe.max_verification_tokens,
        style=recipe.checks[0],
      ),
    ),
    solution_tokens=pool["solution_tokens"],
    verification_tokens=pool["verification_tokens"],
    read_tokens=pool["read_tokens"],
    voted=verification_curves.Votes(
      np.array([round(row["budget"]) for row in votes]),
      np.array([[row["value"] for row in votes]]),
    ),
    surfaces={
      method: verification_curves.Surface(*grids, np.array([surface[method]]))
      for method in verification_curves.METHODS
      if method in surface
    },
    origin=(
      f"{pool['problems']} {verification_study.FAMILY} problems of "
      f"{', '.join(map(str, pool['steps']))} steps, seed {recipe.seed}"
    ),
  )
