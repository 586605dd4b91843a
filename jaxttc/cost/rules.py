# SPDX-License-Identifier: Apache-2.0
"""Rules that speak of compute: data with sources and dates, and yours beside.

A rule is a list of bounds that must all be passed, the phases of a model's life
that it counts, the facts that it asks about, and the days between which it is
in force. Nothing here is legal advice, and laws change: every rule says when it
was last read, and checks are made as of a day.
"""

from collections.abc import Sequence
import dataclasses
import datetime
import difflib
import math
import operator

from jaxttc.cost import ledger as ledger_lib
from jaxttc.cost import rules_table

# What a bound can be on, and its unit.
QUANTITIES = {
  "training_flop": "FLOP",
  "modification_flop": "FLOP",  # its own entries, of no parent
  "modification_share": "1",  # of what its bases' training took
  "training_dollars": "USD",
  "cluster_flop_per_s": "FLOP/s",
  "lifetime_flop": "FLOP",  # training and inference
}
COMPARATORS = {">": operator.gt, ">=": operator.ge}
STATUSES = ("in force", "guidance", "proposed", "vetoed", "rescinded", "own")


@dataclasses.dataclass(frozen=True)
class Bound:
  """One limit of a rule.

  Attributes:
    quantity: one of `QUANTITIES`.
    comparator: ">" (at the threshold is not above it) or ">=".
    threshold: in the quantity's unit.
  """

  quantity: str
  comparator: str
  threshold: float

  def __post_init__(self):
    if self.quantity not in QUANTITIES:
      raise ValueError(
        f"unknown quantity {self.quantity!r}; expected one of "
        f"{', '.join(QUANTITIES)}"
      )
    if self.comparator not in COMPARATORS:
      raise ValueError(f"comparator must be > or >=, got {self.comparator!r}")
    if not 0 < self.threshold < math.inf:
      raise ValueError(
        f"a threshold must be positive and finite, got {self.threshold}"
      )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Rule:
  """A rule about compute.

  Attributes:
    name: short and unique.
    bounds: all must be passed for the rule to bite.
    scope: what passing means, in a sentence.
    status: one of `STATUSES`.
    citation: where it is written.
    read: day on which the source was last looked at.
    start: first day in force; None if it never was.
    end: first day no longer in force; None if open.
    phases: of a ledger, that count towards it; our reading.
    facts: what must be true beside the numbers, as questions.
    note: what a reader must know.

  Raises:
    ValueError: for a rule without a name, bounds or citation, with dates that
      do not follow each other, or an unknown status or phase.
  """

  name: str
  bounds: tuple[Bound, ...]
  scope: str
  status: str
  citation: str
  read: datetime.date
  start: datetime.date | None = None
  end: datetime.date | None = None
  phases: tuple[str, ...] = ledger_lib.TRAINING
  facts: tuple[str, ...] = ()
  note: str = ""

  def __post_init__(self):
    if not self.name or not self.bounds:
      raise ValueError("a rule needs a name and at least one bound")
    if not self.citation.strip():
      raise ValueError(f"rule {self.name!r} needs a citation")
    if self.status not in STATUSES:
      raise ValueError(
        f"rule {self.name!r}: status must be one of {', '.join(STATUSES)}, "
        f"got {self.status!r}"
      )
    if self.start and self.end and not self.start < self.end:
      raise ValueError(
        f"rule {self.name!r}: ends on {self.end}, before it starts on "
        f"{self.start}"
      )
    for phase in self.phases:
      ledger_lib.check_phase(phase)

  def in_force(self, as_of: datetime.date) -> bool:
    """Whether it is in force on a day."""
    if self.start is None or as_of < self.start:
      return False
    return self.end is None or as_of < self.end


_REGISTRY: dict[str, Rule] = {}


def register(rule: Rule, replace: bool = False) -> Rule:
  """Adds a rule to the registry and returns it: a law, a policy, a quota.

  Raises:
    ValueError: for a name already taken.
  """
  if rule.name in _REGISTRY and not replace:
    raise ValueError(f"rule {rule.name!r} is registered; pass replace=True")
  _REGISTRY[rule.name] = rule
  return rule


def names() -> list[str]:
  """Names in the registry, in the order in which they came."""
  return list(_REGISTRY)


def lookup(name: str) -> Rule:
  """The rule of that name.

  Raises:
    ValueError: if there is none; the nearest name is suggested.
  """
  if name in _REGISTRY:
    return _REGISTRY[name]
  near = difflib.get_close_matches(name, _REGISTRY, n=1, cutoff=0.4)
  hint = f"did you mean {near[0]!r}?" if near else f"expected one of {names()}"
  raise ValueError(f"unknown rule {name!r}; {hint}")


def everything() -> list[Rule]:
  """All rules, those that are no longer or not yet in force included."""
  return list(_REGISTRY.values())


def in_force(
  as_of: datetime.date, chosen: Sequence[Rule] | None = None
) -> list[Rule]:
  """The rules that are in force on a day."""
  rules = everything() if chosen is None else chosen
  return [rule for rule in rules if rule.in_force(as_of)]


def _registered(fields: dict) -> None:
  days = {
    name: datetime.date.fromisoformat(fields[name])
    for name in ("read", "start", "end")
    if fields.get(name)
  }
  bounds = tuple(Bound(*bound) for bound in fields["bounds"])
  register(Rule(**(fields | days | {"bounds": bounds})))


for _entry in rules_table.ENTRIES:
  _registered(_entry)
