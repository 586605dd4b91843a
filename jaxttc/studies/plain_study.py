# SPDX-License-Identifier: Apache-2.0
"""The plain policy, which nothing was fitted to, against single decoders.

Plain runs for real, at several budgets; the cells of single decoders say what
each of them would have done with as many tokens as plain spent.
"""

import dataclasses
import os
import pathlib
from typing import Any, NamedTuple

from jaxtyping import Float
import numpy as np

from jaxttc import page, results, simulation
from jaxttc.evaluation import statistics
from jaxttc.solving import (
  arm_tables,
  comparing,
  plain_policies,
  policy_solving,
  solve_recipe,
)

_APART = 100  # seeds of plain runs, so that no further try is a first one


@dataclasses.dataclass(kw_only=True)
class StudyRecipe:
  """What is compared.

  Attributes:
    compare: the single decoders, on which problems, with which seeds.
    budgets: of plain, mean generated tokens of a problem.
    resamples: of the bootstrap.
  """

  compare: comparing.CompareRecipe
  budgets: tuple[int, ...] = (40, 60, 80, 120)
  resamples: int = 2000

  def check(self) -> None:
    """Raises ValueError, naming the field, for values that cannot be."""
    self.compare.validate()
    if not self.budgets or min(self.budgets) < 1 or self.resamples < 1:
      raise ValueError(
        f"expected budgets >= 1 and resamples >= 1, got {self.budgets} and "
        f"{self.resamples}"
      )


class Found(NamedTuple):
  """All that a study computes.

  Attributes:
    table: what the single decoders did.
    right: f64[B, S, N], of plain.
    tokens: f64[B, S, N], that it generated.
    tries: f64[B, S, N].
  """

  table: arm_tables.ArmTable
  right: Float[np.ndarray, "B S N"]
  tokens: Float[np.ndarray, "B S N"]
  tries: Float[np.ndarray, "B S N"]


def run(
  recipe: StudyRecipe,
  workdir: str | os.PathLike[str],
  *,
  progress: bool = True,
) -> Found:
  """Runs what is missing; a run that was stopped goes on where it was.

  Args:
    recipe: the study.
    workdir: folder of the cells and of plain's answers.
    progress: whether to show bars, on the standard error stream.

  Raises:
    ValueError: if the recipe cannot be run.
  """
  recipe.check()
  compare = recipe.compare
  found = []
  for budget in recipe.budgets:
    for seed in compare.seeds:
      rows = policy_solving.solve_to_file(
        solve_recipe.SolveRecipe(
          problems=compare.problems,
          policy=compare.policy,
          verifier=compare.verifier,
          width=compare.width,
          budget=f"generated_tokens={budget}",
          sampling=compare.sampling,
          seed=_APART * (seed + 1),
          batch=compare.batch,
        ),
        pathlib.Path(workdir) / f"plain-{budget}-{seed}.jsonl",
        policy=plain_policies.PLAIN,
        progress=progress,
      )
      by_id = {row["id"]: row for row in rows}
      found.append(
        [
          (
            bool(by_id[problem.id]["correct"]),
            by_id[problem.id]["cost"]["generated_tokens"],
            len(by_id[problem.id]["tries"]),
          )
          for problem in compare.problems.load()
        ]
      )
  cells = comparing.run(compare, os.fspath(workdir), progress=progress)
  shape = len(recipe.budgets), len(compare.seeds), -1
  parts = np.moveaxis(np.array(found, np.float64), -1, 0)
  return Found(
    arm_tables.arm_table(compare, cells),
    *(part.reshape(shape) for part in parts),
  )


def report(recipe: StudyRecipe, found: Found) -> simulation.Study:
  """All figures and claims of a study.

  The single decoder gets as many tokens as plain spent in the mean, and is
  chosen in hindsight at each budget anew. Intervals resample problems, the
  seeds of each together.
  """
  spent = found.tokens.mean((1, 2))
  single = np.stack(
    [arm_tables.best_single(found.table, float(each)) for each in spent]
  )
  gain = 100 * (found.right.mean(1) - single)  # [B, N]
  rng = np.random.default_rng(0)

  def points(name, each, **bar):
    interval = statistics.bootstrap(each, resamples=recipe.resamples, rng=rng)
    return results.Claim(name, *interval, **bar)

  name = "points_over_best_single_decoder"
  claims = [points(name, gain.mean(0), bar=0.0, comparison=">")]
  claims += [
    points(f"{name}_at_{budget}", each)
    for budget, each in zip(recipe.budgets, gain, strict=True)
  ]
  claims.append(
    results.Claim(
      "never_overspent",
      float((found.tokens.mean(2).T / np.array(recipe.budgets)).max()),
      bar=1.0,
      comparison="<=",
    )
  )
  table = found.table
  data = {
    "budgets": list(recipe.budgets),
    "problems": found.right.shape[2],
    "tokens": spent.tolist(),
    "solved": found.right.mean((1, 2)).tolist(),
    "solved_by_seed": found.right.mean(2).tolist(),
    "tries": found.tries.mean((1, 2)).tolist(),
    "best_single_decoder": single.mean(1).tolist(),
    "cells": [
      {
        "decoder": arm.decoder,
        "cap": arm.cap,
        "tokens": float(table.tokens[..., place].mean()),
        "solved": float(table.right[..., place].mean()),
      }
      for place, arm in enumerate(table.arms)
    ],
  }
  return simulation.Study(
    recipe.compare.seeds, data, claims, lambda path: draw(data, path)
  )


def draw(data: dict[str, Any], path: str | os.PathLike[str]) -> None:
  """Writes the picture: problems solved against tokens.

  Args:
    data: as `report` makes it.
    path: the file; its suffix names the format.

  Raises:
    ImportError: if matplotlib is not installed.
  """
  with page.style():
    figure = page.figure(3.8)
    axes = figure.subplots()
    axes.plot(
      data["tokens"],
      data["best_single_decoder"],
      color="#999999",
      label="best single decoder, in hindsight",
    )
    axes.plot(data["tokens"], data["solved"], marker="o", label="plain")
    for decoder in sorted({cell["decoder"] for cell in data["cells"]}):
      cells = [cell for cell in data["cells"] if cell["decoder"] == decoder]
      axes.scatter(
        [cell["tokens"] for cell in cells],
        [cell["solved"] for cell in cells],
        s=14,
        label=decoder.partition("(")[0],
      )
    axes.set_xlabel("mean generated tokens of a problem")
    axes.set_ylabel("problems solved")
    axes.set_title(f"{data['problems']} problems of three families")
    axes.legend(fontsize=8)
    page.save(figure, path)
