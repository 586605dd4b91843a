# SPDX-License-Identifier: Apache-2.0
"""Emissions of electricity: a constant intensity, or one that changes by hour.

    kgCO2e = kWh * PUE * gCO2e per kWh / 1000

An average hides the time of day, so a run that knows when it ran should use a
series. Between two times of a series the intensity is on the line between; a
run is not carried beyond its ends.
"""

import csv
import dataclasses
import datetime
import math
import os
import pathlib

from jaxtyping import Float
import numpy as np

from jaxttc.cost import energy as energy_lib
from jaxttc.cost import estimate as estimate_lib

Estimate = estimate_lib.Estimate
_COLUMNS = ("timestamp", "g_per_kwh")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Intensity:
  """Grams of CO2 equivalent a kilowatt-hour, over time.

  Attributes:
    seconds: f64[N], since 1970 in UTC, rising; N = 1 for a constant.
    grams: f64[N].
    source: where it is from, and whether it is of a place or of a contract.
  """

  seconds: Float[np.ndarray, " N"]
  grams: Float[np.ndarray, " N"]
  source: str

  @classmethod
  def constant(cls, grams: int | float, source: str) -> "Intensity":
    """The same at all times.

    Raises:
      ValueError: for an intensity that is negative or not finite, or no
        source.
    """
    if not 0 <= grams < math.inf:
      raise ValueError(
        f"carbon intensity must be finite and not negative, got {grams}"
      )
    if not source:
      raise ValueError("a carbon intensity needs a source")
    return cls(
      seconds=np.zeros(1), grams=np.array([float(grams)]), source=source
    )

  @classmethod
  def read(cls, path: str | os.PathLike[str]) -> "Intensity":
    """A series from CSV with columns timestamp and g_per_kwh.

    Timestamps are ISO 8601 with their zone (2026-01-31T13:00:00+01:00, or Z),
    each later than the one before.

    Raises:
      ValueError: naming file, row and column of what cannot be.
    """
    path = pathlib.Path(path)
    times, grams = [], []
    try:
      with path.open(newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        missing = set(_COLUMNS) - set(reader.fieldnames or ())
        if missing:
          raise ValueError(f"{path}: no column {', '.join(sorted(missing))}")
        for number, row in enumerate(reader, 2):
          where = f"{path}, row {number}"
          times.append(_time(where, row["timestamp"], times))
          grams.append(_grams(where, row["g_per_kwh"]))
    except OSError as error:
      raise ValueError(f"{path}: {error.strerror}") from None
    if not times:
      raise ValueError(f"{path}: no rows; expected one a time")
    return cls(seconds=np.array(times), grams=np.array(grams), source=path.name)

  def mean(
    self, start: datetime.datetime | None = None, seconds: int | float = 0.0
  ) -> float:
    """The mean intensity while something ran, in grams a kilowatt-hour.

    Args:
      start: when, with its zone; None for a constant.
      seconds: how long.

    Raises:
      ValueError: for a series without a start, a time without a zone, or one
        outside the series.
    """
    if len(self.seconds) == 1:
      return float(self.grams[0])
    if start is None or start.tzinfo is None:
      raise ValueError(
        f"{self.source} is a series: emissions need a start with its zone, "
        f"got {start}"
      )
    begin = start.timestamp()
    end = begin + seconds
    if not self.seconds[0] <= begin <= end <= self.seconds[-1]:
      raise ValueError(
        f"{self.source} tells of {_text(self.seconds[0])} to "
        f"{_text(self.seconds[-1])}, not of {_text(begin)} to {_text(end)}"
      )
    if seconds == 0:
      return float(np.interp(begin, self.seconds, self.grams))
    inside = (self.seconds > begin) & (self.seconds < end)
    times = np.concatenate([[begin], self.seconds[inside], [end]])
    grams = np.interp(times, self.seconds, self.grams)
    return float(np.trapezoid(grams, times) / seconds)


def emitted(
  joules: Estimate,
  intensity: Intensity,
  *,
  pue: int | float = 1.0,
  start: datetime.datetime | None = None,
  seconds: int | float = 0.0,
) -> Estimate:
  """Emissions of energy that was drawn evenly while something ran.

  Args:
    joules: of the machines.
    intensity: of the grid or the contract.
    pue: power usage effectiveness of the building, at least 1.
    start: when it began; needed for a series.
    seconds: how long it took.

  Raises:
    ValueError: as `Intensity.mean` does, and for a PUE below 1.
  """
  estimate_lib.require(joules, "J", "joules")
  energy_lib.check_pue(pue)
  grams = intensity.mean(start, seconds)
  found = joules.scaled(pue * grams / 1000 / energy_lib.JOULES_A_KWH)
  return dataclasses.replace(
    found,
    unit="kgCO2e",
    method=f"{joules.method}, {grams:.4g} g/kWh ({intensity.source})",
    provenance=max(
      joules.provenance, "modelled", key=estimate_lib.PROVENANCES.index
    ),
  )


def _time(where: str, text: str | None, before: list[float]) -> float:
  try:
    time = datetime.datetime.fromisoformat(text or "")
  except ValueError:
    raise ValueError(
      f"{where}, column timestamp: expected ISO 8601, got {text!r}"
    ) from None
  if time.tzinfo is None:
    raise ValueError(
      f"{where}, column timestamp: {text!r} has no zone; append Z or +01:00"
    )
  if before and time.timestamp() <= before[-1]:
    raise ValueError(
      f"{where}, column timestamp: {text!r} is not after the row before"
    )
  return time.timestamp()


def _grams(where: str, text: str | None) -> float:
  try:
    grams = float(text or "")
  except ValueError:
    grams = math.nan
  if not 0 <= grams < math.inf:
    raise ValueError(
      f"{where}, column g_per_kwh: expected a number >= 0, got {text!r}"
    )
  return grams


def _text(seconds: float) -> str:
  time = datetime.datetime.fromtimestamp(float(seconds), datetime.UTC)
  return time.isoformat(timespec="minutes")
