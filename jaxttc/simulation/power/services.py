# SPDX-License-Identifier: Apache-2.0
"""A row that serves several services, timed by a measured profile.

Services differ in how long prompts and outputs are, and in priority: a
summary may wait, a search may not.
"""

from collections.abc import Sequence
import dataclasses

import numpy as np

from jaxttc.simulation import traces as traces_lib
from jaxttc.simulation.power import model as model_lib
from jaxttc.simulation.power import plans as plans_lib
from jaxttc.simulation.power import profile as profile_lib
from jaxttc.simulation.power import requests as requests_lib


@dataclasses.dataclass(frozen=True)
class Service:
  """One kind of request; lengths are uniform between two bounds.

  Attributes:
    name: how it is called.
    prompt_tokens: least and largest.
    output_tokens: least and largest.
    low: requests of low priority, over all requests of the row.
    high: the same of high priority.

  Raises:
    ValueError: if bounds are not ordered and at least 1, or a share is
      negative.
  """

  name: str
  prompt_tokens: tuple[int, int]
  output_tokens: tuple[int, int]
  low: float
  high: float

  def __post_init__(self) -> None:
    for least, most in (self.prompt_tokens, self.output_tokens):
      if not 1 <= least <= most:
        raise ValueError(
          f"service {self.name!r}: lengths from {least} to {most}; expected 1 "
          "<= least <= most"
        )
    if self.low < 0 or self.high < 0 or not self.low + self.high > 0:
      raise ValueError(
        f"service {self.name!r}: shares {self.low} and {self.high}; expected "
        ">= 0 and one above"
      )


# Remembered from the paper, not read again: defaults to vary.
POLCA = (
  Service("summarise", (2048, 8192), (256, 512), low=0.25, high=0.0),
  Service("search", (512, 2048), (1024, 2048), low=0.0, high=0.25),
  Service("chat", (2048, 4096), (128, 2048), low=0.25, high=0.25),
)


def row(
  seed: int,
  *,
  servers: int,
  horizon_s: float,
  profile: profile_lib.Profile,
  power: model_lib.PowerModel,
  busy: tuple[float, float] = (0.40, 0.90),
  period_s: float = 86400.0,
  services: Sequence[Service] = POLCA,
  how: str = "least_work",
) -> requests_lib.Requests:
  """Requests of a row, half of whose servers are of low priority.

  Args:
    seed: of all that is drawn; more servers draw other requests.
    servers: how many, at least 2; the load grows with them.
    horizon_s: how long requests arrive.
    profile: how long phases take.
    power: what they draw.
    busy: least and largest share of time that servers are busy at full clock.
    period_s: of the sine that the load follows.
    services: what is served; each priority must have one.
    how: see `requests.route`.

  Raises:
    ValueError: if a number is out of its range, a priority has no service, or
      a prompt is longer than the profile measured.
  """
  if servers < 2:
    raise ValueError(f"{servers} servers; expected at least one a priority")
  requests_lib.check_busy(busy)
  streams = [
    _stream(
      np.random.default_rng([seed, side, servers]),
      priority,
      (servers + 1 - side) // 2,
      horizon_s,
      profile,
      power,
      busy,
      period_s,
      services,
    )
    for side, priority in enumerate(plans_lib.PRIORITIES)
  ]
  return requests_lib.alternate(*streams, servers, how)


def _stream(
  rng: np.random.Generator,
  priority: str,
  servers: int,
  horizon_s: float,
  profile: profile_lib.Profile,
  power: model_lib.PowerModel,
  busy: tuple[float, float],
  period_s: float,
  services: Sequence[Service],
) -> requests_lib.Stream:
  shares = np.array([getattr(one, priority) for one in services])
  if not shares.sum() > 0:
    raise ValueError(f"no service has requests of {priority} priority")
  shares = shares / shares.sum()

  def draw(count: int) -> tuple[np.ndarray, np.ndarray]:
    kind = rng.choice(len(services), size=count, p=shares)
    made = []
    for field in ("prompt_tokens", "output_tokens"):
      bounds = np.array([getattr(one, field) for one in services])[kind]
      made.append(rng.integers(bounds[:, 0], bounds[:, 1] + 1))
    return made[0], made[1]

  def timed(arrival: np.ndarray) -> requests_lib.Stream:
    trace = traces_lib.Trace(arrival, *draw(len(arrival)))
    return profile.stream(trace, power)

  sample = timed(np.zeros(20_000))
  service_s = float((sample.prompt_s + sample.token_s).mean())
  arrival = requests_lib.diurnal_arrivals(
    rng,
    most_per_s=busy[1] * servers / service_s,
    horizon_s=horizon_s,
    least_over_most=busy[0] / busy[1],
    period_s=period_s,
  )
  return timed(arrival)
