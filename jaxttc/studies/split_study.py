# SPDX-License-Identifier: Apache-2.0
"""Demonstrations against preference pairs, over budgets, shares and prices.

A cell is a budget, a price of pairs and a loss of pairs; all its shares and
seeds train in one compiled program. Its runs are lines of one file, written
when the cell is done: a study that is stopped, or killed, goes on with the
next cell.
"""

from collections.abc import Iterator, Mapping
import dataclasses
import functools
import json
import os
import pathlib
from typing import Any, NamedTuple

import jax
import numpy as np
from rich import progress as rich_progress

from jaxttc.allocators import annotation_split
from jaxttc.tasks import styled_answers
from jaxttc.training import preference_losses, staged_tuning

MAIN = "dpo"


@dataclasses.dataclass(kw_only=True)
class SplitRecipe:
  """What is compared.

  Attributes:
    task: the task's settings.
    budgets: money, ascending; a demonstration costs 1.
    shares: of the money for demonstrations, ascending from 0 to 1.
    pair_prices: what a pair costs, ascending; with 1 among them.
    falls_from: the least budget from which on the best share is asked to fall.
    arms_budget: the budget at which losses of pairs are compared.
    seeds: tasks, with their pools, each trained in every cell.
    tested: held-out prompts a seed.
    rate: step size of Adam, in both stages.
    epochs: passes over each stage's annotations.
    batch: annotations a step.
    loss: of pairs.
    anchor: weight of the chosen answer's likelihood, in the arm that has one.
  """

  task: styled_answers.StyledAnswers
  budgets: tuple[int, ...] = (64, 256, 1024, 4096, 16384)
  shares: tuple[float, ...] = (0.0, 0.05, 0.1, 0.25, 0.5, 0.75, 1.0)
  pair_prices: tuple[float, ...] = (0.25, 1.0, 4.0)
  falls_from: int = 256
  arms_budget: int = 4096
  seeds: int = 20
  tested: int = 2000
  rate: float = 0.02
  epochs: int = 8
  batch: int = 32
  loss: preference_losses.PreferenceLossConfig
  anchor: float = 1.0

  def validate(self) -> None:
    """Raises ValueError, naming the field, for what cannot be studied."""
    self.task.validate()
    self.loss.validate()
    for name in ("budgets", "shares", "pair_prices"):
      found = list(getattr(self, name))
      if len(found) < 2 or found != sorted(set(found)):
        raise ValueError(f"{name} must ascend, got {found}")
    if self.budgets[0] < 1 or not self.pair_prices[0] > 0:
      raise ValueError("budgets and pair_prices must be positive")
    if (self.shares[0], self.shares[-1]) != (0, 1):
      raise ValueError(f"shares must go from 0 to 1, got {self.shares}")
    if 1.0 not in self.pair_prices:
      raise ValueError(f"pair_prices must hold 1.0, got {self.pair_prices}")
    for name in ("falls_from", "arms_budget"):
      if getattr(self, name) not in self.budgets:
        raise ValueError(
          f"{name}={getattr(self, name)} is not one of {self.budgets}"
        )
    if self.seeds < 3 or min(self.tested, self.epochs, self.batch) < 1:
      raise ValueError(
        "expected at least 3 seeds, and tested, epochs and batch of at least 1"
      )
    for name in ("rate", "anchor"):
      if not getattr(self, name) > 0:
        raise ValueError(f"{name} must be positive, got {getattr(self, name)}")
    if (self.loss.kind, self.loss.anchor) != (MAIN, 0):
      raise ValueError(
        "loss must be dpo without an anchor; the other losses are arms"
      )

  def arms(self) -> dict[str, preference_losses.PreferenceLossConfig]:
    """Losses of pairs by name."""
    return {
      MAIN: self.loss,
      "dpo_anchor": dataclasses.replace(self.loss, anchor=self.anchor),
      "orpo": preference_losses.PreferenceLossConfig(
        kind="orpo", beta=self.loss.beta
      ),
    }

  def cells(self) -> "list[Cell]":
    """All cells: the grid, then the arms at one budget."""
    grid = [
      Cell(MAIN, price, budget)
      for price in self.pair_prices
      for budget in self.budgets
    ]
    others = [name for name in self.arms() if name != MAIN]
    return grid + [Cell(name, 1.0, self.arms_budget) for name in others]

  def plans(self, cell: "Cell") -> list[annotation_split.SplitPlan]:
    """What each share of a cell buys."""
    prices = annotation_split.AnnotationPrices(sft=1.0, pair=cell.pair_price)
    return [
      annotation_split.plan_budget(cell.budget, prices, share)
      for share in self.shares
    ]

  def pool(self) -> int:
    """Prompts that the largest plan needs."""
    return max(
      plan.sft + plan.pairs
      for cell in self.cells()
      for plan in self.plans(cell)
    )


class Cell(NamedTuple):
  """What is trained at once, over all shares and seeds.

  Attributes:
    arm: name of the loss of pairs.
    pair_price: of a pair; a demonstration costs 1.
    budget: money.
  """

  arm: str
  pair_price: float
  budget: int


# A run: the cell's fields, share and seed, what was bought and spent, what the
# training took, and the score's fields.
Run = Mapping[str, Any]
Runs = Mapping[Cell, list[Run]]


