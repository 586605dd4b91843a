# SPDX-License-Identifier: Apache-2.0
"""Everything that follows from what one seed of a study measured.

Scores are in [0, 1], higher is better, and the reference of every hypervolume
is zero. The budget-aware hypervolume has what a configuration saves,
1 - cost / full cost, as one more coordinate.
"""

from collections.abc import Mapping, Sequence
import dataclasses
import itertools
from typing import Any

import numpy as np

from jaxttc.allocators import width_planner, width_prices, width_rules
from jaxttc.evaluation import control, hypervolume, width_scores
from jaxttc.models import slimmable
from jaxttc.studies import control_oracle, slimming_data, slimming_study
from jaxttc.studies.slimming_study import OURS, StudyRecipe

_FRONT = 24  # points a task, of separate networks


@dataclasses.dataclass(frozen=True)
class Points:
  """Scores f64[N, K] at costs f64[N], shares of the full network's."""

  scores: np.ndarray
  costs: np.ndarray

  def volume(self) -> float:
    """Budget-aware hypervolume, with zeros as the reference."""
    points = hypervolume.with_savings(self.scores, self.costs, 1.0)
    return hypervolume.hypervolume(points, np.zeros(points.shape[1]))


class SeedAnalysis:
  """Everything that follows from what one seed measured."""

  def __init__(
    self,
    recipe: StudyRecipe,
    measured: Mapping[str, Mapping[str, np.ndarray]],
    seed: int,
  ):
    """Takes a study, the arrays of each of its cells, and their seed."""
    self.recipe = recipe
    self.measured = measured
    self.seed = seed
    data = recipe.recipe.load_data()
    self.tasks = [task.name for task in data.tasks]
    self.network = recipe.recipe.spec(data).build()
    self.prices = width_prices.WidthPrices(self.network)
    self.full = float(self.prices(self.prices.ends["high"], "macs")[0])
    self.rays = recipe.rays()
    self.budgets = slimming_study.feasible(recipe)
    self._plans: dict[Any, tuple[np.ndarray, np.ndarray]] = {}

  def table(self, cell: str, examples: str) -> width_scores.ScoreTable:
    """Scores of all configurations of a slimmable cell."""
    return width_scores.ScoreTable(self.measured[cell][examples])

  def plans(
    self, cell: str, budget: float, rule: str | None = None
  ) -> tuple[np.ndarray, np.ndarray]:
    """Menu indices i32[R, groups], and costs f64[R], of plans for all rays.

    Plans are made on the calibration examples, once.
    """
    rule = rule or self.recipe.rule
    key = (cell, budget, rule)
    if key not in self._plans:
      self._plans[key] = self._plan(*key)
    return self._plans[key]

  def _plan(self, cell, budget, rule):
    table = self.table(cell, "calibration")
    found = [
      width_planner.plan(
        self.network.space,
        dict(zip(self.tasks, ray, strict=True)),
        budget,
        self.prices,
        table,
        rule=rule,
      )
      for ray in self.rays
    ]
    indices = [self.network.space.indices(plan.config) for plan in found]
    return np.array(indices), np.array([plan.price for plan in found])

  def planned(self, cell: str, rule: str | None = None) -> Points:
    """Test scores of the plans for all rays at all budgets."""
    found = [self.plans(cell, budget, rule) for budget in self.budgets]
    table = self.table(cell, "test")
    return Points(
      np.concatenate([table(indices) for indices, _ in found]),
      np.concatenate([costs for _, costs in found]),
    )

  def uniform(self, cell: str) -> Points:
    """Test scores of the same network, as wide everywhere."""
    menu, groups = len(self.network.space.menu), len(self.network.space.groups)
    indices = np.repeat(np.arange(menu)[:, None], groups, 1)
    return Points(
      self.table(cell, "test")(indices), self.prices(indices, "fraction")
    )

  def fixed_decoders(self, cell: str) -> Points:
    """Test scores if only the encoder is slimmed, and decoders never.

    The encoder of each budget and preference has the best weighted calibration
    score; a budget below the decoders' own cost buys nothing.
    """
    space = self.network.space
    encoders = space.all_indices(len(space.encoder))
    widest = np.full((len(encoders), len(space.tasks)), len(space.menu) - 1)
    return self._best_of(cell, np.concatenate([encoders, widest], 1))

  def random_search(self, cell: str, seed: int = 0) -> Points:
    """Test scores of the best of random configurations, as the planner's.

    As many are drawn as the planner measures to know every configuration:
    menu ** (stages + 1); the narrowest is one of them, so that each budget buys
    something.
    """
    space = self.network.space
    passes = len(space.menu) ** (len(space.encoder) + 1)
    drawn = np.random.default_rng(seed).integers(
      0, len(space.menu), (passes, len(space.groups))
    )
    drawn[0] = 0
    return self._best_of(cell, drawn)

  def _best_of(self, cell: str, indices: np.ndarray) -> Points:
    """For all rays and budgets the best of some configurations, by value."""
    seen = self.table(cell, "calibration")
    costs = self.prices(indices, "fraction")
    weights = width_rules.value_weights(self.rays, self.prices, seen)
    values = weights @ seen(indices).T
    found = [
      np.where(costs <= budget, values, -np.inf).argmax(1)
      for budget in self.budgets
      if (costs <= budget).any()
    ]
    rows = np.concatenate(found)
    return Points(self.table(cell, "test")(indices[rows]), costs[rows])

  def single(self, cell: str) -> Points:
    """A model without widths, at the preferences that it was asked for."""
    found = self.measured[cell]
    scores = np.atleast_2d(found["test"])
    costs = np.broadcast_to(found["cost"] / self.full, len(scores))
    return Points(scores, costs)

  def joined(self, cells: Sequence[str]) -> Points:
    """Several models without widths."""
    found = [self.single(cell) for cell in cells]
    return Points(
      np.concatenate([points.scores for points in found]),
      np.concatenate([points.costs for points in found]),
    )

  def separate(self) -> Points:
    """A slimmable network a task: the best choice for all rays and budgets."""
    data = self.recipe.recipe.load_data()
    fronts = []
    for task in data.tasks:
      cell = f"separate_{task.name}"
      one = slimming_data.only(data, (task.name,))
      network = self.recipe.recipe.spec(one).build()
      indices = network.space.all_indices()
      costs = slimmable.tabulate(network, indices).macs / self.full
      scores = [
        self.table(cell, examples)(indices)[:, 0]
        for examples in ("calibration", "test")
      ]
      keep = _front(costs, scores[0])
      fronts.append((costs[keep], scores[0][keep], scores[1][keep]))
    grid = np.array(
      list(itertools.product(*(range(len(f[0])) for f in fronts)))
    )
    costs, seen, test = (
      np.stack([f[i][grid[:, t]] for t, f in enumerate(fronts)], 1)
      for i in range(3)
    )
    costs = costs.sum(1)
    chosen = []
    for budget in self.recipe.budgets:
      fits = np.flatnonzero(costs <= budget)
      if len(fits):
        best = (seen[fits] @ self.rays.T).argmax(0)
        chosen.append(fits[best])
    rows = np.concatenate(chosen)
    return Points(test[rows], costs[rows])

  def rank_control(
    self, budget: float, rule: str | None = None, examples: str = "test"
  ) -> np.ndarray:
    """Spearman's correlation of weight and score on some examples, f64[K]."""
    indices, _ = self.plans(OURS, budget, rule)
    return control.rank_control(self.rays, self.table(OURS, examples)(indices))

  def best_rank_control(self, budget: float, at_least: float) -> np.ndarray:
    """The highest correlations f64[K] found for any plans within a budget.

    Test scores are known to these plans, and each has a share `at_least` of the
    best weighted score that the budget buys.
    """
    test, every = self.table(OURS, "test"), self.network.space.all_indices()
    every = every[self.prices(every, "fraction") <= budget]
    scores = test(every)
    weights = width_rules.value_weights(self.rays, self.prices, test)
    plans = control_oracle.best_plans(
      self.rays, scores, weights @ scores.T, at_least
    )
    return control.rank_control(self.rays, scores[plans])

  def over_brute_force(self, rule: str | None = None) -> float:
    """What plans reach of the best weighted test score, a mean over all.

    Plans are made on calibration examples, by the rule; the best of all
    configurations is known on the test examples.
    """
    test, space = self.table(OURS, "test"), self.network.space
    every = space.all_indices()
    scores, costs = test(every), self.prices(every, "fraction")
    weights = width_rules.value_weights(self.rays, self.prices, test)
    shares = []
    for budget in self.budgets:
      best = (scores[costs <= budget] @ weights.T).max(0)
      indices, _ = self.plans(OURS, budget, rule)
      reached = (test(indices) * weights).sum(1)
      shares.append(
        np.where(best > 0, reached / np.where(best > 0, best, 1), 1)
      )
    return float(np.mean(shares))

  def loss_cut(self, cell: str, other: str, index: int) -> float:
    """By what share 1 - score, a mean over tasks, is lower in another cell.

    At the uniform configuration of a menu index.
    """
    groups = len(self.network.space.groups)
    at = np.full((1, groups), index)
    before, after = (
      1 - self.table(name, "test")(at).mean() for name in (cell, other)
    )
    return float((before - after) / before)

  def variance_cut(self, cell: str = OURS) -> float:
    """By what share a cell's features vary less over configurations."""
    plain = "noisy" if cell.startswith("noisy") else "without_invariance"
    before, after = (
      float(self.measured[name]["variance"]) for name in (plain, cell)
    )
    return 1 - after / before


def _front(costs: np.ndarray, scores: np.ndarray) -> np.ndarray:
  """Places of undominated (cost, score) pairs, thinned to `_FRONT`."""
  order = np.lexsort((-scores, costs))
  best = np.maximum.accumulate(scores[order])
  first = np.concatenate([[True], best[1:] > best[:-1]])
  keep = order[first]
  if len(keep) > _FRONT:
    keep = keep[np.linspace(0, len(keep) - 1, _FRONT).round().astype(int)]
  return keep
