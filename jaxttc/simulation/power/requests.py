# SPDX-License-Identifier: Apache-2.0
"""What the servers of a row are asked to do: streams, and who serves them."""

from collections.abc import Sequence
import heapq
import math
from typing import NamedTuple

from jaxtyping import Bool, Float
import numpy as np

from jaxttc.simulation.power import model as model_lib
from jaxttc.simulation.power import plans as plans_lib


class Stream(NamedTuple):
  """Requests in order of arrival, not yet given to servers.

  Attributes:
    arrival_s: f64[n], not descending.
    prompt_s: f64[n], time of the prompt phase at full clock, above 0.
    token_s: f64[n], time of the token phase at full clock, 0 or more.
    prompt_w: f64[n], watts of a server in the prompt phase at full clock.
    token_w: f64[n], watts of a server in the token phase at full clock.
  """

  arrival_s: Float[np.ndarray, " n"]
  prompt_s: Float[np.ndarray, " n"]
  token_s: Float[np.ndarray, " n"]
  prompt_w: Float[np.ndarray, " n"]
  token_w: Float[np.ndarray, " n"]


class Requests(NamedTuple):
  """What each server of a row is asked to do, first come, first served.

  Attributes:
    arrival_s: f64[servers, most], ascending; inf beyond a server's last.
    prompt_s: f64[servers, most]; see `Stream`.
    token_s: f64[servers, most].
    prompt_w: f64[servers, most].
    token_w: f64[servers, most].
    high: bool[servers], whether the server is of high priority.
  """

  arrival_s: Float[np.ndarray, "servers most"]
  prompt_s: Float[np.ndarray, "servers most"]
  token_s: Float[np.ndarray, "servers most"]
  prompt_w: Float[np.ndarray, "servers most"]
  token_w: Float[np.ndarray, "servers most"]
  high: Bool[np.ndarray, " servers"]


def check(stream: Stream) -> None:
  """Checks a stream.

  Raises:
    ValueError: if lengths differ, or an entry is not what `Stream` says; the
      request and field are named.
  """
  for name, values in stream._asdict().items():
    if values.shape != stream.arrival_s.shape:
      raise ValueError(
        f"{name} has shape {values.shape}, arrival_s {stream.arrival_s.shape}; "
        "expected one entry a request"
      )
    low = 0.0 if name in ("token_s", "arrival_s") else math.ulp(0.0)
    bad = ~(np.isfinite(values) & (values >= low))
    if bad.any():
      at = int(np.argmax(bad))
      least = "at least 0" if low == 0.0 else "above 0"
      raise ValueError(
        f"request {at}: {name} is {values[at]}; expected finite and {least}"
      )
  late = np.diff(stream.arrival_s) < 0
  if late.any():
    at = int(np.argmax(late)) + 1
    raise ValueError(
      f"request {at} arrives at {stream.arrival_s[at]:g} s, before request "
      f"{at - 1} at {stream.arrival_s[at - 1]:g} s; expected arrivals in order"
    )


def diurnal_arrivals(
  rng: np.random.Generator,
  *,
  most_per_s: float,
  horizon_s: float,
  least_over_most: float,
  period_s: float,
) -> Float[np.ndarray, " n"]:
  """Arrivals of a Poisson process whose rate follows a sine.

  The rate starts at its least. Thinning (Lewis and Shedler, 1979).

  Args:
    rng: generator.
    most_per_s: the largest rate.
    horizon_s: length.
    least_over_most: the least rate over the largest, in [0, 1].
    period_s: of the sine.

  Returns:
    f64[n], ascending.

  Raises:
    ValueError: if a number is out of its range.
  """
  for name, value in (
    ("most_per_s", most_per_s),
    ("horizon_s", horizon_s),
    ("period_s", period_s),
  ):
    model_lib.positive(name, value)
  if not 0 <= least_over_most <= 1:
    raise ValueError(
      f"least_over_most is {least_over_most}; expected in [0, 1]"
    )
  count = rng.poisson(most_per_s * horizon_s)
  arrival = np.sort(rng.uniform(0, horizon_s, count))
  swing = (1 - np.cos(2 * math.pi * arrival / period_s)) / 2
  kept = rng.uniform(size=count) < (
    least_over_most + (1 - least_over_most) * swing
  )
  return arrival[kept]


def check_busy(busy: tuple[float, float]) -> None:
  """Checks the least and the largest share of busy time.

  Raises:
    ValueError: unless 0 <= least <= most < 1 and most is above 0.
  """
  least, most = busy
  if not (0 <= least <= most < 1 and most > 0):
    raise ValueError(f"busy is {busy}; expected 0 <= least <= most < 1")


