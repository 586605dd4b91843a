# SPDX-License-Identifier: Apache-2.0
"""One budget over many questions, spent in waves and never overspent.

Each question may be asked of one *arm* (a way to answer it, with caps on what
it can cost), or of none. Arms are bought rung by rung (`rungs`). Expected costs
are only expected, so the pool is asked wave by wave, the dearest arms first. A
wave is sent only if its caps together, what it costs at most, are still there,
on every field of the budget; what it left over is planned anew. At the end the
last questions get cheaper arms, or none.

A question that was answered may be asked again: whoever looked at its answer
tells the pool what each arm would add to it, and these gains compete with the
first attempts of others, at the same price.

With a budget on several fields, a unit of each is priced at one over what is
left of it: what is scarce is dear.
"""

from collections.abc import Sequence
from typing import NamedTuple

from jaxtyping import Float, Int
import numpy as np

from jaxttc.allocators.routing import rungs as rungs_lib
from jaxttc.cost import budget as budget_lib
from jaxttc.cost import costs

NONE = rungs_lib.NONE


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


class Pool:
  """A budget that questions share; ask for a wave, tell what it cost.

      pool = Pool(score, cost, caps, groups, amount=9000)
      while (wave := pool.ask()) is not None:
        for question, arm in zip(wave.questions, wave.arms):
          pool.tell(question, spent)  # what the arm cost on the question

  Attributes:
    arms: i64[n], the arm that each question was last asked of; `NONE` if none.
    attempts: i64[n], how often it was asked.
    spent: f64[n, F], what that cost, on each field; i64[n] of generated tokens
      where the amount is a number.
    prices: f64[n], the price at which it was last chosen.
    meter: what the budget was, and what is spent of it.
    fields: names of the F limited fields of `cost.Cost`.
  """

  def __init__(
    self,
    score: Float[np.ndarray, "n K"],
    cost: Float[np.ndarray, "n K"] | Float[np.ndarray, "n K F"],
    caps: Sequence[int] | Int[np.ndarray, " K"] | Float[np.ndarray, "K F"],
    groups: Sequence[int] | Int[np.ndarray, " K"],
    *,
    amount: int | budget_lib.Budget,
    wave: int = 16,
  ):
    """A pool of which nothing is spent.

    Args:
      score: expected scores of each question's arms.
      cost: their expected costs, positive: in generated tokens, or on each
        limited field, in the order of `cost.costs.FIELDS`.
      caps: the most that an arm can cost, whatever happens; likewise.
      groups: arms of one group can be asked together.
      amount: tokens for all questions together, or a budget.
      wave: most questions of a wave.

    Raises:
      ValueError: if shapes disagree, a forecast is not finite, a cost or a cap
        is not positive, the amount is negative or limits nothing, or the wave
        is empty.
    """
    score, cost = np.asarray(score, float), np.asarray(cost, float)
    caps, self._groups = np.asarray(caps), np.asarray(groups)
    self._single = not isinstance(amount, budget_lib.Budget)
    budget = _budget(amount)
    self.fields = tuple(budget.as_dict())
    cost = cost[..., None] if self._single and cost.ndim == 2 else cost
    caps = caps[..., None] if self._single and caps.ndim == 1 else caps
    _check(score, cost, caps, self._groups, len(self.fields), wave)
    self._score, self._cost, self._caps = score.copy(), cost.copy(), caps
    self._wave = wave
    rows = len(score)
    self._ladders: list[list[rungs_lib.Rung] | None] = [None] * rows
    self._ladder_of = np.zeros(len(caps), bool), np.ones(len(self.fields))
    self.arms = np.full(rows, NONE)
    self.attempts = np.zeros(rows, np.int64)
    self._spent = np.zeros((rows, len(self.fields)))
    self.prices = np.zeros(rows)
    self._pending = np.ones(rows, bool)
    self._asked = np.zeros(rows, bool)
    self._looked = np.zeros(rows, bool)
    self.meter = budget_lib.Meter.start(budget)

  @property
  def spent(self) -> np.ndarray:
    """What each question cost; see the class."""
    return self._spent[:, 0].astype(np.int64) if self._single else self._spent

  @property
  def left(self) -> int | float:
    """What is not spent of the first limited field."""
    return self._left()[0]

  def _left(self) -> list[int | float]:
    return list(self.meter.remaining().as_dict().values())

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
    left = np.array(self._left(), float)
    allowed = (self._caps <= left).all(1)
    planned = rungs_lib.plan(self._rungs(allowed, left), self._pending, left)
    return self._wave_of(planned, left)

  def _wave_of(self, planned: rungs_lib.Plan, left: np.ndarray) -> Wave | None:
    chosen = np.flatnonzero(planned.arms != NONE)
    if not chosen.size:
      return None
    shares = (self._caps / np.maximum(left, 1e-9)).max(1)
    order = np.lexsort((chosen, -shares[planned.arms[chosen]]))
    chosen = chosen[order]
    groups = self._groups[planned.arms[chosen]]
    chosen = chosen[groups == groups[0]][: self._wave]
    caps = self._caps[planned.arms[chosen]]
    # The first caps do fit: the arm is allowed.
    chosen = chosen[(np.cumsum(caps, axis=0) <= left).all(1)]
    self._asked[chosen] = True
    self.arms[chosen] = planned.arms[chosen]
    self.attempts[chosen] += 1
    self.prices[chosen] = planned.price
    return Wave(chosen, planned.arms[chosen], planned.price)

  def tell(
    self,
    question: int | np.integer,
    spent: int | costs.Cost,
    gains: Float[np.ndarray, " K"] | None = None,
    cost: Float[np.ndarray, " K"] | Float[np.ndarray, "K F"] | None = None,
  ) -> None:
    """Charges what a question of the wave cost.

    Args:
      question: of the wave.
      spent: generated tokens, or a cost.
      gains: what each arm would add if the question were asked again; None, or
        none positive, if it shall not be.
      cost: expected costs of the arms then; None if they are as they were.

    Raises:
      ValueError: if it was not asked, or cost more than its arm's caps, or
        gains or costs are not finite or of another shape.
    """
    if not self._asked[question]:
      raise ValueError(f"pool: question {question} was not asked")
    if not isinstance(spent, costs.Cost):
      spent = costs.Cost(generated_tokens=int(spent))
    paid = np.array([getattr(spent, name) for name in self.fields], float)
    for name, one, cap in zip(
      self.fields, paid, self._caps[self.arms[question]], strict=True
    ):
      if not 0 <= one <= cap:
        raise ValueError(
          f"pool: question {question} cost {one:g} {name}, expected 0 to "
          f"{cap:g}, the cap of its arm"
        )
    # Only what is limited is told: the pool keeps no other accounts.
    self.meter = self.meter.charge(
      costs.Cost(**{name: getattr(spent, name) for name in self.fields})
    )
    self._spent[question] += paid
    self._asked[question] = False
    self._pending[question] = (
      gains is not None and (np.asarray(gains) > 0).any()
    )
    self._looked[question] = gains is not None
    if gains is not None:
      self._replace(question, np.asarray(gains, float), cost)

  def open(self, question: int | np.integer) -> bool:
    """Whether a question may be asked, or asked again, money permitting."""
    return bool(self._pending[question])

  def _replace(self, question, gains, cost) -> None:
    """New forecasts of a question that was looked at."""
    if gains.shape != self._score[question].shape:
      raise ValueError(
        f"pool: {gains.size} gains for {self._score.shape[1]} arms"
      )
    self._score[question] = gains
    if cost is not None:
      found = np.asarray(cost, float)
      self._cost[question] = found[:, None] if found.ndim == 1 else found
    if not (
      np.isfinite(gains).all()
      and np.isfinite(self._cost[question]).all()
      and self._cost[question].min() > 0
    ):
      raise ValueError("pool: expected finite gains and positive costs")
    self._ladders[question] = None

  def next_rung(self, question: int | np.integer) -> rungs_lib.Rung | None:
    """What more would buy: the dearer arm of most gain a unit of cost.

    Returns:
      From the question's arm (or none) to that arm; for one that was looked
      at, the arm to ask next. None if nothing is expected to do better. Costs
      are those of the first limited field.
    """
    below = int(self.arms[question])
    score, cost = self._score[question], self._cost[question, :, 0]
    fresh = below == NONE or self._looked[question]
    had = (0.0, 0.0) if fresh else (score[below], cost[below])
    gain, more = score - had[0], cost - had[1]
    better = (gain > 0) & (more > 0)
    if not better.any():
      return None
    worth = np.where(better, gain / np.where(better, more, 1.0), -np.inf)
    arm = int(worth.argmax())
    return rungs_lib.Rung(
      int(question),
      below,
      arm,
      float(gain[arm]),
      float(more[arm]),
      tuple(self._cost[question, arm].tolist()),
    )

  def _rungs(self, allowed: np.ndarray, left: np.ndarray):
    """All rungs over the arms that are allowed, at the prices of now."""
    prices = np.ones(1)
    if len(self.fields) > 1:
      prices = 1 / np.maximum(left, 1e-9)
    before = self._ladder_of
    if (before[0] != allowed).any() or (before[1] != prices).any():
      self._ladders = [None] * len(self._ladders)
      self._ladder_of = allowed, prices
    for row in np.flatnonzero(self._pending):
      if self._ladders[row] is None:
        found = rungs_lib.hull_rungs(
          self._score[row : row + 1],
          self._cost[row : row + 1],
          allowed,
          prices,
        )
        self._ladders[row] = [r._replace(question=int(row)) for r in found]
    pending = [
      self._ladders[row] or [] for row in np.flatnonzero(self._pending)
    ]
    return sorted(
      (rung for ladder in pending for rung in ladder),
      key=lambda rung: -rung.worth,
    )


