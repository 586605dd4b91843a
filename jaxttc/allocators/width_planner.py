# SPDX-License-Identifier: Apache-2.0
"""From a budget and preferences to the widths of encoder and decoders.

`width_rules` has the rules by which a preference becomes widths. Scores
come from a function, `(i32[N, groups]) -> f64[N, K]`, higher is better: a
table, a predictor, or a pass over calibration data. So planning runs no
network, and takes milliseconds.
"""

from collections.abc import Mapping
import dataclasses
import math
from typing import Any

import numpy as np

from jaxttc.allocators import menu_search, width_prices, width_rules
from jaxttc.models.slimmable import widths

RULES = tuple(width_rules.RULES)


class InfeasibleBudget(ValueError):
  """A budget below what the narrowest configuration costs.

  Attributes:
    least: the smallest budget that is feasible.
  """

  def __init__(self, budget: float, least: float, unit: str):
    super().__init__(
      f"a budget of {budget:g} {unit} buys no configuration: the smallest "
      f"costs {least:g} {unit}"
    )
    self.least = least


@dataclasses.dataclass(frozen=True)
class Plan:
  """Widths for one budget and preference.

  Attributes:
    config: the widths.
    price: what they cost.
    budget: what they may cost.
    unit: of both.
    scores: predicted score a task.
  """

  config: widths.WidthConfig
  price: float
  budget: float
  unit: str
  scores: dict[str, float]

  @property
  def slack(self) -> float:
    """What is left of the budget."""
    return self.budget - self.price

  def to_dict(self) -> dict[str, Any]:
    """JSON-ready."""
    return dataclasses.asdict(self) | {"config": self.config.to_dict()}


def preference_vector(
  tasks: tuple[str, ...], preference: Mapping[str, float]
) -> np.ndarray:
  """Preferences as shares f64[K] that sum to one.

  Raises:
    ValueError: if a task is missing or unknown, a number is negative or not
      finite, or all are zero.
  """
  unknown = sorted(set(preference) - set(tasks))
  missing = [task for task in tasks if task not in preference]
  if unknown or missing:
    wrong = (
      f"unknown task {unknown[0]!r}"
      if unknown
      else (f"task {missing[0]!r} has none")
    )
    raise ValueError(f"preferences: {wrong}; expected {', '.join(tasks)}")
  for task in tasks:
    value = preference[task]
    if not (isinstance(value, int | float | np.number) and value >= 0) or (
      not math.isfinite(value)
    ):
      raise ValueError(
        f"preferences: {task} must be a finite number, not negative; got "
        f"{value!r}"
      )
  shares = np.array([float(preference[task]) for task in tasks])
  if not shares.sum() > 0:
    raise ValueError(
      f"preferences: at least one of {', '.join(tasks)} must be positive"
    )
  return shares / shares.sum()


def plan(
  space: widths.WidthSpace,
  preference: Mapping[str, float],
  budget: float,
  prices: width_prices.WidthPrices,
  scores: width_rules.Scores,
  *,
  unit: str = "fraction",
  rule: str = "proportional",
  search: str = "exhaustive",
) -> Plan:
  """Chooses widths within a budget.

  Args:
    space: the widths to choose from.
    preference: how much each task matters; only ratios count.
    budget: the most that the configuration may cost.
    prices: of configurations.
    scores: menu indices i32[N, groups] -> f64[N, K]; higher is better.
    unit: of the budget, one of `width_prices.UNITS`.
    rule: one of `RULES`.
    search: one of `menu_search.SEARCHES`; over the encoder's widths for the
      rule "proportional", over all for "value", over all and then over the
      decoders' for "two_level".

  Returns:
    The plan; its price is never above the budget.

  Raises:
    ValueError: for a preference, budget, unit, rule or search that cannot be,
      and for scores that are no finite numbers.
    InfeasibleBudget: if not even the narrowest configuration fits.
  """
  shares = preference_vector(space.tasks, preference)
  budget = width_prices.check_budget(budget, unit)
  if rule not in RULES:
    raise ValueError(f"rule {rule!r} is not one of {', '.join(RULES)}")
  if search not in menu_search.SEARCHES:
    known = ", ".join(menu_search.SEARCHES)
    raise ValueError(f"search {search!r} is not one of {known}")
  least = float(prices(prices.ends["low"], unit)[0])
  if least > budget:
    raise InfeasibleBudget(budget, least, unit)
  scores = _finite(scores, space)
  found = width_rules.RULES[rule](
    width_rules.Question(
      space,
      shares,
      budget,
      unit,
      prices,
      scores,
      menu_search.SEARCHES[search],
    )
  )
  return Plan(
    space.at(found),
    float(prices(found[None], unit)[0]),
    budget,
    unit,
    dict(zip(space.tasks, map(float, scores(found[None])[0]), strict=True)),
  )


def _finite(scores, space):
  """The same scores, refused if one is missing or no finite number."""

  def checked(indices):
    found = np.asarray(scores(indices), np.float64)
    if found.shape != (len(indices), len(space.tasks)):
      raise ValueError(
        f"expected a score for each of {len(indices)} configurations and "
        f"{len(space.tasks)} tasks, got an array of {found.shape}"
      )
    if not np.isfinite(found).all():
      row, task = np.argwhere(~np.isfinite(found))[0]
      raise ValueError(
        f"task {space.tasks[task]!r} has the score {found[row, task]} at the "
        f"widths {space.at(indices[row]).ratios}; expected a finite number"
      )
    return found

  return checked