def run(recipe: SplitRecipe, workdir: str, show: bool = True) -> Runs:
  """Trains all cells, those on file excepted.

  Args:
    recipe: the study.
    workdir: folder of runs.jsonl, a line a run.
    show: whether to draw a progress bar.

  Returns:
    Runs of each cell, share by share and seed by seed.

  Raises:
    ValueError: if the recipe cannot be, or the file is of another recipe.
  """
  recipe.validate()
  path = pathlib.Path(workdir) / "runs.jsonl"
  found = _kept(path, recipe)
  bench = None
  bar = rich_progress.Progress(
    *rich_progress.Progress.get_default_columns(),
    rich_progress.TimeElapsedColumn(),
    disable=not show,
  )
  with bar, path.open("a", encoding="utf-8") as file:
    task = bar.add_task("cells", total=len(recipe.cells()))
    for cell in recipe.cells():
      if cell not in found:
        bench = bench or _Bench(recipe)
        found[cell] = list(bench.measure(cell))
        file.write("".join(json.dumps(r) + "\n" for r in found[cell]))
        file.flush()
        os.fsync(file.fileno())
      bar.advance(task)
  return found


def base_scores(recipe: SplitRecipe) -> dict[str, np.ndarray]:
  """Scores of the base policy, f64[S] by name."""
  base, _, tested = _drawn(recipe, pool=1)
  found = jax.jit(jax.vmap(styled_answers.score))(base, tested)
  return {k: np.asarray(v, np.float64) for k, v in vars(found).items()}


def table(recipe: SplitRecipe, runs: Runs, price: float, field="accuracy"):
  """Scores of the grid at one price, as a `SplitTable`."""
  shape = (len(recipe.shares), recipe.seeds)
  scores = [
    np.reshape([r[field] for r in runs[Cell(MAIN, price, budget)]], shape)
    for budget in recipe.budgets
  ]
  return annotation_split.SplitTable(
    annotation_split.AnnotationPrices(sft=1.0, pair=price),
    np.array(recipe.budgets, np.float64),
    np.array(recipe.shares, np.float64),
    np.array(scores, np.float64),
  )


def _described(recipe: SplitRecipe) -> dict[str, Any]:
  """All that decides what a cell measures."""
  fields = dataclasses.asdict(recipe)
  for name in ("falls_from", "arms_budget"):
    del fields[name]
  return json.loads(json.dumps(fields))


def _kept(path: pathlib.Path, recipe: SplitRecipe) -> dict[Cell, list[Run]]:
  """Complete cells of the file, which is left with no others in it."""
  header = json.dumps({"recipe": _described(recipe)}) + "\n"
  path.parent.mkdir(parents=True, exist_ok=True)
  text = path.read_text(encoding="utf-8") if path.exists() else ""
  lines = text[: text.rfind("\n") + 1].splitlines(keepends=True)
  if lines and lines[0] != header:
    raise ValueError(
      f"{path}, line 1: holds runs of another recipe; give another workdir, or "
      "remove it"
    )
  found: dict[Cell, list[Run]] = {}
  for number, line in enumerate(lines[1:], start=2):
    try:
      row = json.loads(line)
      cell = Cell(*(row[field] for field in Cell._fields))
    except (ValueError, KeyError, TypeError) as error:
      raise ValueError(
        f"{path}, line {number}: expected a run as JSON: {error}"
      ) from None
    found.setdefault(cell, []).append(row)
  whole = len(recipe.shares) * recipe.seeds
  found = {cell: rows for cell, rows in found.items() if len(rows) == whole}
  part = path.with_suffix(".part")
  with part.open("w", encoding="utf-8") as file:
    file.write(header)
    for rows in found.values():
      file.writelines(json.dumps(row) + "\n" for row in rows)
  part.replace(path)
  return found


def _drawn(recipe: SplitRecipe, pool: int):
  """Base, pool and test prompts of all seeds, stacked."""
  keys = jax.vmap(jax.random.key)(np.arange(recipe.seeds))
  draw = functools.partial(recipe.task.draw, pool=pool, tested=recipe.tested)
  return jax.jit(jax.vmap(draw))(keys)


class _Bench:
  """The seeds' tasks, and one compiled program a loss of pairs."""

  def __init__(self, recipe: SplitRecipe):
    self.recipe = recipe
    self.drawn = _drawn(recipe, recipe.pool())
    stages = staged_tuning.StageSettings(
      recipe.rate, recipe.epochs, recipe.batch
    )

    def measure(loss, drawn, sft, pairs, bounds):
      def one(base, pool, tested, sft, pairs):
        tuned = staged_tuning.tune(base, pool, sft, pairs, bounds, stages, loss)
        found = styled_answers.score(tuned.policy, tested)
        return vars(found) | {
          "steps": tuned.steps,
          "forward_passes": tuned.forward_passes,
        }

      of_seeds = jax.vmap(one, (0, 0, 0, None, None))
      return jax.vmap(of_seeds, (None, None, None, 0, 0))(*drawn, sft, pairs)

    self.programs = {
      name: jax.jit(functools.partial(measure, loss))
      for name, loss in recipe.arms().items()
    }

  def measure(self, cell: Cell) -> Iterator[Run]:
    """The runs of a cell, share by share and seed by seed."""
    plans = self.recipe.plans(cell)
    sft = np.array([plan.sft for plan in plans], np.int32)
    pairs = np.array([plan.pairs for plan in plans], np.int32)
    found = jax.device_get(
      self.programs[cell.arm](
        self.drawn, sft, pairs, staged_tuning.Bounds(sft.max(), pairs.max())
      )
    )
    for i, plan in enumerate(plans):
      for seed in range(self.recipe.seeds):
        # Counts of steps are the same for all seeds, and not mapped over them.
        measured = {k: np.asarray(v)[i, seed].item() for k, v in found.items()}
        yield (
          cell._asdict()
          | {"share": plan.share, "seed": seed}
          | {"sft": plan.sft, "pairs": plan.pairs, "spent": plan.spent}
          | measured
        )
