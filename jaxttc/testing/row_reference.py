# SPDX-License-Identifier: Apache-2.0
"""A row of servers under a power budget in plain Python: the slow oracle.

The rules of `jaxttc.simulation.power.row`, written as one would without
arrays: loops over steps and servers, a queue a server, a list of commands in
flight. It shares no code with the compiled engine.
"""

import collections
from collections.abc import Callable, Sequence
import dataclasses
import math
from typing import Any

# (share of the budget, level in effect, whether braking, state)
#   -> (level, brake, state)
Decide = Callable[[float, int, bool, Any], tuple[int, bool, Any]]


@dataclasses.dataclass
class Request:
  """One request: arrival, seconds and watts above idle of both phases."""

  arrival_s: float
  prompt_s: float
  token_s: float
  prompt_w: float
  token_w: float
  finish_s: float = math.inf


@dataclasses.dataclass(frozen=True)
class Rules:
  """A row.

  Attributes:
    paces: pace[level][priority]: prompt speed, token speed, prompt watts and
      token watts, as shares; priority 0 is low, 1 high.
    brake: the pace under the brake.
    idle_w: of one server.
    budget_w: of the row.
    telemetry: steps between readings; the others are steps, too.
    cap_latency: from a command to its effect.
    brake_latency: from a reading over budget to the brake.
    brake_hold: for which a brake is held.
    dt: length of a step in seconds.
  """

  paces: Sequence[Sequence[Sequence[float]]]
  brake: Sequence[float]
  idle_w: float
  budget_w: float
  telemetry: int
  cap_latency: int
  brake_latency: int
  brake_hold: int
  dt: float


@dataclasses.dataclass
class Seen:
  """What a row did, step by step."""

  power_w: list[float]
  level: list[int]
  braked: list[bool]
  trips: int = 0


def simulate(
  servers: Sequence[Sequence[Request]],
  high: Sequence[bool],
  rules: Rules,
  decide: Decide,
  state: Any,
  steps: int,
) -> Seen:
  """Simulates a row; requests are marked with when they were done.

  Args:
    servers: the requests of each server, in order.
    high: whether each server is of high priority.
    rules: the row.
    decide: its policy, and
    state: the policy's first state.
    steps: how many.
  """
  queues = [collections.deque(requests) for requests in servers]
  left = [None] * len(servers)
  seen = Seen([], [], [])
  in_flight: collections.deque[tuple[int, int]] = collections.deque()
  level = commanded = 0
  brake_start = brake_end = 0
  power_w = len(servers) * rules.idle_w
  for step in range(steps):
    if step % rules.telemetry == 0:
      wanted, brake, state = decide(
        power_w / rules.budget_w, level, step < brake_end, state
      )
      if wanted != commanded:
        commanded = wanted
        in_flight.append((step + rules.cap_latency, wanted))
      if brake and step >= brake_end:
        brake_start = step + rules.brake_latency
        brake_end = brake_start + rules.brake_hold
        seen.trips += 1
    while in_flight and in_flight[0][0] <= step:
      level = in_flight.popleft()[1]
    braked = brake_start <= step < brake_end
    joules = []
    for at, queue in enumerate(queues):
      pace = rules.brake if braked else rules.paces[level][int(high[at])]
      spent, left[at] = _serve(queue, left[at], pace, step, rules.dt)
      joules.append(spent)
    power_w = len(servers) * rules.idle_w + _by_halves(joules) / rules.dt
    seen.power_w.append(power_w)
    seen.level.append(level)
    seen.braked.append(braked)
  return seen


def _serve(
  queue: collections.deque[Request],
  left: tuple[float, float] | None,
  pace: Sequence[float],
  step: int,
  dt: float,
) -> tuple[float, tuple[float, float] | None]:
  """Serves one server's queue for a step: joules, and what its head lacks."""
  prompt_speed, token_speed, prompt_watts, token_watts = pace
  now = joules = 0.0
  while queue:
    head = queue[0]
    if left is None:
      arrived = math.floor(head.arrival_s / dt)
      arrival = (arrived - step) * dt + (head.arrival_s - arrived * dt)
      if arrival >= dt:
        break
      now = max(now, arrival)
      left = (head.prompt_s, head.token_s)
    prompt, token = left
    begin = now
    needed = prompt / prompt_speed
    if needed > dt - begin:
      spent = dt - begin
      left = (prompt - spent * prompt_speed, token)
      return joules + head.prompt_w * prompt_watts * spent, left
    now = begin + needed
    joules += head.prompt_w * prompt_watts * (now - begin)
    begin, needed = now, token / token_speed
    if needed > dt - begin:
      spent = dt - begin
      left = (0.0, token - spent * token_speed)
      return joules + head.token_w * token_watts * spent, left
    now = begin + needed
    joules += head.token_w * token_watts * (now - begin)
    head.finish_s = step * dt + now
    queue.popleft()
    left = None
  return joules, None


def _by_halves(values: Sequence[float]) -> float:
  """Sums as a tree, as the compiled engine does; the order is part of it."""
  size = 1
  while size < len(values):
    size *= 2
  values = [*values, *[0.0] * (size - len(values))]
  while size > 1:
    size //= 2
    values = [values[at] + values[at + size] for at in range(size)]
  return values[0]


def dual(first: float, second: float, hysteresis: float) -> tuple[Decide, int]:
  """The dual-threshold policy, and its first state."""

  def decide(
    share: float, level: int, braking: bool, requested: int
  ) -> tuple[int, bool, int]:
    del braking
    wanted = requested
    if share < first - hysteresis:
      wanted = 0
    elif share > second:
      if requested < 2:
        wanted = 2
      elif level == requested:
        wanted = 3
    elif requested >= 2 and share < second - hysteresis:
      wanted = 1
    elif share > first:
      wanted = max(1, requested)
    return wanted, share > 1, wanted

  return decide, 0


def single(threshold: float, hysteresis: float) -> tuple[Decide, int]:
  """The single-threshold policy, and its first state."""

  def decide(
    share: float, level: int, braking: bool, requested: int
  ) -> tuple[int, bool, int]:
    del level, braking
    if share > threshold:
      requested = 1
    elif share < threshold - hysteresis:
      requested = 0
    return requested, share > 1, requested

  return decide, 0


def no_cap() -> tuple[Decide, None]:
  """The policy that only brakes."""
  return lambda share, level, braking, state: (0, share > 1, state), None
