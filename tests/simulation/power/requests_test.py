# SPDX-License-Identifier: Apache-2.0
"""Streams of requests and who serves them."""

import hypothesis
from hypothesis import strategies
import numpy as np
import pytest

from jaxttc.simulation.power import model, requests

POWER = model.constant(0.28, 0.70, 1.0)


def _stream(arrival, service=2.0):
  ones = np.ones(len(arrival))
  return requests.Stream(
    np.array(arrival, float), service * ones, 0 * ones, ones, 0.7 * ones
  )


def test_diurnal_is_as_busy_as_asked():
  stream = requests.diurnal(
    0, servers=50, horizon_s=20_000.0, power=POWER, busy=(0.3, 0.9)
  )
  requests.check(stream)
  work = (stream.prompt_s + stream.token_s).sum()
  assert work / (50 * 20_000) == pytest.approx(0.6, rel=0.05)
  # The rate starts low and is highest in the middle.
  early, middle = (
    ((stream.arrival_s >= at) & (stream.arrival_s < at + 2000)).sum()
    for at in (0, 9000)
  )
  assert middle > 2 * early
  again = requests.diurnal(
    0, servers=50, horizon_s=20_000.0, power=POWER, busy=(0.3, 0.9)
  )
  np.testing.assert_array_equal(stream.arrival_s, again.arrival_s)


@hypothesis.given(
  gaps=strategies.lists(strategies.floats(0, 5), min_size=1, max_size=40),
  servers=strategies.integers(1, 6),
  how=strategies.sampled_from(["least_work", "random", "round_robin"]),
)
def test_routing_loses_and_reorders_nothing(gaps, servers, how):
  stream = _stream(np.cumsum(gaps))
  made = requests.route(stream, servers, how)
  assert len(made) == servers
  for one in made:
    requests.check(one)
  together = np.sort(np.concatenate([one.arrival_s for one in made]))
  np.testing.assert_array_equal(together, stream.arrival_s)


def test_least_work_waits_no_longer_than_turns():
  rng = np.random.default_rng(0)
  stream = _stream(np.cumsum(rng.exponential(0.5, 2000)))
  stream = stream._replace(token_s=rng.exponential(2.0, 2000))

  def wait(how):
    total = 0.0
    for one in requests.route(stream, 10, how):
      free = 0.0
      for at, arrival in enumerate(one.arrival_s):
        start = max(free, arrival)
        total += start - arrival
        free = start + one.prompt_s[at] + one.token_s[at]
    return total

  assert wait("least_work") < wait("round_robin") < wait("random")


def test_rows_alternate_priorities():
  row = requests.alternate(_stream([0.0, 1.0]), _stream([5.0]), 3)
  assert row.high.tolist() == [False, True, False]
  assert row.arrival_s[:, 0].tolist() == [0.0, 5.0, 1.0]


@pytest.mark.parametrize(
  "call, message",
  [
    (lambda: requests.check(_stream([1.0, 0.5])), "request 1 arrives at 0.5"),
    (lambda: requests.check(_stream([-1.0])), "arrival_s is -1.0"),
    (lambda: requests.check(_stream([np.nan])), "arrival_s is nan"),
    (lambda: requests.check(_stream([0.0], 0.0)), "prompt_s is 0.0"),
    (lambda: requests.route(_stream([0.0]), 0), "0 servers"),
    (lambda: requests.route(_stream([0.0]), 1, "best"), "routing 'best'"),
    (
      lambda: requests.assign([_stream([0.0])], ["low", "high"]),
      "1 streams for 2",
    ),
    (
      lambda: requests.assign([_stream([2.0, 1.0])], ["low"]),
      "server 0: request 1 arrives",
    ),
    (lambda: requests.alternate(_stream([]), _stream([]), 1), "1 servers"),
    (
      lambda: requests.diurnal(
        0, servers=1, horizon_s=1.0, power=POWER, busy=(0.9, 0.5)
      ),
      "busy is",
    ),
    (
      lambda: requests.diurnal(0, servers=0, horizon_s=1.0, power=POWER),
      "servers is 0",
    ),
  ],
)
def test_refuses_what_cannot_be(call, message):
  with pytest.raises(ValueError, match=message):
    call()
