# SPDX-License-Identifier: Apache-2.0
"""What a server draws and how fast it runs, by phase and clock.

A server that runs one request at a time is idle, in the prompt phase or in the
token phase. At clock f, with r = f / f_max,

    watts(phase, f) = idle + (watts(phase) - idle) r^a
    seconds(phase, f) = seconds(phase) r^-b

The prompt phase is bound by compute (a large, b near 1); the token phase by
memory (b small), so that a slower clock costs it little time. The exponents
are guesses about hardware, not measurements: vary them. After Patel et al.,
"Characterizing power management opportunities for LLMs in the cloud" (2024),
whose phases these are; the closed form is ours.
"""

from collections.abc import Callable
import dataclasses
import math
from typing import NamedTuple

import numpy as np

# (prompt tokens i64[n], batch sizes i64[n]) -> (prompt watts, token watts).
Watts = Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]


def positive(name: str, value: float | int) -> None:
  """Checks one setting.

  Raises:
    ValueError: unless `value` is positive and finite.
  """
  if not (math.isfinite(value) and value > 0):
    raise ValueError(f"{name} is {value}; expected positive and finite")


class Pace(NamedTuple):
  """What a clock leaves of each phase, as shares of full clock.

  Attributes:
    prompt_speed: work of the prompt phase done in a second.
    token_speed: the same of the token phase.
    prompt_watts: power above idle in the prompt phase.
    token_watts: the same in the token phase.
  """

  prompt_speed: float
  token_speed: float
  prompt_watts: float
  token_watts: float


@dataclasses.dataclass(frozen=True)
class Clock:
  """How power and time follow the clock.

  Attributes:
    max_mhz: full clock (1410 MHz on an A100).
    brake_mhz: clock under the emergency brake.
    prompt_power: exponent of the prompt phase's power above idle.
    token_power: the same of the token phase.
    prompt_time: exponent of the prompt phase's speed.
    token_time: the same of the token phase; 0 if bound by memory alone.

  Raises:
    ValueError: if a clock is not positive and finite, the brake is above the
      full clock, or an exponent is negative.
  """

  max_mhz: float = 1410.0
  brake_mhz: float = 288.0
  prompt_power: float = 1.6
  token_power: float = 1.2
  prompt_time: float = 1.0
  token_time: float = 0.25

  def __post_init__(self) -> None:
    for name in ("max_mhz", "brake_mhz"):
      positive(name, getattr(self, name))
    if self.brake_mhz > self.max_mhz:
      raise ValueError(
        f"brake_mhz is {self.brake_mhz:g}, above max_mhz {self.max_mhz:g}"
      )
    for name in ("prompt_power", "token_power", "prompt_time", "token_time"):
      value = getattr(self, name)
      if not (math.isfinite(value) and value >= 0):
        raise ValueError(f"{name} is {value}; expected an exponent >= 0")

  def pace(self, mhz: float) -> Pace:
    """What a lock at `mhz` leaves of each phase.

    Raises:
      ValueError: if `mhz` is not in (0, max_mhz].
    """
    if not 0 < mhz <= self.max_mhz:
      raise ValueError(
        f"a lock at {mhz:g} MHz; expected above 0 and at most max_mhz "
        f"{self.max_mhz:g}"
      )
    share = mhz / self.max_mhz
    return Pace(
      share**self.prompt_time,
      share**self.token_time,
      share**self.prompt_power,
      share**self.token_power,
    )


@dataclasses.dataclass(frozen=True)
class PowerModel:
  """What one server draws.

  Attributes:
    idle_w: watts without a request.
    watts: what requests draw in either phase at full clock; see `constant`
      and `profile.watts`, or bring any function of prompt tokens and batch
      sizes.
    clock: how both phases follow the clock.

  Raises:
    ValueError: if `idle_w` is not positive and finite.
  """

  idle_w: float
  watts: Watts
  clock: Clock = Clock()

  def __post_init__(self) -> None:
    positive("idle_w", self.idle_w)

  def phases(
    self, prompt_tokens: np.ndarray, batch: np.ndarray | None = None
  ) -> tuple[np.ndarray, np.ndarray]:
    """Watts of the prompt and the token phase of requests, at full clock.

    Args:
      prompt_tokens: i64[n].
      batch: i64[n], sequences run together; 1 each if None.

    Returns:
      f64[n] each.

    Raises:
      ValueError: if the function breaks idle <= token <= prompt; the request
        is named.
    """
    tokens = np.asarray(prompt_tokens)
    batch = np.ones_like(tokens) if batch is None else np.asarray(batch)
    made = (np.asarray(watts, float) for watts in self.watts(tokens, batch))
    prompt, token = (np.broadcast_to(watts, tokens.shape) for watts in made)
    wrong = ~((self.idle_w <= token) & (token <= prompt) & (prompt < math.inf))
    if wrong.any():
      at = int(np.argmax(wrong))
      raise ValueError(
        f"request {at} ({tokens[at]} prompt tokens): idle {self.idle_w:g} W, "
        f"token {token[at]:g} W, prompt {prompt[at]:g} W; expected idle <= "
        "token <= prompt"
      )
    return prompt, token


def constant(
  idle_w: float, token_w: float, prompt_w: float, clock: Clock | None = None
) -> PowerModel:
  """A server whose phases draw the same whatever the request.

  Raises:
    ValueError: unless 0 < idle_w <= token_w <= prompt_w.
  """

  def watts(
    tokens: np.ndarray, batch: np.ndarray
  ) -> tuple[np.ndarray, np.ndarray]:
    del batch
    return np.full(tokens.shape, prompt_w), np.full(tokens.shape, token_w)

  model = PowerModel(idle_w, watts, clock or Clock())
  if not idle_w <= token_w <= prompt_w < math.inf:
    raise ValueError(
      f"idle {idle_w:g} W, token {token_w:g} W, prompt {prompt_w:g} W; "
      "expected idle <= token <= prompt"
    )
  return model
