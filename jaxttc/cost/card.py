# SPDX-License-Identifier: Apache-2.0
"""The card at the end of a run: what was spent, how sure that is, which rules
it meets, and what the number leaves out. In JSON and in Markdown.
"""

from collections.abc import Mapping, Sequence
import dataclasses
import datetime
import math
from typing import Any

from jaxttc.cost import effective_compute, verdicts
from jaxttc.cost import estimate as estimate_lib
from jaxttc.cost import ledger as ledger_lib
from jaxttc.cost import rules as rules_lib

Estimate = estimate_lib.Estimate

SCHEMA = 1
DISCLAIMER = (
  "Figures and rules as of the day named, by the methods named. Not legal "
  "advice: read the texts that are cited."
)
_OTHERS = ("seconds", "joules", "dollars", "carbon")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Card:
  """What `build` found; see `as_dict` and `markdown`.

  Attributes:
    name: of the ledger.
    as_of: the day that rules are read on.
    head: the hash of the ledger's last line, "" if it is in no file.
    phases: FLOP a phase, of the ledger itself.
    inherited: FLOP of its bases' training.
    training: FLOP of all training, bases included.
    training_model_flop: of that, without recomputation and padding.
    helpers: training FLOP of teachers and verifiers, by "role name".
    queries: answered queries.
    per_query: FLOP of one; None without queries.
    lifetime: FLOP of training and queries.
    others: seconds, joules, dollars and carbon of its own entries that have
      them, and of how many entries these are.
    entries: how many it has itself.
    omitted: phases of which it says nothing.
    assumptions: unknowns that its figures share, and which methods there are.
    effective: training FLOP in the algorithms of a day; None if not asked for.
    verdicts: what rules say.
    turns: which unknowns could turn the answer of the nearest rule.
  """

  name: str
  as_of: datetime.date
  head: str
  phases: dict[str, Estimate]
  inherited: Estimate
  training: Estimate
  training_model_flop: float
  helpers: dict[str, Estimate]
  queries: int
  per_query: Estimate | None
  lifetime: Estimate
  others: dict[str, tuple[Estimate, int]]
  entries: int
  omitted: tuple[str, ...]
  assumptions: dict[str, list[str]]
  effective: Estimate | None
  verdicts: tuple[verdicts.Verdict, ...]
  turns: tuple[verdicts.Turn, ...]

  def as_dict(self, rounded: bool = False) -> dict[str, Any]:
    """The card, JSON-ready, with a schema version.

    Args:
      rounded: whether figures are told as powers of ten alone, for a card that
        gives away no more than it must.
    """
    figure = _magnitude if rounded else Estimate.as_dict
    return {
      "schema": SCHEMA,
      "name": self.name,
      "as_of": self.as_of.isoformat(),
      "head": self.head,
      "flop": {
        "phases": {name: figure(e) for name, e in self.phases.items()},
        "inherited": figure(self.inherited),
        "training": figure(self.training),
        "training_without_recomputation": figure(
          Estimate.exact(self.training_model_flop, "FLOP", "model FLOP")
        ),
        "teachers_and_verifiers": {
          name: figure(e) for name, e in self.helpers.items()
        },
        "per_query": self.per_query and figure(self.per_query),
        "lifetime": figure(self.lifetime),
        "effective": self.effective and figure(self.effective),
      },
      "queries": self.queries,
      **{name: figure(e) for name, (e, _) in self.others.items()},
      "entries": self.entries,
      "omitted_phases": list(self.omitted),
      "assumptions": self.assumptions,
      "rules": [_told(verdict, rounded) for verdict in self.verdicts],
      "sensitivity": [
        {"unknown": turn.unknown, "turns": turn.turns} for turn in self.turns
      ],
      "limits": self.limits(rounded),
      "disclaimer": DISCLAIMER,
    }

  def limits(self, rounded: bool = False) -> list[str]:
    """How training FLOP fail as a measure, in this ledger's own figures."""
    said = []
    tell = _power if rounded else "{:.3g}".format
    if self.per_query is not None and self.per_query.value > 0:
      even = self.training.value / self.per_query.value
      each = tell(self.per_query.value)
      said.append(
        f"Inference: a query costs {each} FLOP; after {tell(even)} queries "
        "answering has cost as much as training. Thresholds on training see "
        "none of it, nor what search at test time adds to what the model can "
        "do."
      )
    else:
      said.append(
        "Inference: nothing is told of it. Search at test time can be worth "
        "a larger training run, and no threshold on training sees it."
      )
    if self.helpers:
      total = sum(e.value for e in self.helpers.values())
      said.append(
        f"Helpers: {', '.join(self.helpers)} took {tell(total)} FLOP to train, "
        "which a rule on this model's training does not count."
      )
    else:
      said.append(
        "Helpers: no teacher or verifier is named. A distilled or a verified "
        "model owes some of what it does to compute of theirs."
      )
    waste = self.training.value - self.training_model_flop
    if waste > 0:
      share = waste / self.training.value
      said.append(
        f"Recomputation and padding are {share:.0%} of the training FLOP, and "
        "made no model better."
      )
    months = effective_compute.DOUBLING_MONTHS
    said.append(
      "Algorithms: the same FLOP buy more each year, about twice as much "
      f"every {months.value:g} months by one measurement "
      f"({months.low:g} to {months.high:g})."
    )
    said.append(
      "Data: FLOP say nothing of what was learnt from; better data have "
      "made small models as good as large ones."
    )
    return said

  def markdown(self) -> str:
    """The card for people."""
    lines = [
      f"# Compute of {self.name}",
      "",
      f"As of {self.as_of}. FLOP are operations, a multiply-add is two.",
      "",
      "| what | FLOP | 90 % interval | how it is known |",
      "|---|---|---|---|",
    ]
    rows = {name.replace("_", " "): e for name, e in self.phases.items()}
    rows |= (
      {"inherited from bases": self.inherited} if (self.inherited.value) else {}
    )
    rows |= {"**training, in all**": self.training}
    rows |= {f"{name} (not counted)": e for name, e in self.helpers.items()}
    if self.per_query is not None:
      rows[f"a query ({self.queries:,} of them)"] = self.per_query
      rows["**training and queries**"] = self.lifetime
    if self.effective is not None:
      rows["training, effective"] = self.effective
    lines += [_row(name, e) for name, e in rows.items()]
    lines += ["", *self._spent()]
    lines += ["## Rules", "", *self._rules()]
    lines += ["", "## What the number leaves out", ""]
    lines += [f"- {limit}" for limit in self.limits()]
    lines += ["", "## How it was found", ""]
    if self.omitted:
      told = ", ".join(name.replace("_", " ") for name in self.omitted)
      lines.append(f"- Nothing is told of: {told}.")
    for unknown, methods in self.assumptions.items():
      lines.append(f"- Unknown: {unknown} (in {', '.join(methods)}).")
    for turn in self.turns:
      if turn.turns:
        lines.append(
          f"- {turn.unknown} decides: training is {turn.low:.3g} or "
          f"{turn.high:.3g} FLOP at its ends."
        )
    if self.head:
      lines.append(f"- The ledger's last line has the hash `{self.head}`.")
    return "\n".join([*lines, "", DISCLAIMER, ""])

  def _spent(self) -> list[str]:
    if not self.others:
      return []
    lines = ["| also spent | amount | 90 % interval | how it is known |"]
    lines.append("|---|---|---|---|")
    for name, (e, count) in self.others.items():
      if name == "seconds":
        name = "device-seconds"
      part = "" if count == self.entries else f" ({count} of {self.entries})"
      lines.append(_row(f"{name}{part}", e, e.unit))
    return [*lines, ""]

  def _rules(self) -> list[str]:
    if not self.verdicts:
      return [f"No rule that we know was in force on {self.as_of}."]
    lines = [
      "| rule | threshold | here | orders of magnitude | P(above) | answer |",
      "|---|---|---|---|---|---|",
    ]
    for verdict in self.verdicts:
      for finding in verdict.findings:
        margin = "-" if finding.margin is None else f"{finding.margin:+.1f}"
        bound = finding.bound
        lines.append(
          f"| {verdict.rule.name} | {bound.quantity.replace('_', ' ')} "
          f"{bound.comparator} {bound.threshold:.3g} | "
          f"{finding.amount.value:.3g} | {margin} | {finding.p_exceed:.2f} | "
          f"{_answer(verdict)} |"
        )
      if verdict.missing:
        lines.append(
          f"| {verdict.rule.name} | | | | | unknown: needs {verdict.missing} |"
        )
    lines.append("")
    for verdict in self.verdicts:
      rule = verdict.rule
      lines.append(
        f"- **{rule.name}** ({rule.status}, read {rule.read}): {rule.scope}. "
        f"{rule.citation}." + (f" {_sentence(rule.note)}" if rule.note else "")
      )
      for fact in verdict.open_facts:
        lines.append(f"  - {_sentence(fact)} Nobody said.")
    return lines


