# SPDX-License-Identifier: Apache-2.0
"""Ledger: what a model's life has cost, entry by entry, and how sure that is.

A meter watches one run's budget; a ledger outlives runs. Its entries say in
which phase of a model's life how much was computed, and by what method that is
known. A fine-tuned model's ledger names its base, and inherits what the base's
training cost; a teacher or a reward model can be named as well, and is counted
where it is asked for.

    base = Ledger("base")
    base.add("pre_training", flop=flop_estimates.from_config(config, work))
    tuned = Ledger("tuned", parents=[Parent(base)])
    with tuned.phase("rl_rollout"):
      tuned.add(flop=...)
    tuned.total(TRAINING)                  # base and tuned

`ledger_file` keeps ledgers, `verdicts` holds them against rules, `card` tells
them to people.
"""

from collections.abc import Callable, Iterator, Sequence
import contextlib
import dataclasses
import datetime
import difflib
import math
from typing import Any

from jaxtyping import Float
import numpy as np

from jaxttc.cost import costs
from jaxttc.cost import estimate as estimate_lib

Estimate = estimate_lib.Estimate

PHASES = {
  "data_generation": "making synthetic training data",
  "curation": "filtering and scoring training data",
  "pre_training": "training from scratch, or going on with it",
  "fine_tuning": "training a trained model on less data",
  "rl_rollout": "sampling for reinforcement learning",
  "rl_update": "updates of reinforcement learning",
  "distillation": "a teacher's work for its student",
  "evaluation": "tests of what was trained",
  "failed": "runs that nothing was kept of",
  "inference": "answering queries",
}
TRAINING = (
  "data_generation",
  "curation",
  "pre_training",
  "fine_tuning",
  "rl_rollout",
  "rl_update",
  "distillation",
)
ROLES = ("base", "teacher", "verifier")
QUANTITIES = {
  "flop": "FLOP",
  "seconds": "s",
  "joules": "J",
  "dollars": "USD",
  "carbon": "kgCO2e",
}
_DRAWS = 10_000


@dataclasses.dataclass(frozen=True, kw_only=True)
class Entry:
  """One thing that was done.

  Attributes:
    id: unique among all entries that are ever merged.
    phase: one of `PHASES`.
    flop: what was computed, by the hardware.
    recomputed: of that, FLOP that only saved memory (rematerialisation).
    padding: of that, FLOP on padding.
    queries: how many queries an "inference" entry answered; 0 elsewhere.
    dtype: of the products; "" if nobody said.
    seconds: device-seconds.
    joules: energy.
    dollars: money.
    carbon: emissions.
    day: when, as YYYY-MM-DD.
    note: anything that helps a reader.

  Raises:
    ValueError: naming the field that cannot be.
  """

  id: str
  phase: str
  flop: Estimate
  recomputed: float = 0.0
  padding: float = 0.0
  queries: int = 0
  dtype: str = ""
  seconds: Estimate | None = None
  joules: Estimate | None = None
  dollars: Estimate | None = None
  carbon: Estimate | None = None
  day: str = ""
  note: str = ""

  def __post_init__(self):
    check_phase(self.phase)
    for name, unit in QUANTITIES.items():
      value = getattr(self, name)
      if value is not None or name == "flop":
        estimate_lib.require(value, unit, f"Entry.{name}")
    for name in ("recomputed", "padding"):
      value = getattr(self, name)
      if not 0 <= value < math.inf:
        raise ValueError(
          f"Entry.{name} must be finite and not negative, got {value}"
        )
    if self.recomputed + self.padding > self.flop.high:
      raise ValueError(
        f"Entry.recomputed={self.recomputed:.4g} and padding="
        f"{self.padding:.4g} are parts of flop={self.flop.value:.4g}, and "
        "cannot be more"
      )
    if self.queries < 0 or (self.queries and self.phase != "inference"):
      raise ValueError(
        f"Entry.queries={self.queries} must not be negative, and 0 in phase "
        f"{self.phase!r}"
      )
    try:
      datetime.date.fromisoformat(self.day)
    except ValueError:
      raise ValueError(
        f"Entry.day must be a date such as 2026-01-31, got {self.day!r}"
      ) from None

  @property
  def model_flop(self) -> float:
    """FLOP that the model needed: without recomputation and padding."""
    return max(self.flop.value - self.recomputed - self.padding, 0.0)

  def as_dict(self) -> dict[str, Any]:
    """JSON-ready, less what is absent."""
    fields = dataclasses.asdict(self)
    return {k: v for k, v in fields.items() if v not in (None, "", 0, 0.0)}

  @classmethod
  def from_dict(cls, fields: dict[str, Any]) -> "Entry":
    """Inverse of `as_dict`.

    Raises:
      ValueError: for fields that are unknown, missing or cannot be.
    """
    read = dict(fields)
    try:
      for name in QUANTITIES:
        if read.get(name) is not None:
          read[name] = Estimate(**read[name])
      return cls(**read)
    except TypeError as error:
      raise ValueError(f"no entry of a ledger: {error}") from None


