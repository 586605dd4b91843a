# SPDX-License-Identifier: Apache-2.0
"""Power over time as CSV files, and as what phases of machines add up to.

A file has the columns timestamp, power_w and, if it holds several rows or
power domains, domain:

    timestamp,power_w,domain
    2026-01-05T00:00:00Z,151200,row-1

Timestamps are seconds or ISO 8601; one that names no zone is taken as UTC.
Columns may stand in any order, and others beside them.
"""

from collections.abc import Mapping, Sequence
import csv
import datetime
import math
import os
import pathlib
from typing import NamedTuple

from jaxtyping import Float, Int
import numpy as np

from jaxttc.simulation.power import model as model_lib

_Path = str | os.PathLike[str]


class Series(NamedTuple):
  """Power over time of one row.

  Attributes:
    time_s: f64[n], ascending; seconds since 1970 if the file has dates.
    power_w: f64[n], above 0.
  """

  time_s: Float[np.ndarray, " n"]
  power_w: Float[np.ndarray, " n"]

  @property
  def every_s(self) -> float:
    """The time between readings.

    Raises:
      ValueError: if there are fewer than two, or they are not evenly spaced.
    """
    gaps = np.diff(self.time_s)
    if not len(gaps):
      raise ValueError("a power series of one reading; expected at least two")
    wrong = np.abs(gaps - gaps[0]) > 1e-6 * gaps[0]
    if wrong.any():
      at = int(np.argmax(wrong)) + 1
      raise ValueError(
        f"reading {at + 1} comes {gaps[at]:g} s after the one before, the "
        f"first two are {gaps[0]:g} s apart; expected an even spacing"
      )
    return float(gaps[0])


def read(path: _Path) -> dict[str, Series]:
  """Reads power series, by domain ("" if the file has no such column).

  Raises:
    ValueError: if a column is missing, a field cannot be read, a power is not
      finite and above 0 (a dead meter is not a row without power), or the
      times of a domain do not ascend. Says which file, row and column.
  """
  path = pathlib.Path(path)
  found: dict[str, tuple[list[float], list[float]]] = {}
  try:
    with path.open(encoding="utf-8", newline="") as file:
      reader = csv.DictReader(file)
      header = reader.fieldnames or []
      for column in ("timestamp", "power_w"):
        if column not in header:
          raise ValueError(
            f"{path}: no column {column}; its columns are {', '.join(header)}"
          )
      for entry in reader:
        where = f"{path}, row {reader.line_num}"
        times, watts = found.setdefault(entry.get("domain") or "", ([], []))
        time = _time(entry["timestamp"], where)
        if times and time <= times[-1]:
          raise ValueError(
            f"{where}, column timestamp: {entry['timestamp']!r} is not after "
            "the row before"
          )
        times.append(time)
        watts.append(_watts(entry["power_w"], where))
  except (OSError, UnicodeDecodeError) as error:
    raise ValueError(f"{path}: cannot be read: {error}") from error
  if not found:
    raise ValueError(f"{path}: no readings below the header")
  return {
    domain: Series(np.array(times), np.array(watts))
    for domain, (times, watts) in found.items()
  }


def write(series: Mapping[str, Series], path: _Path) -> None:
  """Writes power series, with seconds as timestamps, so that `read` has them.

  Args:
    series: by domain; a single one under "" is written without the column.
    path: the file; its folder is made if need be.
  """
  path = pathlib.Path(path)
  path.parent.mkdir(parents=True, exist_ok=True)
  named = list(series) != [""]
  with path.open("w", encoding="utf-8", newline="") as file:
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(["timestamp", "power_w"] + ["domain"] * named)
    for domain, one in series.items():
      for time, watts in zip(*one, strict=True):
        writer.writerow(
          [repr(float(time)), repr(float(watts))] + [domain] * named
        )


def from_phases(
  machine: Int[np.ndarray, " n"],
  start_s: Float[np.ndarray, " n"],
  end_s: Float[np.ndarray, " n"],
  watts: Float[np.ndarray, " n"],
  *,
  idle_w: Sequence[float],
  horizon_s: float,
  dt: float,
) -> Series:
  """Power of a row whose machines log their phases, as serving simulators do.

  Args:
    machine: which machine was busy.
    start_s: since when.
    end_s: until when; phases of one machine do not overlap.
    watts: what it drew meanwhile.
    idle_w: what each machine draws otherwise.
    horizon_s: length of the series.
    dt: time between readings; each is the exact mean since the one before.

  Raises:
    ValueError: if a phase ends before it starts, overlaps another of its
      machine, or names a machine that is not there.
  """
  idle = np.asarray(idle_w, float)
  for name, value in (("horizon_s", horizon_s), ("dt", dt)):
    model_lib.positive(name, value)
  order = np.lexsort((start_s, machine))
  for before, at in zip(order[:-1], order[1:], strict=True):
    if machine[at] == machine[before] and start_s[at] < end_s[before]:
      raise ValueError(
        f"phase {at} of machine {machine[at]} starts at {start_s[at]:g} s, "
        f"before its phase {before} ends at {end_s[before]:g} s"
      )
  bad = ~((start_s <= end_s) & (machine >= 0) & (machine < len(idle)))
  if bad.any():
    at = int(np.argmax(bad))
    raise ValueError(
      f"phase {at}: machine {machine[at]} from {start_s[at]:g} to "
      f"{end_s[at]:g} s; expected one of {len(idle)} machines and an end after "
      "the start"
    )
  edges = np.arange(math.ceil(horizon_s / dt - 1e-9) + 1) * dt
  # Joules above idle up to each edge: exact, however short the phases.
  times = np.concatenate([start_s, end_s])
  slopes = np.concatenate([watts - idle[machine], idle[machine] - watts])
  order = np.argsort(times, kind="stable")
  times, slopes = times[order], slopes[order]
  upto = np.searchsorted(times, edges, side="right")
  slope = np.concatenate([[0.0], np.cumsum(slopes)])[upto]
  moment = np.concatenate([[0.0], np.cumsum(slopes * times)])[upto]
  joules = slope * edges - moment
  return Series(edges[1:], idle.sum() + np.diff(joules) / dt)


def _time(text: str | None, where: str) -> float:
  try:
    seconds = float(text or "")
  except ValueError:
    try:
      moment = datetime.datetime.fromisoformat((text or "").strip())
    except ValueError:
      raise ValueError(
        f"{where}, column timestamp: {text!r}; expected seconds or ISO 8601"
      ) from None
    if moment.tzinfo is None:
      moment = moment.replace(tzinfo=datetime.UTC)
    return moment.timestamp()
  if not math.isfinite(seconds):
    raise ValueError(
      f"{where}, column timestamp: {text!r}; expected a finite time"
    )
  return seconds


def _watts(text: str | None, where: str) -> float:
  try:
    watts = float(text or "")
  except ValueError:
    watts = math.nan
  if not (math.isfinite(watts) and watts > 0):
    raise ValueError(
      f"{where}, column power_w: {text!r}; expected watts, finite and above 0"
    )
  return watts
