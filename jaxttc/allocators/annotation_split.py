# SPDX-License-Identifier: Apache-2.0
"""How much of an annotation budget buys demonstrations, how much pairs.

Money buys demonstrations (a prompt with a good answer, for supervised
finetuning) at one price and preference pairs at another. A table of scores
over budgets and shares says which share of the money is best spent on
demonstrations, and how sure that is; a rule of three numbers, fitted to such
tables, says it for budgets and prices that were not tried.

Reference: Raghavendra, Kang and Ritter (2025), Balancing the budget,
arXiv:2502.11284.
"""

from collections.abc import Sequence
import dataclasses
import itertools
import math
from typing import NamedTuple

from jaxtyping import Float
import numpy as np

_DRAWS = 2000  # of the bootstrap over seeds


@dataclasses.dataclass(frozen=True, kw_only=True)
class AnnotationPrices:
  """What one annotation costs, in any one unit of money.

  Attributes:
    sft: of a demonstration.
    pair: of a preference pair.

  Raises:
    ValueError: if a price is not positive.
  """

  sft: int | float = 1.0
  pair: int | float = 1.0

  def __post_init__(self) -> None:
    for name in ("sft", "pair"):
      if not 0 < getattr(self, name) < math.inf:
        raise ValueError(
          f"the price of {name} must be positive, got {getattr(self, name)}"
        )


class SplitPlan(NamedTuple):
  """What to buy.

  Attributes:
    sft: demonstrations.
    pairs: preference pairs.
    spent: money, never more than the budget.
    left_over: money that buys no whole annotation of its kind.
    share: of the money that was set aside for demonstrations.
  """

  sft: int
  pairs: int
  spent: int | float
  left_over: int | float
  share: int | float


def plan_budget(
  budget: int | float,
  prices: AnnotationPrices,
  share: int | float,
  pool: int | None = None,
) -> SplitPlan:
  """Whole annotations that a budget buys.

  Args:
    budget: money.
    prices: of annotations.
    share: of the money, for demonstrations, in [0, 1].
    pool: prompts there are. No prompt gets both a demonstration and a pair.
      None for as many as it takes.

  Raises:
    ValueError: if the budget is negative, the share is not in [0, 1], or the
      pool is too small.
  """
  if not 0 <= budget < math.inf:
    raise ValueError(f"the budget must not be negative, got {budget}")
  if not 0 <= share <= 1:
    raise ValueError(f"the share must be in [0, 1], got {share}")
  sft = _whole(share * budget, prices.sft)
  pairs = _whole((1 - share) * budget, prices.pair)
  spent = sft * prices.sft + pairs * prices.pair
  while spent > budget:  # rounding may make a whole one of almost one
    sft, pairs = (sft, pairs - 1) if pairs else (sft - 1, pairs)
    spent = sft * prices.sft + pairs * prices.pair
  if pool is not None and sft + pairs > pool:
    raise ValueError(
      f"{sft} demonstrations and {pairs} pairs need {sft + pairs} prompts, but "
      f"there are {pool}"
    )
  return SplitPlan(sft, pairs, spent, budget - spent, share)


def _whole(money: float, price: float) -> int:
  """How many the money buys; 0.1 * 30 / 1 buys three, not two."""
  return math.floor(money / price * (1 + 1e-12) + 1e-12)


class SplitTable(NamedTuple):
  """Scores of a grid, at one ratio of prices.

  Attributes:
    prices: of annotations.
    budgets: f64[C], ascending, money.
    shares: f64[F], ascending, from 0 to 1.
    scores: f64[C, F, S], of each seed; seeds are the same in all cells.
  """

  prices: AnnotationPrices
  budgets: Float[np.ndarray, " C"]
  shares: Float[np.ndarray, " F"]
  scores: Float[np.ndarray, "C F S"]

  def at(self, budget: int | float) -> Float[np.ndarray, "F S"]:
    """Scores f64[F, S] at a budget, linear in its logarithm.

    Raises:
      ValueError: if the budget lies outside the table.
    """
    low, high = self.budgets[0], self.budgets[-1]
    if not low <= budget <= high:
      raise ValueError(
        f"a budget of {budget:g} lies outside the table's {low:g}..{high:g}"
      )
    place = np.interp(
      np.log(budget), np.log(self.budgets), np.arange(len(self.budgets))
    )
    below = min(int(place), len(self.budgets) - 2)
    if below < 0:
      return self.scores[0]
    weight = place - below
    return (1 - weight) * self.scores[below] + weight * self.scores[below + 1]


class Recommendation(NamedTuple):
  """Which share of the money to spend on demonstrations.

  Attributes:
    share: with the best mean score.
    score: that mean.
    band: shares that a bootstrap over seeds cannot tell from the best, the
      best itself among them, ascending.
    cheapest: the share in the band that trains the least: the largest one, for
      a pair takes more passes than a demonstration.
    low: lower end of the 95% interval of the best share over resamples.
    high: its upper end.
  """

  share: float
  score: float
  band: tuple[float, ...]
  cheapest: float
  low: float
  high: float