def check_phase(phase: Any) -> None:
  """Raises ValueError, naming the nearest, unless `phase` is one."""
  if phase in PHASES:
    return
  near = difflib.get_close_matches(str(phase), PHASES, n=1, cutoff=0.4)
  hint = f"did you mean {near[0]!r}?" if near else f"expected {list(PHASES)}"
  raise ValueError(f"unknown phase {phase!r}; {hint}")


@dataclasses.dataclass(frozen=True)
class Parent:
  """A ledger that another one builds on.

  Attributes:
    ledger: what the other model cost.
    role: "base" (its weights were the start), "teacher" or "verifier".
  """

  ledger: "Ledger"
  role: str = "base"

  def __post_init__(self):
    if self.role not in ROLES:
      raise ValueError(
        f"Parent.role must be one of {', '.join(ROLES)}, got {self.role!r}"
      )


@dataclasses.dataclass(frozen=True, eq=False)
class Total:
  """A sum over entries.

  Attributes:
    estimate: the sum of the values, and the 5th and 95th percentile of draws.
    draws: f64[N], values that the sum may have.
    entries: how many were added.
  """

  estimate: Estimate
  draws: Float[np.ndarray, " N"]
  entries: int

  def exceeds(self, threshold: int | float, strictly: bool = True) -> float:
    """Probability that the sum is above a threshold, or at least at it."""
    over = self.draws > threshold if strictly else self.draws >= threshold
    return float(over.mean())


