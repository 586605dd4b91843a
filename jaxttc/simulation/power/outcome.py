# SPDX-License-Identifier: Apache-2.0
"""What became of a row: its power, its levels, its brakes, its requests."""

from collections.abc import Mapping, Sequence
import math
from typing import TYPE_CHECKING, NamedTuple

from jaxtyping import Bool, Float, Int8
import numpy as np

from jaxttc.simulation.power import plans as plans_lib
from jaxttc.simulation.power import requests as requests_lib

if TYPE_CHECKING:
  from jaxttc.simulation.power import row as row_lib


class RowResult(NamedTuple):
  """A simulated row.

  Attributes:
    dt: length of a step in seconds.
    telemetry_s: time between readings.
    budget_w: what the row might draw.
    power_w: f64[steps], mean power of each step.
    level: i8[steps], the level in effect.
    commanded: i8[steps], the level last commanded.
    braked: bool[steps], whether the brake was held.
    tripped: bool[steps], whether a brake was called for.
    finish_s: f64[servers, most], when each request was done; inf if it was
      not by the end, or is none.
    requests: what was asked.
  """

  dt: float
  telemetry_s: float
  budget_w: float
  power_w: Float[np.ndarray, " steps"]
  level: Int8[np.ndarray, " steps"]
  commanded: Int8[np.ndarray, " steps"]
  braked: Bool[np.ndarray, " steps"]
  tripped: Bool[np.ndarray, " steps"]
  finish_s: Float[np.ndarray, "servers most"]
  requests: requests_lib.Requests

  @property
  def horizon_s(self) -> float:
    """How long was simulated."""
    return len(self.power_w) * self.dt

  @property
  def brakes(self) -> int:
    """Brakes called for; none is called for while one is pending or held."""
    return int(self.tripped.sum())

  @property
  def energy_j(self) -> float:
    """Joules of the whole row."""
    return float(self.power_w.sum()) * self.dt

  @property
  def readings_w(self) -> Float[np.ndarray, " readings"]:
    """What telemetry read: the mean power of the step before each reading."""
    every = round(self.telemetry_s / self.dt)
    return self.power_w[every - 1 :: every]

  @property
  def served(self) -> int:
    """Requests done by the end."""
    return int(np.isfinite(self.finish_s).sum())

  @property
  def unfinished(self) -> int:
    """Requests that arrived and were not done by the end."""
    arrived = self.requests.arrival_s < self.horizon_s
    return int((arrived & ~np.isfinite(self.finish_s)).sum())

  def latency_s(self, priority: str) -> Float[np.ndarray, " requests"]:
    """Time from arrival to the end, of every request that arrived.

    One that was not done counts with its age at the end, so that a backlog
    shows, if less than it will come to.

    Args:
      priority: "low" or "high".

    Raises:
      ValueError: if the priority is unknown.
    """
    high = bool(plans_lib.high([priority])[0])
    mine = self.requests.high == high
    arrival, finish = self.requests.arrival_s[mine], self.finish_s[mine]
    arrived = arrival < self.horizon_s
    return np.minimum(finish[arrived], self.horizon_s) - arrival[arrived]


class Collector:
  """Gathers what rows leave behind, chunk by chunk, on the host."""

  def __init__(self, rows: "Sequence[row_lib.Row]", steps: int, dt: float):
    """Makes room.

    Args:
      rows: the rows.
      steps: how many steps count; later ones are dropped.
      dt: length of a step in seconds.
    """
    self._rows, self._dt = rows, dt
    self._kinds = {
      "power_w": np.float64,
      "level": np.int8,
      "commanded": np.int8,
      "braked": bool,
      "tripped": bool,
    }
    self._series = {
      name: np.zeros((len(rows), steps), kind)
      for name, kind in self._kinds.items()
    }
    lanes = max(len(row.requests.high) for row in rows)
    most = max(row.requests.arrival_s.shape[1] for row in rows)
    self._finish = np.full((len(rows), lanes, most), math.inf)
    self._done = np.zeros((len(rows), lanes), np.int64)

  def add(self, start: int, seen: Mapping[str, np.ndarray]) -> None:
    """Adds a chunk.

    Args:
      start: its first step.
      seen: [chunk, rows] each, and "finish", f[chunk, rows, lanes]: offsets
        within steps, -1 for none.
    """
    count = min(len(seen["finish"]), self._series["level"].shape[1] - start)
    for name, series in self._series.items():
      series[:, start : start + count] = seen[name][:count].T
    lanes = self._finish.shape[1]
    finish = seen["finish"][:count, :, :lanes]
    done = np.ascontiguousarray(np.moveaxis(finish >= 0, 0, -1))
    counts = done.sum(-1)
    row, lane, step = np.nonzero(done)
    # A server's requests finish in order: the i-th to finish is its i-th.
    first = np.cumsum(counts.ravel()) - counts.ravel()
    within = np.arange(len(row)) - np.repeat(first, counts.ravel())
    offset = finish[step, row, lane].astype(np.float64)
    at = (row, lane, self._done[row, lane] + within)
    self._finish[at] = (start + step) * self._dt + offset
    self._done += counts

  def results(self) -> list[RowResult]:
    """A result a row."""
    made = []
    for at, row in enumerate(self._rows):
      servers, most = row.requests.arrival_s.shape
      made.append(
        RowResult(
          dt=self._dt,
          telemetry_s=row.control.telemetry_s,
          budget_w=row.budget_w,
          finish_s=self._finish[at, :servers, :most],
          requests=row.requests,
          **{name: series[at] for name, series in self._series.items()},
        )
      )
    return made