def _budget(amount: float | int | budget_lib.Budget) -> budget_lib.Budget:
  if isinstance(amount, budget_lib.Budget):
    if not amount.validate().as_dict():
      raise ValueError("pool: the budget limits nothing")
    return amount
  if amount < 0 or amount != int(amount):
    raise ValueError(f"pool: amount must be a whole number >= 0, got {amount}")
  return budget_lib.Budget(generated_tokens=int(amount))


def _check(score, cost, caps, groups, fields, wave) -> None:
  rows, arms = score.shape if score.ndim == 2 else (0, 0)
  if (
    not rows
    or cost.shape != (rows, arms, fields)
    or caps.shape != (arms, fields)
  ):
    raise ValueError(
      "pool: expected scores and costs [questions, arms] and a cap an arm (on "
      f"each of {fields} limited fields), got shapes {list(score.shape)}, "
      f"{list(cost.shape)} and {list(caps.shape)}"
    )
  if groups.shape != (arms,):
    raise ValueError(f"pool: {len(groups)} groups for {arms} arms")
  if not np.isfinite(score).all() or not np.isfinite(cost).all():
    raise ValueError("pool: expected finite scores and costs")
  if cost.min() <= 0 or caps.min() <= 0:
    raise ValueError("pool: expected positive costs and caps")
  if wave < 1:
    raise ValueError(f"pool: wave must be at least 1, got {wave}")
