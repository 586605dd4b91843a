# SPDX-License-Identifier: Apache-2.0
"""How many servers a row carries, and where thresholds must lie.

Thresholds come from history: what a row can rise by within the actuator's
latency must fit between a threshold and the budget. The number of servers is
found by bisection: the most at which priorities keep their latencies against
the row as it was provisioned, and brakes stay as rare as asked.
"""

from collections.abc import Callable, Sequence
import dataclasses
import math
from typing import NamedTuple

from jaxtyping import Float
import numpy as np
from scipy import stats

from jaxttc.simulation.power import model as model_lib
from jaxttc.simulation.power import outcome as outcome_lib
from jaxttc.simulation.power import policies as policies_lib
from jaxttc.simulation.power import row as row_lib

_DAY_S = 86400.0


@dataclasses.dataclass(frozen=True)
class Slo:
  """How much longer requests may take than on the row as provisioned.

  Attributes:
    high_p50: ratio of medians, high priority.
    high_p99: ratio of 99th percentiles, high priority.
    low_p50: the same of low priority.
    low_p99: the same of low priority.

  Raises:
    ValueError: if a ratio is not positive and finite.
  """

  high_p50: float = 1.01
  high_p99: float = 1.05
  low_p50: float = 1.05
  low_p99: float = 1.5

  def __post_init__(self) -> None:
    for field in dataclasses.fields(self):
      model_lib.positive(field.name, getattr(self, field.name))


class Found(NamedTuple):
  """How a row of so many servers did, over all seeds.

  Attributes:
    servers: how many.
    slowdown: ratios to the row as provisioned, by the names of `Slo`.
    brakes: over all seeds.
    brakes_per_day: upper confidence bound of their rate.
    unfinished: requests not done by the end.
    holds: whether latencies and brakes are as asked.
  """

  servers: int
  slowdown: dict[str, float]
  brakes: int
  brakes_per_day: float
  unfinished: int
  holds: bool


class Oversubscription(NamedTuple):
  """What bisection found.

  Attributes:
    servers: the most that hold.
    extra: share of servers beyond those provisioned for.
    tried: what was simulated on the way.
  """

  servers: int
  extra: float
  tried: tuple[Found, ...]


def rise(
  power_w: Float[np.ndarray, " n"], budget_w: float, readings: int
) -> float:
  """The largest rise of row power within so many readings, over the budget.

  Raises:
    ValueError: if a reading is not finite and above 0, `readings` is below 1
      or there are not more readings than that.
  """
  model_lib.positive("budget_w", budget_w)
  bad = ~(np.isfinite(power_w) & (power_w > 0))
  if bad.any():
    at = int(np.argmax(bad))
    raise ValueError(
      f"reading {at} is {power_w[at]} W; expected finite and above 0: leave "
      "out what a dead meter wrote"
    )
  if not 1 <= readings < len(power_w):
    raise ValueError(
      f"a rise over {readings} readings, of {len(power_w)}; expected at least "
      "1 and more readings than that"
    )
  windows = np.lib.stride_tricks.sliding_window_view(power_w, readings + 1)
  return max(0.0, float((windows.max(1) - windows[:, 0]).max())) / budget_w


def thresholds_from_trace(
  power_w: Float[np.ndarray, " n"],
  budget_w: float,
  *,
  latency_s: float,
  every_s: float,
) -> tuple[float, float]:
  """Thresholds for `policies.dual_threshold` from a row's history.

  The second leaves room below the budget for the largest rise within the
  latency, the first leaves as much below the second: level 1 is in effect
  before the second threshold is met, level 2 before the budget is.

  Args:
    power_w: f64[n], the row's power at full clock, evenly spaced; scaled by
      the caller if servers are to be added.
    budget_w: what the row may draw.
    latency_s: from a reading to the effect of a command.
    every_s: time between readings.

  Raises:
    ValueError: if the readings cannot be used, or the row rises so fast that
      no threshold above 0 is safe.
  """
  model_lib.positive("every_s", every_s)
  if not (math.isfinite(latency_s) and latency_s >= 0):
    raise ValueError(f"latency_s is {latency_s}; expected at least 0")
  # A reading may come just after the row has begun to rise.
  readings = math.ceil(latency_s / every_s - 1e-9) + 1
  room = rise(power_w, budget_w, readings)
  first, second = 1 - 2 * room, 1 - room
  if first <= 0 or first >= second:
    raise ValueError(
      f"the row rises by {room:.3g} of the budget within {latency_s:g} s; "
      "expected above 0 and below 0.5 for two thresholds to fit"
    )
  return first, second