class Ledger:
  """Entries and parents; grows, never shrinks.

  Attributes:
    name: of the model or run; ids of entries begin with it.
    parents: what it builds on.
    sink: told of every entry that is added, before it counts; None for no one.
  """

  def __init__(
    self,
    name: str,
    parents: Sequence[Parent] = (),
    sink: Callable[[Entry], None] | None = None,
  ):
    """Starts an empty ledger.

    Args:
      name: unique among ledgers that will ever be merged or linked.
      parents: what the model was made from.
      sink: told of every entry.

    Raises:
      ValueError: for an empty name, or parents that lead back to it.
    """
    if not name or not name.strip():
      raise ValueError("a ledger needs a name")
    self.name = name
    self.parents = tuple(parents)
    self._entries: dict[str, Entry] = {}
    self.sink = sink
    self._phase: str | None = None
    if name in self.ancestors():
      raise ValueError(
        f"the parents of ledger {name!r} lead back to a ledger {name!r}"
      )

  @property
  def entries(self) -> tuple[Entry, ...]:
    """Its own entries, in the order in which they came."""
    return tuple(self._entries.values())

  @property
  def current_phase(self) -> str | None:
    """That of the innermost `with ledger.phase(..)`; None outside."""
    return self._phase

  def ancestors(self) -> set[str]:
    """Names of all ledgers that this one builds on."""
    found: set[str] = set()
    for parent in self.parents:
      found |= {parent.ledger.name} | parent.ledger.ancestors()
    return found

  def add(
    self,
    phase: str | None = None,
    *,
    flop: Estimate,
    recomputed: int | float = 0.0,
    padding: int | float = 0.0,
    queries: int = 0,
    dtype: str = "",
    seconds: Estimate | None = None,
    joules: Estimate | None = None,
    dollars: Estimate | None = None,
    carbon: Estimate | None = None,
    day: str | None = None,
    note: str = "",
  ) -> Entry:
    """Adds an entry; see `Entry` for the fields.

    Args:
      phase: one of `PHASES`; None inside `with ledger.phase(..)`.

    Raises:
      ValueError: if a field cannot be, or no phase is known.
    """
    phase = self._phase if phase is None else phase
    if phase is None:
      raise ValueError("no phase: name one, or add inside ledger.phase(..)")
    entry = Entry(
      id=f"{self.name}/{len(self._entries):05d}",
      phase=phase,
      flop=flop,
      recomputed=recomputed,
      padding=padding,
      queries=queries,
      dtype=dtype,
      seconds=seconds,
      joules=joules,
      dollars=dollars,
      carbon=carbon,
      day=day or datetime.date.today().isoformat(),
      note=note,
    )
    self.take(entry)
    return entry

  def add_cost(
    self,
    cost: costs.Cost,
    phase: str | None = None,
    *,
    queries: int = 0,
    method: str = "metered",
    note: str = "",
  ) -> Entry:
    """Adds what a meter has charged: FLOPs, seconds, joules and dollars.

    Args:
      cost: on the host, as `SearchResult.cost` is.
      phase: one of `PHASES`; None inside `with ledger.phase(..)`.
      queries: how many queries the cost answered.
      method: how it is known.
      note: for a reader.

    Raises:
      ValueError: if a field cannot be.
    """
    cost = cost.to_numbers().validate()
    found = {
      "seconds": (cost.seconds, "s", "measured"),
      "joules": (cost.joules, "J", "modelled"),
      "dollars": (cost.dollars, "USD", "modelled"),
    }
    return self.add(
      phase,
      flop=Estimate.exact(cost.flops, "FLOP", method),
      queries=queries,
      note=note,
      **{
        name: Estimate.exact(value, unit, method, provenance)
        for name, (value, unit, provenance) in found.items()
        if value
      },
    )

  @contextlib.contextmanager
  def phase(self, name: str) -> Iterator["Ledger"]:
    """Entries that name no phase belong to this one, while it lasts.

    Raises:
      ValueError: for an unknown phase.
    """
    check_phase(name)
    before, self._phase = self._phase, name
    try:
      yield self
    finally:
      self._phase = before

  def take(self, entry: Entry) -> None:
    """Adds an entry that has its id; one that is there already is left.

    Raises:
      ValueError: if another entry has this id.
    """
    there = self._entries.get(entry.id)
    if there == entry:
      return
    if there is not None:
      raise ValueError(
        f"two different entries are called {entry.id!r}; runs that are merged "
        "need ledgers of different names"
      )
    if self.sink is not None:
      self.sink(entry)
    self._entries[entry.id] = entry

  def merge(self, other: "Ledger") -> None:
    """Takes all entries of another ledger, each once.

    Raises:
      ValueError: if two entries have one id, or the other has parents that
        this one has not.
    """
    ours = {(p.ledger.name, p.role) for p in self.parents}
    strange = [
      p.ledger.name
      for p in other.parents
      if (p.ledger.name, p.role) not in ours and p.ledger.name != self.name
    ]
    if strange:
      raise ValueError(
        f"ledger {other.name!r} builds on {strange[0]!r}, which ledger "
        f"{self.name!r} does not; name it as a parent"
      )
    for entry in other.entries:
      self.take(entry)

  def counted(
    self,
    phases: Sequence[str] | None = None,
    roles: Sequence[str] = ("base",),
  ) -> list[Entry]:
    """Entries of some phases, its own and those that it inherits.

    Args:
      phases: of its own entries; None for all. What answers, tests and fails
        belongs to the ledger that it happened in: of parents only phases of
        `TRAINING` are inherited.
      roles: of parents to inherit from; () for none.

    Raises:
      ValueError: for an unknown phase or role.
    """
    wanted = tuple(PHASES) if phases is None else tuple(phases)
    for phase in wanted:
      check_phase(phase)
    for role in roles:
      if role not in ROLES:
        raise ValueError(f"unknown role {role!r}; expected {', '.join(ROLES)}")
    found = {e.id: e for e in self.entries if e.phase in wanted}
    inherited = [phase for phase in wanted if phase in TRAINING]
    for parent in self.parents:
      if parent.role in roles:
        # What a verifier was made from is part of it, whatever else counts.
        for entry in parent.ledger.counted(inherited, ("base", *roles)):
          found.setdefault(entry.id, entry)
    return list(found.values())

  def total(
    self,
    phases: Sequence[str] | None = None,
    *,
    quantity: str = "flop",
    roles: Sequence[str] = ("base",),
    seed: int = 0,
    draws: int = _DRAWS,
  ) -> Total:
    """What some phases come to, by Monte Carlo with a fixed seed.

    Args:
      phases: as in `counted`.
      quantity: one of `QUANTITIES`; entries without it add nothing.
      roles: as in `counted`.
      seed: of the draws; entries keep theirs, in whatever order they come.
      draws: how many.

    Raises:
      ValueError: for an unknown quantity, phase or role.
    """
    if quantity not in QUANTITIES:
      raise ValueError(
        f"unknown quantity {quantity!r}; expected one of "
        f"{', '.join(QUANTITIES)}"
      )
    named = [
      (entry.id, getattr(entry, quantity))
      for entry in self.counted(phases, roles)
      if getattr(entry, quantity) is not None
    ]
    return summed(named, QUANTITIES[quantity], seed=seed, draws=draws)

  def model_flop(
    self,
    phases: Sequence[str] | None = None,
    roles: Sequence[str] = ("base",),
  ) -> float:
    """FLOP of some phases without recomputation and padding."""
    return math.fsum(e.model_flop for e in self.counted(phases, roles))


def summed(
  named: Sequence[tuple[str, Estimate]],
  unit: str,
  *,
  seed: int = 0,
  draws: int = _DRAWS,
) -> Total:
  """A total of named estimates of one unit; 0 for none."""
  drawn = estimate_lib.monte_carlo(named, draws, seed)
  value = math.fsum(e.value for _, e in named)
  low, high = value, value
  if any(not e.is_exact for _, e in named):
    low, high = (float(q) for q in np.quantile(drawn, [0.05, 0.95]))
  parts = [estimate for _, estimate in named]
  return Total(
    estimate=Estimate(
      value=value,
      low=min(low, value),
      high=max(high, value),
      unit=unit,
      method=", ".join(dict.fromkeys(e.method for e in parts)) or "nothing",
      provenance=estimate_lib.weakest(*parts) if parts else "counted",
    ),
    draws=drawn,
    entries=len(parts),
  )