def build(
  ledger: ledger_lib.Ledger,
  *,
  as_of: datetime.date,
  rules: Sequence[rules_lib.Rule] | None = None,
  facts: Mapping[str, bool] | None = None,
  cluster: verdicts.Cluster | None = None,
  force: bool = False,
  reference: datetime.date | None = None,
  head: str = "",
  seed: int = 0,
) -> Card:
  """The card of a ledger.

  Args:
    ledger: what was spent, or is planned.
    as_of: the day that rules are read on.
    rules: None for all that are in force on that day.
    facts: answers to what rules ask.
    cluster: for rules about clusters.
    force: whether rules that are not in force may be among `rules`.
    reference: a day whose algorithms effective compute is told in; None
      leaves it out.
    head: of the ledger's file.
    seed: of the Monte Carlo.

  Raises:
    ValueError: as `verdicts.check` does.
  """
  chosen = rules_lib.in_force(as_of) if rules is None else list(rules)
  total = lambda phases, **kw: ledger.total(phases, seed=seed, **kw)  # noqa: E731
  own = [name for name in ledger_lib.PHASES if total([name], roles=()).entries]
  training = total(ledger_lib.TRAINING).estimate
  queries = sum(entry.queries for entry in ledger.entries)
  answering = total(["inference"]).estimate
  helpers = {
    f"{parent.role} {parent.ledger.name}": parent.ledger.total(
      ledger_lib.TRAINING, seed=seed
    ).estimate
    for parent in ledger.parents
    if parent.role != "base"
  }
  bases = [p for p in ledger.parents if p.role == "base"]
  inherited = ledger_lib.Ledger(f"bases of {ledger.name}", bases)
  others = {}
  for name in _OTHERS:
    found = total(None, quantity=name, roles=())
    if found.entries:
      others[name] = (found.estimate, found.entries)
  said = verdicts.check(
    ledger,
    chosen,
    as_of,
    facts=facts,
    cluster=cluster,
    force=force,
    seed=seed,
  )
  effective = None
  if reference is not None:
    effective = effective_compute.effective(
      training, _last_day(ledger, as_of), reference, seed=seed
    )
  return Card(
    name=ledger.name,
    as_of=as_of,
    head=head,
    phases={name: total([name], roles=()).estimate for name in own},
    inherited=inherited.total(ledger_lib.TRAINING, seed=seed).estimate,
    training=training,
    training_model_flop=ledger.model_flop(ledger_lib.TRAINING),
    helpers=helpers,
    queries=queries,
    per_query=answering.scaled(1 / queries) if queries else None,
    lifetime=total((*ledger_lib.TRAINING, "inference")).estimate,
    others=others,
    entries=len(ledger.entries),
    omitted=tuple(name for name in ledger_lib.PHASES if name not in own),
    assumptions=_assumptions(ledger),
    effective=effective,
    verdicts=tuple(said),
    turns=_turns(ledger, said),
  )


