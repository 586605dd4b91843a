# SPDX-License-Identifier: Apache-2.0
"""One budget over many questions, spent in waves and never overspent.

Each question may be asked of one *arm* (a way to answer it, with a cap on what
it can cost), or of none, which costs nothing and scores nothing. Of the points
(expected cost, expected score) of a question's arms only those on the concave
hull can be worth their money; from one to the next is a *rung*, with a gain and
a cost. Rungs are bought in the order of gain a unit of cost until the money is
out: the fractional multiple-choice knapsack, and the same as choosing every
arm by one price (`choice.choose`) that makes the expected total the budget.

Expected costs are only expected, so the pool is asked wave by wave, the dearest
arms first. A wave is sent only if its caps together, what it costs at most,
are still there; what it left over is planned anew. At the end the last
questions get cheaper arms, or none.

Reference: Sinha and Zoltners (1979), The multiple-choice knapsack problem.
"""

from collections.abc import Sequence
from typing import NamedTuple

from jaxtyping import Bool, Float, Int
import numpy as np

from jaxttc.cost import budget as budget_lib
from jaxttc.cost import costs

NONE = -1


class Rung(NamedTuple):
  """A step up one question's hull.

  Attributes:
    question: whose.
    below: the arm before, or `NONE`.
    arm: the arm after.
    gain: rise of the expected score.
    cost: rise of the expected cost, positive.
  """

  question: int
  below: int
  arm: int
  gain: float
  cost: float

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


class Wave(NamedTuple):
  """What is to be asked now.

  Attributes:
    questions: i64[m].
    arms: i64[m], all of one group.
    price: at which they were chosen.
  """

  questions: Int[np.ndarray, " m"]
  arms: Int[np.ndarray, " m"]
  price: float


def hull_rungs(
  score: Float[np.ndarray, "n K"],
  cost: Float[np.ndarray, "n K"],
  allowed: Bool[np.ndarray, " K"] | None = None,
) -> list[Rung]:
  """All rungs of all questions, the worthiest first.

  Args:
    score: expected scores; what an arm scores at most as much as none is
      never bought.
    cost: expected costs, positive.
    allowed: arms that may be used; None for all.
  """
  found: list[Rung] = []
  arms = np.arange(score.shape[1])
  arms = arms if allowed is None else arms[np.asarray(allowed, bool)]
  for question, (gains, prices) in enumerate(zip(score, cost, strict=True)):
    found += _question_rungs(question, arms, gains, prices)
  # Stable, so that of equals a question's lower rung and the first come first.
  return sorted(found, key=lambda rung: -rung.worth)


def _question_rungs(question, arms, score, cost) -> list[Rung]:
  hull = [(0.0, 0.0, NONE)]
  order = sorted(arms.tolist(), key=lambda k: (cost[k], -score[k]))
  for arm in order:
    point = (float(cost[arm]), float(score[arm]), arm)
    if point[1] <= hull[-1][1]:
      continue
    while len(hull) > 1 and _worth(hull[-1], point) >= _worth(*hull[-2:]):
      hull.pop()
    hull.append(point)
  return [
    Rung(question, below[2], above[2], above[1] - below[1], above[0] - below[0])
    for below, above in zip(hull, hull[1:], strict=False)
  ]


def _worth(below, above) -> float:
  return (above[1] - below[1]) / max(above[0] - below[0], 1e-12)


def plan(
  rungs: list[Rung],
  pending: Bool[np.ndarray, " n"],
  amount: float | int,
) -> Plan:
  """Buys rungs, the worthiest first, until the amount is spent.

  A rung that is too dear is passed over, and with it all above it.

  Args:
    rungs: as `hull_rungs` orders them.
    pending: the questions that are still to be answered.
    amount: expected costs may sum to so much.
  """
  arms = np.full(len(pending), NONE)
  left, price = float(amount), 0.0
  for rung in rungs:
    if not pending[rung.question] or arms[rung.question] != rung.below:
      continue
    if rung.cost <= left:
      left -= rung.cost
      arms[rung.question] = rung.arm
    else:
      price = max(price, rung.worth)
  return Plan(arms, price)