def brakes_per_day(
  brakes: int, seconds: float, confidence: float = 0.95
) -> float:
  """Upper bound of the rate of brakes, taken as a Poisson process.

  Garwood (1936): half the chi-squared quantile of 2 (brakes + 1) degrees.

  Raises:
    ValueError: if a number is out of its range.
  """
  model_lib.positive("seconds", seconds)
  if brakes < 0 or not 0 < confidence < 1:
    raise ValueError(
      f"{brakes} brakes at confidence {confidence}; expected at least 0, and "
      "in (0, 1)"
    )
  most = stats.chi2.ppf(confidence, 2 * (brakes + 1)) / 2
  return float(most) * _DAY_S / seconds


def slowdown(
  found: Sequence[outcome_lib.RowResult],
  provisioned: Sequence[outcome_lib.RowResult],
) -> dict[str, float]:
  """Latencies against the row as provisioned, pooled over seeds.

  Returns:
    Ratios by the names of `Slo`; each priority is compared with itself.
  """
  ratios = {}
  for priority in ("high", "low"):
    mine, theirs = (
      np.percentile(
        np.concatenate([one.latency_s(priority) for one in results]), [50, 99]
      )
      for results in (found, provisioned)
    )
    for name, ratio in zip(("p50", "p99"), mine / theirs, strict=True):
      ratios[f"{priority}_{name}"] = float(ratio)
  return ratios


def judge(
  found: Sequence[outcome_lib.RowResult],
  provisioned: Sequence[outcome_lib.RowResult],
  slo: Slo,
  *,
  most_brakes_per_day: float | None = None,
  confidence: float = 0.95,
) -> Found:
  """Whether rows of one size keep what is asked.

  Args:
    found: results, one a seed.
    provisioned: results of the row as provisioned, free, one a seed.
    slo: the latencies to keep.
    most_brakes_per_day: what the upper confidence bound of the rate of brakes
      may be; None asks for no brake at all.
    confidence: of that bound.
  """
  brakes = sum(one.brakes for one in found)
  seconds = sum(one.horizon_s for one in found)
  bound = brakes_per_day(brakes, seconds, confidence)
  ratios = slowdown(found, provisioned)
  rare = (
    not brakes
    if most_brakes_per_day is None
    else (bound <= most_brakes_per_day)
  )
  kept = all(ratio <= getattr(slo, name) for name, ratio in ratios.items())
  return Found(
    servers=len(found[0].requests.high),
    slowdown=ratios,
    brakes=brakes,
    brakes_per_day=bound,
    unfinished=sum(one.unfinished for one in found),
    holds=rare and kept,
  )


def max_oversubscription(
  make_row: Callable[[int, int], row_lib.Row],
  *,
  servers: int,
  most: int,
  seeds: Sequence[int],
  horizon_s: float,
  dt: float = 0.5,
  slo: Slo | None = None,
  most_brakes_per_day: float | None = None,
  confidence: float = 0.95,
  progress: Callable[[Found], None] | None = None,
) -> Oversubscription:
  """The most servers that hold, by bisection over whole numbers.

  Bisection takes it that a row which does not hold does not hold with more
  servers, either; `tried` shows what was seen.

  Args:
    make_row: from servers and seed to a row, its load growing with servers.
    servers: how many the budget is provisioned for.
    most: how many to try at most.
    seeds: all are simulated at each number of servers.
    horizon_s: how long, for each.
    dt: length of a step.
    slo: the latencies to keep; the defaults of `Slo` if None.
    most_brakes_per_day: see `judge`.
    confidence: see `judge`.
    progress: is called with each number of servers tried.

  Raises:
    ValueError: if there are no seeds, `most` is below `servers`, or the policy
      does not hold even with the servers provisioned for.
  """
  if not seeds or most < servers:
    raise ValueError(
      f"{len(seeds)} seeds and at most {most} servers, from {servers}; "
      "expected a seed, and as many servers"
    )
  slo = slo or Slo()

  def simulate(rows: list[row_lib.Row]) -> list[outcome_lib.RowResult]:
    return row_lib.simulate_rows(rows, horizon_s=horizon_s, dt=dt)

  first = [make_row(servers, seed) for seed in seeds]
  free = simulate(
    [dataclasses.replace(row, policy=policies_lib.no_cap()) for row in first]
  )
  tried: list[Found] = []

  def holds(count: int) -> bool:
    rows = [make_row(count, seed) for seed in seeds]
    found = judge(
      simulate(rows),
      free,
      slo,
      most_brakes_per_day=most_brakes_per_day,
      confidence=confidence,
    )
    tried.append(found)
    if progress is not None:
      progress(found)
    return found.holds

  if not holds(servers):
    raise ValueError(
      f"the policy does not hold even with {servers} servers: {tried[0]}"
    )
  low, high = servers, most + 1
  while high - low > 1:
    middle = (low + high) // 2
    if holds(middle):
      low = middle
    else:
      high = middle
  return Oversubscription(low, low / servers - 1, tuple(tried))
