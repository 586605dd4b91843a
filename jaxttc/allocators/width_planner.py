# SPDX-License-Identifier: Apache-2.0
"""From a budget and preferences to the widths of encoder and decoders.

Two rules say how a preference becomes widths:

*  proportional, the rule of Aich et al. 2023 (arXiv:2308.11744) as far as it is
   published: the decoder of the most preferred task is widest, others are as
   much narrower as they matter less, and the encoder is the one with the best
   mean score that the rest of the budget buys. If that leaves the encoder less
   than its floor, all decoders shrink together.
*  value: the widths that maximise the preference-weighted sum of scores, each
   divided by what the widest configuration gains over the narrowest, so that
   a task whose score moves little is not forgotten.

Scores come from a function, `(i32[N, groups]) -> f64[N, K]`, higher is better:
a table, a predictor, or a pass over calibration data. So planning runs no
network, and takes milliseconds.
"""

from collections.abc import Callable, Mapping
import dataclasses
import math
from typing import Any

import numpy as np

from jaxttc.allocators import menu_search, width_prices
from jaxttc.models.slimmable import widths

RULES = ("proportional", "value")
_STEPS = 16  # in which decoders shrink together
_SLACK = 0.05  # of the budget, that may be left over

Scores = Callable[[np.ndarray], np.ndarray]


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
  scores: Scores,
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
      rule "proportional", over all for "value".

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
  price = lambda indices: prices(indices, unit)  # noqa: E731
  least = float(price(prices.ends["low"])[0])
  if least > budget:
    raise InfeasibleBudget(budget, least, unit)
  look = menu_search.SEARCHES[search]
  scores = _finite(scores, space)
  if rule == "value":
    weights = value_weights(shares, prices, scores)
    value = lambda indices: scores(indices) @ weights  # noqa: E731
    found = look(value, price, budget, len(space.groups), len(space.menu))
  else:
    share = budget / float(price(prices.ends["high"])[0])
    found = _proportional(space, shares, budget, price, scores, look, share)
  return Plan(
    space.at(found),
    float(price(found[None])[0]),
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


def value_weights(
  shares: np.ndarray, prices: width_prices.WidthPrices, scores: Scores
) -> np.ndarray:
  """Weights f64[K] of scores in the rule "value".

  A task that gains nothing from width, which a warning should have said long
  before, is weighed as if it gained a hundredth.
  """
  low, high = (scores(prices.ends[end])[0] for end in ("low", "high"))
  return shares / np.maximum(high - low, 0.01)


def decoder_indices(
  menu: tuple[float, ...], shares: np.ndarray, shrink: float = 1.0
) -> np.ndarray:
  """Menu entries i32[K] in proportion to preferences; ties go to the wider."""
  ratios = np.clip(shrink * shares / shares.max(), menu[0], 1.0)
  away = np.abs(ratios[:, None] - np.asarray(menu)[None])
  reverse = away[:, ::-1].round(9).argmin(1)
  return (len(menu) - 1 - reverse).astype(np.int32)


def _proportional(space, shares, budget, price, scores, look, share):
  """Menu indices i32[groups] by the rule of proportion."""
  stages, entries = len(space.encoder), len(space.menu)

  def joined(encoders, decoders):
    return np.concatenate(
      [encoders, np.repeat(decoders[None], len(encoders), 0)], 1
    ).astype(np.int32)

  # Decoders shrink until an encoder fits of which no part is below the floor.
  floor = np.searchsorted(space.menu, min(0.5, share) - 1e-9)
  lowest = np.full((1, stages), floor)
  for step in range(_STEPS):
    decoders = decoder_indices(space.menu, shares, 1 - step / _STEPS)
    if price(joined(lowest, decoders))[0] <= budget:
      break
  else:
    decoders = np.zeros(len(space.tasks), np.int32)
  encoder = look(
    lambda encoders: scores(joined(encoders, decoders)).mean(1),
    lambda encoders: price(joined(encoders, decoders)),
    budget,
    stages,
    entries,
  )
  return _filled(
    joined(encoder[None], decoders)[0], space, shares, budget, price
  )


def _filled(indices, space, shares, budget, price):
  """Spends what is left on decoders, the most preferred first.

  Tasks of equal preference rise together, and none above one that matters more.
  """
  shares = shares.round(9)
  decoders = slice(len(space.encoder), None)
  top = len(space.menu) - 1
  for level in sorted(set(shares), reverse=True):
    while price(indices[None])[0] < (1 - _SLACK) * budget:
      raised = indices.copy()
      risen = np.minimum(raised[decoders] + 1, top)
      raised[decoders] = np.where(shares == level, risen, raised[decoders])
      if (raised == indices).all() or price(raised[None])[0] > budget:
        break
      indices = raised
    top = indices[decoders][shares == level].min()
  return indices
