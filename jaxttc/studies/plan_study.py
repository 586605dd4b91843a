# SPDX-License-Identifier: Apache-2.0
"""Splitting a budget over sub-questions, with a model that answers them.

A problem is a few sums that are answered apart; it is solved if all are right.

*  Votes: tokens buy samples of the fast mode, a vote answers each sum; splits
   of a budget of samples are compared (`plan_splits`).
*  Caps: the slow mode works each sum out under a hard cap, with every rule for
   what is left over (`plan_caps`).
"""

from typing import Any

import numpy as np
from rich import progress

from jaxttc.studies import plan_bench, plan_caps, plan_recipe, plan_splits


def run(recipe: plan_recipe.StudyRecipe) -> dict[str, Any]:
  """Draws the samples and compares the splits.

  Returns:
    Tidy data: `splits`, `decays` and `caps`, rows of dicts; `curves`, mean
    accuracy of a vote by kind.

  Raises:
    ValueError: if the recipe cannot be run.
  """
  recipe.check()
  bench = plan_bench.Bench(recipe)
  with progress.Progress(transient=True) as bar:
    steps = 1 + 2 * len(recipe.seeds)
    shown = bar.add_task("pilot", total=steps)
    pilot = bench.pools(recipe.pilot_sums, "pilot")
    bar.advance(shown)
    splits, decays, caps, curves = [], [], [], []
    for seed in recipe.seeds:
      bar.update(shown, description=f"seed {seed}, votes")
      tested = bench.pools(recipe.problems, f"test-{seed}")
      splits += plan_splits.splits(recipe, seed, pilot, tested)
      decays += plan_splits.decays(recipe, seed, tested)
      curves.append(plan_splits.by_kind(recipe, tested))
      bar.advance(shown)
      bar.update(shown, description=f"seed {seed}, caps")
      caps += plan_caps.measure(recipe, bench, seed)
      bar.advance(shown)
  return {
    "splits": splits,
    "decays": decays,
    "caps": caps,
    "curves": np.mean(curves, axis=0).tolist(),
  }
