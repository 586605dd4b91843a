# SPDX-License-Identifier: Apache-2.0
"""Compares cost records fairly: one machine, one way of knowing, one quality.

A table of costs says nothing if one row is measured and the next modelled, or
if they ran on different machines, or reach different qualities. `compare`
refuses the first two unless told otherwise, and puts the third beside.
"""

from collections.abc import Mapping, Sequence
import dataclasses
import math
from typing import Any

from rich import table as rich_table

from jaxttc.cost import cost_record

Record = cost_record.CostRecord


@dataclasses.dataclass(frozen=True, kw_only=True)
class Row:
  """One record beside the baseline.

  Attributes:
    name: of the record.
    quality: what it reached.
    speed_up: times faster than the baseline.
    ratios: of each figure, its value over the baseline's; None over 0.
    per_quality: dollars, joules and FLOP for each unit of quality.
  """

  name: str
  quality: float
  speed_up: float
  ratios: dict[str, float | None]
  per_quality: dict[str, float]


def compare(
  records: Sequence[Record],
  baseline: str,
  quality: Mapping[str, int | float],
  *,
  allow: Sequence[str] = (),
) -> list[Row]:
  """A row a record, in order.

  Args:
    records: with the figures of the baseline, or more.
    baseline: the name of one of them.
    quality: of each, by name; higher is better.
    allow: what may differ: "machine", "provenance".

  Raises:
    ValueError: for no records, two of one name, a missing baseline or quality,
      a quality that is not finite, or records that differ in what is not
      allowed to.
  """
  named = {record.name: record for record in records}
  if not records or len(named) != len(records):
    raise ValueError("compare needs records of different names")
  if baseline not in named:
    raise ValueError(
      f"no record is called {baseline!r}; expected one of {', '.join(named)}"
    )
  strange = set(allow) - {"machine", "provenance"}
  if strange:
    raise ValueError(
      f"allow may name machine and provenance, got {sorted(strange)[0]!r}"
    )
  _check(records, named[baseline], quality, allow)
  return [_row(record, named[baseline], quality) for record in records]


def leaderboard(
  records: Sequence[Record],
  figure: str,
  quality: Mapping[str, int | float],
  *,
  target: int | float,
  allow: Sequence[str] = (),
) -> list[Record]:
  """Records that reach a quality, the cheapest first.

  Args:
    records: what to rank.
    figure: the cost, a name of `cost_record.FIGURES`.
    quality: of each, by name.
    target: the quality that counts as equal.
    allow: as in `compare`.

  Raises:
    ValueError: as `compare` does.
  """
  compare(records, records[0].name if records else "", quality, allow=allow)
  enough = [r for r in records if quality[r.name] >= target]
  return sorted(enough, key=lambda record: record[figure].value)


def table(rows: Sequence[Row]) -> rich_table.Table:
  """A printable table of what `compare` found."""
  shown = rich_table.Table(
    "record", "quality", "times faster", "FLOP", "joules"
  )
  for row in rows:
    cells = [
      "-" if (ratio := row.ratios.get(name)) is None else f"{ratio:.3g} x"
      for name in ("flop", "joules")
    ]
    shown.add_row(row.name, f"{row.quality:.4g}", f"{row.speed_up:.3g}", *cells)
  return shown


def _check(records, baseline, quality, allow) -> None:
  for record in records:
    if not math.isfinite(quality.get(record.name, math.nan)):
      raise ValueError(
        f"record {record.name!r} needs a finite quality, got "
        f"{quality.get(record.name)}"
      )
    if "machine" not in allow and record.machine != baseline.machine:
      raise ValueError(
        f"{record.name!r} ran on {record.machine}, {baseline.name!r} on "
        f"{baseline.machine}; allow=('machine',) compares them all the same"
      )
    for name, how in record.provenance.items():
      other = baseline.provenance.get(name, how)
      if "provenance" not in allow and how != other:
        raise ValueError(
          f"{name} of {record.name!r} is {how}, of {baseline.name!r} {other}; "
          "allow=('provenance',) compares them all the same"
        )


def _row(record, baseline, quality) -> Row:
  def ratio(name: str) -> float | None:
    below = baseline[name].value
    return record[name].value / below if below else None

  reached = quality[record.name]
  costs: dict[str, Any] = {
    name: record.figures[name].value
    for name in ("dollars", "joules", "flop")
    if name in record.figures
  }
  return Row(
    name=record.name,
    quality=reached,
    speed_up=baseline["seconds"].value / record["seconds"].value
    if record["seconds"].value
    else math.inf,
    ratios={n: ratio(n) for n in record.figures if n in baseline.figures},
    per_quality={
      name: value / reached for name, value in costs.items() if reached > 0
    },
  )
