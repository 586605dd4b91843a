# SPDX-License-Identifier: Apache-2.0
"""CostRecord: what one thing cost on one machine, each figure with its source.

A `Cost` is what a budget is charged: exact counts, in the hot path. A record is
for reports: any of the survey's metrics, each an `Estimate` that says how it is
known. Records of the same figures add; a rate is a figure over another.
"""

from collections.abc import Mapping
import csv
import dataclasses
import io
import math
from typing import Any

from jaxttc.cost import estimate as estimate_lib

Estimate = estimate_lib.Estimate

SCHEMA = 1
# Figures that a record may have, and their units.
FIGURES = {
  "flop": "FLOP",
  "seconds": "s",
  "compile_seconds": "s",
  "cpu_seconds": "s",
  "joules": "J",
  "marginal_joules": "J",
  "dollars": "USD",
  "carbon": "kgCO2e",
  "sent_bytes": "B",
  "stored_bytes": "B",
  "peak_bytes": "B",
  "tokens_in": "token",
  "tokens_out": "token",
  "examples": "1",
  "parameters": "1",
}
# These are levels, not amounts: of two, the larger.
_LEVELS = ("stored_bytes", "peak_bytes", "parameters")


@dataclasses.dataclass(frozen=True, kw_only=True)
class CostRecord:
  """Figures of one thing that ran.

  Attributes:
    name: what ran.
    machine: what it ran on; records of different machines are not compared.
    figures: estimates by the names of `FIGURES`.

  Raises:
    ValueError: for a figure that is unknown, or in another unit.
  """

  name: str
  machine: str
  figures: Mapping[str, Estimate]

  def __post_init__(self):
    for name, figure in self.figures.items():
      if name not in FIGURES:
        raise ValueError(
          f"unknown figure {name!r}; expected one of {', '.join(FIGURES)}"
        )
      estimate_lib.require(figure, FIGURES[name], f"figure {name!r}")

  def __getitem__(self, name: str) -> Estimate:
    if name not in self.figures:
      raise ValueError(
        f"record {self.name!r} has no {name!r}; it has "
        f"{', '.join(self.figures) or 'nothing'}"
      )
    return self.figures[name]

  def __add__(self, other: "CostRecord") -> "CostRecord":
    """One after the other on one machine: amounts add, levels are the larger.

    Raises:
      ValueError: for different machines or different figures.
    """
    if not isinstance(other, CostRecord):
      return NotImplemented
    if self.machine != other.machine:
      raise ValueError(
        f"cannot add {other.name!r} on {other.machine} to {self.name!r} on "
        f"{self.machine}"
      )
    odd = sorted(set(self.figures) ^ set(other.figures))
    if odd:
      raise ValueError(f"only one of two records has {odd[0]!r}")
    figures = {
      name: max(ours, other[name], key=lambda e: e.value)
      if name in _LEVELS
      else ours + other[name]
      for name, ours in self.figures.items()
    }
    return CostRecord(
      name=f"{self.name} + {other.name}", machine=self.machine, figures=figures
    )

  def scaled(self, factor: int | float) -> "CostRecord":
    """So many times the same: amounts scale, levels stay."""
    figures = {
      name: figure if name in _LEVELS else figure.scaled(factor)
      for name, figure in self.figures.items()
    }
    return dataclasses.replace(self, figures=figures)

  def per(self, name: str, of: str) -> float:
    """One figure over another: joules a token, dollars an example.

    Raises:
      ValueError: if either is missing, or the other is 0.
    """
    below = self[of].value
    if below == 0:
      raise ValueError(f"record {self.name!r} has no {name} per {of}: 0 {of}")
    return self[name].value / below

  @property
  def provenance(self) -> dict[str, str]:
    """How each figure is known."""
    return {name: figure.provenance for name, figure in self.figures.items()}

  def as_dict(self) -> dict[str, Any]:
    """JSON-ready, with a schema version."""
    return {
      "schema": SCHEMA,
      "name": self.name,
      "machine": self.machine,
      "figures": {name: e.as_dict() for name, e in self.figures.items()},
    }

  @classmethod
  def from_dict(cls, fields: Mapping[str, Any]) -> "CostRecord":
    """Inverse of `as_dict`.

    Raises:
      ValueError: for another schema, or figures that cannot be.
    """
    if fields.get("schema") != SCHEMA:
      raise ValueError(
        f"a record of schema {fields.get('schema')!r}; expected {SCHEMA}"
      )
    try:
      figures = {k: Estimate(**v) for k, v in fields["figures"].items()}
      return cls(
        name=fields["name"], machine=fields["machine"], figures=figures
      )
    except (KeyError, TypeError) as error:
      raise ValueError(f"no record: {error}") from None

  def as_csv(self) -> str:
    """A line a figure: name, figure, value, low, high, unit, how, by what."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    columns = ("value", "low", "high", "unit", "provenance", "method")
    writer.writerow(["name", "machine", "figure", *columns])
    for name, figure in self.figures.items():
      cells = [getattr(figure, column) for column in columns]
      writer.writerow([self.name, self.machine, name, *cells])
    return out.getvalue()


def speed_up(baseline: CostRecord, record: CostRecord) -> float:
  """How many times faster a record is than a baseline on the same machine.

  Raises:
    ValueError: for different machines, or no time at all.
  """
  if baseline.machine != record.machine:
    raise ValueError(
      f"cannot compare {record.name!r} on {record.machine} with "
      f"{baseline.name!r} on {baseline.machine}"
    )
  if not record["seconds"].value > 0:
    raise ValueError(f"record {record.name!r} took no time")
  return baseline["seconds"].value / record["seconds"].value


def compression(original: CostRecord, record: CostRecord) -> float:
  """Stored bytes of the original over those of a record; 1 for itself.

  Raises:
    ValueError: if either has none.
  """
  ratio = original["stored_bytes"].value / max(
    record["stored_bytes"].value, math.ulp(0.0)
  )
  if not 0 < ratio < math.inf:
    raise ValueError(
      f"records {original.name!r} and {record.name!r} need stored bytes"
    )
  return ratio
