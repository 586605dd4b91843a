# SPDX-License-Identifier: Apache-2.0
"""What a study of slimmable networks against published alternatives trains.

All models of a study see the same data. Ours sees several widths a step, its
rivals as many preferences, in no more passes over batches. A baseline with a
choice of its own (a hypernetwork's width, kind and learning rate) enters with
the one that turns out best. A learning rate that a study
leaves open is tuned first: a full training at each of the study's `rates`, from
a seed of its own, judged on the calibration examples. Our network is not tuned
this way.
"""

from collections.abc import Mapping
import dataclasses
import functools
from typing import Any

import numpy as np

from jaxttc.allocators import width_prices
from jaxttc.evaluation import control
from jaxttc.studies import slimming_cells
from jaxttc.training import multitask_recipes

OURS = "slimmable"
CONTROL_BUDGETS = (0.5, 0.75)  # at which control is claimed


@dataclasses.dataclass(kw_only=True)
class StudyRecipe:
  """What is trained, and what is asked of it.

  Attributes:
    recipe: data, network, and length of training, of all models.
    seeds: of everything.
    hypernetworks: (kind, width of the target, learning rate or None for one
      that is tuned, search) each.
    branching: widths of the streams of branching networks (CDMTA-lite); tuned
      if there are rates, else trained at the recipe's.
    rivals_training: how both are trained. If None, they see as many
      preferences a step as ours sees widths.
    rates: learning rates that are tried where one is open.
    tuning_seed: what they are tried with; none of `seeds`.
    static: widths of networks that are trained by themselves.
    ablations: whether to train one without the smallest width in every step,
      and one whose distance between features moves narrow encoders only.
    separate: whether to train a slimmable network a task, too.
    noise: of the data's labels, for the check of distillation; 0 for none.
    rule: how plans are made, of `width_planner.RULES`.
    ray_step: distance of the preferences asked for.
    budgets: shares of the full cost.
  """

  recipe: multitask_recipes.SlimmableRecipe
  seeds: tuple[int, ...] = (0, 1, 2)
  hypernetworks: tuple[tuple[str, float, float | None, str], ...] = ()
  branching: tuple[float, ...] = ()
  rivals_training: slimming_cells.RivalTraining | None = None
  rates: tuple[float, ...] = ()
  tuning_seed: int = 1000
  static: tuple[float, ...] = ()
  ablations: bool = True
  separate: bool = True
  noise: float = 0.0
  rule: str = "two_level"
  ray_step: float = 1 / 6
  budgets: tuple[float, ...] = tuple(i / 10 for i in range(1, 11))

  def __post_init__(self) -> None:
    """Refuses studies that cannot be."""
    if self.tuning_seed in self.seeds:
      raise ValueError(
        f"tuning_seed={self.tuning_seed} must be none of the seeds that are "
        f"reported, {self.seeds}"
      )
    if not self.rates and any(
      rate is None for *_, rate, _ in self.hypernetworks
    ):
      raise ValueError("a hypernetwork without a learning rate needs `rates`")

  def rivals(self, tuned: Mapping[str, float]) -> list[Any]:
    """Hypernetworks and branching networks of one seed.

    Args:
      tuned: learning rates by name, of those that leave theirs open.
    """
    found: list[Any] = []
    how = self.rivals_training or slimming_cells.RivalTraining(
      self.recipe.sandwich.widths
    )
    for kind, ratio, rate, search in self.hypernetworks:
      name = f"{kind}_{ratio:g}_{search}"
      if rate is None:
        rate = tuned[name]
      else:
        name = f"{kind}_{ratio:g}_{rate:g}_{search}"
      found.append(
        slimming_cells.Hypernetwork(name, kind, ratio, rate, search, how)
      )
    for ratio in self.branching:
      name = f"branching_{ratio:g}"
      rate = tuned[name] if self.rates else self.recipe.train.learning_rate
      found.append(slimming_cells.Branching(name, ratio, rate, how))
    return found

  def open(self) -> list[str]:
    """Names of the rivals whose learning rate is tuned."""
    found = [
      f"{kind}_{ratio:g}_{search}"
      for kind, ratio, rate, search in self.hypernetworks
      if rate is None
    ]
    if self.rates:
      found += [f"branching_{ratio:g}" for ratio in self.branching]
    return found

  def own_cells(self) -> list[Any]:
    """Networks with widths, and of one width, that one seed trains."""
    ours = self.recipe.sandwich
    change = functools.partial(dataclasses.replace, ours)
    make = slimming_cells.Slimmable
    cells: list[Any] = [
      make(OURS, ours),
      make("without_invariance", change(invariance=0.0)),
    ]
    if self.ablations:
      cells += [
        make("without_smallest", change(smallest=False)),
        make("stopped_teacher", change(teacher="stopped")),
      ]
    cells += [
      slimming_cells.Static(f"static_{ratio:g}", ratio) for ratio in self.static
    ]
    if self.separate:
      cells += [
        make(f"separate_{task.name}", change(invariance=0.0), (task.name,))
        for task in self.recipe.load_data().tasks
      ]
    if self.noise:
      noisy = (("noise", self.noise),)
      plain = change(invariance=0.0)
      cells += [
        make("noisy", plain, (), noisy),
        make(
          "noisy_in_place",
          dataclasses.replace(plain, in_place=0.5),
          (),
          noisy,
        ),
        make("noisy_invariance", ours, (), noisy),
      ]
    return cells

  def rays(self) -> np.ndarray:
    """Preferences f64[R, K]."""
    return control.rays(len(self.recipe.load_data().tasks), self.ray_step)


def feasible(recipe: StudyRecipe) -> list[float]:
  """Budgets of a study that buy something."""
  network = recipe.recipe.spec(recipe.recipe.load_data()).build()
  prices = width_prices.WidthPrices(network)
  least = float(prices(prices.ends["low"], "fraction")[0])
  return [budget for budget in recipe.budgets if budget >= least]
