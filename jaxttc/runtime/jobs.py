# SPDX-License-Identifier: Apache-2.0
"""A problem in a slot of the host-driven form: its round, and its money.

The meter of `slots` decides what is asked; this one, in exact numbers, what is
asked for again where a reply was lost.
"""

from collections.abc import Collection
import dataclasses

from jaxttc.cost import budget as budget_lib
from jaxttc.cost import costs
from jaxttc.inference import engine as engine_lib
from jaxttc.runtime import compiled, funding
from jaxttc.runtime import search as search_lib


@dataclasses.dataclass
class Job:
  """A problem in a slot.

  Attributes:
    index: of the problem.
    prompt: its prompt.
    prices: of engine and verifier.
    started: when its slot took it up, on the driver's clock.
    budget: its limits.
    charged: seconds charged so far.
    paid: whether its budget covered the prompt.
    rounds: rounds asked.
    end: tokens on the path up to and with each node.
    text: the span of each node.
    asked: requests of this round, by ticket.
    got: their completions, by ticket.
    lost: those that are to be asked for again.
    read: tickets whose scoring was billed.
    usage: exact counts of what was spent by the tariffs.
    billed: what was spent beside that.
    assumed: the part of `billed` that is an upper bound.
    unpaid: the part of `billed` that the meter has not been charged yet.
    halt: why it ends after this round; "" if it goes on.
  """

  index: int
  prompt: engine_lib.Prompt
  prices: funding.Prices
  started: float
  budget: budget_lib.Budget
  charged: float = 0.0
  paid: bool = False
  rounds: int = 0
  end: list[int] = dataclasses.field(default_factory=list)
  text: list[str] = dataclasses.field(default_factory=list)
  asked: dict[int, engine_lib.Request] = dataclasses.field(default_factory=dict)
  got: dict[int, engine_lib.Completion] = dataclasses.field(
    default_factory=dict
  )
  usage: dict[str, int] = dataclasses.field(
    default_factory=lambda: dict.fromkeys(
      (field.name for field in dataclasses.fields(compiled.Usage)), 0
    )
  )
  lost: dict[int, engine_lib.Completion] = dataclasses.field(
    default_factory=dict
  )
  read: set[int] = dataclasses.field(default_factory=set)
  billed: costs.Cost = costs.Cost()
  assumed: costs.Cost = costs.Cost()
  unpaid: costs.Cost = costs.Cost()
  halt: str = ""

  def bill(self, bill: engine_lib.Bill | None) -> None:
    """Records what a request cost."""
    if bill is not None:
      self.billed = self.billed + bill.spent
      self.assumed = self.assumed + bill.assumed
      self.unpaid = self.unpaid + bill.spent

  def context(self, ticket: int) -> int:
    """Tokens before a child."""
    return self.end[self.asked[ticket].node]

  def ends(self, ticket: int) -> int:
    """Tokens on the path up to and with a child that has come back."""
    got = self.got[ticket]
    return self.context(ticket) + got.length if got.end is None else got.end

  def valid(self, ticket: int) -> bool:
    """Whether a child came back usable."""
    return ticket in self.got and self.got[ticket].stopped

  def count(self) -> None:
    """Adds the round's children to the counts, as `compiled` does."""
    for ticket, got in self.got.items():
      n, context = got.length, self.context(ticket)
      positions = n * context + n * (n - 1) // 2
      if got.bill is None:
        self.usage["generated"] += n
        self.usage["attended"] += positions
      if got.stopped and ticket not in self.read:
        self.usage["scored"] += n
        self.usage["scored_attended"] += positions + n
        self.usage["calls"] += 1

  def spent(self, now: float) -> costs.Cost:
    """All that was spent before this round, and all bills.

    Args:
      now: on the driver's clock.
    """
    by_tariff = search_lib.exact_cost(
      self.prices,
      len(self.prompt.tokens),
      compiled.Usage(**self.usage),
      self.paid,
    )
    return dataclasses.replace(
      by_tariff + self.billed, seconds=now - self.started
    )

  def meter(
    self, now: float, without: Collection[int] = ()
  ) -> budget_lib.Meter:
    """A meter of what was spent, or may yet be spent, in this round.

    Args:
      now: on the driver's clock.
      without: tickets that are left out.
    """
    spent, verifier = self.spent(now), self.prices.verifier
    for ticket, request in self.asked.items():
      if ticket in without:
        continue
      context, got = self.context(ticket), self.got.get(ticket)
      if got is None:
        spent = spent + self.prices.child(request.limit, context)
        continue
      if got.bill is None:
        spent = spent + self.prices.sampled(got.length, context)
      if got.stopped and ticket not in self.read and verifier is not None:
        spent = spent + verifier.price(got.length, context)
    return budget_lib.Meter(budget=self.budget, spent=spent)
