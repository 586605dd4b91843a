# SPDX-License-Identifier: Apache-2.0
"""Budget policies of four functions: route, plan, decode, verify.

    policy = policies.compose(
      caps, groups, route=forecast, plan=split, decode=search, verify=look
    )
    run = policies.Run(policy, questions, cost.Budget(generated_tokens=9000))
    for question in run:  # after every attempt
      print(question, run.tried[question][-1].outcome.result)

*  route forecasts, for all questions at once, what each *arm* (a way to answer,
   with caps on what it can cost) would achieve and take;
*  the pool buys arms where a unit of budget brings most
   (`routing.pooled_budget`), wave by wave;
*  plan splits the cap of a question's arm over the question's parts;
*  decode carries a wave out, each part held to its share;
*  verify looks at an answer and says how far it is trusted, and what each arm
   would add to it. Where that is worth its price, the question is asked again:
   a cascade.

All but decode are pure, but for a verify stage that asks a model, whose price
is part of its verdict; so a policy is replayed on recorded searches by giving
it another decode. Whatever the functions say, the questions together never
spend more than the budget, on any field that it limits.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from jaxtyping import Float, Int
import numpy as np

from jaxttc.allocators.routing import pooled_budget
from jaxttc.cost import budget as budget_lib
from jaxttc.cost import costs


class Forecast(NamedTuple):
  """What is expected of K arms on n questions.

  Attributes:
    score: f64[n, K], chances of a right answer.
    cost: f64[n, K, F], on each limited field, positive.
  """

  score: Float[np.ndarray, "n K"]
  cost: Float[np.ndarray, "n K F"]


class Attempt(NamedTuple):
  """A question that is to be asked of an arm.

  Attributes:
    question: its place.
    arm: the arm's place.
    number: how often the question was asked before.
    shares: generated tokens of each part; their sum is at most the arm's cap.
    price: at which the arm was chosen.
  """

  question: int
  arm: int
  number: int
  shares: tuple[int, ...]
  price: float


class Outcome(NamedTuple):
  """What came of an attempt.

  Attributes:
    attempt: its place in the wave.
    cost: what it spent, at most the arm's caps.
    result: whatever decode has to tell; verify reads it.
  """

  attempt: int
  cost: costs.Cost
  result: Any


class Verdict(NamedTuple):
  """What is thought of an answer.

  Attributes:
    trust: chance that it is right; of several answers the most trusted counts.
    gains: f64[K], what asking again of each arm would add to the best answer
      so far; None to let it be.
    cost: f64[K, F], what the arms would cost then; None if as before.
    spent: what looking cost, charged to the question; with the attempt at most
      the arm's caps.
  """

  trust: float
  gains: Float[np.ndarray, " K"] | None = None
  cost: Float[np.ndarray, "K F"] | None = None
  spent: costs.Cost = costs.Cost()


class Tried(NamedTuple):
  """An attempt, what came of it, and what is thought of that."""

  attempt: Attempt
  outcome: Outcome
  verdict: Verdict


Route = Callable[[Sequence[Any]], Forecast]
Plan = Callable[[Any, int], Sequence[int]]
Decode = Callable[[Sequence[Attempt]], Iterable[Outcome]]
Verify = Callable[[int, Attempt, Outcome, Sequence[Tried]], Verdict]


class Policy(NamedTuple):
  """A budget policy; make one with `compose`.

  Attributes:
    caps: f64[K, F], the most that an arm costs on each limited field.
    tokens: i64[K], the most tokens that it generates: what `plan` splits.
    groups: i64[K]; arms of one group are asked together.
    route: questions -> what each arm would achieve and take.
    plan: (question, tokens) -> generated tokens of each part.
    decode: attempts of one group -> their outcomes, in any order.
    verify: (question's place, attempt, outcome, tries before) -> verdict.
  """

  caps: Float[np.ndarray, "K F"]
  tokens: Int[np.ndarray, " K"]
  groups: Int[np.ndarray, " K"]
  route: Route
  plan: Plan
  decode: Decode
  verify: Verify


def whole(question: Any, tokens: int) -> tuple[int, ...]:
  """A plan of one part: the question itself."""
  del question
  return (tokens,)


def accept(
  place: int, attempt: Attempt, outcome: Outcome, before: Sequence[Tried]
) -> Verdict:
  """Takes any answer for right, and asks nothing twice."""
  del place, attempt, outcome, before
  return Verdict(1.0)


def compose(
  caps: Float[np.ndarray, "K F"] | Int[np.ndarray, "K F"],
  tokens: Sequence[int] | Int[np.ndarray, " K"],
  groups: Sequence[int] | Int[np.ndarray, " K"],
  *,
  route: Route,
  decode: Decode,
  plan: Plan = whole,
  verify: Verify = accept,
) -> Policy:
  """Puts a policy together.

  Args:
    caps: [K, F], the most that each arm costs on each limited field.
    tokens: the most that each arm generates.
    groups: arms of one group are asked together.
    route: see `Policy`.
    decode: see `Policy`.
    plan: see `Policy`; by default questions have one part.
    verify: see `Policy`; by default every answer is taken.

  Raises:
    ValueError: if the numbers of arms differ.
  """
  caps, tokens = np.asarray(caps, float), np.asarray(tokens)
  groups = np.asarray(groups)
  if not len(caps) == len(tokens) == len(groups):
    raise ValueError(
      f"policy: caps of {len(caps)} arms, tokens of {len(tokens)} and groups "
      f"of {len(groups)}; expected the same arms"
    )
  return Policy(caps, tokens, groups, route, plan, decode, verify)


class Run:
  """A policy at work on questions, under one budget; iterate over it.

  Attributes:
    forecast: what `route` said.
    pool: what is spent, and at which prices.
    tried: all attempts at each question, in order.
  """

  def __init__(
    self,
    policy: Policy,
    questions: Sequence[Any],
    budget: budget_lib.Budget,
    *,
    wave: int = 16,
  ):
    """A run of which nothing is spent.

    Args:
      policy: the policy.
      questions: whatever its functions take.
      budget: of all questions together.
      wave: most attempts of a wave.

    Raises:
      ValueError: as `pooled_budget.Pool`.
    """
    self._policy, self._questions = policy, questions
    self.forecast = policy.route(questions)
    self.pool = pooled_budget.Pool(
      self.forecast.score,
      self.forecast.cost,
      policy.caps,
      policy.groups,
      amount=budget,
      wave=wave,
    )
    self.tried: list[list[Tried]] = [[] for _ in questions]

  def open(self, question: int) -> bool:
    """Whether the question may be asked, or asked again."""
    return self.pool.open(question)

  def best(self, question: int) -> Tried | None:
    """The attempt whose answer counts; None if there was none.

    The most trusted; of equals the later, so that a second try replaces an
    answer of which nothing is known.
    """
    tried = self.tried[question]
    if not tried:
      return None
    return max(reversed(tried), key=lambda one: one.verdict.trust)

  def __iter__(self) -> Iterator[int]:
    """Asks until nothing more is worth its price, or can be paid for.

    Yields:
      The question's place, after each attempt at it.

    Raises:
      ValueError: if a plan gives out more than the arm's cap, or an attempt
        costs more than its caps, or is not answered.
    """
    while (wave := self.pool.ask()) is not None:
      attempts = [
        self._attempt(int(question), int(arm), wave.price)
        for question, arm in zip(wave.questions, wave.arms, strict=True)
      ]
      for outcome in self._policy.decode(attempts):
        yield self._tell(attempts[outcome.attempt], outcome)

  def _attempt(self, question: int, arm: int, price: float) -> Attempt:
    most = int(self._policy.tokens[arm])
    shares = tuple(
      int(share) for share in self._policy.plan(self._questions[question], most)
    )
    if not shares or min(shares) < 0 or sum(shares) > most:
      raise ValueError(
        f"policy: the plan gives question {question} the shares "
        f"{list(shares)}; expected whole tokens >= 0, at most {most} in all"
      )
    return Attempt(question, arm, len(self.tried[question]), shares, price)

  def _tell(self, attempt: Attempt, outcome: Outcome) -> int:
    question = attempt.question
    before = self.tried[question]
    verdict = self._policy.verify(question, attempt, outcome, before)
    spent = outcome.cost + verdict.spent
    self.pool.tell(question, spent, verdict.gains, verdict.cost)
    before.append(Tried(attempt, outcome, verdict))
    return question
