# SPDX-License-Identifier: Apache-2.0
"""Frequency plans: what each level of control does to each priority.

A level may lock the clock, cap the watts, or both. A lock slows a server
always; a cap only in the phases that would draw more, so a cap leaves troughs
as they are and a decoding server untouched.
"""

from collections.abc import Sequence
import dataclasses
import math

import numpy as np

from jaxttc.simulation.power import model as model_lib

PRIORITIES = ("low", "high")


@dataclasses.dataclass(frozen=True)
class Level:
  """One level of a plan.

  Attributes:
    name: how it is shown.
    low_mhz: lock of servers of low priority; None is no lock.
    high_mhz: the same of high priority.
    low_cap_w: power cap of one server of low priority; None is no cap.
    high_cap_w: the same of high priority.
  """

  name: str
  low_mhz: float | None = None
  high_mhz: float | None = None
  low_cap_w: float | None = None
  high_cap_w: float | None = None


@dataclasses.dataclass(frozen=True)
class FrequencyPlan:
  """Levels from free to tight.

  Attributes:
    levels: the levels; the first is where a row starts.

  Raises:
    ValueError: if there is none, or a lock or cap is not positive.
  """

  levels: tuple[Level, ...]

  def __post_init__(self) -> None:
    if not self.levels:
      raise ValueError("a frequency plan needs at least one level")
    for level in self.levels:
      for field in ("low_mhz", "high_mhz", "low_cap_w", "high_cap_w"):
        value = getattr(level, field)
        if value is not None:
          model_lib.positive(f"level {level.name!r}: {field}", value)

  @property
  def capped(self) -> bool:
    """Whether a level caps watts."""
    return any(
      level.low_cap_w is not None or level.high_cap_w is not None
      for level in self.levels
    )

  def paces(self, clock: model_lib.Clock) -> np.ndarray:
    """What the locks leave.

    Returns:
      f64[levels, 2, 4]: a `model.Pace` by level and priority (low, high).

    Raises:
      ValueError: if a lock is above the full clock; the level is named.
    """

    def pace(level: Level, mhz: float | None) -> model_lib.Pace:
      try:
        return clock.pace(clock.max_mhz if mhz is None else mhz)
      except ValueError as error:
        raise ValueError(f"level {level.name!r}: {error}") from None

    return np.array(
      [
        [pace(level, level.low_mhz), pace(level, level.high_mhz)]
        for level in self.levels
      ]
    )

  def caps(self, idle_w: float) -> np.ndarray:
    """The caps.

    Returns:
      f64[levels, 2], W of one server by level and priority; inf is no cap.

    Raises:
      ValueError: if a cap is not above idle power, which no clock can reach.
    """
    made = np.full((len(self.levels), 2), math.inf)
    for row, level in zip(made, self.levels, strict=True):
      for at, cap in enumerate((level.low_cap_w, level.high_cap_w)):
        if cap is None:
          continue
        if cap <= idle_w:
          raise ValueError(
            f"level {level.name!r}: a cap of {cap:g} W for {PRIORITIES[at]} "
            f"priority; a server draws {idle_w:g} W even idle"
          )
        row[at] = cap
    return made

  def stretch(
    self, level: int, priority: str, clock: model_lib.Clock
  ) -> tuple[float, float]:
    """How many times longer the phases take at a level.

    A serving simulator that multiplies its prompt and token times by these
    runs under this plan, so that splitting phases and locking clocks compose.

    Args:
      level: which level.
      priority: "low" or "high".
      clock: how time follows the clock.

    Returns:
      Factors of prompt time and of token time, each >= 1.

    Raises:
      ValueError: if there is no such level or priority, or if the level caps
        watts: how much a cap slows depends on what a request draws.
    """
    if not 0 <= level < len(self.levels):
      raise ValueError(f"level {level}; expected 0 to {len(self.levels) - 1}")
    side = int(high([priority])[0])
    found = self.levels[level]
    if (found.low_cap_w, found.high_cap_w)[side] is not None:
      raise ValueError(
        f"level {found.name!r} caps watts: use capped_stretch with the watts "
        "of a phase"
      )
    pace = model_lib.Pace(*self.paces(clock)[level, side])
    return 1 / pace.prompt_speed, 1 / pace.token_speed


def capped_stretch(
  cap_w: float, power: model_lib.PowerModel, prompt_w: float, token_w: float
) -> tuple[float, float]:
  """How many times longer the phases of a request take under a watt cap.

  Args:
    cap_w: cap of the server.
    power: its idle power and clock.
    prompt_w: what the request draws in the prompt phase at full clock.
    token_w: the same in the token phase.

  Returns:
    Factors of prompt time and of token time, each >= 1.

  Raises:
    ValueError: if the cap is not above idle power.
  """
  caps = FrequencyPlan((Level("cap", low_cap_w=cap_w),)).caps(power.idle_w)
  room = float(caps[0, 0]) - power.idle_w
  clock = power.clock

  def factor(watts: float, watts_exponent: float, exponent: float) -> float:
    above = watts - power.idle_w
    if above <= room:
      return 1.0
    if watts_exponent == 0:
      raise ValueError(
        f"a cap of {cap_w:g} W cannot be kept: with a power exponent of 0 the "
        f"phase draws {watts:g} W at any clock"
      )
    return (above / room) ** (exponent / watts_exponent)

  return (
    factor(prompt_w, clock.prompt_power, clock.prompt_time),
    factor(token_w, clock.token_power, clock.token_time),
  )


def high(priorities: Sequence[str]) -> np.ndarray:
  """Which servers are of high priority.

  Returns:
    bool[servers].

  Raises:
    ValueError: if a label is neither "low" nor "high"; its server is named.
  """
  for server, label in enumerate(priorities):
    if label not in PRIORITIES:
      raise ValueError(
        f"server {server} has priority {label!r}; expected one of "
        f"{', '.join(PRIORITIES)}"
      )
  return np.array([label == "high" for label in priorities], bool)


def ladder(
  low_mhz: Sequence[float], high_mhz: Sequence[float]
) -> FrequencyPlan:
  """Levels in small steps: first low priority goes down, then high.

  Args:
    low_mhz: locks of low priority, descending.
    high_mhz: locks of high priority, descending; low stays at its last.

  Raises:
    ValueError: if `low_mhz` is empty or a list does not descend.
  """
  if not low_mhz:
    raise ValueError("a ladder needs at least one lock of low priority")
  for name, locks in (("low_mhz", low_mhz), ("high_mhz", high_mhz)):
    if any(b >= a for a, b in zip(locks[:-1], locks[1:], strict=True)):
      raise ValueError(f"{name} is {list(locks)}; expected descending locks")
  down = [Level(f"low {mhz:g}", low_mhz=mhz) for mhz in low_mhz]
  last = low_mhz[-1]
  both = [
    Level(f"low {last:g}, high {mhz:g}", low_mhz=last, high_mhz=mhz)
    for mhz in high_mhz
  ]
  return FrequencyPlan((Level("free"), *down, *both))


FREE = FrequencyPlan((Level("free"),))
LOW_ONLY = FrequencyPlan((Level("free"), Level("low 1110", low_mhz=1110.0)))
ALL = FrequencyPlan(
  (Level("free"), Level("all 1110", low_mhz=1110.0, high_mhz=1110.0))
)
# Remembered from the paper for the A100, not read again: defaults to vary.
POLCA = FrequencyPlan(
  (
    Level("free"),
    Level("low 1275", low_mhz=1275.0),
    Level("low 1110", low_mhz=1110.0),
    Level("low 1110, high 1305", low_mhz=1110.0, high_mhz=1305.0),
  )
)