class Pool:
  """A budget that questions share; ask for a wave, tell what it cost.

      pool = Pool(score, cost, caps, groups, amount=9000)
      while (wave := pool.ask()) is not None:
        for question, arm in zip(wave.questions, wave.arms):
          pool.tell(question, spent)  # what the arm cost on the question

  Attributes:
    arms: i64[n], the arm that each question was asked of; `NONE` if none yet.
    spent: i64[n], what it cost.
    prices: f64[n], the price at which it was chosen.
    meter: what the budget was, and what is spent of it.
  """

  def __init__(
    self,
    score: Float[np.ndarray, "n K"],
    cost: Float[np.ndarray, "n K"],
    caps: Sequence[int] | Int[np.ndarray, " K"],
    groups: Sequence[int] | Int[np.ndarray, " K"],
    *,
    amount: int,
    wave: int = 16,
  ):
    """A pool of which nothing is spent.

    Args:
      score: expected scores of each question's arms.
      cost: their expected costs, in generated tokens, positive.
      caps: the most that an arm can cost, whatever happens.
      groups: arms of one group can be asked together.
      amount: tokens for all questions together.
      wave: most questions of a wave.

    Raises:
      ValueError: if shapes disagree, a forecast is not finite, a cost or a cap
        is not positive, the amount is negative or the wave empty.
    """
    score, cost = np.asarray(score, float), np.asarray(cost, float)
    self._caps, self._groups = np.asarray(caps), np.asarray(groups)
    _check(score, cost, self._caps, self._groups, amount, wave)
    self._score, self._cost, self._wave = score, cost, wave
    self._ladders: dict[bytes, list[Rung]] = {}
    rows = len(score)
    self.arms = np.full(rows, NONE)
    self.spent = np.zeros(rows, np.int64)
    self.prices = np.zeros(rows)
    self._pending = np.ones(rows, bool)
    self._asked = np.zeros(rows, bool)
    self.meter = budget_lib.Meter.start(
      budget_lib.Budget(generated_tokens=int(amount))
    )

  @property
  def left(self) -> int:
    """Tokens that are not spent."""
    return self.meter.remaining().generated_tokens

  def ask(self) -> Wave | None:
    """The next wave; None when no question that is left can be afforded.

    Raises:
      ValueError: if not all of the wave before was told.
    """
    if self._asked.any():
      raise ValueError(
        f"pool: {int(self._asked.sum())} questions of the last wave were not "
        "told; tell each before asking again"
      )
    planned = plan(self._rungs(), self._pending, self.left)
    chosen = np.flatnonzero(planned.arms != NONE)
    if not chosen.size:
      return None
    caps = self._caps[planned.arms[chosen]]
    order = np.lexsort((chosen, -caps))
    chosen, caps = chosen[order], caps[order]
    groups = self._groups[planned.arms[chosen]]
    same = groups == groups[0]
    chosen, caps = chosen[same][: self._wave], caps[same][: self._wave]
    fits = np.cumsum(caps) <= self.left  # the first cap does: it is allowed
    chosen = chosen[fits]
    self._asked[chosen] = True
    self.arms[chosen] = planned.arms[chosen]
    self.prices[chosen] = planned.price
    return Wave(chosen, planned.arms[chosen], planned.price)

  def tell(self, question: int | np.integer, spent: int) -> None:
    """Charges what a question of the wave cost.

    Raises:
      ValueError: if it was not asked, or cost more than its arm's cap.
    """
    if not self._asked[question]:
      raise ValueError(f"pool: question {question} was not asked")
    cap = self._caps[self.arms[question]]
    if not 0 <= spent <= cap:
      raise ValueError(
        f"pool: question {question} cost {spent}, expected 0 to {cap}, the cap "
        "of its arm"
      )
    self.meter = self.meter.charge(costs.Cost(generated_tokens=int(spent)))
    self.spent[question] = spent
    self._asked[question] = self._pending[question] = False

  def next_rung(self, question: int | np.integer) -> Rung | None:
    """What more would buy: the dearer arm of most gain a unit of cost.

    Returns:
      From the question's arm (or none) to that arm; None if no dearer arm is
      expected to do better.
    """
    below = int(self.arms[question])
    score, cost = self._score[question], self._cost[question]
    had = (0.0, 0.0) if below == NONE else (score[below], cost[below])
    gain, more = score - had[0], cost - had[1]
    better = (gain > 0) & (more > 0)
    if not better.any():
      return None
    worth = np.where(better, gain / np.where(better, more, 1.0), -np.inf)
    arm = int(worth.argmax())
    return Rung(int(question), below, arm, float(gain[arm]), float(more[arm]))

  def _rungs(self) -> list[Rung]:
    return self._ladder(self._caps <= self.left)

  def _ladder(self, allowed: np.ndarray) -> list[Rung]:
    """Rungs over the arms that are allowed, kept by which they are."""
    key = np.packbits(allowed).tobytes()
    if key not in self._ladders:
      self._ladders[key] = hull_rungs(self._score, self._cost, allowed)
    return self._ladders[key]


def _check(score, cost, caps, groups, amount, wave) -> None:
  rows, arms = score.shape if score.ndim == 2 else (0, 0)
  if not rows or cost.shape != (rows, arms) or {*caps.shape} != {arms}:
    raise ValueError(
      "pool: expected scores and costs [questions, arms] and a cap an arm, got "
      f"shapes {list(score.shape)}, {list(cost.shape)} and {list(caps.shape)}"
    )
  if groups.shape != caps.shape:
    raise ValueError(f"pool: {len(groups)} groups for {arms} arms")
  if not np.isfinite(score).all() or not np.isfinite(cost).all():
    raise ValueError("pool: expected finite scores and costs")
  if cost.min() <= 0 or caps.min() <= 0:
    raise ValueError("pool: expected positive costs and caps")
  if amount < 0 or amount != int(amount):
    raise ValueError(f"pool: amount must be a whole number >= 0, got {amount}")
  if wave < 1:
    raise ValueError(f"pool: wave must be at least 1, got {wave}")