def recommend(
  table: SplitTable, budget: int | float, seed: int = 0
) -> Recommendation:
  """The best share at a budget, and how sure it is.

  Two shares are not told apart if the bootstrap interval (95%, over seeds) of
  their difference holds 0. Seeds share their data, so differences are taken
  within a seed.

  Args:
    table: scores at the prices in question.
    budget: money, within the table.
    seed: of the bootstrap.

  Raises:
    ValueError: if the budget lies outside the table.
  """
  scores = table.at(budget)
  best = int(scores.mean(1).argmax())
  seeds = scores.shape[1]
  drawn = np.random.default_rng(seed).integers(seeds, size=(_DRAWS, seeds))
  means = scores[:, drawn].mean(2)  # [F, draws]
  low = np.quantile(means[best] - means, 0.025, axis=1)
  band = tuple(float(x) for x in table.shares[low <= 0])
  winners = table.shares[means.argmax(0)]
  ends = np.quantile(winners, (0.025, 0.975), method="nearest")
  return Recommendation(
    float(table.shares[best]),
    float(scores[best].mean()),
    band,
    max(band),
    *map(float, ends),
  )


@dataclasses.dataclass(frozen=True, kw_only=True)
class SplitRule:
  """A power law, for demonstrations are worth less and less before pairs are.

  share = (n / scale)^-fall * ratio^rise, at most 1, where the whole budget
  would buy n demonstrations, and a pair costs ratio times a demonstration.

  Attributes:
    scale: demonstrations up to which, at equal prices, nothing else is bought.
    fall: exponent in the budget.
    rise: exponent in the ratio of prices.
  """

  scale: int | float
  fall: int | float
  rise: int | float

  def share(self, budget: int | float, prices: AnnotationPrices) -> float:
    """The share of the money for demonstrations, in (0, 1].

    Raises:
      ValueError: if the budget is not positive.
    """
    if not 0 < budget < math.inf:
      raise ValueError(f"the budget must be positive, got {budget}")
    worth = budget / prices.sft / self.scale
    ratio = prices.pair / prices.sft
    return float(min(1.0, worth**-self.fall * ratio**self.rise))


# Fitted by scripts/study_preferences.py; docs/preference_budget.md tells where
# it holds. Its scale is that of a small linear task, yours will differ: fit a
# rule to a table of your own where there is one.
LINEAR_TASK = SplitRule(scale=512.0, fall=0.4, rise=0.0)


def recommend_split(
  budget: int | float,
  prices: AnnotationPrices,
  rule: SplitRule = LINEAR_TASK,
  pool: int | None = None,
) -> SplitPlan:
  """What to buy with a budget, by a fitted rule.

  Args:
    budget: money.
    prices: of annotations.
    rule: from `fit_rule`.
    pool: as in `plan_budget`.

  Raises:
    ValueError: as `plan_budget`, and if the budget is 0.
  """
  return plan_budget(budget, prices, rule.share(budget, prices), pool)


def regret(rule: SplitRule, table: SplitTable) -> Float[np.ndarray, " C"]:
  """How much less than the best share of the grid a rule scores, f64[C].

  Scores are means over seeds, linear between the shares of the grid; less than
  0 where the rule's share lies between two that are good.
  """
  shares = [rule.share(budget, table.prices) for budget in table.budgets]
  return _regret(np.array(shares), table)


def _regret(shares: np.ndarray, table: SplitTable) -> np.ndarray:
  """Regret [.., C] of shares [.., C]."""
  means = table.scores.mean(2)
  found = [
    np.interp(shares[..., i], table.shares, row) for i, row in enumerate(means)
  ]
  return means.max(1) - np.stack(found, axis=-1)


def fit_rule(tables: Sequence[SplitTable]) -> SplitRule:
  """The rule of least mean regret over all budgets of all tables.

  Every combination of 25 scales (16 to 65,536), 21 falls (0 to 1) and, with
  more than one ratio of prices, 21 rises (0 to 1) is tried; of equals, the one
  with the least exponents is taken.

  Raises:
    ValueError: if there is no table.
  """
  if not tables:
    raise ValueError("a rule needs at least one table")
  ratios = {t.prices.pair / t.prices.sft for t in tables}
  scales = np.geomspace(16, 65536, 25)
  falls = np.linspace(0, 1, 21)
  rises = np.linspace(0, 1, 21) if len(ratios) > 1 else np.zeros(1)
  tried = np.array(list(itertools.product(rises, falls, scales)))
  rise, fall, scale = tried.T[..., None]
  regrets = []
  for table in tables:
    worth = table.budgets[None] / table.prices.sft / scale
    ratio = table.prices.pair / table.prices.sft
    shares = np.minimum(1.0, worth**-fall * ratio**rise)
    regrets.append(_regret(shares, table))
  mean = np.concatenate(regrets, axis=1).mean(1)
  # The first of equals, though rounding may tell them apart.
  best = int((mean < mean.min() + 1e-9).argmax())
  return SplitRule(
    scale=float(scale[best, 0]),
    fall=float(fall[best, 0]),
    rise=float(rise[best, 0]),
  )