def _turns(ledger, said) -> tuple[verdicts.Turn, ...]:
  """Of the rule on training FLOP whose threshold is nearest."""
  near = [
    (abs(finding.margin), verdict.rule)
    for verdict in said
    for finding in verdict.findings
    if finding.bound.quantity == "training_flop" and finding.margin is not None
  ]
  if not near:
    return ()
  rule = min(near, key=lambda pair: pair[0])[1]
  return tuple(verdicts.sensitivity(ledger, rule))


def _last_day(ledger, as_of) -> datetime.date:
  days = [entry.day for entry in ledger.counted(ledger_lib.TRAINING)]
  return datetime.date.fromisoformat(max(days)) if days else as_of


def _assumptions(ledger) -> dict[str, list[str]]:
  """Unknowns that figures share, with the methods that have them."""
  found: dict[str, list[str]] = {}
  for entry in ledger.counted():
    flop = entry.flop
    if flop.is_exact:
      continue
    methods = found.setdefault(flop.shared or f"each {flop.method}", [])
    if flop.method not in methods:
      methods.append(flop.method)
  return found


def _told(verdict: verdicts.Verdict, rounded: bool) -> dict[str, Any]:
  rule = verdict.rule
  return {
    "rule": rule.name,
    "status": rule.status,
    "in_force": verdict.in_force,
    "citation": rule.citation,
    "read": rule.read.isoformat(),
    "scope": rule.scope,
    "answer": verdict.answer,
    "p_exceed": verdict.p_exceed,
    "bites": verdict.bites,
    "open_facts": list(verdict.open_facts),
    "denied": verdict.denied,
    "missing": verdict.missing,
    "bounds": [
      {
        "quantity": finding.bound.quantity,
        "comparator": finding.bound.comparator,
        "threshold": finding.bound.threshold,
        "p_exceed": finding.p_exceed,
        "orders_of_magnitude": finding.margin
        if finding.margin is None or not rounded
        else round(finding.margin),
      }
      for finding in verdict.findings
    ],
  }


def _answer(verdict: verdicts.Verdict) -> str:
  if verdict.denied:
    return f"{verdict.answer}; does not apply"
  if not verdict.in_force:
    return f"{verdict.answer}; not in force"
  return verdict.answer


def _magnitude(estimate: Estimate) -> dict[str, Any]:
  """A figure as its power of ten."""
  value = estimate.value
  power = round(math.log10(value)) if value > 0 else None
  return {
    "order_of_magnitude": power,
    "unit": estimate.unit,
    "provenance": estimate.provenance,
  }


def _power(value: float) -> str:
  return f"1e{round(math.log10(value))}" if value > 0 else "0"


def _row(name: str, estimate: Estimate, unit: str = "") -> str:
  interval = (
    "exact"
    if estimate.is_exact
    else (f"{estimate.low:.3g} to {estimate.high:.3g}")
  )
  amount = f"{estimate.value:.4g} {unit}".strip()
  how = f"{estimate.provenance}: {estimate.method}"
  return f"| {name} | {amount} | {interval} | {how} |"


def _sentence(text: str) -> str:
  text = text[:1].upper() + text[1:]
  return text if text.endswith(("?", ".")) else f"{text}."
