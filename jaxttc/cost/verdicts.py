# SPDX-License-Identifier: Apache-2.0
"""Holds a ledger against rules: with what probability is a threshold passed?

A verdict says by how many orders of magnitude a total stays below a threshold
or is above it, how probable it is that the truth is above, and which unknown
could turn the answer. Strictly: at the threshold is not above it, where the
rule says "more than".
"""

from collections.abc import Mapping, Sequence
import dataclasses
import datetime
import math

import numpy as np

from jaxttc.cost import estimate as estimate_lib
from jaxttc.cost import flop_estimates
from jaxttc.cost import hardware as hardware_lib
from jaxttc.cost import ledger as ledger_lib
from jaxttc.cost import rules as rules_lib

Estimate = estimate_lib.Estimate

_DAY = 86_400.0
_UNSURE = (0.05, 0.95)  # probabilities between these are no answer


@dataclasses.dataclass(frozen=True, kw_only=True)
class Cluster:
  """Machines in one place.

  Attributes:
    hardware: an entry of the registry.
    count: how many devices.
    dtype: of the products.
    utilisation: share of the peak that training reaches.
  """

  hardware: hardware_lib.Hardware
  count: int
  dtype: str
  utilisation: Estimate | float | None = None

  @property
  def peak(self) -> float:
    """Theoretical most, in FLOP/s."""
    return self.count * self.hardware.peak(self.dtype)

  def per_day(self) -> Estimate:
    """FLOP that it trains with in a day."""
    return flop_estimates.from_hardware(
      self.hardware, self.count, _DAY, self.dtype, self.utilisation
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Finding:
  """One bound of a rule, and where a ledger is.

  Attributes:
    bound: the bound.
    amount: what the ledger says.
    p_exceed: probability that the truth passes the bound.
    margin: orders of magnitude above the threshold; negative below it, None
      if there is nothing at all.
  """

  bound: rules_lib.Bound
  amount: Estimate
  p_exceed: float
  margin: float | None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Verdict:
  """What a rule says of a ledger.

  Attributes:
    rule: the rule.
    as_of: the day.
    in_force: whether the rule was in force on it.
    findings: one a bound; none if it could not be told.
    p_exceed: probability that all bounds are passed; None if it cannot be
      told (`missing`).
    answer: "below", "above", "uncertain", or "unknown".
    open_facts: questions that nobody answered.
    denied: a fact that the rule asks for, and that is not so.
    missing: what would have to be known.
  """

  rule: rules_lib.Rule
  as_of: datetime.date
  in_force: bool
  findings: tuple[Finding, ...]
  p_exceed: float | None
  answer: str
  open_facts: tuple[str, ...] = ()
  denied: str = ""
  missing: str = ""

  @property
  def bites(self) -> bool:
    """In force, above the bounds, and no fact says that it does not apply."""
    return self.in_force and self.answer == "above" and not self.denied


def check(
  ledger: ledger_lib.Ledger,
  rules: Sequence[rules_lib.Rule],
  as_of: datetime.date,
  *,
  facts: Mapping[str, bool] | None = None,
  cluster: Cluster | None = None,
  force: bool = False,
  seed: int = 0,
) -> list[Verdict]:
  """What rules say of a ledger on a day.

  Args:
    ledger: what was spent, or is planned.
    rules: which to hold it against.
    as_of: the day.
    facts: answers to the questions that rules ask, by question.
    cluster: for rules about clusters.
    force: whether to check rules that are not in force on that day, too; what
      is said of them then is what they would say.
    seed: of the Monte Carlo.

  Returns:
    A verdict a rule, in their order.

  Raises:
    ValueError: for a rule that is not in force, unless forced, and for a fact
      that no rule asks about.
  """
  facts = dict(facts or {})
  asked = {fact for rule in rules_lib.everything() for fact in rule.facts}
  asked |= {fact for rule in rules for fact in rule.facts}
  strange = sorted(set(facts) - asked)
  if strange:
    raise ValueError(
      f"no rule asks {strange[0]!r}; expected one of {sorted(asked)}"
    )
  for rule in rules:
    if not (force or rule.in_force(as_of)):
      since = f"from {rule.start}" if rule.start else "never"
      until = f" to {rule.end}" if rule.end else ""
      raise ValueError(
        f"rule {rule.name!r} is not in force on {as_of} ({rule.status}; in "
        f"force {since}{until}); force=True says what it would say"
      )
  return [_verdict(ledger, rule, as_of, facts, cluster, seed) for rule in rules]


def _verdict(ledger, rule, as_of, facts, cluster, seed) -> Verdict:
  missing, findings = "", []
  passed = None
  for bound in rule.bounds:
    found = _draws(ledger, rule, bound.quantity, cluster, seed)
    if isinstance(found, str):
      missing = found
      break
    over = rules_lib.COMPARATORS[bound.comparator](found.draws, bound.threshold)
    passed = over if passed is None else passed & over
    amount = found.estimate
    margin = None
    if amount.value > 0:
      margin = math.log10(amount.value / bound.threshold)
    findings.append(
      Finding(
        bound=bound, amount=amount, p_exceed=float(over.mean()), margin=margin
      )
    )
  probability = None if missing or passed is None else float(passed.mean())
  return Verdict(
    rule=rule,
    as_of=as_of,
    in_force=rule.in_force(as_of),
    findings=tuple(findings),
    p_exceed=probability,
    answer=_answer(probability),
    open_facts=tuple(f for f in rule.facts if f not in facts),
    denied=next((f for f in rule.facts if facts.get(f) is False), ""),
    missing=missing,
  )


def _answer(probability: float | None) -> str:
  if probability is None:
    return "unknown"
  if probability <= _UNSURE[0]:
    return "below"
  return "above" if probability >= _UNSURE[1] else "uncertain"


def _draws(ledger, rule, quantity, cluster, seed) -> ledger_lib.Total | str:
  """The total that a bound is on, or what is missing to tell it."""
  if quantity == "cluster_flop_per_s":
    if cluster is None:
      return "a cluster"
    peak = Estimate.exact(
      cluster.peak, "FLOP/s", "theoretical peak", "modelled"
    )
    return ledger_lib.summed([("cluster", peak)], "FLOP/s")
  if quantity == "training_dollars":
    spent = ledger.total(rule.phases, quantity="dollars", seed=seed)
    return spent if spent.entries else "dollars of the training"
  if quantity == "lifetime_flop":
    return ledger.total((*rule.phases, "inference"), seed=seed)
  if quantity == "training_flop":
    return ledger.total(rule.phases, seed=seed)
  own = ledger.total(rule.phases, roles=(), seed=seed)
  if quantity == "modification_flop":
    return own
  everything = ledger.total(rule.phases, seed=seed)
  original = everything.draws - own.draws
  if not (everything.entries > own.entries and (original > 0).all()):
    return "the original's training compute (a parent ledger)"
  share = own.draws / original
  value = own.estimate.value / (everything.estimate.value - own.estimate.value)
  if float(np.ptp(share)) <= 1e-12 * value:  # rounding is no uncertainty
    return ledger_lib.summed(
      [("share", Estimate.exact(value, "1", "share of the original"))], "1"
    )
  low, high = (float(q) for q in np.quantile(share, [0.05, 0.95]))
  estimate = Estimate(
    value=value,
    low=min(low, value),
    high=max(high, value),
    unit="1",
    method="share of the original",
    provenance=everything.estimate.provenance,
  )
  return ledger_lib.Total(estimate, share, everything.entries)


def days_to_threshold(
  cluster: Cluster,
  rule: rules_lib.Rule,
  ledger: ledger_lib.Ledger | None = None,
) -> Estimate:
  """Days of training on a cluster until a rule's FLOP are reached.

  Args:
    cluster: what trains.
    rule: with a bound on "training_flop".
    ledger: what was spent already; None for nothing.

  Returns:
    Seconds, whose value / 86,400 are days; 0 if the threshold is passed.

  Raises:
    ValueError: for a rule without such a bound.
  """
  bounds = [b for b in rule.bounds if b.quantity == "training_flop"]
  if not bounds:
    raise ValueError(f"rule {rule.name!r} has no bound on training_flop")
  spent = ledger.total(rule.phases).estimate.value if ledger else 0.0
  left = max(bounds[0].threshold - spent, 0.0)
  daily = cluster.per_day()
  return Estimate(
    value=_DAY * left / daily.value,
    low=_DAY * left / daily.high,
    high=_DAY * left / daily.low,
    unit="s",
    method=f"{daily.method}, {left:.3g} FLOP to go",
    provenance=daily.provenance,
    shared=daily.shared,
  )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Turn:
  """One unknown, and what the answer would be at its ends.

  Attributes:
    unknown: its name, or the id of the entry.
    low: the total at its 5th percentile, all else at the values.
    high: the total at its 95th percentile.
    turns: whether one of them is on the other side of the threshold.
  """

  unknown: str
  low: float
  high: float
  turns: bool


def sensitivity(ledger: ledger_lib.Ledger, rule: rules_lib.Rule) -> list[Turn]:
  """Which unknown could turn a rule's answer on training FLOP, widest first.

  Raises:
    ValueError: for a rule without a bound on "training_flop".
  """
  bounds = [b for b in rule.bounds if b.quantity == "training_flop"]
  if not bounds:
    raise ValueError(f"rule {rule.name!r} has no bound on training_flop")
  passes = rules_lib.COMPARATORS[bounds[0].comparator]
  threshold = bounds[0].threshold
  entries = ledger.counted(rule.phases)
  total = math.fsum(entry.flop.value for entry in entries)
  ends: dict[str, list[float]] = {}
  for entry in entries:
    flop = entry.flop
    if flop.is_exact:
      continue
    down, up = ends.setdefault(flop.shared or entry.id, [total, total])
    ends[flop.shared or entry.id] = [
      down - (flop.value - flop.low),
      up + (flop.high - flop.value),
    ]
  found = [
    Turn(
      unknown=name,
      low=low,
      high=high,
      turns=passes(low, threshold) != passes(high, threshold),
    )
    for name, (low, high) in ends.items()
  ]
  return sorted(found, key=lambda turn: turn.low - turn.high)