def diurnal(
  seed: int | Sequence[int],
  *,
  servers: int,
  horizon_s: float,
  power: model_lib.PowerModel,
  busy: tuple[float, float] = (0.45, 0.87),
  period_s: float | None = None,
  prompt_s: float = 4.0,
  token_s: float = 12.0,
  shape: float = 4.0,
) -> Stream:
  """Arrivals that follow a sine, with gamma phase times.

  Args:
    seed: of the generator.
    servers: how many servers the stream is meant for; the rate is per server.
    horizon_s: length of the stream.
    power: its constants give the watts; a request counts as of one token.
    busy: least and largest share of time that servers are busy at full clock.
    period_s: of the sine; the horizon if None.
    prompt_s: mean time of the prompt phase.
    token_s: mean time of the token phase.
    shape: of both gamma distributions.

  Raises:
    ValueError: if a number is out of its range.
  """
  for name, value in (
    ("servers", servers),
    ("prompt_s", prompt_s),
    ("token_s", token_s),
    ("shape", shape),
  ):
    model_lib.positive(name, value)
  check_busy(busy)
  rng = np.random.default_rng(seed)
  arrival = diurnal_arrivals(
    rng,
    most_per_s=busy[1] * servers / (prompt_s + token_s),
    horizon_s=horizon_s,
    least_over_most=busy[0] / busy[1],
    period_s=horizon_s if period_s is None else period_s,
  )
  n = len(arrival)
  prompt_w, token_w = power.phases(np.ones(n, np.int64))
  return Stream(
    arrival,
    rng.gamma(shape, prompt_s / shape, n),
    rng.gamma(shape, token_s / shape, n),
    prompt_w,
    token_w,
  )


def route(
  stream: Stream, servers: int, how: str = "least_work"
) -> list[Stream]:
  """Gives the requests of a stream to servers.

  Args:
    stream: the requests.
    servers: how many servers.
    how: "least_work" sends a request to the server that would be free first
      at full clock, as a load balancer that predicts work does; "random"
      draws a server (seeded by the count of requests), so that each server
      queues alone; "round_robin" takes them in turn.

  Returns:
    A stream a server.

  Raises:
    ValueError: if the stream is not valid, there are no servers, or `how` is
      unknown.
  """
  check(stream)
  if servers < 1:
    raise ValueError(f"{servers} servers; expected at least 1")
  n = len(stream.arrival_s)
  if how == "least_work":
    server = _least_work(stream, servers)
  elif how == "random":
    server = np.random.default_rng([n, servers]).integers(servers, size=n)
  elif how == "round_robin":
    server = np.arange(n) % servers
  else:
    raise ValueError(
      f"routing {how!r}; expected least_work, random or round_robin"
    )
  order = np.argsort(server, kind="stable")
  cuts = np.searchsorted(server[order], np.arange(1, servers))
  return [
    Stream(*(field[part] for field in stream)) for part in np.split(order, cuts)
  ]


def _least_work(stream: Stream, servers: int) -> np.ndarray:
  free = [(0.0, server) for server in range(servers)]
  chosen = np.empty(len(stream.arrival_s), np.int64)
  work = (stream.prompt_s + stream.token_s).tolist()
  for at, (arrival, service) in enumerate(
    zip(stream.arrival_s.tolist(), work, strict=True)
  ):
    free_at, server = free[0]
    chosen[at] = server
    heapq.heapreplace(free, (max(free_at, arrival) + service, server))
  return chosen


def assign(streams: Sequence[Stream], priorities: Sequence[str]) -> Requests:
  """Puts the streams of single servers side by side.

  Args:
    streams: one a server.
    priorities: "low" or "high", one a server.

  Raises:
    ValueError: if a stream is not valid, or the lengths differ.
  """
  if len(streams) != len(priorities) or not streams:
    raise ValueError(
      f"{len(streams)} streams for {len(priorities)} priorities; expected one "
      "of each a server, and at least one server"
    )
  high = plans_lib.high(priorities)
  for server, stream in enumerate(streams):
    try:
      check(stream)
    except ValueError as error:
      raise ValueError(f"server {server}: {error}") from None
  most = max(1, *(len(stream.arrival_s) for stream in streams))
  fills = (math.inf, 1.0, 0.0, 1.0, 1.0)
  fields = [np.full((len(streams), most), fill) for fill in fills]
  for server, stream in enumerate(streams):
    for field, values in zip(fields, stream, strict=True):
      field[server, : len(values)] = values
  return Requests(*fields, high)


def alternate(
  low: Stream, high: Stream, servers: int, how: str = "least_work"
) -> Requests:
  """A row whose servers are of low and high priority by turns.

  Args:
    low: requests of low priority, for servers 0, 2, ..
    high: requests of high priority, for servers 1, 3, ..
    servers: how many servers, at least 2.
    how: see `route`.

  Raises:
    ValueError: if there are fewer than two servers or a stream is not valid.
  """
  if servers < 2:
    raise ValueError(f"{servers} servers; expected at least one a priority")
  made = {
    "low": route(low, (servers + 1) // 2, how),
    "high": route(high, servers // 2, how),
  }
  labels = [plans_lib.PRIORITIES[server % 2] for server in range(servers)]
  return assign(
    [made[label][server // 2] for server, label in enumerate(labels)], labels
  )
