# SPDX-License-Identifier: Apache-2.0
"""Thresholds that move with the field, and an index that is not compute alone.

A number fixed by law says less each year: algorithms improve, and models below
it come to do what those above it did. Hooker (2024) asks for thresholds that
follow a percentile of what is released, and for compute to be one entry among
several in an index of risk. Both need data and weights that are the user's:
none are built in.
"""

from collections.abc import Mapping, Sequence
import csv
import dataclasses
import datetime
import math
import os
import pathlib

import numpy as np

_COLUMNS = ("name", "released", "flop")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Released:
  """A model of the reference table.

  Attributes:
    name: what it is called.
    released: when.
    flop: training compute, as somebody estimated it.
  """

  name: str
  released: datetime.date
  flop: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class Threshold:
  """A percentile of recent models.

  Attributes:
    flop: the threshold.
    models: how many models it rests on.
    first: the first day of the window.
    last: its last day.
  """

  flop: float
  models: int
  first: datetime.date
  last: datetime.date


def read_models(path: str | os.PathLike[str]) -> list[Released]:
  """Reads a reference table: CSV with columns name, released, flop.

  Further columns are left alone. Dates are YYYY-MM-DD.

  Raises:
    ValueError: naming file, row and column of what cannot be.
  """
  path = pathlib.Path(path)
  try:
    with path.open(newline="", encoding="utf-8") as file:
      reader = csv.DictReader(file)
      missing = set(_COLUMNS) - set(reader.fieldnames or ())
      if missing:
        raise ValueError(f"{path}: no column {', '.join(sorted(missing))}")
      return [
        _released(path, number, row) for number, row in enumerate(reader, 2)
      ]
  except OSError as error:
    raise ValueError(f"{path}: {error.strerror}") from None


def _released(path, number, row) -> Released:
  where = f"{path}, row {number}"
  try:
    released = datetime.date.fromisoformat(row["released"] or "")
  except ValueError:
    raise ValueError(
      f"{where}, column released: expected YYYY-MM-DD, got {row['released']!r}"
    ) from None
  try:
    flop = float(row["flop"])
  except (TypeError, ValueError):
    flop = math.nan
  if not 0 < flop < math.inf:
    raise ValueError(
      f"{where}, column flop: expected a positive number, got {row['flop']!r}"
    )
  return Released(name=row["name"], released=released, flop=flop)


def percentile_threshold(
  models: Sequence[Released],
  as_of: datetime.date,
  *,
  percentile: int | float,
  window_days: int = 365,
) -> Threshold:
  """The percentile of training compute among models of a trailing window.

  Args:
    models: the reference table.
    as_of: last day of the window.
    percentile: in [0, 100].
    window_days: length of the window.

  Raises:
    ValueError: for a percentile or window out of range, or if no model was
      released in the window.
  """
  if not 0 <= percentile <= 100:
    raise ValueError(f"percentile must be in [0, 100], got {percentile}")
  if window_days < 1:
    raise ValueError(f"window_days must be at least 1, got {window_days}")
  first = as_of - datetime.timedelta(days=window_days - 1)
  flop = [m.flop for m in models if first <= m.released <= as_of]
  if not flop:
    raise ValueError(
      f"no model of the table was released from {first} to {as_of}"
    )
  return Threshold(
    flop=float(np.percentile(flop, percentile)),
    models=len(flop),
    first=first,
    last=as_of,
  )


def risk_index(
  scores: Mapping[str, int | float], weights: Mapping[str, int | float]
) -> float:
  """Weighted mean of scores such as compute, capabilities, reach, autonomy.

  Args:
    scores: each in [0, 1].
    weights: one a score, not negative, not all 0. There is no default: weights
      are a judgement, and whoever makes it should say so.

  Returns:
    The index, in [0, 1].

  Raises:
    ValueError: if scores and weights do not name the same, or are out of range.
  """
  odd = sorted(set(scores) ^ set(weights))
  if odd or not scores:
    raise ValueError(
      f"every score needs a weight, and every weight a score; odd: {odd}"
    )
  for name in scores:
    if not 0 <= scores[name] <= 1:
      raise ValueError(f"score {name!r} must be in [0, 1], got {scores[name]}")
    if not 0 <= weights[name] < math.inf:
      raise ValueError(
        f"weight {name!r} must be finite and >= 0, got {weights[name]}"
      )
  total = math.fsum(weights.values())
  if not total > 0:
    raise ValueError("all weights are 0")
  return math.fsum(scores[n] * weights[n] for n in scores) / total
