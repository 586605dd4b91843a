# SPDX-License-Identifier: Apache-2.0
"""The claims of a study of voting against verifying, over several verifiers."""

from collections.abc import Mapping

import numpy as np

from jaxttc import results
from jaxttc.inference import bundle as bundle_lib
from jaxttc.simulation import study as study_lib
from jaxttc.studies import (
  verification_recipe,
  verification_report,
  verification_study,
)

_SEEDS = "verifier_seeds"


def report_all(
  recipe: verification_recipe.StudyRecipe,
  found: Mapping[str, verification_study.Found],
) -> study_lib.Study:
  """The figures of the recipe's verifier, and its claims over all verifiers.

  A claim over verifiers is the mean of theirs, from the least to the most of
  them: how far it moves from one training to the next. Intervals of the other
  claims are over problems.

  Args:
    recipe: of the study.
    found: by verifier, as `verification_study.run_all` returns it.

  Raises:
    ValueError: as `verification_report.report`.
  """
  studies = {
    name: verification_report.report(recipe, one) for name, one in found.items()
  }
  first = studies[recipe.verifier]
  if len(found) < 2:
    return first
  told = {
    name: {claim.name: claim for claim in one.claims}
    for name, one in studies.items()
  }
  rows = [
    {"verifier": name, "seed": _trained_with(name)}
    | {claim: one.value for claim, one in claims.items()}
    for name, claims in told.items()
  ]
  crossed = sum("crossover_budget" in claims for claims in told.values())
  claims = [
    results.Claim(_SEEDS, len(told)),
    results.Claim(f"{_SEEDS}_that_cross", crossed),
  ]
  for name, own in told[recipe.verifier].items():
    values = [claims[name].value for claims in told.values() if name in claims]
    if len(values) == len(told) and len(set(values)) > 1:
      claims.append(
        results.Claim(
          f"{name}_over_{_SEEDS}",
          float(np.mean(values)),
          min(values),
          max(values),
          own.bar,
          own.comparison,
        )
      )
  return first._replace(
    data=dict(first.data) | {_SEEDS: rows}, claims=[*first.claims, *claims]
  )


def _trained_with(verifier: str) -> int:
  """The seed that a verifier's recipe was trained with; -1 if it says none."""
  train = bundle_lib.load(verifier).recipe.get("train", {})
  return int(train.get("seed", -1))
