# SPDX-License-Identifier: Apache-2.0
"""What more money buys: the rungs of questions' hulls, and who gets them.

Each question may be asked of one *arm* (a way to answer it) or of none, which
costs nothing and scores nothing. Of the points (expected cost, expected score)
of a question's arms only those on the concave hull can be worth their money;
from one to the next is a *rung*, with a gain and a cost. Rungs are bought in
the order of gain a unit of cost until the money is out: the fractional
multiple-choice knapsack, and the same as choosing every arm by one price
(`choice.choose`) that makes the expected total the budget.

With several budgets at once a rung costs a vector. Prices, one a field, make
it one number, by which rungs are ordered; a rung is bought only if every field
affords it (the surrogate relaxation of a knapsack of several constraints).

References:
  Sinha and Zoltners (1979), The multiple-choice knapsack problem.
  Glover (1975), Surrogate constraint duality in mathematical programming.
"""

from collections.abc import Sequence
from typing import NamedTuple

from jaxtyping import Bool, Float, Int
import numpy as np

NONE = -1


class Rung(NamedTuple):
  """A step up one question's hull.

  Attributes:
    question: whose.
    below: the arm before, or `NONE`.
    arm: the arm after.
    gain: rise of the expected score.
    cost: rise of the expected cost at the prices, positive.
    costs: rise of the expected cost, field by field.
  """

  question: int
  below: int
  arm: int
  gain: float
  cost: float
  costs: tuple[float, ...] = ()

  @property
  def worth(self) -> float:
    """Score a unit of cost."""
    return self.gain / self.cost


class Plan(NamedTuple):
  """An arm for each question.

  Attributes:
    arms: i64[n]; `NONE` for questions that get nothing, or are done.
    price: worth of the best rung that could not be bought, in score a unit of
      cost; 0 if everything worth having was.
  """

  arms: Int[np.ndarray, " n"]
  price: float


def hull_rungs(
  score: Float[np.ndarray, "n K"],
  cost: Float[np.ndarray, "n K"] | Float[np.ndarray, "n K F"],
  allowed: Bool[np.ndarray, " K"] | None = None,
  prices: Float[np.ndarray, " F"] | None = None,
) -> list[Rung]:
  """All rungs of all questions, the worthiest first.

  Args:
    score: expected scores; what an arm scores at most as much as none is
      never bought.
    cost: expected costs, positive; of one field, or of F.
    allowed: arms that may be used; None for all.
    prices: of a unit of each field, not negative; None for 1 each.
  """
  fields = cost if cost.ndim == 3 else cost[..., None]
  priced = fields.sum(-1) if prices is None else fields @ prices
  found: list[Rung] = []
  arms = np.arange(score.shape[1])
  arms = arms if allowed is None else arms[np.asarray(allowed, bool)]
  for question in range(len(score)):
    found += _question_rungs(
      question, arms, score[question], priced[question], fields[question]
    )
  # Stable, so that of equals a question's lower rung and the first come first.
  return sorted(found, key=lambda rung: -rung.worth)


def _question_rungs(question, arms, score, cost, fields) -> list[Rung]:
  hull = [(0.0, 0.0, NONE)]
  order = sorted(arms.tolist(), key=lambda k: (cost[k], -score[k]))
  for arm in order:
    point = (float(cost[arm]), float(score[arm]), arm)
    if point[1] <= hull[-1][1]:
      continue
    while len(hull) > 1 and _worth(hull[-1], point) >= _worth(*hull[-2:]):
      hull.pop()
    hull.append(point)
  nothing = np.zeros(fields.shape[1])
  return [
    Rung(
      question,
      below[2],
      above[2],
      above[1] - below[1],
      above[0] - below[0],
      tuple(
        (
          fields[above[2]] - (nothing if below[2] == NONE else fields[below[2]])
        ).tolist()
      ),
    )
    for below, above in zip(hull, hull[1:], strict=False)
  ]


def _worth(below, above) -> float:
  return (above[1] - below[1]) / max(above[0] - below[0], 1e-12)


def plan(
  rungs: Sequence[Rung],
  pending: Bool[np.ndarray, " n"],
  amount: float | int | Float[np.ndarray, " F"],
) -> Plan:
  """Buys rungs, the worthiest first, until the amount is spent.

  A rung that is too dear is passed over, and with it all above it.

  Args:
    rungs: as `hull_rungs` orders them.
    pending: the questions that are still to be answered.
    amount: expected costs may sum to so much, field by field.
  """
  arms = np.full(len(pending), NONE)
  left = np.atleast_1d(np.array(amount, float))
  price = 0.0
  for rung in rungs:
    if not pending[rung.question] or arms[rung.question] != rung.below:
      continue
    if (np.array(rung.costs) <= left).all():
      left -= rung.costs
      arms[rung.question] = rung.arm
    else:
      price = max(price, rung.worth)
  return Plan(arms, price)


def mixture(
  right: Float[np.ndarray, " K"],
  tokens: Float[np.ndarray, " K"],
  allowed: Bool[np.ndarray, " K"],
  budget: float | int,
) -> Float[np.ndarray, " K"]:
  """The best odds of drawing arms that cost a budget in expectation.

  Args:
    right: mean score of each arm.
    tokens: mean cost of each arm, positive.
    allowed: arms that may be drawn.
    budget: mean cost; what the odds leave to 1 draws no arm.

  Returns:
    f64[K], odds; their sum is at most 1.
  """
  odds, left = np.zeros(len(right)), float(budget)
  for rung in hull_rungs(right[None], tokens[None], allowed):
    share = min(1.0, left / rung.cost)
    odds[rung.arm] += share
    if rung.below != NONE:
      odds[rung.below] -= share
    left -= share * rung.cost
    if share < 1:
      break
  return odds
